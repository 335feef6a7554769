"""A real worker process lets go of a call once somebody has stopped its run: told by a notice, or by its heartbeat.

How long that takes is measured by tests/benchmarks; here the other way to learn of it is closed, and no call ends.
"""

from __future__ import annotations

import time

import pytest

from console.actors import system
from runtime import interventions, runs, workers
from runtime.models import Run
from runtime.states import RunStatus
from tests.patience import until
from tests.runtime import harness
from tests.runtime.test_stopping import NEVER_S, a_slow_run, mark, slowly, timed  # noqa: F401
from tests.runtime.test_workers import processes  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)

OPERATOR = system("test")


@pytest.mark.parametrize("is_heard", [True, False], ids=["notice", "heartbeat only"])
def test_a_stopped_run_ends_whatever_call_it_is_in(
    slowly,  # noqa: F811
    mark,  # noqa: F811
    is_heard,
    monkeypatch,
    record_property,
):
    topic = interventions.TOPIC
    if not is_heard:
        monkeypatch.setattr(interventions, "TOPIC", "nobody.listens")
    first, *others = (a_slow_run(script) for script in ("slow_model", "slow_read", "slow_block"))
    assert workers.BEAT.total_seconds() <= 1
    timed(slowly, "w1", **({"LEASE": NEVER_S, "BEAT": NEVER_S} if is_heard else {}))
    for run in (first, *others):
        name = {"slow_model": "model"}.get(run.title, "tool")
        until(lambda run=run, name=name: is_in(run, name))
    until(mark.exists)
    until(lambda: harness.is_heard(topic))

    for run in (first, *others):
        moment = time.monotonic()
        runs.cancel(run.pk, by=OPERATOR, reason="stop")
        until(lambda run=run: Run.objects.get(pk=run.pk).status == RunStatus.CANCELLED)
        took = time.monotonic() - moment
        record_property(f"{run.title}_s", round(took, 2))
        print(f"{run.title}: cancelled after {took:.2f} s, {'heard at once' if is_heard else 'by the heartbeat'}")


def is_in(run: Run, kind: str) -> bool:
    """A model call leaves no step before its answer; a run that holds a worker and has taken its message is in it."""
    found = Run.objects.get(pk=run.pk)
    if kind == "model":
        return found.status == RunStatus.RUNNING
    return found.steps.filter(kind="tool", status="started").exists()
