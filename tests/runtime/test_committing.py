"""Group commit by itself, without a database: who writes what is waiting, and when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from console import ids
from runtime import journal
from runtime.committing import FLUSHERS, Committer
from runtime.journal import Answer, Lease, Operation, Write, Written
from tests.patience import PATIENCE_S


class Held(Committer):
    """Its statements end when `let_go` is set, those under way all in one step of the loop."""

    def __init__(self) -> None:
        super().__init__(cast(AsyncConnectionPool[Any], None))
        self.let_go = asyncio.Event()
        self.statements: list[list[UUID]] = []
        self.began: asyncio.Queue[None] = asyncio.Queue()
        self.broken: list[BaseException] = []

    async def _together(self, operations: Sequence[Operation]) -> dict[Lease, Answer]:
        self.statements.append([each.lease.run_id for each in operations])
        self.began.put_nowait(None)
        await self.let_go.wait()
        if self.broken:
            raise self.broken.pop()
        return {each.lease: Written(len(self.statements), cancel_requested=False) for each in operations}


@pytest.fixture
async def committer() -> Held:
    return Held()


def an_operation() -> Operation:
    return journal.operation(Lease(ids.new(), 1), [Write()])


async def write(committer: Held, times: int = 1) -> None:
    """A turn that commits one operation after another, with nothing between them."""
    operation = an_operation()
    for _ in range(times):
        await committer.write(operation)


async def all_flushers_busy(committer: Held, first: int = 1) -> list[asyncio.Task[None]]:
    """As many statements under way as there may be, each of another turn; the first turn has more to write."""
    turns = []
    for count in range(1, FLUSHERS + 1):
        turns.append(asyncio.create_task(write(committer, first if count == 1 else 1)))
        await committer.began.get()
    return turns


async def test_what_comes_while_every_statement_is_under_way_goes_together(committer):
    turns = await all_flushers_busy(committer)
    turns += [asyncio.create_task(write(committer)) for _ in range(5)]
    await asyncio.sleep(0.01)
    assert [len(each) for each in committer.statements] == [1] * FLUSHERS
    committer.let_go.set()
    await asyncio.wait_for(asyncio.gather(*turns), PATIENCE_S)
    assert [len(each) for each in committer.statements] == [*[1] * FLUSHERS, 5]


async def test_a_write_right_after_the_last_statements_have_ended_together_is_not_left_waiting(committer):
    """The answers of several statements arrive in one step of the loop; one turn goes on, and the others are over."""
    turns = await all_flushers_busy(committer, first=3)
    committer.let_go.set()
    await asyncio.wait_for(asyncio.gather(*turns), PATIENCE_S)
    assert not committer.waiting
    assert not committer.flushers


async def test_an_error_of_ours_is_told_to_its_batch_and_the_next_one_is_written(committer):
    turns = await all_flushers_busy(committer)
    later = asyncio.create_task(write(committer))
    await asyncio.sleep(0.01)
    committer.broken = [RuntimeError("The statement cannot be built.") for _ in range(FLUSHERS)]
    committer.let_go.set()
    told = await asyncio.wait_for(asyncio.gather(*turns, return_exceptions=True), PATIENCE_S)
    assert [str(each) for each in told] == ["The statement cannot be built."] * FLUSHERS
    await asyncio.wait_for(later, PATIENCE_S)


class Choosy(Committer):
    """Takes no two runs in one statement; what comes of the single ones, in order, is told it. None: it is written."""

    together: Exception = psycopg.DataError("One of them cannot be stored.")

    def __init__(self, *alone: Exception | None) -> None:
        super().__init__(cast(AsyncConnectionPool[Any], None))
        self.alone = list(alone)
        self.statements: list[int] = []

    async def _together(self, operations: Sequence[Operation]) -> dict[Lease, Answer]:
        self.statements.append(len(operations))
        wrong = self.together if len(operations) > 1 else self.alone.pop(0)
        if wrong is not None:
            raise wrong
        return {each.lease: Written(1, cancel_requested=False) for each in operations}

    async def all_told(self, count: int) -> list[str]:
        turns = asyncio.gather(*(self.write(an_operation()) for _ in range(count)), return_exceptions=True)
        return [type(each).__name__ for each in await asyncio.wait_for(turns, PATIENCE_S)]


async def test_an_error_of_ours_in_a_write_tried_alone_leaves_nobody_waiting():
    choosy = Choosy(RuntimeError("The statement cannot be built."), None, psycopg.DataError("It is this one."), None)
    assert await choosy.all_told(4) == ["RuntimeError", "Written", "DataError", "Written"]
    assert choosy.statements == [4, 1, 1, 1, 1]


async def test_a_database_that_goes_away_between_single_writes_is_told_to_all_that_are_left():
    """Each of them would wait for a connection, one after the other."""
    choosy = Choosy(None, psycopg.OperationalError("The server has gone."))
    assert await choosy.all_told(4) == ["Written", "OperationalError", "OperationalError", "OperationalError"]
    assert choosy.statements == [4, 1, 1]


@pytest.mark.parametrize("locked", [psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected])
async def test_a_lock_on_one_run_is_no_sign_that_the_database_has_gone(locked):
    choosy = Choosy(None, locked("This one is locked."), None)
    choosy.together = locked("One of them is locked.")
    assert await choosy.all_told(3) == ["Written", locked.__name__, "Written"]
