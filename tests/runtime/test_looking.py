"""Looking for runs that are to stop while the database is away. Without one."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import psycopg

from console import ids
from runtime.engine import Engine


class Away:
    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        raise psycopg.OperationalError("The server has gone.")
        yield


async def test_a_look_that_fails_is_told_and_made_again(caplog):
    missed: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: missed.append(context))
    engine, run_id = Engine(cast(Any, Away()), ids.new()), ids.new()
    engine._turns[run_id] = cast(Any, object())

    for _ in range(2):
        engine.interrupt(run_id)
        assert engine._looking is not None
        await asyncio.wait([engine._looking])
    engine._looking = None
    gc.collect()

    assert caplog.text.count("could not be read") == 2
    assert not missed
