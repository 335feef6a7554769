"""How a run ends: its last step within a turn, and what it leaves open when a person or the reconciler ends it."""

from __future__ import annotations

from datetime import UTC, datetime

from django.utils.timezone import now

from runtime import journal
from runtime.journal import NewStep, Write
from runtime.models import Run, Step
from runtime.policies.commands import Finish
from runtime.states import RunStatus, StepKind, StepStatus

_NAMES = {
    RunStatus.SUCCEEDED: "Answer",
    RunStatus.REFUSED: "Declined",
    RunStatus.ESCALATED: "Handed off",
    RunStatus.FAILED: "Failed",
    RunStatus.CANCELLED: "Cancelled",
    RunStatus.EXPIRED: "Expired",
}


def last(end: Finish) -> Write:
    """The last step of a run, and what it changes on it."""
    moment = datetime.now(UTC)
    text = journal.plain(end.text)
    step = NewStep(
        StepKind.ANSWER,
        _NAMES[end.status],
        StepStatus.DONE if end.status != RunStatus.FAILED else StepStatus.FAILED,
        moment,
        moment,
        summary=end.detail or text[:120],
        error=end.cause if end.status == RunStatus.FAILED else "",
        output={"status": end.status, "cause": end.cause, "detail": end.detail, "text": text},
    )
    return Write(
        steps=[step],
        status=end.status,
        cause=end.cause[:60],
        cause_detail=end.detail,
        answer=text,
        events=[("run.finished", {"status": end.status, "cause": end.cause})],
    )


def close_steps(run: Run, *, error: str) -> None:
    """Close the steps that are still open; the caller holds the run's row.

    A call that may have happened is marked so: nobody claims that it did not. `error` is the code of the others.
    """
    open_steps = Step.objects.filter(run=run, status=StepStatus.STARTED)
    open_steps.filter(kind=StepKind.TOOL).update(
        status=StepStatus.UNKNOWN, summary="It is not known whether this happened."
    )
    open_steps.update(status=StepStatus.FAILED, error=error, finished_at=now())
