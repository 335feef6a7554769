from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus, Verdict
from console.states import IllegalMove
from runtime import deadlines, interventions, jobs
from runtime.models import Run
from runtime.states import RunStatus
from tests.builders import a_run
from tests.runtime import harness
from tests.runtime.harness import OVER_100, a_scripted_release, calling, effects, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def asking(**budgets: object) -> Run:
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129"), "Paid."), rules=[OVER_100])
    return work(start(release, budgets=budgets))


def pass_deadline(run: Run) -> None:
    """As if the run had been created so long ago that its deadline was a second before now."""
    assert run.deadline_at is not None
    ago = run.deadline_at - now() + timedelta(seconds=1)
    Run.objects.filter(pk=run.pk).update(created_at=run.created_at - ago, deadline_at=run.deadline_at - ago)


def test_a_run_that_waits_for_a_person_ends_at_its_deadline_and_its_question_is_withdrawn():
    run = asking(deadline_seconds=3600)
    assert deadlines.sweep() == []

    pass_deadline(run)
    jobs.sweep_budgets()

    run.refresh_from_db()
    assert (run.status, run.cause) == (RunStatus.EXPIRED, "budget:deadline")
    assert run.cause_detail == (
        "The deadline of 3,600 s after the run was created has passed. It was waiting for a person then."
    )
    assert run.parked_ms > 0
    assert ApprovalRequest.objects.get().status == ApprovalStatus.VOID
    assert run.events.order_by("-seq").first().kind == "run.finished"
    assert effects == []


def test_ending_it_twice_changes_nothing():
    run = asking(deadline_seconds=3600)
    pass_deadline(run)

    assert deadlines.sweep() == [run.pk]
    assert deadlines.end(run.pk) is False
    assert deadlines.sweep() == []


def test_a_decision_after_the_deadline_makes_no_call():
    run = asking(deadline_seconds=3600)
    pass_deadline(run)
    question = ApprovalRequest.objects.get()

    requests.decide(question.pk, Verdict.APPROVE, by=harness.DECIDER, reason="Late, but fine.")
    ended = work(run)

    assert (ended.status, ended.cause) == (RunStatus.FAILED, "budget:deadline")
    assert effects == []


def test_a_queued_run_ends_at_its_deadline_without_a_worker():
    run = start(a_scripted_release(saying("ok")), budgets={"deadline_seconds": 60})
    pass_deadline(run)

    assert deadlines.sweep() == [run.pk]

    run.refresh_from_db()
    assert (run.status, run.cause) == (RunStatus.FAILED, "budget:deadline")
    assert work(run).status == RunStatus.FAILED


def test_a_paused_run_ends_at_its_deadline():
    run = start(a_scripted_release(saying("ok")), budgets={"deadline_seconds": 60})
    interventions.pause(run.pk, by=harness.DECIDER, reason="Let me look.")
    pass_deadline(run)

    deadlines.sweep()

    run.refresh_from_db()
    assert (run.status, run.cause) == (RunStatus.EXPIRED, "budget:deadline")


def test_a_run_at_work_is_left_to_its_worker():
    moment = now()
    run = a_run(RunStatus.RUNNING, deadline_at=moment - timedelta(seconds=1), created_at=moment - timedelta(seconds=9))

    assert deadlines.sweep() == []
    assert deadlines.end(run.pk) is False


def test_a_worker_ends_a_run_past_its_deadline_before_its_next_call():
    harness.hooks["spy_read"] = lambda: time.sleep(0.4)
    release = a_scripted_release(
        lambda request: calling("spy_read", f"c{len(request.messages)}", order_id=str(len(request.messages)))
    )
    run = work(start(release, budgets={"deadline_seconds": 1}))

    assert (run.status, run.cause) == (RunStatus.FAILED, "budget:deadline")
    assert "1 s after the run was created" in run.cause_detail


def test_a_run_without_a_deadline_has_none():
    run = start(a_scripted_release(saying("ok")))

    assert run.deadline_at is None
    assert deadlines.sweep() == []


def test_a_final_run_is_never_ended_again():
    moment = now()
    run = a_run(RunStatus.SUCCEEDED, deadline_at=moment - timedelta(hours=1), created_at=moment - timedelta(hours=2))

    assert deadlines.end(run.pk) is False
    with pytest.raises(IllegalMove):
        interventions.pause(run.pk, by=harness.DECIDER, reason="late")


def test_a_run_that_cannot_be_ended_does_not_keep_the_others_from_it(caplog):
    stuck, other = (start(a_scripted_release(saying("ok")), budgets={"deadline_seconds": 60}) for _ in range(2))
    for run in (stuck, other):
        pass_deadline(run)
    no_number_left = 2**31 - 1
    Run.objects.filter(pk=stuck.pk).update(deadline_at=now() - timedelta(days=1), seq=no_number_left)

    assert deadlines.sweep() == [other.pk]

    assert stuck.public_id in caplog.text
    stuck.refresh_from_db()
    assert stuck.status == RunStatus.QUEUED
