"""Connections of one event loop to the database, none of which is waited for without an end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from django.db import InterfaceError, OperationalError
from psycopg_pool import AsyncConnectionPool, PoolTimeout

# The database is not there for connections of a loop, or for the verbs that go through Django.
AWAY = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout, OperationalError, InterfaceError)

LOCKED_S = 5.0  # for a row that somebody else has locked: one statement writes or claims the runs of many
ANSWER_S = 60.0  # for a connection and what is said on it, which is some statements and nothing else


class Pool(AsyncConnectionPool[Any]):
    """A pool whose connections are held for at most ANSWER_S.

    What a connection waits for may never come: its other end is gone without a word, or somebody holds a lock and does
    not go on. Writes and claims share a few connections, so that a few such waits would hold all turns of a worker.
    """

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Any]:  # noqa: ASYNC109  # as in psycopg
        """
        Raises:
            psycopg.OperationalError: it has taken too long. Whether what was said has happened is not known.
        """
        try:
            async with asyncio.timeout(ANSWER_S), super().connection(timeout) as connection:
                yield connection
        except TimeoutError as late:
            raise psycopg.OperationalError(f"The database has not answered for {ANSWER_S:g} s.") from late
