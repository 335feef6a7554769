"""A failed call that is made again: the fold keeps it pending, with its approval and its place among the attempts."""

from __future__ import annotations

import pytest

from runtime.policies import commands, folding
from runtime.policies.commands import CallModel, Finish, Judge, Recover
from runtime.policies.folding import Entry, Stage, State
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict

ONE = {"max_attempts": 4, "has_fallback": False}


def entry(seq: int, kind: StepKind, status: StepStatus = StepStatus.DONE, **fields) -> Entry:
    return Entry(seq=seq, kind=kind, name=fields.pop("name", "look"), status=status, id=f"id-{seq}", **fields)


def asked() -> State:
    """A run whose model has proposed one call."""
    calls = [{"id": "c1", "name": "look", "arguments": {}}]
    return folding.fold(
        folding.begin(),
        [
            entry(1, StepKind.INPUT, output={"text": "hi"}),
            entry(2, StepKind.GUARDRAIL, input={"on": "input"}, output={"last": True}, verdict=StepVerdict.PASSED),
            entry(3, StepKind.MODEL, output={"text": "", "calls": calls}),
        ],
    )


def attempt(seq: int, number: int = 1, *, again: bool = True) -> Entry:
    output = {"content": "No answer.", "again": True} if again else {"content": "No answer."}
    return entry(
        seq, StepKind.TOOL, StepStatus.FAILED, attempt=number, call_id="c1", idempotency_key="run:4",
        input={"fingerprint": "f"}, output=output,
    )  # fmt: skip


def test_a_failed_attempt_that_is_made_again_is_judged_again_and_the_model_hears_nothing():
    state = folding.step(asked(), attempt(4))

    command = commands.next_step(state, **ONE)

    assert isinstance(command, Judge)
    assert command.again is not None and command.again.idempotency_key == "run:4"
    assert len(state.messages) == len(asked().messages)


def test_all_attempts_count_as_one_call():
    state = folding.fold(asked(), [attempt(4), attempt(5, 2), attempt(6, 3, again=False)])

    assert state.tool_calls == 1
    assert state.repeats == {"f": 1}
    assert state.pending == () and state.retried is None
    assert commands.next_step(state, **ONE) == CallModel(attempt=1, fallback=False)


def test_an_approval_holds_for_every_attempt():
    approval = entry(4, StepKind.APPROVAL, verdict=StepVerdict.APPROVED, call_id="c1", output={"arguments": {}})
    state = folding.fold(asked(), [approval, attempt(5)])

    command = commands.next_step(state, **ONE)

    assert isinstance(command, Judge) and command.approval == approval
    assert folding.fold(asked(), [approval, attempt(5), attempt(6, 2, again=False)]).approved is None


def test_a_worker_that_dies_in_a_later_attempt_recovers_that_one():
    started = entry(5, StepKind.TOOL, StepStatus.STARTED, attempt=2, call_id="c1", idempotency_key="run:4")
    state = folding.fold(asked(), [attempt(4), started])

    assert state.stage == Stage.STARTED
    assert commands.next_step(state, **ONE) == Recover(state.pending[0], started)


def test_the_state_is_the_same_whether_it_saw_the_attempt_begin_or_only_its_end():
    began = entry(
        4, StepKind.TOOL, StepStatus.STARTED, call_id="c1", idempotency_key="run:4", input={"fingerprint": "f"}
    )

    assert folding.fold(asked(), [began, attempt(4)]) == folding.fold(asked(), [attempt(4)])


@pytest.mark.parametrize(
    ("code", "may_pass", "on", "expected"),
    [
        ("timeout", True, frozenset({"timeout"}), CallModel(attempt=2, fallback=False)),
        ("rate_limited", True, frozenset({"timeout"}), "model_rate_limited"),
        ("unavailable", True, frozenset({"unavailable"}), CallModel(attempt=2, fallback=False)),
        ("bad_reply", False, frozenset({"bad_reply"}), "model_bad_reply"),
        ("unauthorized", False, frozenset({"timeout"}), "model_unauthorized"),
    ],
)
def test_a_model_is_asked_again_after_the_errors_its_release_names(code, may_pass, on, expected):
    failed = entry(4, StepKind.MODEL, StepStatus.FAILED, error=code, output={"retry": may_pass})
    calm = folding.fold(
        folding.begin(),
        [
            entry(1, StepKind.INPUT, output={"text": "hi"}),
            entry(2, StepKind.GUARDRAIL, input={"on": "input"}, output={"last": True}, verdict=StepVerdict.PASSED),
        ],
    )

    command = commands.next_step(folding.step(calm, failed), on=on, **ONE)

    if isinstance(expected, str):
        assert isinstance(command, Finish) and (command.status, command.cause) == (RunStatus.FAILED, expected)
    else:
        assert command == expected
