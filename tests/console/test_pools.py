"""The web server's connections after a restart of PostgreSQL."""

from __future__ import annotations

import time

import pytest
from django.db import connection
from django.db.backends.postgresql.base import DatabaseWrapper

from console import pools

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_request_after_a_restart_waits_for_one_broken_connection_and_not_for_all():
    options = {**connection.settings_dict["OPTIONS"], "pool": {**pools.OPTIONS, "min_size": 8}}
    settings = {**connection.settings_dict, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True, "OPTIONS": options}
    database = DatabaseWrapper(settings, "pooled")
    pools.guard(database)
    pool = database.pool
    pool.open()
    pool.wait(20)
    try:
        end_all(pool)
        began = time.monotonic()

        for _ in range(2):
            with database.cursor() as cursor:
                cursor.execute("SELECT 1")
            database.close()

        assert time.monotonic() - began < 5
    finally:
        database.close_pool()


def end_all(pool) -> None:
    """As a restart does: every connection is gone, and nobody has noticed."""
    pids = [idle.info.backend_pid for idle in pool._pool]
    assert len(pids) == 8
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(pg_terminate_backend(pid)) FROM unnest(%s) AS pid", [pids])
