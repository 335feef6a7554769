"""The deadline of a run: a moment after which it ends, whatever it waits for.

A run that a worker holds ends before its next call; the others are ended by the sweep.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalRequest
from console import ids, live
from console.actors import system
from console.states import move
from releases.bundles import Budgets
from runtime import admission, events, interventions, queueing
from runtime.models import Run
from runtime.policies import budgeting
from runtime.states import FINAL, RUN_MOVES, RunStatus

log = logging.getLogger(__name__)

AT_ONCE = 200  # runs that one sweep ends
CAUSE = f"budget:{budgeting.DEADLINE}"


def at(limits: Budgets, created_at: datetime) -> datetime | None:
    """When a run with these limits has to be over."""
    return created_at + timedelta(seconds=limits.deadline_seconds) if limits.deadline_seconds is not None else None


def sweep() -> list[UUID]:
    """End what is past its deadline and held by no worker. Returns the runs that ended."""
    late = Run.objects.filter(deadline_at__lte=now(), finished_at__isnull=True).exclude(status=RunStatus.RUNNING)
    found = list(late.order_by("deadline_at").values_list("pk", flat=True)[:AT_ONCE])
    return [run_id for run_id in found if _ended(run_id)]


def _ended(run_id: UUID) -> bool:
    """One run that cannot be ended must not keep the others from ending."""
    try:
        return end(run_id)
    except (OperationalError, InterfaceError):  # the database is away: so it is for the others
        raise
    except Exception:
        log.exception("%s is past its deadline and could not be ended.", ids.public("run", run_id))
        return False


@transaction.atomic
def end(run_id: UUID) -> bool:
    """End one run that is past its deadline, and withdraw what people were asked about it.

    False when nothing was to be done: it has ended, is held by a worker, or has time left.
    """
    prefix = ids.public("run", run_id) + ":"
    asked = list(  # approvals are locked before runs, as a deciding person does
        ApprovalRequest.objects.open().select_for_update().filter(subject_id__startswith=prefix).order_by("pk")
    )
    run = Run.objects.select_for_update(of=("self",)).get(pk=run_id)
    moment = now()
    if run.status in FINAL or run.status == RunStatus.RUNNING or run.deadline_at is None or run.deadline_at > moment:
        return False
    was = RunStatus(run.status)
    counted = interventions.parked(run)
    run.status = move(RUN_MOVES, was, RunStatus.FAILED if was == RunStatus.QUEUED else RunStatus.EXPIRED)
    seconds = round((run.deadline_at - run.created_at).total_seconds())
    run.cause, run.cause_detail = CAUSE, f"{budgeting.passed(seconds)} It was {_DOING[was]} then."
    run.finished_at = moment
    run.save(update_fields=["status", "cause", "cause_detail", "finished_at"])
    Run.objects.filter(pk=run.pk).update(**counted)
    for request in asked:
        requests.void(request.subject_kind, request.subject_id, by=system("deadline"), reason=run.cause_detail)
    events.append(run, "run.finished", status=run.status, cause=CAUSE)
    queueing.callback_due(run.pk)
    admission.after_end(run)
    live.announce(f"run:{run.public_id}", "runs")
    return True


_DOING = {
    RunStatus.QUEUED: "waiting for a worker",
    RunStatus.WAITING: "waiting for a person",
    RunStatus.PAUSED: "paused",
}
