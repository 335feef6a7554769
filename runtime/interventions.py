"""The verbs with which an operator holds a run and lets it go on. Cancelling is in `runs`, retrying in `forks`.

A run that no worker holds obeys at once. A running one is asked: its worker learns of it from its heartbeat, from
its next write, or from the notice on `TOPIC`, and lets go of a call in flight where that is safe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F
from django.utils.timezone import now

from console import audit, live, problems
from console.actors import Actor
from console.states import move
from runtime import admission, events, journal, queueing
from runtime.journal import Lease, LeaseLost, Write
from runtime.models import Run
from runtime.states import RUN_MOVES, Hold, RunStatus, StepKind, StepStatus

LONGEST_REASON = 2000
TOPIC = "interventions"  # what workers listen to; no page does

# The runs of one worker's life that somebody asked to stop or to hold: whether the one, whether the other.
REQUESTED_SQL = """
    SELECT id, cancel_requested_at IS NOT NULL, pause_requested_at IS NOT NULL FROM runtime_run
    WHERE worker_id = %s AND status = 'running'
        AND (cancel_requested_at IS NOT NULL OR pause_requested_at IS NOT NULL)
"""


@transaction.atomic
def pause(run_id: UUID, *, by: Actor, reason: str) -> Run:
    """Hold a run until somebody resumes it. Pausing a paused run changes nothing.

    A run that no worker holds is paused at once; a running one before its next step, or in the middle of a model
    call or a read, which are made again later. A question to a person stays open and its deadline keeps running; the
    run does not go on with the answer until it is resumed. Time in a pause counts as parked.

    Raises:
        Run.DoesNotExist: no such run, or not on an agent this actor may pause.
        IllegalMove: the run has ended.
        problems.Conflict: it is being stopped.
        problems.Invalid: the reason is missing.
    """
    run = _locked(run_id, by)
    is_asked = run.pause_requested_at is not None
    if run.status == RunStatus.PAUSED or (is_asked and run.status == RunStatus.RUNNING):
        return run
    said = checked_reason(reason)
    before = RunStatus(run.status)
    move(RUN_MOVES, before, RunStatus.PAUSED)
    if run.cancel_requested_at is not None:
        raise problems.Conflict("The run is being stopped already, so there is nothing left to pause.")

    run.pause_requested_at, run.paused_by_label, run.pause_reason = now(), by.label, said
    run.save(update_fields=["pause_requested_at", "paused_by_label", "pause_reason"])
    if before == RunStatus.RUNNING:
        events.append(run, "run.pause_requested", by=by.label, reason=said)
        live.announce(TOPIC)
    else:
        _park(run)
        events.append(run, "run.paused", by=by.label, reason=said)
    audit.record(by, "run.pause", run, reason=said, changes={"status": [before, RunStatus.PAUSED]})
    live.announce(f"run:{run.public_id}", "runs")
    return run


@transaction.atomic
def resume(run_id: UUID, *, by: Actor, reason: str = "") -> Run:
    """Let a paused run go on: to its open question, if it has one, else to a worker. Harmless to repeat.

    A pause that its worker has not followed yet is taken back.

    Raises:
        Run.DoesNotExist: no such run, or not on an agent this actor may pause.
        IllegalMove: the run has ended.
        problems.Invalid: the reason is too long.
    """
    run = _locked(run_id, by)
    before = RunStatus(run.status)
    if run.is_final:
        move(RUN_MOVES, before, RunStatus.QUEUED)
    if run.pause_requested_at is None and before != RunStatus.PAUSED:
        return run
    said = checked_reason(reason) if reason.strip() else ""

    run.pause_requested_at = None
    run.save(update_fields=["pause_requested_at"])
    if before == RunStatus.PAUSED:
        _let_go(run)
    events.append(run, "run.pause_ended", by=by.label, **({"reason": said} if said else {}))
    audit.record(by, "run.resume", run, reason=said, changes={"status": [RunStatus.PAUSED, run.status]})
    live.announce(f"run:{run.public_id}", "runs")
    return run


def follow_pause(lease: Lease, held: Sequence[Write]) -> bool:
    """Park a run for the worker that holds it, with what it has not written yet. False: the pause was taken back.

    Raises:
        LeaseLost: another worker holds the run.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        if not is_asked(cursor, lease):
            return False
        journal.commit_within(cursor, lease, *held, Write(status=RunStatus.PAUSED, events=[("run.paused", {})]))
        return True


def is_asked(cursor: Any, lease: Lease) -> bool:
    """Whether a pause is asked for; the run's row is locked until the caller's transaction ends.

    Raises:
        LeaseLost: another worker holds the run.
    """
    cursor.execute(
        "SELECT pause_requested_at IS NOT NULL FROM runtime_run"
        " WHERE id = %s AND fence = %s AND status = 'running' FOR UPDATE",
        lease,
    )
    row = cursor.fetchone()
    if row is None:
        raise LeaseLost
    return bool(row[0])


def checked_reason(reason: str) -> str:
    """The reason as it is kept.

    Raises:
        problems.Invalid: it is missing or too long.
    """
    reason = journal.plain(reason).strip()
    if not reason or len(reason) > LONGEST_REASON:
        raise problems.Invalid(
            f"Say why, in at most {LONGEST_REASON} characters; it is kept with the run.", errors={"reason": "Say why."}
        )
    return reason


def parked(run: Run) -> dict[str, Any]:
    """The columns to write when a parked run leaves its status: the stretch that ends now is counted."""
    since = run.waiting_since
    ms = max(0, int((now() - since).total_seconds() * 1000)) if since else 0  # clocks are set back at times
    found: dict[str, Any] = {"waiting_since": None, "parked_ms": F("parked_ms") + ms}
    return {**found, "paused_ms": F("paused_ms") + ms} if run.status == RunStatus.PAUSED else found


def has_question(run: Run) -> bool:
    """Whether a person is asked about this run; its row is locked, so no answer comes in between."""
    return run.steps.filter(kind=StepKind.APPROVAL, status=StepStatus.STARTED).exists()


def _locked(run_id: UUID, by: Actor) -> Run:
    locked = Run.objects.select_for_update(of=("self",)).select_related("agent")
    return locked.on_agents(by.agents("runs.pause")).get(pk=run_id)


def _park(run: Run) -> None:
    counted = {**parked(run), "waiting_since": now()}
    if run.slots:  # somebody else may have its place; it asks for one again
        counted["held_for"] = run.held_for or Hold.SLOT
        transaction.on_commit(lambda: admission.fill(run.slots), robust=True)
    run.status = RunStatus(move(RUN_MOVES, RunStatus(run.status), RunStatus.PAUSED))
    Run.objects.filter(pk=run.pk).update(status=run.status, **counted)


def _let_go(run: Run) -> None:
    counted = parked(run)
    after = RunStatus.WAITING if has_question(run) else RunStatus.QUEUED
    run.status = RunStatus(move(RUN_MOVES, RunStatus.PAUSED, after))
    if after == RunStatus.WAITING:
        counted["waiting_since"] = now()
    else:
        counted["queued_at"] = now()
        if run.held_for == Hold.SLOT:
            transaction.on_commit(lambda: admission.fill(run.slots), robust=True)
        elif not run.held_for:
            queueing.enqueue_run(run.pk, run.fence, run.priority)
    Run.objects.filter(pk=run.pk).update(status=run.status, **counted)
