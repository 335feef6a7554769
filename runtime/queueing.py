"""Putting runs and callbacks into the queue. The rows are the truth; the queue only saves waiting."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from console import ids, queue
from runtime.states import RunPriority

ENTRY_POINT = "runtime.jobs.run_turn"
CALLBACK = "runtime.jobs.deliver_callback"
QUEUES = dict(zip(RunPriority, queue.RUN_QUEUES, strict=True))


def enqueue_run(run_id: UUID, fence: int, priority: str = RunPriority.INTERACTIVE) -> None:
    """Ask for a turn after commit. The job's id names run and fence, so the same turn is not queued twice."""
    key = ids.public("run", run_id)
    queue.enqueue(ENTRY_POINT, key, job_id=f"{key}-{fence}", queue=QUEUES[RunPriority(priority)])


def enqueue_runs(runs: Sequence[tuple[UUID, int, str]]) -> None:
    """Ask for a turn of each (id, fence, priority) after commit, in one go; what is queued still stays as it is."""
    keys = [(ids.public("run", run_id), fence, QUEUES[RunPriority(priority)]) for run_id, fence, priority in runs]
    queue.enqueue_all(ENTRY_POINT, [(key, f"{key}-{fence}", name) for key, fence, name in keys])


def callback_due(run_id: UUID) -> None:
    """The run's state has changed: tell the caller's URL now instead of at the next sweep."""
    key = ids.public("run", run_id)
    queue.enqueue(CALLBACK, key, job_id=f"callback-{key}", queue=queue.CALLBACKS)


def callbacks_due(run_ids: Sequence[UUID]) -> None:
    """Tell the callers of these runs now; what is queued still stays as it is."""
    keys = [ids.public("run", run_id) for run_id in run_ids]
    queue.enqueue_all(CALLBACK, [(key, f"callback-{key}", queue.CALLBACKS) for key in keys])
