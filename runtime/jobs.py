"""What the queue may call. Imports that a turn does not need stand where they are used: workers start sooner."""

from __future__ import annotations

from django.db import connection

from console import ids
from runtime import schedules


async def run_turn(run: str) -> None:
    """One turn of a run, on the event loop of the worker that took the job."""
    from runtime import worker

    await worker.current().turn(ids.parse("run", run))


def deliver_callback(run: str) -> None:
    from runtime import deliveries

    try:
        deliveries.deliver(ids.parse("run", run))
    finally:
        connection.close()  # its thread may rest for long, and there are many


def sweep_callbacks() -> None:
    from runtime import deliveries

    deliveries.sweep()


def sweep_budgets() -> None:
    """End runs that are past their deadline, and settle what dead workers held of the day's budgets and totals."""
    from runtime import deadlines, ledgers, tallies

    deadlines.sweep()
    ledgers.sweep()
    tallies.sweep()


def start_due_schedules() -> None:
    schedules.start_due()


ENTRY_POINTS = (start_due_schedules, run_turn, deliver_callback, sweep_callbacks, sweep_budgets)
CRON = ((start_due_schedules, 5), (sweep_callbacks, 5), (sweep_budgets, 5))
