"""What the measured worker executes: scripts instead of models, and tools that take no time or leave one mark.

The worker process loads this module like any module with tools (STEADYHAND_TOOLS). The bodies take no time of their
own, so the gap between the starts of two bodies of a run is what the engine charges for a durable operation.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import random
import string
import time
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

from console import ids
from runtime import worker, workers
from runtime.bench import knobs
from runtime.messages import Call, ModelReply, Reply, Usage
from runtime.providers import scripted
from runtime.providers.base import ModelRequest
from runtime.tools import ToolContext, tool

OUT_VARIABLE = "STEADYHAND_BENCH_OUT"  # where the worker leaves its gaps; set in a measured worker only
WORKLOAD_VARIABLE = "STEADYHAND_BENCH_WORKLOAD"
EFFECT_TABLE = "bench_effect"
MODEL_S, BEFORE_S, AFTER_S = 0.05, 0.01, 0.01  # W3: one model call, and the tool call around its effect
USAGE = Usage(input_tokens=300, output_tokens=300)

KNOBS = knobs.read(os.environ.get(WORKLOAD_VARIABLE, "W1"))
_random = random.Random(7)
_LETTERS = "".join(_random.choices(string.ascii_lowercase, k=65_536))
_TEXT = "".join(_random.choices(string.ascii_lowercase + "     ", k=65_536))


def payload(source: str = _TEXT) -> str:
    """Pseudo-random text of the wanted size, which no compression can make small."""
    start = _random.randrange(0, len(source) - KNOBS.payload)
    return source[start : start + KNOBS.payload]


class Gaps:
    """The times between the starts of successive bodies of a run. The first run is a warm-up and does not count."""

    def __init__(self) -> None:
        self.warm_up: object = None
        self.last: dict[object, float] = {}
        self.seconds: list[float] = []

    def tick(self, run: object) -> None:
        moment = time.perf_counter()
        self.warm_up = self.warm_up or run
        before = self.last.get(run)
        self.last[run] = moment
        if before is not None and run != self.warm_up:
            self.seconds.append(moment - before)

    def leave(self, path: str) -> None:
        Path(path).write_text(json.dumps(self.seconds))


gaps = Gaps()
_key = lru_cache(maxsize=10_000)(partial(ids.parse, "run"))  # costs as much as the rest of a tick


def _said(request: ModelRequest) -> int:
    return sum(isinstance(message, ModelReply) for message in request.messages[request.history :])


def _reply(step: int, name: str, last: int) -> Reply:
    """Propose the call of this step beside a text of the wanted size, or answer after the last one."""
    calls = (Call(f"call-{step}", name, {"step": step}),) if step < last else ()
    return Reply(payload(_LETTERS), calls, USAGE)


def _steps(request: ModelRequest) -> Reply:
    gaps.tick(request.run_id)
    return _reply(_said(request), "bench_result", KNOBS.steps)


async def _calls(request: ModelRequest) -> Reply:
    step = _said(request)
    await asyncio.sleep(KNOBS.sleep_s)
    return _reply(step, "bench_next", KNOBS.calls - 1)


async def _effects(request: ModelRequest) -> Reply:
    step = _said(request)
    await asyncio.sleep(MODEL_S)
    return _reply(step, "bench_effect", KNOBS.steps)


SCRIPTS: dict[str, tuple[str, scripted.Script]] = {
    "W1": ("bench-steps", _steps),
    "W2": ("bench-calls", _calls),
    "W3": ("bench-effects", _effects),
}
TOOLS = {"W1": "bench_result", "W2": "bench_next", "W3": "bench_effect"}
for _name, _script in SCRIPTS.values():
    scripted.register(_name, _script)


@tool(effect="egress", retry="unsafe", output_trust="trusted")
async def bench_result(ctx: ToolContext, step: int) -> str:
    """Give a text back at once. Unsafe to repeat, so its intent is committed before it and its result after."""
    gaps.tick(_key(ctx.run_id))
    return payload()


@tool(effect="read", output_trust="trusted")
async def bench_next(ctx: ToolContext, step: int) -> str:
    """Let the model speak again."""
    return "Go on."


@tool(effect="egress", retry="unsafe", output_trust="trusted")
async def bench_effect(ctx: ToolContext, step: int) -> str:
    """Leave a mark in the outside world half way through the call. Nobody can take it back or repeat it harmlessly."""
    await asyncio.sleep(BEFORE_S)
    async with (await _outside()).connection() as connection:
        await connection.execute(
            f"INSERT INTO {EFFECT_TABLE} (run, step, pid) VALUES (%s, %s, %s)",  # noqa: S608 (a constant of ours)
            (ctx.run_id, step, os.getpid()),
        )
    await asyncio.sleep(AFTER_S)
    return payload()


_pools: list[AsyncConnectionPool[Any]] = []


async def _outside() -> AsyncConnectionPool[Any]:
    """Connections of the tool's own, apart from those of the engine."""
    if not _pools:
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            worker.conninfo(), min_size=4, max_size=4, open=False, kwargs={"autocommit": True}
        )
        _pools.append(pool)
        await pool.open()
    return _pools[0]


def _turn_knobs() -> None:
    """What the worker has no setting for."""
    worker.open_pool = partial(worker.open_pool, KNOBS.pool)
    if KNOBS.lease_s is not None:
        workers.LEASE = timedelta(seconds=KNOBS.lease_s)


if out := os.environ.get(OUT_VARIABLE):
    _turn_knobs()
    atexit.register(gaps.leave, out)
