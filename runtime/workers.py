"""Worker incarnations: their leases, and the reconciler that finds what a dead process or Redis forgot."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.utils.timezone import now

from console import ids, live
from runtime import queueing
from runtime.models import Worker

LEASE = timedelta(seconds=12)
BEAT = timedelta(seconds=1)
FORGOTTEN = timedelta(seconds=4)  # queued this long without being claimed: Redis may have lost it
RECONCILER_LOCK = 0x5D2E

REGISTER_SQL = """
    UPDATE runtime_worker SET ended_at = clock_timestamp() WHERE slot = %s AND ended_at IS NULL
"""
# Each beat prolongs the lease and says which switch epoch this worker has seen, and since when. No row: the lease is
# gone.
BEAT_SQL = """
    UPDATE runtime_worker SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
        seen_at = CASE WHEN seen_switch_epoch = switches.epoch THEN seen_at ELSE clock_timestamp() END,
        seen_switch_epoch = switches.epoch
    FROM (SELECT COALESCE((SELECT epoch FROM releases_switchepoch WHERE id = 1), 0) AS epoch) AS switches
    WHERE id = %(worker)s AND ended_at IS NULL AND lease_until > clock_timestamp()
    RETURNING seen_switch_epoch, seen_switch_epoch <> %(epoch)s
"""
END_EXPIRED_SQL = """
    UPDATE runtime_worker SET ended_at = clock_timestamp() WHERE ended_at IS NULL AND lease_until <= clock_timestamp()
"""
# Runs held by an incarnation that has ended: their next claim raises the fence, so the old one can never write again.
REQUEUE_SQL = """
WITH orphan AS (
    UPDATE runtime_run AS run SET status = 'queued', worker_id = NULL, queued_at = clock_timestamp(), seq = run.seq + 1,
        working_ms = run.working_ms
            + GREATEST(0, EXTRACT(EPOCH FROM clock_timestamp() - run.turn_started_at) * 1000)::bigint
    FROM runtime_worker AS worker
    WHERE run.status = 'running' AND worker.id = run.worker_id AND worker.ended_at IS NOT NULL
    RETURNING run.id, run.seq, run.fence, worker.slot, worker.id AS worker_id
), event AS (
    INSERT INTO runtime_runevent (run_id, seq, kind, at, by_label, data)
    SELECT id, seq, 'lease.lost', clock_timestamp(), 'system (reconciler)',
        jsonb_build_object('worker', worker_id::text, 'slot', slot, 'fence', fence)
    FROM orphan
)
SELECT id, fence FROM orphan
"""
DUE_SQL = """
    UPDATE runtime_run SET queued_at = clock_timestamp()
    WHERE id IN (SELECT id FROM runtime_run WHERE status = 'queued'
                 AND queued_at < clock_timestamp() - make_interval(secs => %s)
                 AND (wake_at IS NULL OR wake_at <= clock_timestamp())
                 ORDER BY queued_at LIMIT 500 FOR UPDATE SKIP LOCKED)
    RETURNING id, fence
"""


@transaction.atomic
def register(slot: str) -> Worker:
    """Begin a new life in this slot. The life before it ends at once, and its runs become free."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"worker-slot:{slot}"])
        cursor.execute(REGISTER_SQL, [slot])
        worker = Worker.objects.create(slot=slot, host=socket.gethostname(), pid=os.getpid(), lease_until=now() + LEASE)
        cursor.execute(REQUEUE_SQL)
        _enqueue(cursor.fetchall())
    return worker


def end(worker_id: UUID) -> None:
    """The life ends in order: nothing is held any more, or it is free again from now on."""
    Worker.objects.filter(pk=worker_id, ended_at__isnull=True).update(ended_at=now())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(REQUEUE_SQL)
        _enqueue(cursor.fetchall())


def beat(worker_id: UUID, epoch: int) -> int | None:
    """Prolong the lease. Returns the switch epoch seen, or None when the lease is lost and the process must stop."""
    with connection.cursor() as cursor:
        cursor.execute(BEAT_SQL, {"lease_s": LEASE.total_seconds(), "worker": worker_id, "epoch": epoch})
        row = cursor.fetchone()
    if row is None:
        return None
    if row[1]:
        live.announce("switches")
    return int(row[0])


@dataclass(frozen=True)
class Reconciled:
    """What one pass found: orphans of dead workers, and queued runs that nobody had claimed."""

    orphans: list[UUID]
    forgotten: list[UUID]


def reconcile(*, forgotten: timedelta = FORGOTTEN) -> Reconciled | None:
    """Repair what a crash or Redis forgot. One process at a time; None when another one is at it."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [RECONCILER_LOCK])
        if not cursor.fetchone()[0]:
            return None
        cursor.execute(END_EXPIRED_SQL)
        cursor.execute(REQUEUE_SQL)
        orphans = cursor.fetchall()
        cursor.execute(DUE_SQL, [forgotten.total_seconds()])
        due = cursor.fetchall()
        _enqueue([*orphans, *due])
        for run_id, _ in orphans:
            live.announce(f"run:{ids.public('run', run_id)}")
    return Reconciled([row[0] for row in orphans], [row[0] for row in due])


def acknowledged(epoch: int) -> tuple[int, int, float | None]:
    """Who has seen this switch epoch: (workers that have, workers alive, seconds until the last one had)."""
    from releases.models import SwitchEpoch

    alive = list(Worker.objects.filter(ended_at__isnull=True))
    seen = [worker for worker in alive if worker.seen_switch_epoch >= epoch]
    changed = SwitchEpoch.objects.filter(pk=1).values_list("changed_at", flat=True).first()
    # A worker that began later found the switch as it was; it says nothing about how fast it was told.
    told = [worker.seen_at for worker in seen if worker.seen_at and changed and worker.started_at <= changed]
    seconds = (max(told) - changed).total_seconds() if changed and told and max(told) >= changed else None
    return len(seen), len(alive), seconds


def _enqueue(rows: list[tuple[UUID, int]]) -> None:
    for run_id, fence in rows:
        queueing.enqueue_run(run_id, fence)
