"""Calls whose result was lost, and tools that can be asked: settled, repeated or left to a person, never done twice."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus, Verdict
from console import problems
from console.actors import system
from console.models import AuditEntry
from releases.models import Release
from runtime import aliveness, journal, tools, workers
from runtime.models import Run, Step, Worker
from runtime.policies import recovering
from runtime.policies.recovering import Fate
from runtime.states import FINAL, RunStatus, StepKind, StepStatus
from runtime.tools import DidNotHappen, Finding, Happened, Unknown
from tests import builders
from tests.runtime import harness, outside
from tests.runtime.harness import a_scripted_release, calling, saying, start, work
from tests.runtime.test_workers import Processes, until

pytestmark = pytest.mark.django_db(transaction=True)
PERSON = system("test")

answers: list[Finding | Exception | Any] = []  # what the look-up says, in order; the last one again and again
asked: list[tuple[str, Mapping[str, Any]]] = []
made: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    for known in (answers, asked, made):
        known.clear()
    outside.make_room()
    yield from harness.fresh()


async def _look_up(ctx: tools.ToolContext, arguments: Mapping[str, Any]) -> Finding:
    asked.append((ctx.idempotency_key, dict(arguments)))
    answer = answers.pop(0) if len(answers) > 1 else answers[0]
    if isinstance(answer, Exception):
        raise answer
    return answer


@tools.tool(effect="egress", retry="unsafe", output_trust="trusted", timeout_s=5, verify=_look_up)
def known_send(ctx: tools.ToolContext, text: str) -> str:
    """Send something; the other side can be asked."""
    made.append(ctx.idempotency_key)
    return "sent"


@tools.tool(effect="egress", retry="unsafe", output_trust="trusted", timeout_s=0.2, verify=_look_up)
async def late_send(ctx: tools.ToolContext, text: str) -> str:
    """Take longer than allowed."""
    made.append(ctx.idempotency_key)
    await asyncio.sleep(5)
    return "sent"


def crashed(name: str = "known_send", **content: Any) -> Run:
    """A run whose worker died between intent and result; its life is over, and this process may not be it."""
    run = start(a_scripted_release(saying(calling(name, text="hi"), "Sent."), use=[name], **content))

    async def dying(*_: object) -> None:
        raise journal.LeaseLost

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.calling.perform", dying)
        work(run)
    assert run.steps.get(kind=StepKind.TOOL).status == "started"
    workers.register("test")
    return run


def a_dead_process() -> tuple[int, str]:
    """Id and identity of a process of this machine that is gone."""
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    begun = aliveness._begun(process.pid)
    process.communicate()
    return process.pid, f"{aliveness._place()}:{begun}"


def made_by_dead_process() -> None:
    pid, process = a_dead_process()
    Worker.objects.exclude(ended_at=None).update(pid=pid, process=process)


def made_elsewhere(*, lease_until: Any) -> None:
    Worker.objects.exclude(ended_at=None).update(process="another-boot:pid:[1]:77", lease_until=lease_until)
    Worker.objects.exclude(ended_at=None).update(ended_at=lease_until)


# What the look-up leads to


def test_a_call_that_the_outside_knows_is_settled_with_its_evidence_and_not_made():
    answers.append(Happened("Message 77 in the outbox.", {"id": 77}))
    run = crashed()

    run = work(run)

    assert run.status == RunStatus.SUCCEEDED
    assert made == []
    step = run.steps.get(kind="tool")
    assert (step.status, step.summary) == ("done", "Found to have happened: Message 77 in the outbox.")
    assert step.payload.output["result"] == {"id": 77}
    assert asked == [(step.idempotency_key, {"text": "hi"})]
    event = run.events.get(kind="call.verified")
    assert (event.data["answer"], event.data["evidence"]) == ("happened", "Message 77 in the outbox.")


def test_a_call_that_did_not_happen_is_made_once_more_with_its_key_when_its_process_is_gone():
    answers.append(DidNotHappen("The outbox does not have it."))
    run = crashed()
    made_by_dead_process()

    run = work(run)

    assert run.status == RunStatus.SUCCEEDED
    assert made == [run.steps.get(kind="tool").idempotency_key]
    event = run.events.get(kind="call.repeated")
    assert (event.data["answer"], event.data["evidence"]) == ("did_not", "The outbox does not have it.")


def test_a_no_is_not_believed_while_the_process_that_made_the_call_is_there():
    """The life has ended by a takeover; its process is this one, so it is alive like one that was frozen."""
    answers.append(DidNotHappen("The outbox does not have it."))
    run = crashed()

    run = work(run)

    assert (run.status, made) == (RunStatus.WAITING, [])
    card = ApprovalRequest.objects.get()
    assert "the process that made the call may still be at it" in card.why
    assert card.evidence[0]["text"] == "The outbox does not have it."


def test_on_another_machine_a_no_is_asked_again_once_lease_and_time_out_have_passed():
    answers.append(DidNotHappen("Not yet."))
    run = crashed()
    lease_until = now() + timedelta(seconds=20)
    made_elsewhere(lease_until=lease_until)

    run = work(run)

    assert (run.status, made) == (RunStatus.QUEUED, [])
    assert run.wake_at == lease_until + timedelta(seconds=5) + recovering.MARGIN
    made_elsewhere(lease_until=now() - timedelta(seconds=60))
    Run.objects.filter(pk=run.pk).update(wake_at=None)
    run = work(run, slot="other")

    assert (run.status, len(made)) == (RunStatus.SUCCEEDED, 1)
    assert [event.data["answer"] for event in run.events.filter(kind="call.verified")] == ["did_not"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Unknown("The vendor keeps no keys."), "The vendor keeps no keys."),
        (RuntimeError("no route"), "Asking the other system failed (RuntimeError: no route)."),
        ("yes", "answered str, which is no finding"),
    ],
)
def test_what_nobody_can_say_goes_to_a_person_with_what_was_tried(answer, said):
    answers.append(answer)
    run = crashed()
    made_by_dead_process()

    run = work(run)

    assert (run.status, made) == (RunStatus.WAITING, [])
    assert said in ApprovalRequest.objects.get().evidence[0]["text"]


def test_a_release_that_does_not_say_so_is_never_asked():
    """The labels of the release decide, not what happens to be installed."""
    answers.append(DidNotHappen("x"))
    manifest = tools.known()["known_send"].manifest.model_copy(update={"verifies": False})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tools._registry, "known_send", tools.Tool(manifest, *_rest("known_send")))
        run = crashed()
        made_by_dead_process()
        run = work(run)

    assert (run.status, asked, made) == (RunStatus.WAITING, [], [])


def _rest(name: str) -> tuple[Any, ...]:
    known = tools.known()[name]
    return known.function, known.arguments, known.is_async, known.verify


def test_a_call_that_came_too_late_is_asked_about_at_once_and_never_repeated_by_its_own_worker():
    answers.append(Happened("It arrived."))
    run = work(start(a_scripted_release(saying(calling("late_send", text="hi"), "Sent."), use=["late_send"])))
    assert (run.status, len(made), len(asked)) == (RunStatus.SUCCEEDED, 1, 1)

    answers[:] = [DidNotHappen("Not there.")]
    run = work(start(a_scripted_release(saying(calling("late_send", text="ho"), "Sent."), use=["late_send"])))
    assert (run.status, len(made)) == (RunStatus.WAITING, 2)


def test_who_repeated_the_call_counts_as_well_as_who_made_it_first():
    """A worker that died over the repetition: the first process is long gone, the second may still be at it."""
    answers.append(DidNotHappen("Not there."))
    run = crashed()
    made_by_dead_process()

    async def dying(*_: object) -> None:
        raise journal.LeaseLost

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("runtime.calling.perform", dying)
        work(run)
    workers.register("test")
    Run.objects.filter(pk=run.pk).update(wake_at=None)  # a second recovery in a row waits a little
    run = work(run)

    assert run.events.filter(kind="call.repeated").count() == 1
    assert (run.status, made) == (RunStatus.WAITING, [])


# Giving up


def test_a_person_who_cannot_find_out_gives_up_and_the_run_fails_with_that_cause():
    answers.append(Unknown())
    run = work(crashed())
    card = ApprovalRequest.objects.get()
    assert card.labels == {"approve": "It happened", "reject": "It did not happen", "give_up": "Give up"}

    requests.decide(card.pk, Verdict.GIVE_UP, by=PERSON, reason="The vendor has closed.")

    run.refresh_from_db()
    assert (run.status, run.cause) == (RunStatus.FAILED, "effect_unknown")
    assert "The vendor has closed." in run.cause_detail
    step = run.steps.get(kind="tool")
    assert (step.status, step.error) == ("unknown", "effect_unknown")
    assert step.finished_at is not None and run.finished_at is not None and run.waiting_since is None
    assert [event.kind for event in run.events.order_by("seq")][-2:] == ["call.settled", "run.finished"]
    assert AuditEntry.objects.get(action="approval.give_up").reason == "The vendor has closed."
    card.refresh_from_db()
    assert card.status == ApprovalStatus.REJECTED
    assert work(run).status == RunStatus.FAILED
    assert made == []


def test_giving_up_needs_a_reason_and_is_offered_only_where_something_is_unknown():
    answers.append(Unknown())
    work(crashed())

    with pytest.raises(problems.Invalid, match="needs a reason"):
        requests.decide(ApprovalRequest.objects.get().pk, Verdict.GIVE_UP, by=PERSON, reason=" ")
    with pytest.raises(problems.Invalid, match="does not offer to give up"):
        requests.decide(builders.an_approval().pk, Verdict.GIVE_UP, by=PERSON, reason="no idea")

    assert not AuditEntry.objects.exists()


# Which process a life is


def test_a_process_is_known_by_more_than_its_number():
    mine, host = aliveness.identity(), os.uname().nodename
    place, _, begun = mine.rpartition(":")
    gone_pid, gone = a_dead_process()

    assert aliveness.fate(mine, host, os.getpid()) == Fate.ALIVE
    assert aliveness.fate(f"{place}:{int(begun) - 1}", host, os.getpid()) == Fate.GONE  # the number was used again
    assert aliveness.fate(gone, host, gone_pid) == Fate.GONE
    assert aliveness.fate(f"other-{mine}", host, os.getpid()) == Fate.UNSEEN  # another machine or container
    assert aliveness.fate("", host, os.getpid()) == Fate.UNSEEN  # from before it was written down


def test_a_frozen_process_is_alive_and_a_zombie_is_gone():
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    mark = f"{aliveness._place()}:{aliveness._begun(process.pid)}"

    process.send_signal(signal.SIGSTOP)
    assert aliveness.fate(mark, "", process.pid) == Fate.ALIVE
    process.send_signal(signal.SIGKILL)
    time.sleep(0.3)
    assert aliveness.fate(mark, "", process.pid) == Fate.GONE  # nobody has waited for it yet
    process.communicate()


# Real processes


@pytest.fixture
def processes() -> Iterator[Processes]:
    started = Processes()
    started.env["STEADYHAND_TOOLS"] = '["tests.runtime.harness", "tests.runtime.outside"]'
    yield started
    for process in started.running:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
    started.stop()


def a_release(tool: str) -> Release:
    manifest = tools.known()[tool].manifest.model_dump(mode="json")
    return builders.a_release(model={"provider": "scripted", "name": tool}, tools=[manifest])


def settled(runs: list[Run]) -> bool:
    with transaction.atomic():
        found = Run.objects.filter(pk__in=[run.pk for run in runs]).values_list("status", flat=True)
        return all(status in {*FINAL, RunStatus.WAITING} for status in found)


@pytest.mark.parametrize(("tool", "answer"), [("send_early", "happened"), ("send_late", "did_not")])
def test_a_worker_killed_around_the_effect_leaves_it_done_exactly_once_without_a_person(processes, tool, answer):
    runs = [start(a_release(tool), f"run {number}") for number in range(6)]
    victim = processes.start()
    until(lambda: len(outside.rows("outside_began")) == 6)

    victim.kill()
    victim.wait()
    # On a slow machine some have ended before the kill.
    cut_off = list(Step.objects.filter(name=tool, status=StepStatus.STARTED).values_list("run_id", flat=True))
    processes.start()
    until(lambda: settled(runs))

    assert cut_off
    assert set(Run.objects.values_list("status", flat=True)) == {RunStatus.SUCCEEDED}
    assert not ApprovalRequest.objects.exists()
    keys = outside.rows()
    assert len(keys) == len(set(keys)) == 6
    kind = "call.verified" if answer == "happened" else "call.repeated"
    for run in Run.objects.filter(pk__in=cut_off):
        assert run.events.get(kind=kind).data["answer"] == answer


def test_a_worker_that_is_frozen_taken_over_and_thawed_does_nothing_twice(processes):
    early = [start(a_release("send_early"), f"early {number}") for number in range(6)]
    late = [start(a_release("send_late"), f"late {number}") for number in range(6)]
    frozen = processes.start("w1")
    until(lambda: len(outside.rows("outside_began")) == 12)
    frozen.send_signal(signal.SIGSTOP)

    processes.start("w1")
    until(lambda: settled([*early, *late]))
    before = len(outside.rows())
    frozen.send_signal(signal.SIGCONT)
    time.sleep(outside.PAUSE_S + 2)

    keys = outside.rows()
    assert len(keys) == len(set(keys))  # nothing twice
    assert before == 6
    statuses = Run.objects.values_list("status", flat=True)
    assert set(statuses.filter(pk__in=[run.pk for run in early])) == {RunStatus.SUCCEEDED}  # the outside knew them
    assert set(statuses.filter(pk__in=[run.pk for run in late])) == {RunStatus.WAITING}  # nobody may guess
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM runtime_runevent WHERE kind = 'call.repeated'")
        assert cursor.fetchone()[0] == 0
