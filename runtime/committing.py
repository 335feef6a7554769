"""Group commit: the writes of runs in flight share statements and commits.

A flusher takes all that waits, after every runnable turn had its chance to add to it, and writes it in one
statement. There is no timer: on an idle system a write goes out at once. Whatever the database refuses as a whole is
written again run by run, so that one impossible row fails its own run only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg.errors import DeadlockDetected, LockNotAvailable
from psycopg_pool import AsyncConnectionPool

from runtime import journal
from runtime.journal import Answer, LeaseLost, Operation, Written
from runtime.pools import AWAY

log = logging.getLogger(__name__)

FLUSHERS = 2
MOST_TOGETHER = 200  # operations of one statement
LOCKED = (LockNotAvailable, DeadlockDetected)  # one of the runs, by somebody who does not go on, or goes the other way


@dataclass
class _Waiting:
    operation: Operation
    written: asyncio.Future[Written]

    def answer(self, found: Answer | BaseException) -> None:
        if self.written.done():  # whoever waited for it was cancelled
            return
        if isinstance(found, Written):
            self.written.set_result(found)
        else:
            self.written.set_exception(found)


class Committer:
    """Writes operations for the turns of one event loop."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self.pool = pool
        self.waiting: list[_Waiting] = []
        self.flushers: set[asyncio.Task[None]] = set()

    async def write(self, operation: Operation) -> Written:
        """Commit the operation, perhaps together with others. It is durable when this returns.

        Raises:
            LeaseLost, SwitchedOff: nothing of it was written.
            psycopg.Error, PoolTimeout: the database did not take it, or went away before it could say so.
        """
        waiting = _Waiting(operation, asyncio.get_running_loop().create_future())
        self.waiting.append(waiting)
        if len(self.flushers) < FLUSHERS:
            self.flushers.add(asyncio.create_task(self._flush()))
        return await waiting.written

    async def _flush(self) -> None:
        try:
            await self._write_all()
        finally:
            # In the same step as the last look at what waits: a callback of the task would come a step later, and a
            # turn that writes in between would count on flushers that have already gone.
            self.flushers.discard(cast(asyncio.Task[None], asyncio.current_task()))

    async def _write_all(self) -> None:
        while self.waiting:
            await asyncio.sleep(0)
            batch = self._take()
            if not batch:
                return
            try:
                await self._write_batch(batch)
            except BaseException as broken:  # whoever has no answer yet gets this one: nobody waits for ever
                _tell(batch, broken)
                if not isinstance(broken, Exception):
                    raise

    async def _write_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            found = await self._together([each.operation for each in batch])
        except LOCKED as locked:
            await self._one_by_one(batch, locked)
        except AWAY:
            raise
        except psycopg.Error as refused:
            await self._one_by_one(batch, refused)
        else:
            for each in batch:
                each.answer(found.get(each.operation.lease) or LeaseLost())

    def _take(self) -> list[_Waiting]:
        """The next operations, each of another run: the statement updates a run once."""
        batch: list[_Waiting] = []
        later: list[_Waiting] = []
        runs = set()
        for each in self.waiting:
            if each.operation.lease.run_id in runs or len(batch) == MOST_TOGETHER:
                later.append(each)
            else:
                runs.add(each.operation.lease.run_id)
                batch.append(each)
        self.waiting = later
        return batch

    async def _one_by_one(self, batch: Sequence[_Waiting], refused: psycopg.Error) -> None:
        if len(batch) == 1:
            batch[0].answer(refused)
            return
        log.warning("%d writes were refused together (%s); each is tried alone.", len(batch), refused)
        for each in batch:
            try:
                found = await self._together([each.operation])
            except LOCKED as locked:
                each.answer(locked)
            except AWAY:
                raise
            except Exception as alone:
                each.answer(alone)
            else:
                each.answer(found.get(each.operation.lease) or LeaseLost())

    async def _together(self, operations: Sequence[Operation]) -> dict[journal.Lease, Answer]:
        async with self.pool.connection() as connection:
            cursor = await connection.execute(*journal.statement(operations))
            return journal.answers(await cursor.fetchall())


def _tell(batch: Sequence[_Waiting], error: BaseException) -> None:
    for each in batch:
        each.answer(error)
