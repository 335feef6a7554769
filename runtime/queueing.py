"""Putting runs and callbacks into the queue. The rows are the truth; the queue only saves waiting."""

from __future__ import annotations

from uuid import UUID

from console import ids, queue


def enqueue_run(run_id: UUID, fence: int) -> None:
    """Ask for a turn after commit. The job's id names run and fence, so the same turn is not queued twice."""
    key = ids.public("run", run_id)
    queue.enqueue("runtime.jobs.run_turn", key, job_id=f"{key}-{fence}", queue=queue.RUNS)


def callback_due(run_id: UUID) -> None:
    """The run's state has changed: tell the caller's URL now instead of at the next sweep."""
    queue.enqueue("runtime.jobs.deliver_callback", ids.public("run", run_id))
