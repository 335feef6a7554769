from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import get_args

import pytest
from django.db import connection
from django.utils.timezone import now
from psycopg.types.json import Jsonb

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus, Verdict
from console.actors import system
from releases import switches
from releases.states import Scope, SwitchEffect
from runtime import claiming, journal, journal_sql, runs, worker, workers
from runtime.committing import Committer
from runtime.journal import Write
from runtime.messages import Call, Reply
from runtime.models import Run, Worker
from runtime.states import RunStatus
from tests.runtime import harness
from tests.runtime.harness import OVER_100, a_scripted_release, calling, effects, saying, start, trace, work

pytestmark = pytest.mark.django_db(transaction=True)

OPERATOR = system("test")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def test_a_run_answers_and_leaves_a_full_trace():
    release = a_scripted_release(saying(calling("spy_read", order_id="10482"), "Your order is on its way."))

    run = work(start(release))

    assert (run.status, run.cause, run.answer) == (RunStatus.SUCCEEDED, "answered", "Your order is on its way.")
    assert [step[0] for step in trace(run)] == ["input", "guardrail", "model", "tool", "model", "guardrail", "answer"]
    assert run.steps_used == 7
    assert (run.model_calls, run.tool_calls, run.tools_called) == (2, 1, ["spy_read"])
    assert run.input_tokens > 0
    assert [event.kind for event in run.events.all()] == ["run.created", "run.started", "run.finished"]
    numbers = sorted([*run.steps.values_list("seq", flat=True), *run.events.values_list("seq", flat=True)])
    done = list(run.steps.filter(kind="tool").values_list("done_seq", flat=True))
    assert sorted([*numbers, *done]) == list(range(1, run.seq + 1))


def test_a_small_refund_passes_without_a_person():
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="49.00"), "Done."), rules=[OVER_100])

    run = work(start(release))

    assert run.status == RunStatus.SUCCEEDED
    assert [amount for _, amount in harness.paid()] == [Decimal("49.00")]
    assert run.risk_level == "medium"


def test_a_large_refund_parks_and_pays_once_with_the_edited_amount():
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129.00"), "Done."), rules=[OVER_100])
    run = work(start(release))
    assert run.status == RunStatus.WAITING
    assert run.worker_id is None
    assert harness.paid() == []
    request = ApprovalRequest.objects.get()
    assert (request.title, request.amount_usd, request.why) == ("Pay $129.00", Decimal("129.00"), OVER_100["reason"])

    requests.decide(request.pk, Verdict.APPROVE, by=OPERATOR, reason="fine", edits={"amount": "99.00"})
    run = work(run)

    assert run.status == RunStatus.SUCCEEDED
    assert [amount for _, amount in harness.paid()] == [Decimal("99.00")]
    assert ("approval", "Approval", "edited") in trace(run)
    assert run.parked_ms > 0


def test_a_rejection_reaches_the_agent_with_its_reason():
    heard = []

    def script(request):
        heard.extend(harness.told(request))
        return saying(calling("spy_pay", order_id="1", amount="129.00"), "A colleague declined.")(request)

    run = work(start(a_scripted_release(script, rules=[OVER_100])))

    requests.decide(ApprovalRequest.objects.get().pk, Verdict.REJECT, by=OPERATOR, reason="No receipt.")
    run = work(run)

    assert run.status == RunStatus.SUCCEEDED
    assert any("No receipt." in text for text in heard)
    assert harness.paid() == []


def test_an_approval_nobody_decides_expires_the_run():
    run = work(start(a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129")), rules=[OVER_100])))
    request = ApprovalRequest.objects.get()

    assert requests.expire_due(request.due_at) == 1

    run.refresh_from_db()
    assert (run.status, run.cause) == (RunStatus.EXPIRED, "approval_expired")
    assert harness.paid() == []


def test_an_approval_is_void_when_its_arguments_were_changed_afterwards():
    run = work(
        start(a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129"), "ok"), rules=[OVER_100]))
    )
    decision = requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=OPERATOR, reason="")
    decision.arguments = {**decision.arguments, "amount": "9999"}
    decision.save()

    run = work(run)

    assert harness.paid() == []
    assert ApprovalRequest.objects.get().status == ApprovalStatus.VOID
    assert any(step.rule == "approval-void" for step in run.steps.all())


def test_a_kill_switch_refuses_the_call_and_is_named_in_the_trace():
    release = a_scripted_release(
        saying(calling("spy_pay", order_id="1", amount="5"), calling("refuse", reason="off"), "Sorry.")
    )
    run = start(release)
    switch = switches.engage(Scope.TOOL, SwitchEffect.DISABLE_TOOL, "spy_pay", by=OPERATOR, reason="double refunds")

    run = work(run)

    refused = run.steps.get(rule="kill_switch")
    assert "spy_pay is off" in refused.summary
    assert (run.status, run.cause) == (RunStatus.REFUSED, "kill_switch")
    assert harness.paid() == []
    switch.refresh_from_db()
    assert switch.blocked_calls == 1


def test_an_approval_cannot_override_a_kill_switch():
    run = work(
        start(a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129"), "ok"), rules=[OVER_100]))
    )
    request = ApprovalRequest.objects.get()
    requests.decide(request.pk, Verdict.APPROVE, by=OPERATOR, reason="")
    switches.engage(Scope.EVERYTHING, SwitchEffect.WRITES_OFF, "", by=OPERATOR, reason="incident")

    run = work(run)

    assert harness.paid() == []
    assert run.steps.filter(rule="kill_switch").exists()


@pytest.mark.parametrize("name", ["Spy_pay", "spy_pay ", "spy_pay\u200b", "sp\u0443_pay", "drop_tables"])
def test_a_tool_outside_the_release_is_denied_without_a_card(name):
    run = work(
        start(a_scripted_release(saying(Reply("", (Call("c1", name, {"order_id": "1", "amount": "999"}),)), "ok")))
    )

    assert [step.rule for step in run.steps.filter(status="refused")] == ["release-tools"]
    assert not ApprovalRequest.objects.exists()
    assert effects == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"order_id": "1"},
        {"order_id": "1", "amount": "5", "extra": 1},
        {"order_id": 7, "amount": "5"},
        {"order_id": "1", "amount": "NaN"},
        {"order_id": "1", "amount": float("inf")},
        {"order_id": "x" * 1_000_000, "amount": "5"},
        '{"order_id": "1", "order_id": "2", "amount": 5}',
    ],
)
def test_arguments_that_break_the_schema_are_refused_before_policy(arguments):
    said = saying(Reply("", (Call("c1", "spy_pay", arguments),)), "ok")
    release = a_scripted_release(said, rules=[OVER_100], budgets={"max_tokens": 10**9})

    run = work(start(release))

    assert run.status == RunStatus.SUCCEEDED, run.cause_detail
    assert [step.rule for step in run.steps.filter(status="refused")] == ["schema"]
    assert not ApprovalRequest.objects.exists()
    assert harness.paid() == []


def test_a_principal_without_the_scope_is_refused():
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="5"), "ok"))

    run = work(start(release, scopes=["orders:read"]))

    assert [step.rule for step in run.steps.filter(status="refused")] == ["principal-scope"]


def test_the_loop_guard_ends_a_run_that_repeats_itself():
    run = work(start(a_scripted_release(lambda request: calling("spy_read", order_id="1"))))

    assert (run.status, run.cause) == (RunStatus.FAILED, "loop-guard")
    assert len(effects) == 3


def test_a_budget_of_steps_ends_the_run():
    run = work(start(a_scripted_release(saying(calling("spy_read", order_id="1"), "ok")), budgets={"max_steps": 3}))

    assert (run.status, run.cause) == (RunStatus.FAILED, "budget:max_steps")
    assert effects == []


def test_cancelling_a_waiting_run_withdraws_its_question():
    run = work(start(a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129")), rules=[OVER_100])))

    runs.cancel(run.pk, by=harness.STARTER, reason="wrong customer")
    runs.cancel(run.pk, by=harness.STARTER, reason="again")

    run.refresh_from_db()
    assert (run.status, run.cancel_reason) == (RunStatus.CANCELLED, "wrong customer")
    assert ApprovalRequest.objects.get().status == ApprovalStatus.VOID
    assert work(run).status == RunStatus.CANCELLED


def test_cancelling_a_running_run_stops_before_its_next_step():
    release = a_scripted_release(
        saying(calling("spy_read", order_id="1"), calling("spy_pay", order_id="1", amount="5"), "ok")
    )
    run = start(release)
    harness.hooks["spy_read"] = lambda: runs.cancel(run.pk, by=harness.STARTER, reason="stop")

    run = work(run)

    assert (run.status, run.cause) == (RunStatus.CANCELLED, "cancelled")
    assert "stop" in run.cause_detail
    assert [name for name, _ in effects] == ["spy_read"]


def test_an_unsafe_call_whose_end_nobody_saw_is_settled_by_a_person():
    def die() -> None:
        raise SystemError("the connection broke")

    harness.hooks["spy_send"] = die
    run = work(start(a_scripted_release(saying(calling("spy_send", text="hi"), "Sent."))))
    assert run.status == RunStatus.WAITING
    request = ApprovalRequest.objects.get()
    assert request.title.startswith("Did this happen?")
    assert run.steps.get(name="spy_send").status == "unknown"

    requests.decide(request.pk, Verdict.APPROVE, by=OPERATOR, reason="It is in the outbox.")
    run = work(run)

    assert run.status == RunStatus.SUCCEEDED
    assert run.steps.get(name="spy_send").status == "done"
    assert effects == []


def test_a_tool_that_hangs_is_cut_off():
    run = work(start(a_scripted_release(saying(calling("spy_slow", seconds=5), "It took too long."))))

    step = run.steps.get(name="spy_slow")
    assert (step.status, step.error) == ("failed", "timeout")
    assert run.status == RunStatus.SUCCEEDED


def test_an_output_guardrail_stops_an_ungrounded_figure():
    rails = [{"id": "figures", "on": "output", "check": "grounded_figures", "then": "escalate"}]
    run = work(start(a_scripted_release(saying("You get $500.00 back."), guardrails=rails)))

    assert (run.status, run.cause) == (RunStatus.ESCALATED, "guardrail:figures")
    assert "500" not in run.answer


def test_an_input_guardrail_refuses_before_any_model_call():
    rails = [{"id": "short", "on": "input", "check": "length", "settings": {"max_characters": 5}}]

    run = work(start(a_scripted_release(saying("hello"), guardrails=rails)))

    assert (run.status, run.model_calls) == (RunStatus.REFUSED, 0)


def test_the_model_reads_earlier_turns_of_the_thread():
    heard = []

    def script(request):
        heard.append([type(m).__name__ for m in request.messages])
        return Reply("noted")

    release = a_scripted_release(script)
    first = work(start(release, "one"))

    second = work(start(release, "two", thread_id=first.thread_id))

    assert second.status == RunStatus.SUCCEEDED
    assert heard[-1] == ["UserText", "ModelReply", "UserText"]


def test_secrets_never_reach_the_journal():
    secret = "AKIA" + "A" * 16
    run = work(start(a_scripted_release(saying(f"The key is {secret}")), text=f"my key {secret}"))

    stored = [*run.steps.values_list("payload__input", "payload__output"), run.answer, run.input_text, run.title]
    assert secret not in str(stored)


def test_pausing_new_runs_holds_them_and_leaves_started_ones_alone():
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129"), "ok"), rules=[OVER_100])
    waiting, queued = work(start(release)), start(release)
    switches.engage(Scope.EVERYTHING, SwitchEffect.PAUSE_RUNS, "", by=OPERATOR, reason="incident")

    assert work(queued).status == RunStatus.QUEUED
    assert work(start(release)).status == RunStatus.QUEUED
    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=OPERATOR, reason="")
    assert work(waiting).status == RunStatus.SUCCEEDED


def test_the_same_idempotency_key_returns_the_first_run():
    release = a_scripted_release(saying("hi"))

    first, made = runs.create(
        agent=release.agent.slug, text="a", by=harness.STARTER, principal_id="p", idempotency_key="k"
    )
    again, made_again = runs.create(
        agent=release.agent.slug, text="a", by=harness.STARTER, principal_id="p", idempotency_key="k"
    )

    assert (made, made_again, first.pk) == (True, False, again.pk)
    with pytest.raises(Exception, match="another request"):
        runs.create(agent=release.agent.slug, text="b", by=harness.STARTER, principal_id="p", idempotency_key="k")
    assert Run.objects.count() == 1


def test_the_statement_of_every_write_stays_short_enough_for_the_driver_to_keep_it_parsed():
    """psycopg parses a statement anew at each execution when it is longer than 4,096 characters."""
    assert len(journal_sql.write(get_args(journal_sql.Part))) < 4096


PARTS = get_args(journal_sql.Part)


@pytest.mark.parametrize("parts", [PARTS, (), *[(part,) for part in PARTS]])
def test_the_statement_of_every_write_finds_its_rows_by_their_keys(parts: tuple[journal_sql.Part, ...]):
    """Planned on small tables, it went through all running runs, and all steps of a run, for each row that it wrote."""
    with connection.cursor() as cursor:
        names = ("ops", "steps", "payloads", "finished", "events")
        cursor.execute(f"EXPLAIN {journal_sql.write(parts)}", {name: Jsonb([]) for name in names})
        plan = "\n".join(line for (line,) in cursor.fetchall())

    used = set(re.findall(r"(?:Index Scan using|Bitmap Index Scan on) (\w+)", plan))
    found = {"finished": {"runtime_step_pkey", "runtime_steppayload_pkey"}, "drafts": {"runtime_draft_pkey"}}
    assert used == {"runtime_run_pkey"}.union(*(found.get(part, set()) for part in parts))
    assert "Seq Scan" not in plan


def test_a_superseded_worker_can_never_write_again():
    """The fence: the first worker was believed dead, a second one claimed the run, then the first comes back."""
    run = start(a_scripted_release(saying("hi")))

    async def go() -> None:
        pool = worker.open_pool(4)
        await pool.open(wait=True)
        try:
            committer = Committer(pool)
            first = await claiming.Claimer(pool, (await to_thread(workers.register, "a")).pk).claim(run.pk)
            await to_thread(Worker.objects.update, lease_until=now() - timedelta(seconds=1))
            await to_thread(workers.reconcile)
            second = await claiming.Claimer(pool, (await to_thread(workers.register, "b")).pk).claim(run.pk)
            assert first is not None
            assert second is not None
            assert second.lease.fence == first.lease.fence + 1
            with pytest.raises(journal.LeaseLost):
                await committer.write(journal.operation(first.lease, [Write(events=[("late", {})])]))
            await committer.write(journal.operation(second.lease, [Write(events=[("in.time", {})])]))
        finally:
            await pool.close()

    asyncio.run(go())

    kinds = list(run.events.values_list("kind", flat=True))
    assert "in.time" in kinds
    assert "late" not in kinds


async def to_thread(function, *args, **options):
    def closing():
        try:
            return function(*args, **options)
        finally:
            connection.close()

    return await asyncio.to_thread(closing)
