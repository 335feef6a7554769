"""Retrying a run from one of its steps, carried out by the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import Verdict
from console import problems
from console.actors import Actor, system
from console.models import AuditEntry
from runtime import forks, interventions, runs
from runtime.forks import Which
from runtime.models import Run, Step
from runtime.states import RunStatus, StepKind, StepStatus
from tests.builders import a_run, a_step
from tests.runtime import harness
from tests.runtime.harness import OVER_100, a_scripted_release, calling, effects, saying, start, trace, work

pytestmark = pytest.mark.django_db(transaction=True)

OPERATOR = system("test")
LOOK_AND_PAY = (calling("spy_read", order_id="1"), calling("spy_pay", order_id="1", amount="5"), "Paid.")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def fork(run: Run, step: Step | None = None, **options) -> Run:
    new, _ = forks.fork(
        run.pk, **{"by": OPERATOR, "reason": "try again", "step_id": step.pk if step else None, **options}
    )
    return new


def called() -> list[str]:
    return [name for name, _ in effects]


def numbers(run: Run) -> list[int]:
    found = {*run.steps.values_list("seq", flat=True), *run.events.values_list("seq", flat=True)}
    return sorted(found | {seq for seq in run.steps.values_list("done_seq", flat=True) if seq})


def test_a_fork_takes_over_what_was_done_and_repeats_no_effect():
    run = work(start(a_scripted_release(saying(*LOOK_AND_PAY))))
    last = run.steps.filter(kind=StepKind.MODEL).last()

    new = work(fork(run, last))

    assert (new.status, new.answer, new.cause) == (RunStatus.SUCCEEDED, "Paid.", "answered")
    assert called() == ["spy_read", "spy_pay"]  # by the first run only
    assert len(harness.paid()) == 1
    assert [step[:2] for step in trace(new)] == [step[:2] for step in trace(run)]
    assert numbers(new) == list(range(1, new.seq + 1))


def test_from_the_first_step_everything_is_done_again():
    run = work(start(a_scripted_release(saying(*LOOK_AND_PAY))))

    new = work(fork(run))

    assert new.status == RunStatus.SUCCEEDED
    assert called() == ["spy_read", "spy_pay"] * 2
    assert len({key for key, _ in harness.paid()}) == 2
    assert not new.steps.filter(fence=0).exists()


def test_what_was_taken_over_costs_the_fork_nothing_and_its_budgets_begin_afresh():
    price = {"input_usd": "10", "output_usd": "10"}
    release = a_scripted_release(saying(*LOOK_AND_PAY), model={"price": price}, budgets={"max_steps": 6})
    run = work(start(release))
    assert (run.status, run.cause) == (RunStatus.FAILED, "budget:max_steps")

    new = work(fork(run, run.steps.last()))

    assert (new.status, new.answer) == (RunStatus.SUCCEEDED, "Paid.")
    copied = new.steps.filter(fence=0)
    assert new.steps_used == new.steps.count() - copied.count() <= 6
    assert sum(step.input_tokens + step.output_tokens for step in copied) == 0
    assert new.cost_usd == sum((step.cost_usd for step in new.steps.all()), Decimal(0)) < run.cost_usd
    assert new.model_calls == new.steps.filter(kind=StepKind.MODEL, fence__gt=0).count()
    assert {step.payload.input["forked_from"] for step in copied} <= {step.public_id for step in run.steps.all()}


def test_an_approval_is_never_inherited_for_a_call_that_is_made_again():
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129"), "Paid."), rules=[OVER_100])
    run = work(start(release))
    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=OPERATOR, reason="")
    run = work(run)
    assert len(harness.paid()) == 1

    new = work(fork(run, run.steps.get(name="spy_pay")))

    assert new.status == RunStatus.WAITING
    assert ApprovalRequest.objects.filter(subject_id__startswith=new.public_id).count() == 1
    assert len(harness.paid()) == 1
    assert new.approvals_asked == 1


def test_after_an_approved_call_the_fork_does_not_ask_again():
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129"), "Paid."), rules=[OVER_100])
    run = work(start(release))
    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=OPERATOR, reason="")
    run = work(run)

    new = work(fork(run, run.steps.filter(kind=StepKind.MODEL).last()))

    assert new.status == RunStatus.SUCCEEDED
    assert ApprovalRequest.objects.count() == 1
    assert len(harness.paid()) == 1


def test_whoever_forks_is_the_one_who_asked():
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129"), "Paid."), rules=[OVER_100])
    run = work(start(release))
    runs.cancel(run.pk, by=OPERATOR, reason="stop")
    rights = frozenset((name, "*") for name in ("runs.create", "runs.read", "runs.cancel"))
    other = Actor("user", "0199-other", "Olga Other", rights, frozenset({"refunds:write"}))

    new = work(fork(run, by=other))

    assert (new.started_by_id, new.started_by_label) == (other.id, other.label)
    assert new.scopes == ["refunds:write"]  # not the every scope of the first starter
    assert ApprovalRequest.objects.get(subject_id__startswith=new.public_id).requested_by == other.id


def test_a_call_that_may_have_happened_is_settled_by_a_person_before_the_fork_goes_on():
    def die() -> None:
        raise SystemError("the connection broke")

    harness.hooks["spy_send"] = die
    run = work(start(a_scripted_release(saying(calling("spy_send", text="hi"), "Sent."))))
    runs.cancel(run.pk, by=OPERATOR, reason="stop")
    harness.hooks.clear()

    new = work(fork(run, run.steps.filter(kind=StepKind.APPROVAL).get()))

    assert new.status == RunStatus.WAITING
    request = ApprovalRequest.objects.get(subject_id__startswith=new.public_id)
    assert request.title.startswith("Did this happen?")
    requests.decide(request.pk, Verdict.APPROVE, by=OPERATOR, reason="It is in the outbox.")
    assert work(new).status == RunStatus.SUCCEEDED
    assert effects == []


def test_taint_and_the_conversation_before_go_along_and_the_other_run_does_not():
    heard = []

    def script(request):
        heard.append(harness.told(request))
        return saying("Hello.")(request)

    first = work(start(a_scripted_release(script), text="First message"))
    second = work(start(first.release, text="Second message", thread_id=first.thread_id))
    Run.objects.filter(pk=second.pk).update(tainted=True)

    new = work(fork(second))

    assert new.tainted
    assert (new.thread_id, new.history_before) == (second.thread_id, second.created_at)
    assert heard[-1] == ["First message", "Second message"]

    work(start(first.release, text="Third message", thread_id=first.thread_id))
    assert heard[-1] == ["First message", "Second message", "Third message"]


def test_the_active_release_is_a_choice():
    run = work(start(a_scripted_release(saying(*LOOK_AND_PAY))))
    later = a_scripted_release(saying("Something else."), agent=run.agent, version="9.9")

    same = fork(run, run.steps.filter(kind=StepKind.MODEL).first())
    work(same)
    active = work(fork(run, run.steps.filter(kind=StepKind.MODEL).first(), release=Which.ACTIVE))

    assert same.release_id == run.release_id
    assert (active.release_id, active.answer) == (later.pk, "Something else.")
    checks = active.steps.filter(kind=StepKind.GUARDRAIL, summary="This release configures none.")
    assert all(check.fence for check in checks)  # made by the new release itself


def test_limits_that_the_caller_had_lowered_stay_lowered():
    run = work(start(a_scripted_release(saying("Done.")), budgets={"max_steps": 7}))

    assert fork(run).budgets["max_steps"] == 7


def test_a_paused_run_is_stopped_by_its_fork():
    run = start(a_scripted_release(saying("Done.")))
    interventions.pause(run.pk, by=OPERATOR, reason="look")

    new = work(fork(run))

    run.refresh_from_db()
    assert (run.status, new.status) == (RunStatus.CANCELLED, RunStatus.SUCCEEDED)
    assert "try again" in run.cancel_reason


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING])
def test_a_run_that_goes_on_is_not_forked_and_keeps_no_trace_of_the_attempt(status):
    run = a_run(status)
    a_step(run, input={}, output={})

    with pytest.raises(problems.Conflict, match="Pause or cancel it first"):
        fork(run)

    assert Run.objects.count() == 1
    assert not AuditEntry.objects.exists()


def test_a_conversation_with_another_run_under_way_is_not_forked_into():
    run = work(start(a_scripted_release(saying("Done."))))
    start(run.release, thread_id=run.thread_id)

    with pytest.raises(problems.Conflict, match="still queued"):
        fork(run)

    assert not run.forks.exists()


def test_the_same_request_twice_makes_one_fork():
    run = work(start(a_scripted_release(saying("Done."))))

    first, second = (fork(run, idempotency_key="form-1") for _ in range(2))

    assert first.pk == second.pk
    assert run.forks.count() == 1
    with pytest.raises(problems.Conflict, match="another request"):
        fork(run, run.steps.last(), idempotency_key="form-1")


def test_lineage_is_kept_in_the_run_its_events_and_the_audit_log():
    run = work(start(a_scripted_release(saying("Done."))))
    step = run.steps.filter(kind=StepKind.MODEL).get()

    new = fork(run, step)

    assert (new.forked_from, new.forked_at_step) == (run, step.seq)
    created = new.events.get(kind="run.created")
    assert created.data["forked_from"] == run.public_id
    entry = AuditEntry.objects.get(action="run.fork")
    assert (entry.object_id, entry.reason, entry.changes["fork"]) == (run.public_id, "try again", ["", new.public_id])


def test_forking_needs_the_right_to_start_and_to_read():
    run = work(start(a_scripted_release(saying("Done."))))
    only_reads = Actor("user", "1", "Rea Der", frozenset({("runs.read", "*")}))
    only_starts = Actor("user", "2", "Sta Rter", frozenset({("runs.create", "*")}))

    with pytest.raises(problems.Forbidden):
        fork(run, by=only_reads)
    with pytest.raises(Run.DoesNotExist):
        fork(run, by=only_starts)
    with pytest.raises(problems.Missing, match="no step"):
        fork(run, a_step(a_run(), input={}, output={}))

    assert Run.objects.filter(forked_from=run).count() == 0


def test_what_the_other_run_changed_after_the_step_is_named_before_it_is_done_again():
    run = work(start(a_scripted_release(saying(*LOOK_AND_PAY))))

    again = forks.done_after(run, run.steps.get(name="spy_pay").seq)

    assert [(call.tool, call.is_certain) for call in again] == [("spy_pay", True)]
    assert forks.done_after(run, run.steps.get(name="spy_pay").seq + 1) == []


def test_a_fork_of_a_fork_goes_on_from_there():
    run = work(start(a_scripted_release(saying(*LOOK_AND_PAY))))
    once = work(fork(run, run.steps.get(name="spy_pay")))
    twice = work(fork(once, once.steps.filter(kind=StepKind.MODEL).last()))

    assert twice.status == RunStatus.SUCCEEDED
    assert called() == ["spy_read", "spy_pay", "spy_pay"]
    assert twice.forked_from == once
    assert all(step.status == StepStatus.DONE for step in twice.steps.all())
