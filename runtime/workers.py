"""Worker incarnations: their lives and beats, and the pass of the reconciler. When to trust a lease: see `leases`."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models.functions import Now

from console import live, version
from runtime import admission, aliveness, queueing, recovery
from runtime.models import Run, Worker
from runtime.states import RunStatus

LEASE = timedelta(seconds=12)
BEAT = timedelta(seconds=1)
FORGOTTEN = timedelta(seconds=4)  # queued this long without being claimed: Redis may have lost it
RECONCILER_LOCK = 0x5D2E

REGISTER_SQL = """
    UPDATE runtime_worker SET ended_at = clock_timestamp() WHERE slot = %s AND ended_at IS NULL
"""
# Each beat prolongs the lease, says which switch epoch this worker has seen, and since when, and learns which of its
# runs somebody wants to stop. No row: the lease is gone.
BEAT_SQL = """
    UPDATE runtime_worker SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
        seen_at = CASE WHEN seen_switch_epoch = switches.epoch THEN seen_at ELSE clock_timestamp() END,
        seen_switch_epoch = switches.epoch
    FROM (SELECT COALESCE((SELECT epoch FROM releases_switchepoch WHERE id = 1), 0) AS epoch) AS switches
    WHERE id = %(worker)s AND ended_at IS NULL AND lease_until > clock_timestamp()
    RETURNING seen_switch_epoch, seen_switch_epoch <> %(epoch)s, ARRAY(
        SELECT run.id FROM runtime_run AS run WHERE run.worker_id = %(worker)s AND run.status = 'running'
            AND (run.cancel_requested_at IS NOT NULL OR run.pause_requested_at IS NOT NULL))
"""
END_EXPIRED_SQL = """
    UPDATE runtime_worker SET ended_at = clock_timestamp() WHERE ended_at IS NULL AND lease_until <= clock_timestamp()
"""


@transaction.atomic
def register(slot: str, *, capacity: int = 0) -> Worker:
    """Begin a new life in this slot. The life before it ends at once, and its runs become free."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [f"worker-slot:{slot}"])
        cursor.execute(REGISTER_SQL, [slot])
    worker = Worker.objects.create(
        slot=slot,
        host=socket.gethostname(),
        pid=os.getpid(),
        process=aliveness.identity(),
        version=version.current(),
        capacity=capacity,
        started_at=Now(),
        lease_until=Now() + LEASE,
    )
    worker.refresh_from_db()
    recovery.free_of_ended_lives(counts=True)
    live.announce("health")
    return worker


@transaction.atomic
def end(worker_id: UUID, *, given_back: Collection[UUID] = ()) -> None:
    """The life ends in order: nothing is held any more, or it is free again from now on.

    `given_back` are runs that it has put back into the queue itself; others are told of them now.
    """
    Worker.objects.filter(pk=worker_id, ended_at__isnull=True).update(ended_at=Now())
    recovery.free_of_ended_lives(counts=False)
    ready = Run.objects.filter(pk__in=given_back, status=RunStatus.QUEUED, held_for="", wake_at=None)
    queueing.enqueue_runs(list(ready.values_list("pk", "fence", "priority")))
    live.announce("health")


@dataclass(frozen=True)
class Beat:
    """What a worker learns when it prolongs its lease: the switch epoch, and which of its runs are to stop."""

    epoch: int
    interrupted: list[UUID]


def beat(worker_id: UUID, epoch: int) -> Beat | None:
    """Prolong the lease. None: it is lost, and the process must stop."""
    with connection.cursor() as cursor:
        cursor.execute(BEAT_SQL, {"lease_s": LEASE.total_seconds(), "worker": worker_id, "epoch": epoch})
        row = cursor.fetchone()
    if row is None:
        return None
    if row[1]:
        live.announce("switches")
    return Beat(int(row[0]), row[2])


@dataclass(frozen=True)
class Reconciled:
    """What one pass found: orphans of dead workers, queued runs nobody had claimed, runs that waited for nothing."""

    orphans: list[UUID]
    forgotten: list[UUID]
    mended: list[UUID]


def reconcile(
    *, forgotten: timedelta = FORGOTTEN, lately: dict[UUID, float] | None = None, mends: bool = True
) -> Reconciled | None:
    """Repair what a crash or Redis forgot. One process at a time; None when another one is at it.

    `lately` is the caller's memory of when it put runs into the queue: what was put there less than `forgotten` ago
    is not put there again. `mends`: also look for runs that wait for nothing, which costs more.
    """
    lately = {} if lately is None else lately
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [RECONCILER_LOCK])
        if not cursor.fetchone()[0]:
            return None
        cursor.execute(END_EXPIRED_SQL)
        orphans = recovery.free_of_ended_lives(counts=True, waits=False)
        due = _not_lately(recovery.runnable(recovery.MOST_AT_ONCE, forgotten=forgotten), forgotten, lately)
        queueing.enqueue_runs(due)
    admission.sweep()
    mended = recovery.mend_approvals() if mends else []
    return Reconciled(orphans, [row[0] for row in due], mended)


def _not_lately(
    due: list[tuple[UUID, int, str]], forgotten: timedelta, lately: dict[UUID, float]
) -> list[tuple[UUID, int, str]]:
    moment = time.monotonic()
    for run_id in [run_id for run_id, then in lately.items() if moment - then > forgotten.total_seconds()]:
        del lately[run_id]
    found = [row for row in due if row[0] not in lately]
    lately.update({run_id: moment for run_id, _, _ in found})
    return found


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
