"""What a dead process, Redis or a mistake left behind: runs nobody holds any more, runs nobody was told of.

Everything here leaves a run eligible for the next pass when the database fails in the middle of it.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils.timezone import now

from approvals import requests, subjects
from approvals.models import ApprovalRequest
from approvals.states import OPEN, ApprovalStatus
from console import ids, live
from console.actors import system
from console.states import move
from releases import switches
from runtime import admission, calls, endings, events, interventions, queueing
from runtime.models import Run, RunEvent, Step, StepPayload
from runtime.states import FINAL, RUN_MOVES, RunPriority, RunStatus, StepKind, StepStatus

log = logging.getLogger(__name__)

MOST_RECOVERIES = 8  # in a row without progress: after that the run is what kills its workers
LONGEST_BACKOFF_S = 60
MOST_AT_ONCE = 500  # runs per pass and priority that are looked at
ORPHANED_AFTER = timedelta(seconds=30)  # a decision wakes its run in the same transaction; this is for mistakes

# Runs held by a life that has ended: their next claim raises the fence, so the old one can never write again. The first
# recovery is at once, because a worker mostly dies of something else; each further one without progress waits longer.
# `held` names runs that a living worker holds by mistake, for longer than `held_s`: none that it has taken again since.
FREE_SQL = f"""
WITH lost AS (
    SELECT run.id, run.fence, worker.slot, worker.id AS worker_id, worker.host, worker.pid,
        CASE WHEN %(counts)s THEN CASE WHEN run.steps_used > run.recovered_steps THEN 1 ELSE run.recoveries + 1 END
            ELSE run.recoveries END AS count
    FROM runtime_run AS run JOIN runtime_worker AS worker ON worker.id = run.worker_id
    WHERE run.status = 'running' AND (%(held)s::uuid[] IS NULL AND worker.ended_at IS NOT NULL
        OR run.id = ANY (%(held)s::uuid[]) AND worker.id = %(worker)s::uuid
            AND run.turn_started_at < clock_timestamp() - make_interval(secs => %(held_s)s))
    ORDER BY run.id FOR UPDATE OF run
), freed AS (
    UPDATE runtime_run AS run SET status = 'queued', worker_id = NULL, queued_at = clock_timestamp(), seq = run.seq + 1,
        held_for = {admission.HOLD_WHEN_QUEUED_AGAIN_SQL}, recoveries = lost.count,
        recovered_steps = CASE WHEN %(counts)s THEN run.steps_used ELSE run.recovered_steps END,
        wake_at = CASE WHEN %(counts)s AND lost.count > 1 THEN clock_timestamp()
            + make_interval(secs => LEAST({LONGEST_BACKOFF_S}, power(2, lost.count - 2))) END,
        working_ms = run.working_ms
            + GREATEST(0, EXTRACT(EPOCH FROM clock_timestamp() - run.turn_started_at) * 1000)::bigint
    FROM lost WHERE run.id = lost.id
    RETURNING run.id, run.seq, run.fence, run.priority, run.held_for, run.recoveries, run.wake_at IS NULL AS is_due
), event AS (
    INSERT INTO runtime_runevent (run_id, seq, kind, at, by_label, data)
    SELECT freed.id, freed.seq, %(event)s, clock_timestamp(), 'system (reconciler)', jsonb_build_object(
        'worker', lost.worker_id::text, 'slot', lost.slot, 'host', lost.host, 'pid', lost.pid, 'fence', lost.fence,
        'recovery', freed.recoveries, 'why', %(why)s::text)
    FROM freed JOIN lost USING (id)
)
SELECT id, fence, priority, recoveries, is_due AND held_for = '' FROM freed
"""  # noqa: S608 (constants of ours only)
# A run that somebody else has locked is freed by a later pass: whoever does not go on holds up one run, not all.
FREE_OTHERS_SQL = FREE_SQL.replace("FOR UPDATE OF run", "FOR UPDATE OF run SKIP LOCKED")
# Queued, may be claimed, and nobody has for a while: Redis forgot them, or their time has come.
RUNNABLE_SQL = f"""
SELECT found.id, found.fence, found.priority
FROM unnest(%(priorities)s::text[]) AS wanted (priority) CROSS JOIN LATERAL (
    SELECT run.id, run.fence, run.priority
    FROM runtime_run AS run JOIN releases_agent AS agent ON agent.id = run.agent_id
    WHERE run.status = 'queued' AND run.held_for = '' AND run.priority = wanted.priority
        AND (run.wake_at <= clock_timestamp()
             OR run.wake_at IS NULL AND run.queued_at <= clock_timestamp() - make_interval(secs => %(forgotten_s)s))
        AND (run.started_at IS NOT NULL OR NOT EXISTS ({switches.pausing_sql("agent.slug")}))
    ORDER BY run.queued_at LIMIT %(most)s
) AS found
"""  # noqa: S608 (constants of ours only)


@dataclass(frozen=True)
class Freed:
    run_id: UUID
    fence: int
    priority: str
    recoveries: int
    is_due: bool


def free_of_ended_lives(*, counts: bool, waits: bool = True) -> list[UUID]:
    """Put the runs of lives that have ended back into the queue, inside the caller's transaction.

    `counts`: the life ended by dying. A run that has outlived MOST_RECOVERIES workers without getting on fails.
    `waits`: for runs that somebody has locked; otherwise they are left for the next pass.
    """
    why, event = ("its worker died", "lease.lost") if counts else ("its worker stopped", "run.yielded")
    given = {"counts": counts, "held": None, "held_s": 0, "worker": None, "why": why, "event": event}
    return _free(FREE_SQL if waits else FREE_OTHERS_SQL, given)


@transaction.atomic
def release(worker_id: UUID, runs: Collection[UUID], *, why: str, held_longer: timedelta = timedelta(0)) -> list[UUID]:
    """Put runs back that this life holds and does not get on with; each counts as a recovery.

    `held_longer`: those that it took longer ago than that; it may have taken one of them again just now.
    """
    if not runs:
        return []
    given = {"counts": True, "held": list(runs), "worker": worker_id, "why": why, "event": "lease.lost"}
    return _free(FREE_SQL, {**given, "held_s": held_longer.total_seconds()})


def held_longer(worker_id: UUID, than: timedelta) -> list[UUID]:
    """The runs that this life took longer ago than that, and holds."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM runtime_run WHERE status = 'running' AND worker_id = %s"
            " AND turn_started_at < clock_timestamp() - make_interval(secs => %s)",
            [worker_id, than.total_seconds()],
        )
        return [row[0] for row in cursor.fetchall()]


def runnable(most: int, *, forgotten: timedelta = timedelta(0)) -> list[tuple[UUID, int, str]]:
    """Runs that may be claimed now and were queued that long ago: (id, fence, priority), by priority, oldest first."""
    given: dict[str, Any] = {"priorities": list(RunPriority), "most": most, "forgotten_s": forgotten.total_seconds()}
    with connection.cursor() as cursor:
        cursor.execute(RUNNABLE_SQL, given)
        return list(cursor.fetchall())


def _free(statement: str, given: dict[str, Any]) -> list[UUID]:
    with connection.cursor() as cursor:
        cursor.execute(statement, given)
        freed = [Freed(*row) for row in cursor.fetchall()]
    poisoned = [run for run in freed if run.recoveries > MOST_RECOVERIES]
    for run in poisoned:
        _give_up(run.run_id)
    queueing.enqueue_runs(
        [(run.run_id, run.fence, run.priority) for run in freed if run.is_due and run not in poisoned]
    )
    for run in freed:
        live.announce(f"run:{ids.public('run', run.run_id)}")
    return [run.run_id for run in freed]


def _give_up(run_id: UUID) -> None:
    """End a run that kills its workers, and say which. One that cannot be ended waits for the next time, by itself."""
    try:
        with transaction.atomic():
            _end_poisoned(run_id)
    except DatabaseError:
        raise  # the whole pass is made again
    except Exception:
        log.exception("%s kills its workers, and could not be ended.", ids.public("run", run_id))


def _end_poisoned(run_id: UUID) -> None:
    run = Run.objects.select_for_update(of=("self",)).get(pk=run_id)
    deaths = RunEvent.objects.filter(run=run, kind="lease.lost").order_by("-seq")[: MOST_RECOVERIES + 1]
    workers = [{key: death.data.get(key) for key in ("slot", "host", "pid", "worker")} for death in deaths][::-1]
    names = ", ".join(f"{worker['slot']} (pid {worker['pid']})" for worker in workers)
    detail = f"{len(workers)} workers died over it without its getting on: {names}. It is not tried again."
    fail(run, "recovery_limit", detail, evidence={"workers": workers})


def fail(run: Run, cause: str, detail: str, *, evidence: dict[str, Any]) -> None:
    """End a locked run that nobody holds as failed. A call that may have happened is marked so."""
    before = RunStatus(run.status)
    counted = interventions.parked(run)
    moment = now()
    endings.close_steps(run, error=cause)
    seq = events.next_seq(run.pk)
    step = Step.objects.create(
        run=run,
        seq=seq,
        done_seq=seq,
        fence=run.fence,
        kind=StepKind.ANSWER,
        name="Failed",
        status=StepStatus.FAILED,
        summary=detail[:300],
        error=cause,
        started_at=moment,
        finished_at=moment,
    )
    StepPayload.objects.create(
        step=step, output={"status": RunStatus.FAILED, "cause": cause, "detail": detail, "text": "", **evidence}
    )
    Run.objects.filter(pk=run.pk).update(
        status=_failed(before),
        cause=cause,
        cause_detail=detail,
        finished_at=moment,
        wake_at=None,
        held_for="",
        wait_reason="",
        steps_used=F("steps_used") + 1,
        **counted,
    )
    events.append(run, "run.finished", by="system (reconciler)", status=RunStatus.FAILED, cause=cause, **evidence)
    for request in ApprovalRequest.objects.open().filter(subject_id__startswith=run.public_id + ":"):
        requests.void(request.subject_kind, request.subject_id, by=system("reconciler"), reason=detail)
    queueing.callback_due(run.pk)
    admission.after_end(run)
    live.announce(f"run:{run.public_id}", "runs")


def _failed(before: RunStatus) -> RunStatus:
    """A waiting run fails by way of the queue: nobody decides on it any more, and nobody claims it."""
    if before == RunStatus.WAITING:
        before = move(RUN_MOVES, before, RunStatus.QUEUED)
    return move(RUN_MOVES, before, RunStatus.FAILED)


def mend_approvals() -> list[UUID]:
    """Mend what a decision and its run should have done in one transaction. Returns the runs that were touched.

    A run that waits although its request was decided is told of the decision; one whose request is void or missing
    fails and says so. A request that is open although its run has ended is void.
    """
    touched = [run_id for run_id in _waiting_for_nothing() if _mend(run_id)]
    for request in _asked_for_nothing():
        by, reason = system("reconciler"), "Its run has ended already."
        requests.void(request.subject_kind, request.subject_id, by=by, reason=reason)
    return touched


def _waiting_for_nothing() -> list[UUID]:
    """Runs that wait without an open request, looked for among those that have waited for a while."""
    asked = {
        subject.partition(":")[0]
        for subject in ApprovalRequest.objects.open()
        .filter(subject_kind__in=calls.ABOUT_RUNS)
        .values_list("subject_id", flat=True)
    }
    waiting = Run.objects.filter(status=RunStatus.WAITING, waiting_since__lt=Now() - ORPHANED_AFTER)
    found = (run_id for run_id in waiting.values_list("pk", flat=True) if ids.public("run", run_id) not in asked)
    return list(itertools.islice(found, MOST_AT_ONCE))


def _asked_for_nothing() -> list[ApprovalRequest]:
    asked = ApprovalRequest.objects.open().filter(subject_kind__in=calls.ABOUT_RUNS)
    by_run = {ids.parse("run", request.subject_id.partition(":")[0]): request for request in asked}
    ended = Run.objects.filter(pk__in=list(by_run), status__in=FINAL, finished_at__lt=Now() - ORPHANED_AFTER)
    return [by_run[key] for key in ended.values_list("pk", flat=True)]


def _mend(run_id: UUID) -> bool:
    """Lead one run on that waits for nothing. False: it does not any more, or it cannot be mended (that is logged)."""
    try:
        with transaction.atomic():
            return _lead_on(run_id)
    except DatabaseError:
        raise  # the whole pass is made again
    except Exception:
        log.exception("%s waits for nothing, and could not be led on.", ids.public("run", run_id))
        return False


def _lead_on(run_id: UUID) -> bool:
    step = Step.objects.filter(run=run_id, kind=StepKind.APPROVAL).select_related("payload").order_by("-seq").first()
    request = _request_of(step)  # approvals are locked before runs, as a deciding person does
    run = Run.objects.select_for_update(of=("self",)).filter(pk=run_id, status=RunStatus.WAITING).first()
    if run is None or (request is not None and request.status in OPEN):
        return False
    decision = request.decisions.last() if request else None
    if step is not None and step.status != StepStatus.STARTED:
        _requeue(run)  # its answer stands in the journal
    elif request is not None and request.status in (ApprovalStatus.APPROVED, ApprovalStatus.REJECTED) and decision:
        subjects.handler(request.subject_kind).decided(request, decision)
    elif request is not None and request.status == ApprovalStatus.EXPIRED:
        subjects.handler(request.subject_kind).ended(request)
    else:
        why = f"Its request {request.public_id} is {request.status}" if request else "Nobody was ever asked"
        fail(run, "approval_lost", f"It waited for a decision that cannot come. {why}.", evidence={})
    return True


def _request_of(step: Step | None) -> ApprovalRequest | None:
    try:
        key = ids.parse("apr", str(step.payload.input["request"])) if step else None
    except (KeyError, ValueError):
        return None
    return ApprovalRequest.objects.select_for_update(of=("self",)).filter(pk=key).first() if key else None


def _requeue(run: Run) -> None:
    counted = interventions.parked(run)
    after = move(RUN_MOVES, RunStatus(run.status), RunStatus.QUEUED)
    Run.objects.filter(pk=run.pk).update(status=after, queued_at=Now(), **counted)
    events.append(run, "run.resumed", by="system (reconciler)", why="its request had been answered")
    queueing.enqueue_run(run.pk, run.fence, run.priority)
    live.announce(f"run:{run.public_id}", "runs")
