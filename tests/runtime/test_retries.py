"""Failed calls made again by the engine, and breakers in front of them: what the run, the trace and the tool see."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import Verdict
from console.actors import system
from releases import switches
from releases.models import Release
from releases.states import Scope, SwitchEffect
from runtime import attempts, tools, worker, workers
from runtime.engine import Engine
from runtime.models import Breaker, Run
from runtime.policies.waiting import Reason
from runtime.providers import scripted
from runtime.providers.base import ProviderError
from runtime.states import BreakerKind, BreakerState, RunStatus
from runtime.waits import Waits
from tests import builders
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)

OPERATOR = system("test")
QUICK = {"attempts": 3, "base_s": 0.02, "longest_s": 0.1, "on": ["timeout", "unavailable", "rate_limited", "exception"]}

failing: list[Exception | None] = []  # what the next calls of the flaky tools do; afterwards they work
seen: list[tuple[str, str]] = []  # tool and idempotency key of each call that was made


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    failing.clear()
    seen.clear()
    yield from harness.fresh()


def _flaky(name: str, context: tools.ToolContext) -> str:
    seen.append((name, context.idempotency_key))
    if failing and (wrong := failing.pop(0)) is not None:
        raise wrong
    return "found"


@tools.tool(effect="read", output_trust="trusted", retries=QUICK)
def flaky_read(ctx: tools.ToolContext, what: str) -> str:
    """Read something from a place that is not always there."""
    return _flaky("flaky_read", ctx)


@tools.tool(effect="write", retry="idempotent", output_trust="trusted", retries=QUICK)
async def flaky_write(ctx: tools.ToolContext, what: str) -> str:
    """Write something; the other side knows the key."""
    return _flaky("flaky_write", ctx)


@tools.tool(effect="write", retry="transactional", output_trust="trusted", retries=QUICK)
def flaky_pay(ctx: tools.ToolContext, what: str) -> str:
    """Pay within the transaction, and fail after it."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO spy (key, amount) VALUES (%s, 1)", [ctx.idempotency_key])
    return _flaky("flaky_pay", ctx)


@tools.tool(effect="egress", retry="unsafe", output_trust="trusted")
def flaky_send(ctx: tools.ToolContext, what: str) -> str:
    """Send something; it cannot be taken back."""
    return _flaky("flaky_send", ctx)


@tools.tool(effect="read", output_trust="trusted")
def flaky_once(ctx: tools.ToolContext, what: str) -> str:
    """A tool whose manifest declares no retries."""
    return _flaky("flaky_once", ctx)


USE = ("flaky_read", "flaky_write", "flaky_pay", "flaky_send", "flaky_once")


def away(**options: Any) -> tools.ToolError:
    return tools.ToolError("The catalogue is away.", code="catalogue_away", kind="unavailable", **options)


def a_release(name: str, *more: str, **content: Any) -> Release:
    """A model that calls the tool once and then answers."""
    return a_scripted_release(saying(calling(name, what="x"), *more, "Done."), use=USE, **content)


def the_calls(run: Run) -> list[tuple[int, str, str]]:
    return list(run.steps.filter(kind="tool").order_by("seq").values_list("attempt", "status", "error"))


# Tools


@pytest.mark.parametrize("name", ["flaky_read", "flaky_write", "flaky_pay"])
def test_a_call_that_may_be_repeated_is_made_again_with_the_same_key(name):
    failing.extend([away(), TimeoutError("late")])

    run = work(start(a_release(name)))

    assert run.status == RunStatus.SUCCEEDED
    assert the_calls(run) == [(1, "failed", "catalogue_away"), (2, "failed", "timeout"), (3, "done", "")]
    assert len(seen) == 3 and len(set(seen)) == 1
    assert (run.tool_calls, run.tool_errors) == (1, 0)
    if name == "flaky_pay":
        assert len(harness.paid()) == 1


def test_each_failed_attempt_says_in_the_trace_what_went_wrong_and_how_long_was_waited():
    failing.append(away())

    run = work(start(a_release("flaky_read")))

    first = run.steps.get(kind="tool", attempt=1)
    assert first.summary.startswith("The catalogue is away. Made again after ")
    assert first.payload.output["again"] is True
    assert 0 <= first.payload.output["waits_s"] <= 0.1


def test_when_all_attempts_have_failed_the_model_is_told_once():
    heard = []

    def script(request):
        heard.append(harness.told(request))
        return saying(calling("flaky_read", what="x"), "Sorry.")(request)

    failing.extend([away() for _ in range(9)])
    run = work(start(a_scripted_release(script, use=USE)))

    assert run.status == RunStatus.SUCCEEDED
    assert [attempt for attempt, _, _ in the_calls(run)] == [1, 2, 3]
    assert heard[-1][1:] == ["The tool said: The catalogue is away."]
    assert (run.tool_calls, run.tool_errors) == (1, 1)


@pytest.mark.parametrize("wrong", [away(), TimeoutError("late"), RuntimeError("broken"), ConnectionError("reset")])
def test_an_unsafe_call_is_never_made_again_whatever_its_error(wrong):
    failing.append(wrong)

    run = work(start(a_release("flaky_send")))

    assert len(seen) == 1
    expected = RunStatus.SUCCEEDED if isinstance(wrong, tools.ToolError) else RunStatus.WAITING
    assert run.status == expected  # without an answer of the tool, nobody knows whether it was sent


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("flaky_read", tools.ToolError("There is no such thing.")),  # a refusal is an answer
        ("flaky_read", tools.ToolError("Nonsense came back.", kind="bad_reply")),  # not a class that the release names
        ("flaky_once", away()),
    ],
)
def test_what_the_release_does_not_name_is_not_made_again(name, wrong):
    failing.append(wrong)

    run = work(start(a_release(name)))

    assert run.status == RunStatus.SUCCEEDED
    assert len(seen) == 1


def test_a_long_wait_gives_the_run_back_and_the_call_goes_on_later_with_its_key():
    failing.append(away(retry_after_s=40))

    run = work(start(a_release("flaky_write")))

    assert run.status == RunStatus.QUEUED and run.worker_id is None
    assert 30 < (run.wake_at - now()).total_seconds() <= 40
    assert "flaky_write is tried again later" in str(run.events.get(kind="run.yielded").data)
    assert Waits(now()).reason(run) == Reason.TIMER
    assert work(run).status == RunStatus.QUEUED  # nobody takes it before its time

    Run.objects.filter(pk=run.pk).update(wake_at=now())
    run = work(run, slot="another")

    assert run.status == RunStatus.SUCCEEDED
    assert the_calls(run) == [(1, "failed", "catalogue_away"), (2, "done", "")]
    assert len(set(seen)) == 1


def test_a_kill_switch_that_is_engaged_between_two_attempts_stops_the_second():
    failing.append(away(retry_after_s=40))
    run = work(start(a_release("flaky_write")))
    switches.engage(Scope.TOOL, SwitchEffect.DISABLE_TOOL, "flaky_write", by=OPERATOR, reason="stop")
    Run.objects.filter(pk=run.pk).update(wake_at=now())

    run = work(run)

    assert len(seen) == 1
    assert run.steps.filter(rule="kill_switch").exists()


def test_a_person_is_asked_once_for_all_attempts():
    rule = {"id": "ask", "tool": "flaky_write", "then": "ask", "reason": "Every write needs a person."}
    failing.extend([away(), away()])
    run = work(start(a_release("flaky_write", rules=[rule])))
    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=OPERATOR, reason="")

    run = work(run)

    assert run.status == RunStatus.SUCCEEDED
    assert len(seen) == 3
    assert ApprovalRequest.objects.count() == 1


def test_attempts_count_as_one_call_for_budgets_and_the_loop_guard():
    failing.extend([away(), away()])
    budgets = {"max_tool_calls": 1, "max_repeats": 1}

    run = work(start(a_release("flaky_read", budgets=budgets)))

    assert run.status == RunStatus.SUCCEEDED
    assert len(seen) == 3


# A tool that is out of order


def test_a_tool_that_is_out_of_order_is_refused_with_words_the_agent_can_act_on():
    builders.a_breaker("flaky_read", last_error="unavailable: connection refused")
    heard = []

    def script(request):
        heard.append(harness.told(request))
        return saying(calling("flaky_read", what="x"), calling("flaky_once", what="y"), "Done.")(request)

    run = work(start(a_scripted_release(script, use=USE)))

    assert run.status == RunStatus.SUCCEEDED
    assert [name for name, _ in seen] == ["flaky_once"]
    refused = run.steps.get(rule="breaker:tool")
    assert (refused.kind, refused.verdict) == ("guardrail", "refused")
    assert "The tool flaky_read is out of order since" in heard[1][-1]
    assert "Try it later, do without it, or hand off to a person." in heard[1][-1]


def test_calls_that_fail_in_a_row_open_the_breaker_of_their_tool_and_of_no_other():
    failing.extend([RuntimeError("broken")] * 5)
    calls = [calling("flaky_once", call_id=f"c{number}", what=str(number)) for number in range(6)]
    release = a_scripted_release(saying(*calls, calling("flaky_read", what="x"), "Done."), use=USE)

    run = work(start(release))

    assert [name for name, _ in seen] == ["flaky_once"] * 5 + ["flaky_read"]
    assert run.status == RunStatus.SUCCEEDED
    assert run.steps.filter(rule="breaker:tool").count() == 1
    row = Breaker.objects.get()
    assert (row.kind, row.name, row.state) == (BreakerKind.TOOL, "flaky_once", BreakerState.OPEN)
    assert row.last_error == "exception: RuntimeError: broken"


def test_refusals_of_a_tool_never_open_its_breaker():
    failing.extend([tools.ToolError("No such thing.")] * 9)
    calls = [calling("flaky_once", call_id=f"c{number}", what=str(number)) for number in range(9)]

    work(start(a_scripted_release(saying(*calls, "Done."), use=USE)))

    assert len(seen) == 9
    assert not Breaker.objects.exists()


def test_the_first_call_after_its_time_is_the_probe_and_closes_it():
    builders.a_breaker("flaky_read", open_until=now() - timedelta(seconds=1))

    run = work(start(a_release("flaky_read")))

    assert len(seen) == 1 and run.status == RunStatus.SUCCEEDED
    assert Breaker.objects.get().state == BreakerState.CLOSED


@pytest.mark.parametrize("count", [1, 2])
def test_runs_of_one_worker_or_of_two_send_one_probe_between_them(count):
    """The probe is answered only after every other run has ended; none of those may have made the call."""
    builders.a_breaker("flaky_read", open_until=now() - timedelta(seconds=1))
    release = a_release("flaky_read")
    runs = [start(release, f"run {number}") for number in range(16)]
    lives = [workers.register(f"slot-{number}").pk for number in range(count)]

    def until_the_others_are_done(name: str, context: tools.ToolContext) -> str:
        seen.append((name, context.idempotency_key))
        deadline = time.monotonic() + 25
        while Run.objects.filter(status=RunStatus.SUCCEEDED).count() < 15 and time.monotonic() < deadline:
            time.sleep(0.05)
        return "found"

    async def work_together() -> None:
        engines = [Engine(worker.open_pool(4), life) for life in lives]
        for engine in engines:
            await engine.pool.open(wait=True)
        await asyncio.gather(*(engines[place % count].run_turn(run.pk) for place, run in enumerate(runs)))
        for engine in engines:
            await engine.settle()
            await engine.pool.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.runtime.test_retries._flaky", until_the_others_are_done)
        asyncio.run(work_together())

    refused = sum(run.steps.filter(rule="breaker:tool").count() for run in runs)
    assert (len(seen), refused) == (1, 15)
    assert Run.objects.filter(status=RunStatus.SUCCEEDED).count() == 16
    assert Breaker.objects.get().state == BreakerState.CLOSED


# Models


def a_model(name: str, *codes: str, retry: bool = True, retry_after_s: float | None = None) -> list[float]:
    """A script that fails with these codes and then answers. Returns the times at which it was asked."""
    asked: list[float] = []
    left = list(codes)

    def script(request):
        asked.append(time.monotonic())
        if left:
            raise ProviderError(left.pop(0), "The vendor is away.", retry=retry, retry_after_s=retry_after_s)
        return saying("Hello.")(request)

    scripted.register(name, script)
    return asked


def a_release_of(name: str, *, fallback: str = "", retries: dict[str, Any] | None = None, **content: Any) -> Release:
    model = {"provider": "scripted", "name": name, "retries": retries or QUICK}
    fallback_model = {"provider": "scripted", "name": fallback, "retries": QUICK} if fallback else None
    return builders.a_release(model=model, fallback_model=fallback_model, tools=[], **content)


def test_a_model_is_asked_again_after_the_errors_its_release_names_and_the_wait_is_in_the_trace():
    asked = a_model("away-twice", "unavailable", "timeout")

    run = work(start(a_release_of("away-twice")))

    assert (run.status, len(asked)) == (RunStatus.SUCCEEDED, 3)
    steps = list(run.steps.filter(kind="model").order_by("seq"))
    assert [(step.attempt, step.error) for step in steps] == [(1, "unavailable"), (2, "timeout"), (3, "")]
    assert 0 <= steps[0].payload.output["waits_s"] <= 0.1


def test_an_error_that_the_release_does_not_name_ends_the_run_at_once():
    asked = a_model("limited", "rate_limited")

    run = work(start(a_release_of("limited", retries={**QUICK, "on": ["timeout"]})))

    assert (run.status, run.cause, len(asked)) == (RunStatus.FAILED, "model_rate_limited", 1)


def test_what_a_vendor_asks_to_wait_gives_the_run_back():
    a_model("busy", "rate_limited", retry_after_s=120)

    run = work(start(a_release_of("busy")))

    assert run.status == RunStatus.QUEUED
    assert 100 < (run.wake_at - now()).total_seconds() <= 120
    assert Waits(now()).reason(run) == Reason.RATE_LIMIT
    Run.objects.filter(pk=run.pk).update(wake_at=now())
    assert work(run).status == RunStatus.SUCCEEDED


def test_an_open_breaker_sends_the_call_to_the_fallback_without_asking_the_model():
    first, second = a_model("main"), a_model("spare")
    builders.a_breaker("scripted main", kind=BreakerKind.MODEL)

    run = work(start(a_release_of("main", fallback="spare")))

    assert (run.status, len(first), len(second)) == (RunStatus.SUCCEEDED, 0, 1)
    assert run.steps.get(kind="model").payload.input["fallback"] is True


def test_a_run_whose_only_model_is_out_of_order_waits_for_the_probe_without_holding_a_worker():
    asked = a_model("only")
    builders.a_breaker("scripted only", kind=BreakerKind.MODEL)

    run = work(start(a_release_of("only")))

    assert (run.status, len(asked)) == (RunStatus.QUEUED, 0)
    assert 55 < (run.wake_at - now()).total_seconds() < 70
    assert Waits(now()).reason(run) == Reason.BREAKER
    waited = run.steps.get(kind="model")
    assert (waited.rule, waited.error, waited.status) == ("breaker:model", "unavailable", "failed")
    assert "out of order since" in waited.summary

    Breaker.objects.update(open_until=now())
    Run.objects.filter(pk=run.pk).update(wake_at=now())
    run = work(run)
    assert (run.status, run.wait_reason) == (RunStatus.SUCCEEDED, "")
    assert Breaker.objects.get().state == BreakerState.CLOSED


def test_a_run_whose_model_stays_out_of_order_fails_after_its_attempts():
    asked = a_model("gone")
    builders.a_breaker("scripted gone", BreakerState.HELD, kind=BreakerKind.MODEL, reason="maintenance")
    run = start(a_release_of("gone"))

    for _ in range(QUICK["attempts"]):
        run = work(run)
        Run.objects.filter(pk=run.pk).update(wake_at=None)

    assert (run.status, run.cause, len(asked)) == (RunStatus.FAILED, "model_unavailable", 0)


def test_two_runs_that_fail_open_the_breaker_of_their_model():
    a_model("bad", *["unavailable"] * 99)
    release = a_release_of("bad")

    harness.work_all([start(release, f"run {number}") for number in range(4)])

    row = Breaker.objects.get()
    assert (row.kind, row.name, row.state) == (BreakerKind.MODEL, "scripted bad", BreakerState.OPEN)


def test_a_run_waits_for_the_outcome_of_somebody_elses_probe_and_loses_no_attempt(monkeypatch):
    monkeypatch.setattr(attempts, "PAUSE_S", 0.1)
    a_model("back")
    moment = now()
    builders.a_breaker(
        "scripted back", BreakerState.HALF_OPEN, kind=BreakerKind.MODEL, probe_by="somebody",
        probe_until=moment + timedelta(seconds=30),
    )  # fmt: skip
    run = start(a_release_of("back"))

    def close() -> None:
        time.sleep(1.2)
        Breaker.objects.update(state=BreakerState.CLOSED)
        connection.close()

    closing = harness.in_background(close)
    run = work(run)
    closing.join()

    assert run.status == RunStatus.SUCCEEDED
    assert run.steps.filter(kind="model").count() == 1


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "unavailable"),
        (type("ReadTimeout", (Exception,), {})(), "timeout"),
        (type("ConnectError", (type("TransportError", (Exception,), {}),), {})(), "unavailable"),
        (KeyError("x"), "exception"),
    ],
)
def test_what_a_tool_lets_through_falls_into_a_class(broken, expected):
    assert attempts.class_of(broken) == expected
