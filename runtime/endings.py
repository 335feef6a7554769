"""What a run leaves open when it ends outside of a turn, by a person or by the reconciler."""

from __future__ import annotations

from django.utils.timezone import now

from runtime.models import Run, Step
from runtime.states import StepKind, StepStatus


def close_steps(run: Run, *, error: str) -> None:
    """Close the steps that are still open; the caller holds the run's row.

    A call that may have happened is marked so: nobody claims that it did not. `error` is the code of the others.
    """
    open_steps = Step.objects.filter(run=run, status=StepStatus.STARTED)
    open_steps.filter(kind=StepKind.TOOL).update(
        status=StepStatus.UNKNOWN, summary="It is not known whether this happened."
    )
    open_steps.update(status=StepStatus.FAILED, error=error, finished_at=now())
