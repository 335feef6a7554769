"""A connection to an MCP server whose tools change at bad moments: no notice of it is lost. Without a server."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mcp.client.client import Client

from runtime.mcp import connections
from runtime.mcp.configuring import Config
from runtime.mcp.connections import Connection, Pool
from tests.runtime.mcp.test_connections import Memory

PATIENCE_S = 5.0
CONFIG = Config("library")


class Library:
    """Offers nothing, and says so when it is let."""

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
