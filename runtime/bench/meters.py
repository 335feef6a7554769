"""What is read beside the clock: commits and WAL of the database, CPU and memory of processes.

Processes are read from /proc; where that is missing, or shows another machine's processes, the figure is None.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import django_rq
from django.db import connection

from console import queue
from runtime.bench.knobs import Refused

PROC = Path("/proc")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
LOOPBACK = {"", "localhost", "127.0.0.1", "::1"}


def require_durable() -> None:
    """Measure only a server that keeps what it has committed.

    Raises:
        Refused: commits of this server do not wait for the disk.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('fsync'), current_setting('synchronous_commit')")
        fsync, commit = cursor.fetchone()
    if fsync != "on" or commit == "off":
        raise Refused(
            f"This PostgreSQL runs with fsync={fsync} and synchronous_commit={commit}: its commits do not wait for the"
            " disk, and figures from it say nothing. Turn both on, or name another server in DATABASE_URL."
        )


@dataclass(frozen=True)
class Counters:
    """What the database has done so far, all sessions together."""

    wal_bytes: int
    commits: int


def counters(*, of_server: bool = False) -> Counters:
    """Of this database, or over all of the server; the log is one for all.

    Sessions report commits when they end or after a second of rest; read this when the others have ended.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot(), pg_stat_force_next_flush()")
        cursor.execute(
            "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, sum(xact_commit)::bigint"
            " FROM pg_stat_database WHERE %s OR datname = current_database()",
            [of_server],
        )
        return Counters(*cursor.fetchone())


def wal_bytes() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        return int(cursor.fetchone()[0])


def clock() -> datetime:
    """The clock that also stamps the runs."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
        return moment


def cpu_s(pid: int) -> float | None:
    """CPU seconds of one process so far, all of its threads."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S if fields else None


def memory_mb(pid: int) -> tuple[float | None, float | None]:
    """Resident memory now, and the most since `forget_peak`."""
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return None, None
    kb = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines) if name in _MEMORY}
    return tuple(round(kb[name] / 1024, 1) if name in kb else None for name in _MEMORY)  # type: ignore[return-value]


_MEMORY = ("VmRSS", "VmHWM")


def forget_peak(pid: int) -> None:
    """Let the peak begin anew, so that what a process needed to start does not count."""
    try:
        (PROC / str(pid) / "clear_refs").write_text("5")
    except OSError:
        return


def services_cpu_s() -> float | None:
    """CPU seconds of PostgreSQL and Redis so far; None when either cannot be attributed."""
    postmaster = _postmaster()
    if postmaster is None:
        return None
    known = django_rq.get_connection(queue.RUNS).info("cpu")
    return _tree_s(postmaster) + float(known["used_cpu_user"]) + float(known["used_cpu_sys"])


def _postmaster() -> int | None:
    """The process id of the database server: from PG_PID, or the parent of our own session's process."""
    if given := os.environ.get("PG_PID"):
        return int(given) if given.isdecimal() and _stat(int(given)) else None
    if str(connection.settings_dict["HOST"]) not in LOOPBACK:
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = int(cursor.fetchone()[0])
    try:
        is_ours = (PROC / str(backend) / "cmdline").read_bytes().startswith(b"postgres:")
    except OSError:
        return None
    fields = _stat(backend)
    return int(fields[1]) if is_ours and fields else None


def _tree_s(pid: int) -> float:
    """CPU seconds of a process, its living children and those it has seen end."""
    fields = _stat(pid)
    total = sum(int(field) for field in fields[11:15])
    try:
        children = (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()
    except OSError:
        children = []
    for child in children:
        total += sum(int(field) for field in _stat(int(child))[11:13])
    return total / TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name, beginning with the state; empty when there is no such process."""
    try:
        return (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []
