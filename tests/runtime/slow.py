"""Tools and scripts that take as long as a test wants, for worker processes that are stopped or frozen in the middle.

SLOW_S in the environment of the process says how long, in seconds; the file SLOW_MARK appears when one has begun.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import psycopg

from runtime import tools, worker
from runtime.messages import Reply
from runtime.providers import scripted
from runtime.providers.base import ModelRequest
from tests.runtime.harness import calling, saying

SLOW_S = float(os.environ.get("SLOW_S", "0"))


def _mark() -> None:
    if path := os.environ.get("SLOW_MARK"):
        Path(path).touch()


@tools.tool(effect="read", output_trust="trusted", timeout_s=120)
async def slow_read(ctx: tools.ToolContext) -> str:
    """Look something up that takes its time."""
    _mark()
    await asyncio.sleep(SLOW_S)
    return "found"


@tools.tool(effect="read", output_trust="trusted", timeout_s=120)
def slow_block(ctx: tools.ToolContext) -> str:
    """The same in a thread, which nobody can end."""
    _mark()
    time.sleep(SLOW_S)
    return "found"


@tools.tool(effect="egress", retry="unsafe", output_trust="untrusted")
def slow_send(ctx: tools.ToolContext) -> str:
    """Leave a mark that nobody can take back."""
    with psycopg.connect(worker.conninfo(), autocommit=True) as outside:
        outside.execute("INSERT INTO spy_sent (key) VALUES (%s)", [ctx.idempotency_key])
    return "sent"


async def _slow_model(request: ModelRequest) -> Reply:
    _mark()
    await asyncio.sleep(SLOW_S)
    return saying(calling("slow_send"), "Sent.")(request)


for _name in ("slow_read", "slow_block"):
    scripted.register(_name, saying(calling(_name), "Done."))
scripted.register("slow_model", _slow_model)
