"""The web server's connections to PostgreSQL, shared by all requests."""

from __future__ import annotations

import time
from typing import Any

from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg import Connection
from psycopg_pool import ConnectionPool

# Attempts to connect end after `reconnect_timeout`; the next request then tries at once, instead of waiting for a retry
# that has been put off for as long as PostgreSQL was away.
OPTIONS = {"min_size": 2, "max_size": 20, "timeout": 10, "reconnect_timeout": 5}
SETTLE_S = 1.0


class Check:
    """Whether a connection that a request is about to get still works.

    The pool finds broken ones one by one and waits twice as long after each, so that four of them take the ten seconds
    of the request. One that PostgreSQL has ended is not alone: at the first all idle ones are replaced.
    """

    def __init__(self, pool: ConnectionPool[Any]) -> None:
        self.pool = pool
        self.replaced_at = 0.0

    def __call__(self, connection: Connection[Any]) -> None:
        try:
            ConnectionPool.check_connection(connection)
        except Exception:
            if time.monotonic() - self.replaced_at > SETTLE_S:
                self.replaced_at = time.monotonic()
                self.pool.drain()
            raise


def guard(database: DatabaseWrapper) -> None:
    """Let the pool of this database notice a restart at once. Django hands in a check of its own and takes no other."""
    pool = database.pool
    assert pool is not None
    pool._check = Check(pool)  # noqa: SLF001
