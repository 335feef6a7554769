"""Tools with an outside of their own: a table that no transaction of ours takes part in, and that can be asked.

What they do cannot be taken back and may be done twice; each leaves one row per effect, with the key of its call.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import psycopg
from django.db import connection

from runtime import tools, worker
from runtime.providers import scripted
from runtime.providers.base import ModelRequest
from runtime.tools import DidNotHappen, Finding, Happened
from tests.runtime.harness import calling, saying

PAUSE_S = 1.5  # time enough to be killed or frozen in


def make_room() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS outside (key text, at timestamptz DEFAULT clock_timestamp())")
        cursor.execute("CREATE TABLE IF NOT EXISTS outside_began (key text)")
        cursor.execute("TRUNCATE outside, outside_began")


def rows(table: str = "outside") -> list[str]:
    with psycopg.connect(worker.conninfo(), autocommit=True) as outside:
        return [row[0] for row in outside.execute(f"SELECT key FROM {table}").fetchall()]


def _leave(table: str, key: str) -> None:
    with psycopg.connect(worker.conninfo(), autocommit=True) as outside:
        outside.execute(f"INSERT INTO {table} (key) VALUES (%s)", [key])


def look_up(ctx: tools.ToolContext, arguments: Mapping[str, Any]) -> Finding:
    """The outside knows each call by its key."""
    if ctx.idempotency_key in rows():
        return Happened("The outbox has it.", {"sent": arguments["text"]})
    return DidNotHappen("The outbox does not have it.")


@tools.tool(effect="egress", retry="unsafe", output_trust="trusted", timeout_s=20, verify=look_up)
def send_early(ctx: tools.ToolContext, text: str) -> dict[str, str]:
    """Send at once, and take long to say so."""
    _leave("outside", ctx.idempotency_key)
    _leave("outside_began", ctx.idempotency_key)
    time.sleep(PAUSE_S)
    return {"sent": text}


@tools.tool(effect="egress", retry="unsafe", output_trust="trusted", timeout_s=20, verify=look_up)
def send_late(ctx: tools.ToolContext, text: str) -> dict[str, str]:
    """Think for long, and then send."""
    _leave("outside_began", ctx.idempotency_key)
    time.sleep(PAUSE_S)
    _leave("outside", ctx.idempotency_key)
    return {"sent": text}


def _script(tool: str) -> None:
    def script(request: ModelRequest) -> Any:
        return saying(calling(tool, text="hello"), "Sent.")(request)

    scripted.register(tool, script)


_script("send_early")
_script("send_late")
