"""W3: a worker dies, or only seems to, in the middle of a load whose effects must not happen twice."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Count, Q

from console import ids
from runtime import workers
from runtime.bench.knobs import Knobs
from runtime.bench.lives import Life
from runtime.bench.loads import Load
from runtime.bench.scenes import EFFECT_TABLE
from runtime.models import Run
from runtime.states import FINAL, RunStatus, StepKind, StepStatus

POLL_S = 0.01
AFTER_THAW_S = 3.0  # a thawed worker has this long to do harm

MAKE_TABLE_SQL = f"""
    DROP TABLE IF EXISTS {EFFECT_TABLE};
    CREATE TABLE {EFFECT_TABLE} (run text, step int, pid int, at timestamptz DEFAULT clock_timestamp())
"""
EFFECTS_SQL = f"SELECT run, step, pid, extract(epoch FROM at) FROM {EFFECT_TABLE} ORDER BY at"  # noqa: S608


def w3(knobs: Knobs, load: Load) -> dict[str, Any]:
    """Kill or freeze the worker when KILL_AT of the effects exist, start another, and count when all is settled."""
    with connection.cursor() as cursor:
        cursor.execute(MAKE_TABLE_SQL)
    load.offer(load.create(knobs.runs))
    lives = [Life(load.tag, knobs)]
    try:
        _wait_for_effects(lives[0], knobs)
        lives[0].freeze() if knobs.zombie else lives[0].kill()
        at_kill = _count()
        lives.append(Life(f"{load.tag}-other" if knobs.other else load.tag, knobs))
        ready_at = lives[1].wait_until_ready()
        done_at = _wait_until_settled(lives[1], load, knobs)
        if knobs.zombie:
            lives[0].thaw()
            time.sleep(AFTER_THAW_S)
        return _told(knobs, load, lives[1], at_kill=at_kill, ready_at=ready_at, done_at=done_at)
    finally:
        for life in lives:
            life.kill()
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {EFFECT_TABLE}")


def _told(
    knobs: Knobs, load: Load, second: Life, *, at_kill: int, ready_at: float, done_at: float | None
) -> dict[str, Any]:
    effects = _effects()
    distinct = {(run, step) for run, step, _, _ in effects}
    first_again = next((at for _, _, pid, at in effects if pid == second.pid), None)
    statuses = load.statuses(load.runs)
    return {
        "steps": knobs.steps,
        "effects_at_kill": at_kill,
        "restart_to_ready_s": round(ready_at - second.began, 3),
        "restart_to_done_s": _after(second.began, done_at),
        "ready_to_done_s": _after(ready_at, done_at),
        "finished": done_at is not None,
        "variant": " ".join(name for name, is_set in (("OTHER", knobs.other), ("ZOMBIE", knobs.zombie)) if is_set),
        "ready_to_first_effect_s": _after(ready_at, first_again),
        "effects": len(effects),
        "duplicates": len(effects) - len(distinct),
        "missing": len(_expected(knobs, load.runs) - distinct),
        "parked_runs": statuses.get(RunStatus.WAITING, 0),
        "failed_runs": sum(count for status, count in statuses.items() if status not in _WANTED),
        "lease_s": knobs.lease_s or workers.LEASE.total_seconds(),
    }


_WANTED = {RunStatus.SUCCEEDED, RunStatus.WAITING}


def _expected(knobs: Knobs, runs: Sequence[UUID]) -> set[tuple[str, int]]:
    """The effects that must exist: every step of a run that has ended, and those before the call of a parked one.

    Whether the parked call has happened is what a person is asked, so it is neither lost nor wanted.
    """
    done = Count("steps", filter=Q(steps__kind=StepKind.TOOL, steps__status=StepStatus.DONE))
    found = Run.objects.filter(pk__in=runs).annotate(done=done).values_list("pk", "status", "done")
    return {
        (ids.public("run", key), step)
        for key, status, calls in found
        for step in range(knobs.steps if status in FINAL else calls)
    }


def _wait_for_effects(life: Life, knobs: Knobs) -> None:
    end = time.monotonic() + knobs.give_up_s
    while _count() < knobs.kill_at * knobs.runs * knobs.steps:
        if life.process.poll() is not None:
            raise RuntimeError("The worker ended before it could be killed; its messages stand above.")
        if time.monotonic() > end:
            raise RuntimeError(f"The worker left {_count()} effects in {knobs.give_up_s:g} s; see KILL_AT and GIVE_UP.")
        time.sleep(POLL_S)


def _wait_until_settled(life: Life, load: Load, knobs: Knobs) -> float | None:
    """When every run had ended or was parked; None when that was not to be seen in time."""
    end = time.monotonic() + knobs.give_up_s
    while not load.is_settled(or_parked=True):
        if time.monotonic() > end or life.process.poll() is not None:
            return None
        time.sleep(POLL_S)
    return time.time()


def _count() -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {EFFECT_TABLE}")  # noqa: S608 (a constant of ours)
        return int(cursor.fetchone()[0])


def _effects() -> list[tuple[str, int, int, float]]:
    with connection.cursor() as cursor:
        cursor.execute(EFFECTS_SQL)
        return [(run, step, pid, float(at)) for run, step, pid, at in cursor.fetchall()]


def _after(began: float, at: float | None) -> float | None:
    return None if at is None else round(at - began, 3)
