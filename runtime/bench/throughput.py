"""W1 and W2: how much one worker process gets done, and what an operation costs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from runtime.bench import meters
from runtime.bench.knobs import Knobs
from runtime.bench.lives import Life
from runtime.bench.loads import Load
from runtime.states import RunStatus

POLL_S = 0.05
WARM_UP_S = 30.0
BOOKKEEPING_S = 2.0


@dataclass
class Measured:
    """What one load cost. `wall_s` runs from the release of the jobs to the end of the last run."""

    wall_s: float
    cpu_s: float | None
    services_cpu_s: float | None
    rss0_mb: float | None
    peak_rss_mb: float | None
    wal_bytes: int
    load_wal_bytes: int
    commits: int
    gaps_s: list[float]


def w1(knobs: Knobs, load: Load) -> dict[str, Any]:
    """STEPS times (model, tool), CONC runs in flight; every operation durable."""
    measured = measure(knobs, load)
    return {
        "steps": knobs.steps,
        "conc": knobs.conc,
        "payload": knobs.payload,
        "pool": knobs.pool,
        "wall_s": round(measured.wall_s, 3),
        "runs_per_s": round(knobs.runs / measured.wall_s, 1),
        "durable_ops_per_s": round(knobs.runs * 2 * knobs.steps / measured.wall_s, 1),
        **_costs(measured, knobs.runs * 2 * knobs.steps),
        "step_ms_p50": _quantile_ms(measured.gaps_s, 0.50),
        "step_ms_p95": _quantile_ms(measured.gaps_s, 0.95),
        "step_ms_p99": _quantile_ms(measured.gaps_s, 0.99),
    }


def w2(knobs: Knobs, load: Load) -> dict[str, Any]:
    """RUNS at once, each of CALLS model calls of SLEEP seconds, against the time of one run alone."""
    measured = measure(knobs, load)
    ideal_s = knobs.calls * knobs.sleep_s
    return {
        "calls": knobs.calls,
        "sleep_s": knobs.sleep_s,
        "payload": knobs.payload,
        "pool": knobs.pool,
        "wall_s": round(measured.wall_s, 3),
        "ideal_s": ideal_s,
        "ratio": round(measured.wall_s / ideal_s, 3) if ideal_s else None,
        "ops_per_s": round(knobs.runs * knobs.calls / measured.wall_s, 1),
        **_costs(measured, knobs.runs * knobs.calls),
        "rss0_mb": measured.rss0_mb,
        "peak_rss_mb": measured.peak_rss_mb,
    }


def measure(knobs: Knobs, load: Load) -> Measured:
    """Start a worker, warm it up with one run, release the load and wait for its last run."""
    life = Life(load.tag, knobs)
    try:
        life.wait_until_ready()
        warm = load.create(1)
        load.offer(warm)
        _wait(life, load, WARM_UP_S)
        wal_before_load = meters.wal_bytes()
        runs = load.create(knobs.runs)
        load.offer(runs, hold=True)
        meters.forget_peak(life.pid)
        rss0, _ = meters.memory_mb(life.pid)
        before = meters.counters()
        cpu, services = meters.cpu_s(life.pid), meters.services_cpu_s()
        began = meters.clock()
        load.release_held()
        polls = _wait(life, load, knobs.give_up_s)
        _let_the_queue_finish(load)
        cpu_after, services_after = meters.cpu_s(life.pid), meters.services_cpu_s()
        _, peak = meters.memory_mb(life.pid)
        wal = meters.wal_bytes() - before.wal_bytes
    finally:
        life.stop()
    _require_success(load, runs)
    return Measured(
        wall_s=(_last_end(runs) - began).total_seconds(),
        cpu_s=_difference(cpu, cpu_after),
        services_cpu_s=_difference(services, services_after),
        rss0_mb=rss0,
        peak_rss_mb=peak,
        wal_bytes=wal,
        load_wal_bytes=before.wal_bytes - wal_before_load,
        commits=meters.counters().commits - before.commits - polls,
        gaps_s=life.gaps_s(),
    )


def _costs(measured: Measured, operations: int) -> dict[str, Any]:
    """Everything but time. Commits include the worker's own: heartbeats, the reconciler, its start and end."""
    wal_kb = measured.wal_bytes / 1024
    both = (measured.cpu_s or 0) + (measured.services_cpu_s or 0)
    return {
        "client_cpu_s": None if measured.cpu_s is None else round(measured.cpu_s, 3),
        "svc_cpu_s": None if measured.services_cpu_s is None else round(measured.services_cpu_s, 3),
        "cpu_ms_per_op": None if measured.services_cpu_s is None else round(1000 * both / operations, 3),
        "pg_commits": measured.commits,
        "commits_per_op": round(measured.commits / operations, 3),
        "wal_kb": round(wal_kb, 1),
        "wal_kb_per_op": round(wal_kb / operations, 3),
        "load_wal_kb": round(measured.load_wal_bytes / 1024, 1),
    }


def _wait(life: Life, load: Load, limit_s: float) -> int:
    """Look until every run has ended. Returns how often; each look was a commit of ours.

    Raises:
        RuntimeError: the worker ended, or the time is up.
    """
    end = time.monotonic() + limit_s
    looked = 1
    while not load.is_settled():
        if life.process.poll() is not None:
            raise RuntimeError(f"The worker ended with status {life.process.returncode} in the middle of the load.")
        if time.monotonic() > end:
            raise RuntimeError(f"After {limit_s:g} s the runs stand as {load.statuses(load.runs)}. See GIVE_UP.")
        time.sleep(POLL_S)
        looked += 1
    return looked


def _let_the_queue_finish(load: Load) -> None:
    """The queue's own bookkeeping of the last jobs belongs to their CPU time."""
    end = time.monotonic() + BOOKKEEPING_S
    while load.queue.started_job_registry.get_job_count(cleanup=False) and time.monotonic() < end:
        time.sleep(POLL_S)


def _require_success(load: Load, runs: Sequence[UUID]) -> None:
    found = load.statuses(runs)
    if found != {RunStatus.SUCCEEDED: len(runs)}:
        raise RuntimeError(f"{len(runs)} runs should have succeeded; they ended as {found}.")


def _last_end(runs: Sequence[UUID]) -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT max(finished_at) FROM runtime_run WHERE id = ANY(%s)", [list(runs)])
        moment: datetime = cursor.fetchone()[0]
        return moment


def _difference(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


def _quantile_ms(ascending: Sequence[float], part: float) -> float | None:
    if not ascending:
        return None
    return round(1000 * ascending[min(len(ascending) - 1, int(part * len(ascending)))], 3)
