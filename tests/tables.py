"""The tables of the test database: migrated once, and empty before each test.

Processes that test side by side each have a database. The first one that needs its own migrates it, the others wait and
begin with a copy. What a test committed goes away again; the tables that it never touched cost nothing.
"""

from __future__ import annotations

import fcntl
import os
from functools import cache
from pathlib import Path
from typing import IO

from django.db import connection, transaction
from django.test import TransactionTestCase

# Migrations fill these, and no test writes to them.
KEPT = frozenset({"django_migrations", "django_content_type", "auth_permission"})
LARGE_BYTES = 256 * 1024
COPY = "test_steadyhand_copy"

_turn: list[IO[str]] = []


def wait_for_a_copy() -> None:
    """Before this process makes its database. Only on servers that live for this run: elsewhere the copy would stay."""
    folder = Path(os.environ["STEADYHAND_DATA_DIR"])
    if not (folder / "postgres.json").exists():
        return
    _turn.append((folder / "migrating").open("w"))
    fcntl.flock(_turn[0], fcntl.LOCK_EX)
    if (folder / "migrated").exists():
        connection.settings_dict["TEST"]["TEMPLATE"] = COPY


def offer_a_copy() -> None:
    """After that.

    Nobody counts the rows in the background: a plan that a test looks at must not depend on who was there before.
    """
    with connection.cursor() as cursor:
        for name in map(connection.ops.quote_name, _tables()):
            cursor.execute(f"ALTER TABLE {name} SET (autovacuum_enabled = false)")
    if not _turn:
        return
    migrated = Path(os.environ["STEADYHAND_DATA_DIR"], "migrated")
    if not migrated.exists():
        mine = str(connection.settings_dict["NAME"])
        connection.close()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {COPY} TEMPLATE {connection.ops.quote_name(mine)}")
        migrated.touch()
    _turn.pop().close()


def empty_after_each_test() -> None:
    """Django's own way truncates every table and asks for every permission again: a quarter of a second per test."""
    TransactionTestCase._fixture_teardown = lambda case: empty()


def empty() -> None:
    """Take every row away, once whoever still writes has ended.

    To truncate means new files, to delete means a look at the foreign keys of each row when all is done: the one is
    for many rows, for rows that somebody counted (ANALYZE), and for tables whose trigger refuses the other.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        names = {name: connection.ops.quote_name(name) for name in _tables()}
        cursor.execute(f"LOCK TABLE {', '.join(names.values())} IN SHARE ROW EXCLUSIVE MODE")
        each = " UNION ALL ".join(f"SELECT '{name}', EXISTS (TABLE {quoted})" for name, quoted in names.items())
        cursor.execute(
            f"WITH each (name, is_filled) AS ({each})"
            f" SELECT name, reltuples >= 0 OR pg_relation_size(oid) > {LARGE_BYTES}"
            " FROM each JOIN pg_class ON oid = name::regclass WHERE is_filled OR reltuples >= 0"
        )
        filled = dict(cursor.fetchall())
        truncated = [names[name] for name, is_better in filled.items() if is_better or name in _undeletable()]
        if truncated:
            cursor.execute(f"TRUNCATE {', '.join(truncated)} CASCADE")
        for name in filled:
            if names[name] not in truncated:
                cursor.execute(f"DELETE FROM {names[name]}")


@cache
def _tables() -> tuple[str, ...]:
    known = connection.introspection.django_table_names(only_existing=True, include_views=False)
    return tuple(sorted(set(known) - KEPT))


@cache
def _undeletable() -> frozenset[str]:
    """Tables whose trigger refuses to delete a row."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal AND tgtype & 8 <> 0")
        return frozenset(name for (name,) in cursor.fetchall())
