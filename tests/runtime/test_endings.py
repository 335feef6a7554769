from __future__ import annotations

import pytest

from runtime import runs
from runtime.states import RunStatus, StepKind, StepStatus
from tests import builders
from tests.runtime import harness

pytestmark = pytest.mark.django_db


def test_cancelling_a_queued_run_whose_worker_died_in_a_call_says_that_the_call_may_have_happened():
    run = builders.a_run(RunStatus.QUEUED)
    call = builders.a_step(run, StepKind.TOOL, "send", status=StepStatus.STARTED, finished_at=None)
    read = builders.a_step(run, StepKind.RETRIEVAL, "search", status=StepStatus.STARTED, finished_at=None)
    done = builders.a_step(run, StepKind.TOOL, "look")

    runs.cancel(run.pk, by=harness.STARTER, reason="wrong customer")

    for step in (call, read, done):
        step.refresh_from_db()
    assert (call.status, call.finished_at) == (StepStatus.UNKNOWN, None)
    assert (read.status, read.error) == (StepStatus.FAILED, "cancelled")
    assert (done.status, done.error) == (StepStatus.DONE, "")


def test_cancelling_a_waiting_run_closes_the_step_of_its_question():
    run = builders.a_run(RunStatus.WAITING)
    asked = builders.a_step(run, StepKind.APPROVAL, "Approval", status=StepStatus.STARTED, finished_at=None)

    runs.cancel(run.pk, by=harness.STARTER, reason="wrong customer")

    asked.refresh_from_db()
    assert (asked.status, asked.error) == (StepStatus.FAILED, "cancelled")
    assert asked.finished_at is not None
