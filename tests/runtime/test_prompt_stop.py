"""How long a real worker process takes to let go of a call once somebody has stopped or paused its run."""

from __future__ import annotations

import time

import pytest

from console.actors import system
from runtime import interventions, runs
from runtime.models import Run
from runtime.states import RunStatus
from tests.runtime.test_stopping import SECONDS, a_slow_run, mark, slowly  # noqa: F401
from tests.runtime.test_workers import processes, until  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)

OPERATOR = system("test")
PROMPT_S = 4.0  # 2 on a machine of its own


@pytest.mark.parametrize("is_heard", [True, False], ids=["notice", "heartbeat only"])
def test_a_stopped_run_ends_within_two_seconds_whatever_call_it_is_in(
    slowly,  # noqa: F811
    mark,  # noqa: F811
    is_heard,
    monkeypatch,
    record_property,
):
    if not is_heard:
        monkeypatch.setattr(interventions, "TOPIC", "nobody.listens")
    first, *others = (a_slow_run(script) for script in ("slow_model", "slow_read", "slow_block"))
    slowly.start("w1")
    for run in (first, *others):
        name = {"slow_model": "model"}.get(run.title, "tool")
        until(lambda run=run, name=name: is_in(run, name), SECONDS)
    until(mark.exists, SECONDS)
    time.sleep(1)

    for run in (first, *others):
        moment = time.monotonic()
        runs.cancel(run.pk, by=OPERATOR, reason="stop")
        until(lambda run=run: Run.objects.get(pk=run.pk).status == RunStatus.CANCELLED, 20)
        took = time.monotonic() - moment
        record_property(f"{run.title}_s", round(took, 2))
        print(f"{run.title}: cancelled after {took:.2f} s, {'heard at once' if is_heard else 'by the heartbeat'}")
        assert took < PROMPT_S, run.title


def is_in(run: Run, kind: str) -> bool:
    """A model call leaves no step before its answer; a run that holds a worker and has taken its message is in it."""
    found = Run.objects.get(pk=run.pk)
    if kind == "model":
        return found.status == RunStatus.RUNNING
    return found.steps.filter(kind="tool", status="started").exists()
