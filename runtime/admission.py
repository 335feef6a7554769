"""Which queued runs a worker may claim: those whose time has come, whose thread is free, and that have their slots.

A run that needs more than a worker is queued with `held_for`; the claim looks at that one column and nothing else, so
a run without limits pays nothing. Here is what takes the hold away, one after the other: the timer, the thread, the
slots. Slots are not rows: a run occupies them while it runs or is queued without a hold, so whatever ends or parks a
run frees them in the same statement, also when a worker dies. They are given out under one lock, by one statement
after another, so that two workers never give out the last one twice.

Whoever frees something calls `after_turn` or `after_end`; the reconciler's `sweep` finds what a crash forgot.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from console import ids, live
from releases.bundles import Bundle
from runtime import queueing
from runtime.models import Run
from runtime.policies import admitting
from runtime.states import FINAL, Hold

ADMISSION_LOCK = 0x5D2F
SWEEP_LOCK = 0x5D30
MOST_AT_ONCE = 500
MOST_OF_ONE_KIND = 100  # runs with the same limits that one pass looks at

# Fragments of the claim. A run with limits that is given back, or left by a dead worker, asks for its slots again.
CLAIMABLE_SQL = "run.held_for = ''"
HOLD_WHEN_QUEUED_AGAIN_SQL = "CASE WHEN run.slots = '{}'::jsonb THEN '' ELSE 'slot' END"

# Nobody marks the run before it as awaited: the sweep itself lets this one in, a second later at most.
TIMER_SQL = """
    UPDATE runtime_run AS run SET held_for = 'thread', wait_reason = 'thread', wake_at = NULL,
        queued_at = clock_timestamp()
    WHERE id IN (SELECT id FROM runtime_run
                 WHERE status = 'queued' AND held_for = 'timer' AND wake_at <= clock_timestamp()
                 ORDER BY wake_at LIMIT %(most)s FOR UPDATE SKIP LOCKED)
"""
# A run also learns here what its thread has read since it was accepted.
THREAD_SQL = f"""
WITH head AS (
    SELECT one.id FROM runtime_run AS one
    WHERE one.status = 'queued' AND one.held_for = 'thread' AND (%(thread)s::uuid IS NULL OR one.thread_id = %(thread)s)
        AND NOT EXISTS (
            SELECT 1 FROM runtime_run AS before
            WHERE before.thread_id = one.thread_id AND before.status <> ALL (%(final)s) AND (
                before.held_for NOT IN ('thread', 'timer')
                OR before.held_for = 'thread' AND (before.queued_at, before.id) < (one.queued_at, one.id)))
    ORDER BY one.queued_at LIMIT {MOST_AT_ONCE} FOR UPDATE OF one SKIP LOCKED
), next AS (
    UPDATE runtime_run AS run SET held_for = {HOLD_WHEN_QUEUED_AGAIN_SQL},
        wait_reason = CASE WHEN run.slots = '{{}}'::jsonb THEN '' ELSE 'rate_limit' END,
        queued_at = clock_timestamp(), seq = run.seq + 1,
        tainted = run.tainted OR EXISTS (
            SELECT 1 FROM runtime_run AS past WHERE past.thread_id = run.thread_id AND past.tainted)
    FROM head WHERE run.id = head.id
    RETURNING run.id, run.fence, run.priority, run.seq, run.held_for
), event AS (
    INSERT INTO runtime_runevent (run_id, seq, kind, at, by_label, data)
    SELECT id, seq, 'run.released', clock_timestamp(), '', '{{}}' FROM next
)
SELECT id, fence, priority, held_for FROM next
"""  # noqa: S608 (constants of ours only)
WAITING_SQL = f"""
    SELECT id, slots FROM (
        SELECT id, slots, queued_at, row_number() OVER (PARTITION BY slots ORDER BY queued_at, id) AS place
        FROM runtime_run
        WHERE status = 'queued' AND held_for = 'slot' AND slots <> '{{}}'
            AND (wake_at IS NULL OR wake_at <= clock_timestamp())
            AND (%(keys)s::text[] IS NULL OR jsonb_exists_any(slots, %(keys)s))
    ) AS one WHERE place <= {MOST_OF_ONE_KIND} ORDER BY queued_at, id LIMIT {MOST_AT_ONCE}
"""  # noqa: S608 (constants of ours only)
OCCUPIED_SQL = """
    SELECT key, count(*) FROM runtime_run CROSS JOIN LATERAL jsonb_object_keys(slots) AS key
    WHERE slots <> '{}' AND (status = 'running' OR status = 'queued' AND held_for = '') GROUP BY key
"""
# Whoever has locked a run and does not go on holds up that run alone, and not the lock under which slots are given out.
ADMIT_SQL = """
    UPDATE runtime_run SET held_for = '', wait_reason = '', queued_at = clock_timestamp()
    WHERE id IN (SELECT id FROM runtime_run WHERE id = ANY (%s) AND status = 'queued' AND held_for = 'slot'
                 FOR UPDATE SKIP LOCKED)
    RETURNING id, fence, priority
"""
SAY_WHY_SQL = """
    UPDATE runtime_run SET wait_reason = 'rate_limit'
    WHERE id IN (SELECT id FROM runtime_run WHERE id = ANY (%s) AND status = 'queued' AND held_for = 'slot'
                     AND wait_reason <> 'rate_limit' FOR UPDATE SKIP LOCKED)
"""


def slots_of(bundle: Bundle, *, agent: str, principal_id: str) -> dict[str, int]:
    """The limits that a new run of this release counts against, as they are frozen with it."""
    return admitting.slot_keys(
        agent=agent,
        principal_id=principal_id,
        model=f"{bundle.model.provider}/{bundle.model.name}",
        of_release=bundle.concurrency.model_dump(),
        of_models=settings.MODEL_CONCURRENCY,
    )


def after_end(run: Run) -> None:
    """Once the caller's transaction has committed: let those in who waited for the end of this run."""
    if run.is_awaited or run.slots:
        thread_id, slots = run.thread_id, dict(run.slots)
        transaction.on_commit(lambda: after_turn(thread_id, slots), robust=True)


def after_turn(thread_id: UUID, slots: Mapping[str, Any]) -> None:
    """The same right now, after a worker has committed the end of a turn. Outside of any transaction."""
    advance(thread_id)
    if slots:
        fill(slots)


def advance(thread_id: UUID | None = None) -> int:
    """Release the next run of this thread, or of every thread that is free. Returns how many."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(THREAD_SQL, {"thread": thread_id, "final": sorted(FINAL)})
        found = cursor.fetchall()
        _enqueue([row[:3] for row in found if not row[3]])
    if any(hold == Hold.SLOT for *_, hold in found):
        fill()
    return len(found)


def fill(keys: Iterable[str] | None = None, *, claimed_here: Collection[UUID] = ()) -> list[UUID]:
    """Give free slots to the runs that have waited longest; only to those that share one of `keys`, if given.

    Returns the admitted runs. Workers are told of them, except of `claimed_here`: the caller claims those. Never
    called inside another transaction: the lock comes before the rows.
    """
    parameters = {"keys": None if keys is None else list(keys)}
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [ADMISSION_LOCK])
        cursor.execute(WAITING_SQL, parameters)
        waiting = [admitting.Candidate(key, _json(slots)) for key, slots in cursor.fetchall()]
        if not waiting:
            return []
        cursor.execute(OCCUPIED_SQL)
        admitted = admitting.decide_admissions(waiting, dict(cursor.fetchall()), settings.MODEL_CONCURRENCY)
        cursor.execute(ADMIT_SQL, [admitted])
        found = cursor.fetchall()
        cursor.execute(SAY_WHY_SQL, [[one.run_id for one in waiting if one.run_id not in set(admitted)]])
        _enqueue(row for row in found if row[0] not in claimed_here)
    return [row[0] for row in found]


def knock(run_ids: Collection[UUID]) -> list[UUID]:
    """A worker was sent for runs that it could not claim. Admit what fits; returns those of them it may try again."""
    held = Run.objects.filter(pk__in=run_ids, status="queued", held_for=Hold.SLOT).values_list("slots", flat=True)
    keys = {key for slots in held for key in slots}
    return [one for one in fill(keys, claimed_here=run_ids) if one in run_ids] if keys else []


def sweep() -> bool:
    """Everything that is due and that nobody has let in. False when another process is at it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [SWEEP_LOCK])
        if not cursor.fetchone()[0]:
            return False
        cursor.execute(TIMER_SQL, {"most": MOST_AT_ONCE})
    advance()
    fill()
    return True


def _enqueue(rows: Iterable[tuple[UUID, int, str]]) -> None:
    """After commit."""
    found = list(rows)
    queueing.enqueue_runs(found)
    if found:
        live.announce("runs", *(f"run:{ids.public('run', run_id)}" for run_id, *_ in found))


def _json(value: Any) -> dict[str, int]:
    """Django's cursor leaves jsonb as text."""
    return dict(json.loads(value) if isinstance(value, str) else value)
