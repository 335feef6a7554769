"""What the workers execute during chaos: scripts instead of models, and tools whose effects can be counted afterwards.

The worker processes load this module like any module with tools (STEADYHAND_TOOLS). Each call carries a mark of its
own, under which its effect stands in tables that only the tools write.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from psycopg_pool import AsyncConnectionPool

from runtime import worker, workers
from runtime.messages import Call, ModelReply, Reply, Usage, UserText
from runtime.providers import scripted
from runtime.providers.base import ModelRequest
from runtime.tools import ToolContext, tool

LEASE_VARIABLE = "STEADYHAND_CHAOS_LEASE_S"  # set in the workers of chaos only
SCRIPT = "chaos"
TOOLS = ("chaos_look", "chaos_note", "chaos_pay", "chaos_send")
ASKED_FROM = 100  # payments above this many dollars need a person
THINKING_S = (0.02, 0.15, 0.05)

# Each run has a shape: the tools that its model calls, reply by reply. `+` joins calls of one reply.
SHAPES = {
    "reads": ("look", "look+look", "look"),
    "pays": ("look", "pay", "note"),
    "sends": ("send", "look", "send"),
    "asks": ("look", "pay-much", "send"),
    "mixes": ("note+send", "pay+look", "send+note"),
}
_TOOL_OF = {
    "look": "chaos_look",
    "note": "chaos_note",
    "pay": "chaos_pay",
    "pay-much": "chaos_pay",
    "send": "chaos_send",
}

MAKE_TABLES_SQL = """
    DROP TABLE IF EXISTS chaos_effect, chaos_note;
    CREATE TABLE chaos_effect (mark text, tool text, key text, pid int, at timestamptz DEFAULT clock_timestamp());
    CREATE INDEX ON chaos_effect (mark);
    CREATE TABLE chaos_note (key text PRIMARY KEY, mark text, result text, calls int DEFAULT 1)
"""
EFFECT_SQL = "INSERT INTO chaos_effect (mark, tool, key, pid) VALUES (%s, %s, %s, %s)"
NOTE_SQL = """
    INSERT INTO chaos_note (key, mark, result) VALUES (%s, %s, %s)
    ON CONFLICT (key) DO UPDATE SET calls = chaos_note.calls + 1 RETURNING result
"""


async def _reply(request: ModelRequest) -> Reply:
    said = sum(isinstance(message, ModelReply) for message in request.messages[request.history :])
    await asyncio.sleep(THINKING_S[said % len(THINKING_S)])
    asked = next(message.text for message in request.messages if isinstance(message, UserText))
    shape = SHAPES[asked]
    if said == len(shape):
        return Reply("Done.", usage=Usage(20, 0, 5))
    calls = tuple(_call(request, f"{said}-{place}", word) for place, word in enumerate(shape[said].split("+")))
    return Reply("", calls, Usage(20, 0, 5))


def _call(request: ModelRequest, place: str, word: str) -> Call:
    arguments: dict[str, Any] = {"mark": f"{request.run_id.hex}-{place}"}
    if _TOOL_OF[word] == "chaos_pay":
        arguments["amount"] = "250.00" if word == "pay-much" else "5.00"
    return Call(f"call-{place}", _TOOL_OF[word], arguments)


scripted.register(SCRIPT, _reply)


@tool(effect="read", output_trust="trusted")
async def chaos_look(ctx: ToolContext, mark: str) -> str:
    """Look something up."""
    await asyncio.sleep(0.02)
    return mark


@tool(effect="write", retry="idempotent", output_trust="trusted")
async def chaos_note(ctx: ToolContext, mark: str) -> str:
    """Note something down; the same key again gives the first note back."""
    async with (await _outside()).connection() as outside:
        cursor = await outside.execute(NOTE_SQL, (ctx.idempotency_key, mark, secrets.token_hex(8)))
        row = await cursor.fetchone()
    await asyncio.sleep(0.02)
    assert row is not None
    return str(row[0])


@tool(effect="write", retry="transactional", output_trust="trusted", moves_money=True, title="Pay ${amount}",
      arguments={"amount": "amount"})  # fmt: skip
def chaos_pay(ctx: ToolContext, mark: str, amount: Decimal) -> str:
    """Pay; the effect commits together with its step."""
    with connection.cursor() as cursor:
        cursor.execute(EFFECT_SQL, (mark, "chaos_pay", ctx.idempotency_key, os.getpid()))
    return str(amount)


@tool(effect="egress", retry="unsafe", output_trust="trusted")
async def chaos_send(ctx: ToolContext, mark: str) -> str:
    """Send something half way through the call. Nobody can take it back or repeat it harmlessly."""
    await asyncio.sleep(0.02)
    async with (await _outside()).connection() as outside:
        await outside.execute(EFFECT_SQL, (mark, "chaos_send", ctx.idempotency_key, os.getpid()))
    await asyncio.sleep(0.05)
    return "sent"


_pools: list[AsyncConnectionPool[Any]] = []


async def _outside() -> AsyncConnectionPool[Any]:
    """Connections of the tools' own, apart from those of the engine."""
    if not _pools:
        pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
            worker.conninfo(), min_size=1, max_size=4, open=False, kwargs={"autocommit": True}
        )
        _pools.append(pool)
        await pool.open()
    return _pools[0]


if _lease := os.environ.get(LEASE_VARIABLE):
    workers.LEASE = timedelta(seconds=float(_lease))
