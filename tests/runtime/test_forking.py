"""What a fork takes over, as a table of journals."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.messages import Call
from runtime.policies import commands, folding, forking
from runtime.policies.commands import CallModel, CheckInput, Judge, Recover
from runtime.policies.folding import Entry
from runtime.states import StepKind, StepStatus, StepVerdict

RETRIES = {"look_up": "read", "pay": "transactional", "book": "idempotent", "send": "unsafe"}
DONE, STARTED, FAILED, UNKNOWN = StepStatus.DONE, StepStatus.STARTED, StepStatus.FAILED, StepStatus.UNKNOWN


def entry(seq: int, kind: StepKind, name: str = "", status: StepStatus = DONE, **fields: Any) -> Entry:
    return Entry(seq, kind, name, status, **fields)


def message(seq: int = 2) -> Entry:
    return entry(seq, StepKind.INPUT, output={"text": "Please pay."})


def checked(seq: int = 3) -> Entry:
    return entry(seq, StepKind.GUARDRAIL, verdict="passed", input={"on": "input"}, output={"last": True})


def proposes(seq: int, *tools: str) -> Entry:
    calls = [{"id": f"c-{seq}-{tool}", "name": tool, "arguments": {}} for tool in tools]
    return entry(seq, StepKind.MODEL, "model", output={"text": "", "calls": calls})


def asked(seq: int, call: str) -> Entry:
    return entry(seq, StepKind.GUARDRAIL, "rule", verdict=StepVerdict.ASKED, call_id=call)


def approval(seq: int, call: str, verdict: str = "", status: StepStatus = DONE, **given: Any) -> Entry:
    return entry(seq, StepKind.APPROVAL, "Approval", status, verdict=verdict, call_id=call, input=given)


def made(seq: int, tool: str, call: str, status: StepStatus = DONE) -> Entry:
    return entry(seq, StepKind.TOOL, tool, status, call_id=call, output={"content": "ok"})


def says(seq: int, text: str) -> Entry:
    return entry(seq, StepKind.MODEL, "model", output={"text": text})


def breaks(seq: int) -> Entry:
    return entry(seq, StepKind.MODEL, "model", FAILED, error="timeout", output={"retry": True})


def ends(seq: int) -> Entry:
    return entry(seq, StepKind.ANSWER, "Answer")


BEGINNING = [message(), checked()]
LOOKED_UP = [*BEGINNING, proposes(4, "look_up"), made(5, "look_up", "c-4-look_up")]


def kept(entries: list[Entry], at: int, *, is_same_release: bool = True) -> list[int]:
    found = forking.decide_kept(entries, at, retries=RETRIES, is_same_release=is_same_release)
    return [one.seq for one in found]


def command(entries: list[Entry], at: int) -> commands.Command:
    found = forking.decide_kept(entries, at, retries=RETRIES, is_same_release=True)
    return commands.next_step(folding.fold(folding.begin(), found), max_attempts=4, has_fallback=False)


def test_from_the_first_step_nothing_is_taken_over():
    assert kept([*LOOKED_UP, says(7, "Done."), ends(9)], 2) == []


def test_what_was_done_before_the_step_is_taken_over_and_the_model_goes_on():
    journal = [*LOOKED_UP, says(7, "Done."), ends(9)]

    assert kept(journal, 7) == [2, 3, 4, 5]
    assert isinstance(command(journal, 7), CallModel)


def test_a_call_is_judged_again_and_its_approval_stays_behind():
    journal = [
        *BEGINNING, proposes(4, "pay"), asked(5, "c-4-pay"), approval(6, "c-4-pay", "approved"),
        made(8, "pay", "c-4-pay"), says(10, "Paid."), ends(11),
    ]  # fmt: skip

    for at in (5, 6, 8):
        assert kept(journal, at) == [2, 3, 4]
        assert command(journal, at) == Judge(Call("c-4-pay", "pay", {}))
    assert kept(journal, 10) == [2, 3, 4, 5, 6, 8]


def test_a_rejection_is_taken_over_because_its_call_is_not_made_again():
    journal = [
        *BEGINNING, proposes(4, "pay"), asked(5, "c-4-pay"), approval(6, "c-4-pay", "rejected"), says(8, "Sorry."),
        ends(9),
    ]  # fmt: skip

    assert kept(journal, 8) == [2, 3, 4, 5, 6]


def test_an_open_question_is_asked_anew():
    journal = [*BEGINNING, proposes(4, "pay"), asked(5, "c-4-pay"), approval(6, "c-4-pay", status=STARTED), ends(8)]

    assert kept(journal, 8) == [2, 3, 4]


@pytest.mark.parametrize(
    ("tool", "expected"), [("look_up", Judge), ("pay", Judge), ("book", Recover), ("send", Recover)]
)
def test_a_call_that_was_broken_off_goes_along_only_where_it_may_have_happened(tool, expected):
    journal = [*BEGINNING, proposes(4, tool), made(5, tool, f"c-4-{tool}", UNKNOWN), ends(7)]

    assert isinstance(command(journal, 7), expected)


def test_a_question_whether_a_call_happened_stays_behind_and_the_call_goes_along():
    settles = approval(6, "c-4-send", status=STARTED, settles="step")
    journal = [*BEGINNING, proposes(4, "send"), made(5, "send", "c-4-send", UNKNOWN), settles, ends(8)]

    assert kept(journal, 8) == [2, 3, 4, 5]


def test_of_several_calls_those_with_a_result_are_kept():
    journal = [
        *BEGINNING, proposes(4, "look_up", "pay"), made(5, "look_up", "c-4-look_up"), made(7, "pay", "c-4-pay", FAILED),
        says(9, "Hm."), ends(11),
    ]  # fmt: skip

    assert kept(journal, 7) == [2, 3, 4, 5]
    assert kept(journal, 9) == [2, 3, 4, 5, 7]


def test_failed_attempts_of_the_model_are_tried_again():
    journal = [*LOOKED_UP, breaks(7), breaks(8), breaks(9), ends(10)]

    assert kept(journal, 10) == [2, 3, 4, 5]
    assert command(journal, 10) == CallModel(attempt=1, fallback=False)


def test_at_the_end_of_an_answered_run_the_last_words_are_said_again():
    journal = [*LOOKED_UP, says(7, "Done."), entry(8, StepKind.GUARDRAIL, verdict="passed", input={"on": "output"},
                                                   output={"last": True}), ends(9)]  # fmt: skip

    assert kept(journal, 9) == [2, 3, 4, 5]
    assert kept(journal, 8) == [2, 3, 4, 5, 7]


def test_a_refused_message_is_checked_again():
    refused = entry(3, StepKind.GUARDRAIL, verdict="refused", rule="topic", input={"on": "input"})
    journal = [message(), refused, ends(4)]

    assert kept(journal, 4) == [2]
    assert command(journal, 4) == CheckInput()


def test_another_release_checks_the_message_itself():
    journal = [*LOOKED_UP, says(7, "Done."), ends(9)]

    assert kept(journal, 7, is_same_release=False) == [2, 4, 5]
