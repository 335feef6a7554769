"""A connection to an MCP server whose tools change at bad moments: no notice of it is lost. Without a server."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import OperationalError
from mcp.client.client import Client

from runtime.mcp import connections
from runtime.mcp.configuring import Config
from runtime.mcp.connections import Connection, Pool
from runtime.policies.offering import Listing
from tests.patience import PATIENCE_S
from tests.runtime.mcp.test_connections import Memory

CONFIG = Config("library")


class Library:
    """Offers nothing, and says so when it is let."""

    server_info = None
    protocol_version = "2026-07-28"

    def __init__(self) -> None:
        self.asked: asyncio.Queue[None] = asyncio.Queue()
        self.may_answer = asyncio.Event()
        self.count = 0

    async def list_tools(self, cursor: str | None = None) -> Any:
        self.count += 1
        self.asked.put_nowait(None)
        await self.may_answer.wait()
        return SimpleNamespace(tools=[], next_cursor=None)


def a_connection(library: Library) -> Connection:
    return Connection(CONFIG, cast(Client, library), str, listed_at=time.monotonic())


async def test_a_change_is_not_forgotten_when_whoever_asks_about_it_is_cancelled():
    library, pool = Library(), Pool(Memory(CONFIG))
    connection = a_connection(library)
    connection.heard_of_change()
    turn = asyncio.create_task(pool.offered(connection, "lend"))
    await library.asked.get()
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn

    library.may_answer.set()
    await pool.offered(connection, "lend")
    assert library.count == 2
    await pool.offered(connection, "lend")
    assert library.count == 2


async def test_a_change_that_is_heard_of_during_a_look_is_looked_at_next(monkeypatch):
    monkeypatch.setattr(connections, "LOOK_S", 3600)
    monkeypatch.setattr(connections, "QUIET_S", 0)
    connection, looks = a_connection(Library()), 0

    class Looking(Pool):
        async def offered(self, connection: Connection, name: str) -> str | None:
            nonlocal looks
            looks += 1
            if looks == 1:
                connection.heard_of_change()
            else:
                connection.close()
            return None

    keeping = asyncio.create_task(Looking(Memory(CONFIG))._keep(connection))
    await asyncio.sleep(0)
    connection.heard_of_change()
    await asyncio.wait_for(keeping, PATIENCE_S)
    assert looks == 2


class Away(Memory):
    """A door to a database that is away for its first questions."""

    def __init__(self, *, loads: int = 0, stores: int = 0) -> None:
        super().__init__(CONFIG)
        self.loads, self.stores = loads, stores

    async def load(self, name: str) -> Config:
        self.loads -= 1
        if self.loads >= 0:
            raise OperationalError("The server has gone.")
        return await super().load(name)

    async def store(self, config: Config, listing: Listing, told: str) -> None:
        self.stores -= 1
        if self.stores >= 0:
            raise OperationalError("The server has gone.")
        await super().store(config, listing, told)


async def test_a_database_that_is_away_for_a_moment_ends_no_connection_that_calls_are_made_on(monkeypatch):
    monkeypatch.setattr(connections, "LOOK_S", 0)
    monkeypatch.setattr(connections, "QUIET_S", 0)
    connection, looks = a_connection(Library()), 0

    class Looking(Pool):
        async def offered(self, connection: Connection, name: str) -> str | None:
            nonlocal looks
            looks += 1
            connection.close()
            return None

    await asyncio.wait_for(Looking(Away(loads=2))._keep(connection), PATIENCE_S)
    assert looks == 1


async def test_what_could_not_be_stored_is_stored_by_whoever_asks_next():
    library, door = Library(), Away(stores=1)
    library.may_answer.set()
    pool, connection = Pool(door), a_connection(library)
    connection.listing = connection.stored = Listing({"lend": "as it was"})
    connection.heard_of_change()

    with pytest.raises(OperationalError):
        await pool.offered(connection, "lend")
    await pool.offered(connection, "lend")
    await pool.offered(connection, "lend")

    assert door.stored == [connection.listing]
