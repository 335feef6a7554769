"""A worker's view of the circuit breakers when answers of the database overtake each other. Without a database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, cast

import psycopg

from runtime import circuits
from runtime.circuits import Circuits, Open, Ticket
from runtime.states import BreakerKind

OVER = ("tool", "lookup", "open", datetime.now(UTC), "unavailable", "", 3, -1.0, None)  # its time is over
OPENED = ("tool", "lookup", "open", datetime.now(UTC), "unavailable", "", 3, 30.0, None)


class Answers:
    """A pool, its connection and its cursors: rows are read when asked, and come when they are let through."""

    def __init__(self) -> None:
        self.rows: list[Sequence[Any]] = []
        self.asked: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield self

    async def execute(self, statement: str, values: object = None) -> Any:
        rows, let_through = list(self.rows), asyncio.Event()
        self.asked.put_nowait(let_through)

        class Cursor:
            async def fetchall(self) -> list[Sequence[Any]]:
                await let_through.wait()
                return rows

        return Cursor()


async def test_an_older_answer_does_not_close_what_has_been_opened_since():
    answers = Answers()
    view = Circuits(cast(Any, answers), None)
    earlier = asyncio.create_task(view._read())
    earlier_comes = await answers.asked.get()
    answers.rows.append(OPENED)
    later = asyncio.create_task(view._read())
    (await answers.asked.get()).set()
    await later

    earlier_comes.set()
    await earlier

    assert isinstance(await view.before(BreakerKind.TOOL, "lookup", limit_s=1), Open)


async def test_an_older_answer_counts_while_there_is_no_newer_one():
    answers = Answers()
    answers.rows.append(OPENED)
    view = Circuits(cast(Any, answers), None)
    earlier = asyncio.create_task(view._read())
    earlier_comes = await answers.asked.get()
    later = asyncio.create_task(view._read())
    await answers.asked.get()
    later.cancel()

    earlier_comes.set()
    await earlier

    assert isinstance(await view.before(BreakerKind.TOOL, "lookup", limit_s=1), Open)


async def test_a_probe_is_made_by_who_holds_it_though_the_view_could_not_be_read_after():
    """Otherwise nobody would make one until its time is over, which may be an hour for a slow tool."""

    class GoesAway(Answers):
        async def execute(self, statement: str, values: object = None) -> Any:
            if statement == circuits.PROBE_SQL:
                return Took()
            if self.rows != [OVER]:
                raise psycopg.OperationalError("The server has gone.")
            found = await super().execute(statement)
            (await self.asked.get()).set()
            return found

    class Took:
        async def fetchone(self) -> object:
            answers.rows = []
            return object()

    answers = GoesAway()
    answers.rows.append(OVER)
    view = Circuits(cast(Any, answers), None)

    leave = await view.before(BreakerKind.TOOL, "lookup", limit_s=3600)

    assert isinstance(leave, Ticket) and leave.probe
    await view.settle()
