"""Pausing, resuming and stopping runs, with the real engine at work where a call is in flight."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection, transaction
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus, Verdict
from console import problems
from console.actors import system
from console.models import AuditEntry
from console.roles import Role
from console.states import IllegalMove
from releases.models import Release
from runtime import figures, interventions, runs, tools, worker, workers
from runtime.engine import Engine
from runtime.journal import Lease
from runtime.messages import Reply
from runtime.models import Run, RunEvent
from runtime.states import RunStatus, StepStatus
from tests.builders import a_run, an_actor
from tests.patience import PATIENCE_S, until
from tests.runtime import harness
from tests.runtime.harness import (
    OVER_100,
    a_scripted_release,
    calling,
    effects,
    in_background,
    saying,
    start,
    trace,
    work,
)

pytestmark = pytest.mark.django_db(transaction=True)

OPERATOR = system("test")
NEVER_S = 3600  # what takes so long is ended by nothing but what is tested


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


@contextlib.contextmanager
def at_work(run: Run) -> Iterator[Engine]:
    """An engine that works on the run in a thread, with the loop that a worker has."""
    life = workers.register("test")
    begun, over = threading.Event(), threading.Event()
    found: list[Engine] = []

    async def go() -> None:
        pool = worker.open_pool(4)
        await pool.open(wait=True)
        engine = Engine(pool, life.pk)
        engine.loop = asyncio.get_running_loop()  # type: ignore[attr-defined]
        found.append(engine)
        begun.set()
        try:
            await engine.run_turn(run.pk)
            await engine.settle()
        finally:
            await pool.close()

    def turn() -> None:
        try:
            asyncio.run(go())
        finally:
            over.set()

    in_background(turn)
    assert begun.wait(PATIENCE_S)
    yield found[0]
    assert over.wait(PATIENCE_S), "The turn did not end."


def told(engine: Engine, run: Run) -> None:
    """What the worker does when its heartbeat brings a request."""
    engine.loop.call_soon_threadsafe(engine.interrupt, run.pk)  # type: ignore[attr-defined]


def status_of(run: Run) -> str:
    return str(Run.objects.values_list("status", flat=True).get(pk=run.pk))


def has_step(run: Run, name: str) -> bool:
    return run.steps.filter(name=name).exists()


def an_asking_release() -> Release:
    """One whose run asks a person about a payment of $129, makes it, and says so."""
    return a_scripted_release(saying(calling("spy_pay", order_id="1", amount="129"), "ok"), rules=[OVER_100])


def slowly(seconds: float = NEVER_S, *then: Reply | str) -> Callable:
    """A model that takes its time over its first answer."""
    asked = []

    async def script(request):
        asked.append(request)
        if len(asked) == 1:
            await asyncio.sleep(seconds)
        return saying(*(then or ("Done.",)))(request)

    script.asked = asked
    return script


@tools.tool(effect="write", retry="idempotent", timeout_s=600)
async def spy_endless(ctx: tools.ToolContext) -> str:
    """Take longer than anybody waits."""
    await asyncio.sleep(NEVER_S)
    return "done"


# The verbs


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.WAITING])
def test_a_run_that_no_worker_holds_is_paused_at_once(status):
    run = a_run(status)

    interventions.pause(run.pk, by=OPERATOR, reason="look first")

    run.refresh_from_db()
    assert (run.status, run.pause_reason, run.paused_by_label) == (RunStatus.PAUSED, "look first", OPERATOR.label)
    assert [event.kind for event in run.events.all()] == ["run.paused"]
    assert AuditEntry.objects.get(action="run.pause").reason == "look first"


def test_a_running_run_is_asked_and_pauses_before_its_next_step():
    said = saying(calling("spy_read", order_id="1"), calling("spy_pay", order_id="1", amount="5"))
    run = start(a_scripted_release(said))
    harness.hooks["spy_read"] = lambda: interventions.pause(run.pk, by=OPERATOR, reason="look first")

    run = work(run)

    assert run.status == RunStatus.PAUSED
    assert [name for name, _ in effects] == ["spy_read"]
    assert run.worker_id is None
    assert [event.kind for event in run.events.all()][-2:] == ["run.pause_requested", "run.paused"]


def test_a_pause_between_the_verdict_and_the_call_keeps_the_call_from_starting():
    """The statement that commits the intent of a call looks for the pause itself."""
    release = a_scripted_release(saying(calling("spy_pay", order_id="1", amount="5"), "Paid."))
    run = start(release)
    life = workers.register("test")

    async def go() -> None:
        pool = worker.open_pool(4)
        await pool.open(wait=True)
        engine = Engine(pool, life.pk)
        real = engine.committer.write

        async def write(operation):
            if "guard" in operation.parts:
                await asyncio.to_thread(interventions.pause, run.pk, by=OPERATOR, reason="just in time")
            return await real(operation)

        engine.committer.write = write
        await engine.run_turn(run.pk)
        await engine.settle()
        await pool.close()

    asyncio.run(go())

    assert status_of(run) == RunStatus.PAUSED
    assert effects == []
    interventions.resume(run.pk, by=OPERATOR)
    assert work(run).status == RunStatus.SUCCEEDED
    assert [name for name, _ in effects] == ["spy_pay"]


def test_a_paused_run_keeps_its_question_and_goes_on_only_when_resumed():
    run = work(start(an_asking_release()))
    due = ApprovalRequest.objects.get().due_at
    interventions.pause(run.pk, by=OPERATOR, reason="call the customer first")

    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=OPERATOR, reason="")
    assert status_of(run) == RunStatus.PAUSED
    run = work(run)

    assert (run.status, harness.paid()) == (RunStatus.PAUSED, [])
    assert ApprovalRequest.objects.get().due_at == due

    interventions.resume(run.pk, by=OPERATOR)
    assert status_of(run) == RunStatus.QUEUED
    run = work(run)
    assert run.status == RunStatus.SUCCEEDED
    assert [amount for _, amount in harness.paid()] == [Decimal("129")]


def test_resuming_goes_back_to_the_open_question():
    run = work(start(an_asking_release()))
    interventions.pause(run.pk, by=OPERATOR, reason="look")

    interventions.resume(run.pk, by=OPERATOR, reason="looked")

    assert status_of(run) == RunStatus.WAITING
    assert ApprovalRequest.objects.get().status == ApprovalStatus.PENDING
    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=OPERATOR, reason="")
    assert work(run).status == RunStatus.SUCCEEDED


def test_the_deadline_of_a_paused_runs_question_still_ends_it():
    run = work(start(an_asking_release()))
    interventions.pause(run.pk, by=OPERATOR, reason="look")

    requests.expire_due(ApprovalRequest.objects.get().due_at)

    assert status_of(run) == RunStatus.EXPIRED


def test_a_run_asked_to_pause_while_it_parks_is_paused_with_its_question():
    release = a_scripted_release(
        saying(calling("spy_read", order_id="1"), calling("spy_pay", order_id="1", amount="129")), rules=[OVER_100]
    )
    run = start(release)
    real = interventions.is_asked

    def asked(cursor, lease):
        Run.objects.filter(pk=run.pk).update(pause_requested_at=now(), pause_reason="look")
        return real(cursor, lease)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interventions, "is_asked", asked)
        work(run)

    assert status_of(run) == RunStatus.PAUSED
    assert ApprovalRequest.objects.get().status == ApprovalStatus.PENDING


@pytest.mark.parametrize("verb", [interventions.pause, interventions.resume])
def test_doing_it_twice_changes_nothing(verb):
    run = a_run(RunStatus.QUEUED)
    interventions.pause(run.pk, by=OPERATOR, reason="look")
    if verb is interventions.resume:
        interventions.resume(run.pk, by=OPERATOR)
    before = list(RunEvent.objects.values_list("kind", flat=True)), AuditEntry.objects.count(), status_of(run)

    verb(run.pk, by=OPERATOR, reason="again")

    assert (list(RunEvent.objects.values_list("kind", flat=True)), AuditEntry.objects.count(), status_of(run)) == before


@pytest.mark.parametrize("verb", [interventions.pause, interventions.resume])
@pytest.mark.parametrize("status", [RunStatus.SUCCEEDED, RunStatus.CANCELLED])
def test_a_run_that_has_ended_is_neither_paused_nor_resumed(verb, status):
    run = a_run(status)

    with pytest.raises(IllegalMove, match="final state"):
        verb(run.pk, by=OPERATOR, reason="look")

    assert status_of(run) == status
    assert not RunEvent.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_run_that_is_being_stopped_is_not_paused():
    run = a_run(RunStatus.RUNNING)
    runs.cancel(run.pk, by=OPERATOR, reason="stop")

    with pytest.raises(problems.Conflict, match="being stopped"):
        interventions.pause(run.pk, by=OPERATOR, reason="look")

    assert Run.objects.get(pk=run.pk).pause_requested_at is None


def test_a_pause_needs_a_reason_and_the_right_on_the_agent():
    run = a_run(RunStatus.QUEUED)

    with pytest.raises(problems.Invalid, match="Say why"):
        interventions.pause(run.pk, by=OPERATOR, reason=" ")
    with pytest.raises(Run.DoesNotExist):
        interventions.pause(run.pk, by=an_actor(Role.OPERATOR, agent="another"), reason="look")
    with pytest.raises(Run.DoesNotExist):
        interventions.pause(run.pk, by=an_actor(Role.AUDITOR), reason="look")

    assert status_of(run) == RunStatus.QUEUED


def test_a_pause_that_is_taken_back_in_time_costs_nothing():
    release = a_scripted_release(saying(calling("spy_read", order_id="1"), "Done."))
    run = start(release)

    def change_of_mind() -> None:
        interventions.pause(run.pk, by=OPERATOR, reason="look")
        interventions.resume(run.pk, by=OPERATOR)

    harness.hooks["spy_read"] = change_of_mind

    assert work(run).status == RunStatus.SUCCEEDED


def test_the_worker_parks_a_run_only_while_the_pause_is_still_asked_for():
    run = a_run(RunStatus.RUNNING, fence=1)
    lease = Lease(run.pk, 1)
    interventions.pause(run.pk, by=OPERATOR, reason="look")
    interventions.resume(run.pk, by=OPERATOR)

    assert not interventions.follow_pause(lease, [])
    assert status_of(run) == RunStatus.RUNNING

    interventions.pause(run.pk, by=OPERATOR, reason="look")
    assert interventions.follow_pause(lease, [])
    assert status_of(run) == RunStatus.PAUSED


def test_a_paused_run_is_stopped_like_any_other_that_no_worker_holds():
    run = work(start(an_asking_release()))
    interventions.pause(run.pk, by=OPERATOR, reason="look")

    runs.cancel(run.pk, by=OPERATOR, reason="wrong customer")

    assert status_of(run) == RunStatus.CANCELLED
    assert ApprovalRequest.objects.get().status == ApprovalStatus.VOID


def test_time_in_a_pause_is_parked_time_and_told_apart():
    run = a_run(RunStatus.WAITING, waiting_since=now() - timedelta(minutes=3))
    interventions.pause(run.pk, by=OPERATOR, reason="look")
    Run.objects.filter(pk=run.pk).update(waiting_since=now() - timedelta(minutes=2))
    run.refresh_from_db()

    working, parked = figures.spent(run, now())
    assert (working, round(parked.total_seconds())) == (timedelta(), 300)
    assert round(figures.paused(run, now()).total_seconds()) == 120

    interventions.resume(run.pk, by=OPERATOR)
    run.refresh_from_db()
    assert (round(run.parked_ms / 1000), round(run.paused_ms / 1000), run.working_ms) == (300, 120, 0)


def test_a_paused_run_leaves_its_place_to_others_and_asks_for_one_again():
    limits = {"agent:desk": 1}
    first = a_run(RunStatus.QUEUED, slots=limits)
    second = a_run(RunStatus.QUEUED, slots=limits, held_for="slot")

    interventions.pause(first.pk, by=OPERATOR, reason="look")
    second.refresh_from_db()
    assert second.held_for == ""

    interventions.resume(first.pk, by=OPERATOR)
    first.refresh_from_db()
    assert (first.status, first.held_for) == (RunStatus.QUEUED, "slot")


# Two at once


def test_a_pause_and_a_claim_take_turns():
    """Whoever comes second sees what the first one did: the run is never both paused and at work."""
    for _ in range(10):
        run = start(a_scripted_release(saying("Done.")))
        pausing = in_background(lambda run=run: interventions.pause(run.pk, by=OPERATOR, reason="look"))
        work(run)
        pausing.join(10)

        run.refresh_from_db()
        assert run.status in (RunStatus.PAUSED, RunStatus.SUCCEEDED)
        if run.status == RunStatus.PAUSED:
            assert run.worker_id is None
            interventions.resume(run.pk, by=OPERATOR)
            assert work(run).status == RunStatus.SUCCEEDED


def test_a_pause_waits_for_a_claim_that_is_being_made():
    run = a_run(RunStatus.QUEUED)
    paused = threading.Event()

    def pause() -> None:
        interventions.pause(run.pk, by=OPERATOR, reason="look")
        paused.set()
        connection.close()

    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(status=RunStatus.RUNNING)
        thread = in_background(pause)
        assert not paused.wait(0.5)
    thread.join(PATIENCE_S)

    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING  # asked, not parked under the hands of its worker
    assert run.pause_requested_at is not None


def test_stopping_and_deciding_at_once_end_in_one_of_the_two():
    for _ in range(5):
        run = work(start(an_asking_release()))
        request = ApprovalRequest.objects.get(subject_id__startswith=run.public_id)
        interventions.pause(run.pk, by=OPERATOR, reason="look")

        def decide(request=request) -> None:
            with contextlib.suppress(problems.Problem):
                requests.decide(request.pk, Verdict.APPROVE, by=OPERATOR, reason="")
            connection.close()

        thread = in_background(decide)
        runs.cancel(run.pk, by=OPERATOR, reason="stop")
        thread.join(PATIENCE_S)

        request.refresh_from_db()
        assert status_of(run) == RunStatus.CANCELLED
        assert request.status in (ApprovalStatus.VOID, ApprovalStatus.APPROVED)
        work(run)
        assert harness.paid() == []


# Calls in flight


def test_stopping_breaks_off_a_model_call_and_charges_its_input_by_estimate():
    script = slowly()
    price = {"input_usd": "10", "output_usd": "10"}
    run = start(a_scripted_release(script, model={"price": price}))
    with at_work(run) as engine:
        until(lambda: bool(script.asked))
        runs.cancel(run.pk, by=OPERATOR, reason="stop")
        told(engine, run)
        until(lambda: status_of(run) == RunStatus.CANCELLED)

    run.refresh_from_db()
    step = run.steps.get(kind="model")
    assert (step.status, step.error) == (StepStatus.FAILED, "broken_off")
    assert step.input_tokens > 0
    assert (step.output_tokens, step.cost_basis, run.cost_basis) == (0, "estimated", "estimated")
    assert run.cost_usd == step.cost_usd > 0


def test_a_pause_breaks_off_a_model_call_which_is_made_again_and_counts_as_no_failure():
    script = slowly(30, "Here I am.")
    run = start(a_scripted_release(script, budgets={"max_model_attempts": 1}))
    with at_work(run) as engine:
        until(lambda: bool(script.asked))
        interventions.pause(run.pk, by=OPERATOR, reason="look")
        told(engine, run)
        until(lambda: status_of(run) == RunStatus.PAUSED)

    interventions.resume(run.pk, by=OPERATOR)
    run = work(run)
    assert (run.status, run.answer) == (RunStatus.SUCCEEDED, "Here I am.")
    assert next(step for step in trace(run) if step[0] == "model")[2] == "failed"


@pytest.mark.parametrize(
    ("tool", "arguments", "status"),
    [
        ("spy_read", {"order_id": "1"}, StepStatus.FAILED),
        ("spy_pay", {"order_id": "1", "amount": "5"}, StepStatus.FAILED),
        ("spy_send", {"text": "hi"}, StepStatus.UNKNOWN),
    ],
)
def test_stopping_abandons_a_synchronous_tool_and_discards_what_it_brings_later(tool, arguments, status):
    entered, leave, left = threading.Event(), threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        leave.wait(NEVER_S)

    harness.hooks[tool] = hang
    run = start(a_scripted_release(saying(calling(tool, **arguments), "Done.")))
    with at_work(run) as engine:
        assert entered.wait(PATIENCE_S)
        runs.cancel(run.pk, by=OPERATOR, reason="stop")
        told(engine, run)
        until(lambda: status_of(run) == RunStatus.CANCELLED)
        before = list(run.steps.values_list("seq", "status", "error"))
        leave.set()
        until(lambda: any(name == tool for name, _ in effects))
        left.wait(0.5)

    run.refresh_from_db()
    assert run.steps.get(name=tool).status == status
    assert list(run.steps.values_list("seq", "status", "error")) == before
    assert harness.paid() == []  # the effect of a transactional tool was rolled back with its result
    assert ("may have happened" in run.cause_detail) == (status == StepStatus.UNKNOWN)


def test_stopping_ends_an_asynchronous_tool_and_says_that_it_may_have_happened():
    run = start(a_scripted_release(saying(calling("spy_endless"), "Done."), use=["spy_endless"]))
    manifest = run.release.bundle.toolset["spy_endless"]
    assert manifest.retry == "idempotent"
    with at_work(run) as engine:
        until(lambda: has_step(run, "spy_endless"))
        runs.cancel(run.pk, by=OPERATOR, reason="stop")
        told(engine, run)
        until(lambda: status_of(run) == RunStatus.CANCELLED)

    run.refresh_from_db()
    assert effects == []
    assert run.steps.get(name="spy_endless").status == StepStatus.UNKNOWN
    assert "spy_endless was under way and may have happened." in run.cause_detail


def test_a_pause_breaks_off_a_read_which_is_made_again_later():
    entered, leave = threading.Event(), threading.Event()

    def hang_once() -> None:
        if not entered.is_set():
            entered.set()
            leave.wait(NEVER_S)

    harness.hooks["spy_read"] = hang_once
    run = start(a_scripted_release(saying(calling("spy_read", order_id="1"), "Done.")))
    with at_work(run) as engine:
        assert entered.wait(PATIENCE_S)
        interventions.pause(run.pk, by=OPERATOR, reason="look")
        told(engine, run)
        until(lambda: status_of(run) == RunStatus.PAUSED)
        leave.set()

    assert run.steps.get(name="spy_read").status == StepStatus.STARTED
    interventions.resume(run.pk, by=OPERATOR)
    run = work(run)
    assert (run.status, run.steps.get(name="spy_read").status) == (RunStatus.SUCCEEDED, StepStatus.DONE)


def test_a_pause_waits_for_a_call_that_cannot_be_made_again():
    entered, leave = threading.Event(), threading.Event()

    def hang() -> None:
        entered.set()
        leave.wait(NEVER_S)

    harness.hooks["spy_send"] = hang
    run = start(a_scripted_release(saying(calling("spy_send", text="hi"), "Sent.")))
    with at_work(run) as engine:
        assert entered.wait(PATIENCE_S)
        interventions.pause(run.pk, by=OPERATOR, reason="look")
        told(engine, run)
        time.sleep(0.5)
        assert status_of(run) == RunStatus.RUNNING
        leave.set()
        until(lambda: status_of(run) == RunStatus.PAUSED)

    assert run.steps.get(name="spy_send").status == StepStatus.DONE


def test_a_notice_reaches_the_worker_without_its_heartbeat():
    script = slowly()
    run = start(a_scripted_release(script))
    with at_work(run) as engine:
        listening = asyncio.run_coroutine_threadsafe(engine.listen(), engine.loop)  # type: ignore[attr-defined]
        until(lambda: bool(script.asked))
        until(lambda: harness.is_heard(interventions.TOPIC))
        runs.cancel(run.pk, by=OPERATOR, reason="stop")
        until(lambda: status_of(run) == RunStatus.CANCELLED)
        listening.cancel()
