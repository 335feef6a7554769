"""Whole replays through the real engine, on our own recordings."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import django_rq
import pytest
from django.core.management import CommandError, call_command

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import Verdict
from console import queue
from console.actors import system
from releases import switches
from releases.models import Release
from releases.states import Scope, SwitchEffect
from runtime.models import Run, Step, Thread, Worker
from runtime.replay import declared, planning
from runtime.replay.replaying import Approver, Replaying, Tally
from runtime.states import RunStatus
from tests.runtime import harness
from tests.runtime.replay.recorded import (
    EXTEND,
    LOOK_UP,
    answered,
    call,
    conversation,
    result,
    said,
    write_file,
    write_tools,
)

pytestmark = pytest.mark.django_db(transaction=True)

THANKS = (said("And thanks!"), answered("You are welcome."))
CLAIM = "Your loan is extended to May 1."


class Replayed:
    """Runs the command and keeps what it said."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.status = 0

    def __call__(self, *rows: Any, **options: Any) -> dict[str, Any]:
        file = write_file(self.folder / "file.jsonl", *rows)
        tools = write_tools(self.folder / "tools.json")
        self.capsys.readouterr()
        try:
            call_command("replay", str(file), tools=tools, json=True, **options)
            self.status = 0
        except SystemExit as ended:
            self.status = int(ended.code or 0)
        (line,) = self.capsys.readouterr().out.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found


@pytest.fixture
def replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Replayed:
    return Replayed(tmp_path, capsys)


def trace(run: Run) -> list[tuple[str, str, str, str]]:
    kinds = ("model", "tool", "guardrail", "approval", "answer")
    steps = run.steps.filter(kind__in=kinds).exclude(kind="guardrail", call_id="").order_by("seq")
    return [(step.kind, step.name, step.status, step.verdict) for step in steps]


def test_a_conversation_is_a_thread_and_each_turn_a_run_with_a_full_trace(replay):
    found = replay(conversation(answered("Welcome!"), *LOOK_UP, *THANKS, said("Bye.")))

    thread = Thread.objects.get()
    runs = list(thread.runs.order_by("created_at"))
    assert [(run.status, run.answer) for run in runs] == [
        ("succeeded", "Yes, two copies."),
        ("succeeded", "You are welcome."),
    ]
    assert {run.kind for run in runs} == {"replay"}
    assert trace(runs[0]) == [
        ("model", "recorded gpt-4.1", "done", ""),
        ("tool", "find_book", "done", "allowed"),
        ("model", "recorded gpt-4.1", "done", ""),
        ("answer", "Answer", "done", ""),
    ]
    assert runs[0].steps.get(kind="tool").payload.output["result"] == '{"copies": 2}'
    assert found["runs"] == {"succeeded": 2}
    assert (found["model_calls"], found["tool_calls"]["allowed"]) == (3, 1)
    assert found["skipped"]["greetings"] == 1
    assert found["turns_not_run_because"] == {"no recorded answer": 1}
    assert (replay.status, found["errors"]) == (0, [])


def test_a_second_replay_makes_new_threads_of_the_same_release(replay):
    replay(conversation(*LOOK_UP))
    replay(conversation(*LOOK_UP))

    assert Thread.objects.count() == 2
    assert Release.objects.count() == 1


def test_instructions_come_from_policies_beside_the_file(replay, tmp_path):
    (tmp_path / "policies.json").write_text(json.dumps({"house-rules": "Whisper."}))

    replay(conversation(*LOOK_UP, id="a", policy="house-rules"), conversation(*LOOK_UP, id="b", policy="unknown"))

    texts = {run.thread.recording.source_id: run.release.bundle.instructions for run in Run.objects.all()}
    assert texts["a"] == "Whisper."
    assert texts["b"].startswith("Answer as recorded.")


def test_recorded_tokens_and_costs_are_kept_and_missing_ones_are_marked_estimates(replay):
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 600}}
    found = replay(
        conversation(said("Hi"), answered("Hello.", usage=usage, cost_usd=0.125), id="exact"),
        conversation(said("Hi"), answered("Hello.", usage=usage), id="priced"),
        conversation(said("Hi"), answered("Hello."), id="counted"),
        conversation(said("Hi"), answered("Hello."), id="unpriced", model="somebody-elses-model"),
    )

    runs = {run.thread.recording.source_id: run for run in Run.objects.all()}
    assert (float(runs["exact"].cost_usd), runs["exact"].cost_basis) == (0.125, "exact")
    assert (runs["exact"].input_tokens, runs["exact"].cached_tokens, runs["exact"].output_tokens) == (1000, 600, 10)
    assert (runs["priced"].cost_usd > 0, runs["priced"].cost_basis) == (True, "estimated")
    assert (runs["counted"].input_tokens > 10, runs["counted"].cost_basis) == (True, "estimated")
    assert (runs["unpriced"].cost_usd, runs["unpriced"].cost_basis) == (0, "unpriced")
    assert found["model_calls_by_cost_basis"] == {"exact": 1, "estimated": 2, "unpriced": 1}


def test_a_granted_write_goes_on_as_recorded(replay):
    found = replay(conversation(*EXTEND, *THANKS), approver="grant")

    first, _ = Run.objects.order_by("created_at")
    assert (first.status, first.answer) == (RunStatus.SUCCEEDED, CLAIM)
    assert ("approval", "Approval", "done", "approved") in trace(first)
    assert Step.objects.get(verdict="asked").rule == "rule:replay-writes"
    assert (found["approvals_asked"], found["approvals_answered"]["granted"]) == (1, 1)
    assert found["tool_calls"]["approved"] == 1


def test_a_denied_write_ends_the_turn_refused_and_the_recorded_claim_is_never_shown(replay):
    found = replay(conversation(*EXTEND, *THANKS), approver="deny")

    run = Run.objects.get()
    assert (run.status, run.cause, run.answer) == (RunStatus.REFUSED, "approval_rejected", "")
    assert "extend_loan was not approved" in run.cause_detail
    assert CLAIM not in json.dumps(list(Step.objects.values_list("payload__output", flat=True)))
    assert found["turns_not_run_because"] == {"the turn before ended as refused (approval_rejected)": 1}
    assert (found["approvals_answered"]["denied"], found["tool_calls"]["rejected"]) == (1, 1)


def test_a_write_left_to_people_waits_and_any_worker_can_finish_it(replay):
    found = replay(conversation(*EXTEND, *THANKS), approver="leave")

    run = Run.objects.get()
    assert run.status == RunStatus.WAITING
    assert (found["runs"], found["approvals_answered"]["open"]) == ({"waiting": 1}, 1)
    assert found["turns_not_run_because"] == {"the turn before waits for a person": 1}

    requests.decide(ApprovalRequest.objects.get().pk, Verdict.APPROVE, by=system("test"), reason="Fine.")
    run = harness.work(run)

    assert (run.status, run.answer) == (RunStatus.SUCCEEDED, CLAIM)


def test_an_approval_with_other_arguments_has_no_recorded_result(replay):
    replay(conversation(*EXTEND), approver="leave")
    request = ApprovalRequest.objects.get()

    requests.decide(request.pk, Verdict.APPROVE, by=system("test"), reason="Longer.", edits={"weeks": "9"})
    run = harness.work(Run.objects.get())

    assert (run.status, run.cause, run.answer) == (RunStatus.FAILED, "recording_diverged", "")
    assert run.steps.get(kind="tool").error == "recording_diverged"


def test_a_hand_off_ends_as_escalated_with_or_without_last_words(replay):
    handing = answered(None, call("to_librarian", summary="Lost card"))
    replay(
        conversation(said("I lost my card."), handing, result("ok"), answered("A colleague calls you."), id="with"),
        conversation(said("I lost my card."), handing, result("ok"), id="without"),
    )

    runs = {run.thread.recording.source_id: run for run in Run.objects.all()}
    assert (runs["with"].status, runs["with"].answer) == (RunStatus.ESCALATED, "A colleague calls you.")
    assert (runs["without"].status, runs["without"].answer) == (RunStatus.ESCALATED, "")
    assert {run.cause for run in runs.values()} == {"tool:to_librarian"}


def test_a_recording_that_ends_in_a_result_ends_with_that_cause(replay):
    replay(conversation(*LOOK_UP[:3]))

    run = Run.objects.get()
    assert (run.status, run.cause) == (RunStatus.FAILED, "recording_ended")
    assert "ends with the result of find_book" in run.cause_detail


def test_a_call_without_a_recorded_result_fails_and_a_write_among_them_is_never_claimed(replay):
    replay(
        conversation(*LOOK_UP[:2], LOOK_UP[3], id="read"),
        conversation(*EXTEND[:2], EXTEND[3], id="write"),
        approver="grant",
    )

    runs = {run.thread.recording.source_id: run for run in Run.objects.all()}
    assert {step.error for step in Step.objects.filter(kind="tool")} == {"no_recorded_result"}
    assert (runs["read"].status, runs["read"].answer) == (RunStatus.SUCCEEDED, "Yes, two copies.")
    assert (runs["write"].status, runs["write"].cause) == (RunStatus.FAILED, "no_recorded_result")
    assert runs["write"].answer == ""


def test_a_tool_that_nobody_declared_is_denied_without_a_card(replay):
    found = replay(conversation(said("Pay."), answered(None, call("pay", amount=5)), result("paid"), answered("Paid.")))

    run = Run.objects.get()
    assert (run.status, run.cause, run.answer) == (RunStatus.REFUSED, "release-tools", "")
    assert not ApprovalRequest.objects.exists()
    assert found["tool_calls"]["refused"] == 1


@pytest.mark.parametrize(
    "arguments", [{"title": 7}, {"title": "x", "extra": 1}, '{"title": "a", "title": "b"}', "{oops"]
)
def test_arguments_that_break_the_schema_are_refused(replay, arguments):
    bad = {"id": "c1", "name": "find_book", "arguments": arguments}
    replay(
        conversation(said("Hi"), answered(None, bad), result("found"), answered("Found."), id="claimed"),
        conversation(
            said("Hi"), answered(None, bad), result("Error: bad title"), answered("Which title?"), id="failed"
        ),
    )

    runs = {run.thread.recording.source_id: run for run in Run.objects.all()}
    assert (runs["claimed"].status, runs["claimed"].cause, runs["claimed"].answer) == (RunStatus.REFUSED, "schema", "")
    assert (runs["failed"].status, runs["failed"].answer) == (RunStatus.SUCCEEDED, "Which title?")


def test_a_recorded_error_is_a_failed_step_and_the_recording_goes_on(replay):
    found = replay(
        conversation(*LOOK_UP[:2], result("No such title", error=True), answered("We do not have it.")),
    )

    step = Step.objects.get(kind="tool")
    assert (step.status, step.error, step.summary) == ("failed", "recorded_error", "No such title")
    assert (found["runs"], found["tool_errors"]) == ({"succeeded": 1}, 1)


def test_a_runaway_loop_is_stopped_by_the_loop_guard(replay):
    same = [
        m
        for number in range(100)
        for m in (answered(None, call("find_book", f"c{number}", title="x")), result("0", f"c{number}"))
    ]
    found = replay(conversation(said("Look."), *same, answered("Found it."), *THANKS))

    run = Run.objects.get()
    assert (run.status, run.cause, run.tool_calls) == (RunStatus.FAILED, "loop-guard", 3)
    assert (found["turns_not_run"], found["loops_stopped"]) == (1, 1)
    assert (found["writes"], found["writes_justified"]) == ({}, None)


def test_the_figures_say_what_speaks_for_the_writes_and_which_loops_were_stopped(replay):
    read = (answered(None, call("find_book", title="Momo")), result('{"loan": "L9", "weeks": "8"}', name="find_book"))

    def extends(*before: Any, loan: str, weeks: str, said_so: str) -> tuple[Any, ...]:
        done = (answered(None, call("extend_loan", "c2", loan=loan, weeks=weeks)), result("{}", "c2"))
        return (said(said_so), *before, *done, answered("Done."))

    asked = "Please extend my loan MOMO-777 by 2026-12-24 and look for Momo first."
    found = replay(
        conversation(*extends(loan="L7", weeks="2", said_so="Extend my loan L7."), id="first of all"),
        conversation(*extends(*read, loan="MOMO-777", weeks="2026-12-24", said_so=asked), id="as the user said"),
        conversation(*extends(*read, loan="L9", weeks="8", said_so=asked), id="as the result said"),
        approver="grant",
    )

    assert found["writes"] == {"nothing_read": 1, "justified": 1, "provenance": 1}
    assert found["writes_justified"] == 0.6667
    assert (found["approvals_per_conversation"], found["loops_stopped"]) == (1.0, 0)


def test_a_hundred_identical_hand_offs_are_stopped_at_the_configured_count(replay):
    """D13: a model that goes on handing the same case over, as recorded ones have done."""
    handing = [
        m
        for number in range(100)
        for m in (
            answered(None, call("to_librarian", f"h{number}", summary="Lost card")),
            result("Transfer successful", f"h{number}"),
        )
    ]
    replay(conversation(said("I lost my card."), *handing, answered("A colleague calls you.")))

    run = Run.objects.get()
    assert (run.status, run.cause, run.tool_calls) == (RunStatus.FAILED, "loop-guard", 3)
    assert "3 times" in run.cause_detail
    assert "3 times" in run.steps.get(rule="loop-guard").summary


def test_a_recorded_round_of_two_calls_is_stopped_at_the_configured_count(replay):
    """The wording changes a little every time, so no call is identical to another."""
    titles = ["Momo", "momo", "MOMO", " Momo ", "Momo.", "momo!", "Mo-mo"]
    round_ = [
        m
        for number, title in enumerate(titles)
        for m in (
            answered(None, call("find_book", f"a{number}", title=title)),
            result("0", f"a{number}"),
            answered(None, call("find_book", f"b{number}", title=f"{title}, by Ende")),
            result("0", f"b{number}"),
        )
    ]
    replay(conversation(said("Do you have Momo?"), *round_, answered("No.")))

    run = Run.objects.get()
    assert (run.status, run.cause, run.tool_calls) == (RunStatus.FAILED, "loop-guard", 6)
    assert "The same 2 calls were made 3 times in a row" in run.cause_detail


def test_a_kill_switch_stops_a_recorded_call(replay):
    replay(conversation(*THANKS))  # makes the tools known
    switches.engage(Scope.TOOL, SwitchEffect.DISABLE_TOOL, "find_book", by=system("test"), reason="Wrong shelf.")

    replay(conversation(*LOOK_UP))

    run = Run.objects.get(thread__recording__messages__turns__0__text="Do you have Momo?")
    assert (run.status, run.cause, run.answer) == (RunStatus.REFUSED, "kill_switch", "")


def test_an_empty_recorded_answer_is_not_called_an_answer(replay):
    replay(conversation(said("Hi"), answered(""), *THANKS))

    first, second = Run.objects.order_by("created_at")
    assert (first.status, first.cause) == (RunStatus.FAILED, "recording_empty")
    assert second.status == RunStatus.SUCCEEDED


def test_the_position_is_kept_in_long_conversations(replay):
    turns = [m for number in range(50) for m in (said(f"Question {number}"), answered(f"Answer {number}"))]
    found = replay(conversation(*turns))

    assert found["runs"] == {"succeeded": 50}
    last = Run.objects.order_by("-created_at").first()
    assert last is not None
    assert last.answer == "Answer 49"


def test_a_message_that_the_recording_does_not_hold_is_not_answered_from_it(replay):
    replay(conversation(*LOOK_UP, *THANKS[:1], answered("You are welcome.")))
    thread = Thread.objects.get()
    Run.objects.order_by("-created_at").first().delete()  # type: ignore[union-attr]

    run = harness.start(
        Release.objects.get(), "And what do I owe you?", thread_id=thread.pk, principal_id=thread.principal_id
    )
    run = harness.work(run)

    assert (run.status, run.cause, run.answer) == (RunStatus.FAILED, "recording_diverged", "")


def test_secrets_in_a_recording_are_masked_and_the_replay_goes_on(replay):
    secret = "password=hunter2hunter2"
    replay(conversation(said(f"My {secret}"), answered(f"Do not send {secret}."), *THANKS))

    assert [run.status for run in Run.objects.all()] == ["succeeded"] * 2
    assert "hunter2" not in json.dumps(list(Run.objects.values("input_text", "answer", "title")))
    assert "hunter2" not in json.dumps(list(Step.objects.values_list("payload__output", flat=True)))


def test_what_cannot_be_replayed_is_named_while_the_rest_goes_on(replay):
    found = replay(
        "{broken",
        conversation(*LOOK_UP, id="good"),
        conversation(*LOOK_UP, id="elsewhere", domain="casino"),
        conversation(answered("Anybody there?"), id="silent"),
        conversation(said("x" * 60_000), answered("Long."), id="endless"),
    )

    reasons = {error["id"]: error["reason"] for error in found["errors"]}
    assert set(reasons) == {"line 1", "elsewhere", "silent", "endless"}
    assert reasons["line 1"].startswith("The line is not JSON")
    assert reasons["elsewhere"] == "Line 3: The tools file has no domain 'casino'. Domains it declares: library."
    assert "gets no answer" in reasons["silent"]
    assert "60,000 characters" in reasons["endless"]
    assert found["runs"] == {"succeeded": 1}
    assert replay.status == 1


def test_domain_and_limit_choose_conversations(replay):
    rows = [conversation(*THANKS, id=f"c{number}") for number in range(4)]

    assert replay(*rows, limit=3)["conversations"] == 3
    assert replay(*rows, conversation(*THANKS, id="x", domain="casino"), domain="library")["errors"] == []
    with pytest.raises(CommandError, match="holds no conversations of domain 'casino'"):
        replay(*rows, domain="casino")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CommandError, match=r"absent\.jsonl cannot be read: No such file"):
        call_command("replay", str(tmp_path / "absent.jsonl"), tools=write_tools(tmp_path / "tools.json"))


def test_the_table_shows_the_same_figures_and_names_errors(tmp_path, capsys):
    file = write_file(tmp_path / "file.jsonl", conversation(*LOOK_UP), "{broken")

    with pytest.raises(SystemExit) as ended:
        call_command("replay", str(file), tools=write_tools(tmp_path / "tools.json"))

    captured = capsys.readouterr()
    assert ended.value.code == 1
    assert "Conversations" in captured.out
    assert "succeeded" in captured.out
    assert "line 2: The line is not JSON" in captured.out
    assert "1 of 1 conversations, 1 runs" in captured.err


def test_an_interrupted_replay_gives_runs_back_and_says_what_was_not_run(tmp_path):
    rows = [conversation(*LOOK_UP, *THANKS, id=f"c{number}") for number in range(3)]
    tools = declared.load(write_tools(tmp_path / "tools.json"))
    file = write_file(tmp_path / "file.jsonl", *rows)
    plan = planning.plan(file, tools, {})

    async def go() -> Tally:
        replaying = Replaying(file, plan, approver=Approver.GRANT, concurrency=1, progress=lambda _: replaying.stop())
        return await replaying.run()

    tally = asyncio.run(go())

    assert tally.interrupted
    assert (tally.replayed, tally.runs) == (1, 2)
    assert tally.turns_not_run == {"interrupted": 4}
    assert not Run.objects.filter(status=RunStatus.RUNNING).exists()
    assert not Worker.objects.filter(ended_at=None).exists()


def test_a_replay_puts_nothing_into_the_queue_that_it_does_itself(replay):
    replay(conversation(*LOOK_UP))

    assert queue.Queue.all(connection=django_rq.get_connection(queue.RUNS)) == []
