"""The pure loop, simulated over many interleavings: crashes at every boundary, refusals, approvals, failures."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.messages import Call, ModelReply, ToolResult, UserText
from runtime.policies import commands, folding
from runtime.policies.commands import CallModel, CheckInput, CheckOutput, Finish, Judge, Recover, Wait
from runtime.policies.folding import Entry, Stage
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict

CRASHES = ("none", "before", "after")


@dataclass
class World:
    """A shell without database or network: a journal, a scripted model, tools that count their effects."""

    chance: random.Random
    turns: int
    journal: list[Entry] = field(default_factory=list)
    effects: dict[str, int] = field(default_factory=dict)
    crashes: int = 0
    unsettled: int = 0
    said: int = 0

    def state(self) -> folding.State:
        return folding.fold(folding.begin(), sorted(self.journal, key=lambda entry: entry.seq))

    def add(self, **parts: object) -> Entry:
        entry = Entry(seq=len(self.journal) + 1, **parts)  # type: ignore[arg-type]
        self.journal.append(entry)
        return entry

    def settle(self, entry: Entry, **changes: object) -> None:
        self.journal[entry.seq - 1] = replace(entry, **changes)  # type: ignore[arg-type]

    def run(self) -> Finish:
        self.add(kind=StepKind.INPUT, name="in", status=StepStatus.DONE, output={"text": "hello"})
        for _ in range(2000):
            command = commands.next_step(self.state(), max_attempts=3, has_fallback=self.chance.random() < 0.5)
            if isinstance(command, Finish):
                return command
            self.perform(command)
        raise AssertionError("the loop does not end")

    def perform(self, command: commands.Command) -> None:
        match command:
            case CheckInput():
                self.guard("input")
            case CheckOutput():
                self.guard("output")
            case CallModel():
                self.model(command)
            case Judge():
                self.judge(command)
            case Recover():
                self.recover(command)
            case Wait():
                self.decide()

    def guard(self, on: str) -> None:
        output = {"last": True}
        self.add(
            kind=StepKind.GUARDRAIL, name=on, status=StepStatus.DONE, verdict="passed", input={"on": on}, output=output
        )

    def model(self, command: CallModel) -> None:
        if self.chance.random() < 0.15:
            self.add(
                kind=StepKind.MODEL,
                name="m",
                status=StepStatus.FAILED,
                error="timeout",
                input={"fallback": command.fallback},
                output={"retry": True},
            )
            return
        self.said += 1
        calls = []
        if self.said <= self.turns:
            names = self.chance.choices(["read", "pay", "send"], k=self.chance.randint(1, 3))
            calls = [{"id": f"c{self.said}-{n}", "name": name, "arguments": {"n": n}} for n, name in enumerate(names)]
        output = {"text": "" if calls else "bye", "calls": calls}
        self.add(kind=StepKind.MODEL, name="m", status=StepStatus.DONE, output=output)

    def judge(self, command: Judge) -> None:
        call, dice = command.call, self.chance.random()
        if command.approval is None and dice < 0.2:
            output = {"content": "no"}
            self.add(
                kind=StepKind.GUARDRAIL,
                name="rule",
                status=StepStatus.REFUSED,
                verdict="refused",
                call_id=call.id,
                output=output,
            )
            return
        if command.approval is None and dice < 0.4:
            self.add(kind=StepKind.GUARDRAIL, name="rule", status=StepStatus.DONE, verdict="asked", call_id=call.id)
            self.add(
                kind=StepKind.APPROVAL, name="a", status=StepStatus.STARTED, call_id=call.id, input={"request": "apr_1"}
            )
            return
        entry = self.add(
            kind=StepKind.TOOL,
            name=call.name,
            status=StepStatus.STARTED,
            call_id=call.id,
            input={"fingerprint": call.id},
        )
        self.execute(entry)

    def execute(self, entry: Entry) -> None:
        """The effect and its result; a crash before or in between leaves the intent alone in the journal."""
        crash = self.chance.choice(CRASHES) if self.crashes < 20 else "none"
        self.crashes += crash != "none"
        if crash == "before":
            return
        if crash == "none" or entry.name != "pay":  # a transactional effect vanishes with its transaction
            self.effects[entry.call_id] = self.effects.get(entry.call_id, 0) + 1
        if crash == "none":
            self.settle(entry, status=StepStatus.DONE, output={"content": "done"})

    def recover(self, command: Recover) -> None:
        if command.entry.name != "send":
            self.execute(command.entry)
            return
        self.settle(command.entry, status=StepStatus.UNKNOWN)
        self.add(
            kind=StepKind.APPROVAL,
            name="s",
            status=StepStatus.STARTED,
            call_id=command.call.id,
            input={"settles": command.entry.seq},
        )

    def decide(self) -> None:
        waiting = self.state().entry
        assert waiting is not None
        settles = waiting.input.get("settles")
        if settles is not None:
            self.unsettled += 1
            self.settle(self.journal[settles - 1], status=StepStatus.DONE, output={"content": "it happened"})
            self.settle(waiting, status=StepStatus.DONE, verdict="approved")
        elif self.chance.random() < 0.5:
            self.settle(waiting, status=StepStatus.DONE, verdict=StepVerdict.APPROVED, output={"arguments": {}})
        else:
            self.settle(waiting, status=StepStatus.REFUSED, verdict=StepVerdict.REJECTED, output={"content": "no"})


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), turns=st.integers(0, 5))
def test_every_call_is_answered_once_and_no_effect_is_repeated(seed: int, turns: int):
    world = World(random.Random(seed), turns)

    end = world.run()

    state = world.state()
    answered = [message.call_id for message in state.messages if isinstance(message, ToolResult)]
    proposed = [call.id for m in state.messages if isinstance(m, ModelReply) for call in m.calls]
    assert end.status in (RunStatus.SUCCEEDED, RunStatus.FAILED)
    assert sorted(answered) == sorted(proposed)
    calls = {entry.call_id: entry.name for entry in world.journal if entry.kind == StepKind.TOOL}
    for call_id, count in world.effects.items():
        assert count == 1 or calls[call_id] == "read", f"{calls[call_id]} happened {count} times"


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), turns=st.integers(0, 4))
def test_folding_step_by_step_is_folding_the_whole_journal(seed: int, turns: int):
    world = World(random.Random(seed), turns)
    world.run()

    state = folding.begin()
    for entry in world.journal:
        state = folding.step(state, entry)

    assert state == world.state()


@given(seed=st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_a_started_entry_and_then_its_result_fold_like_the_result_alone(seed: int):
    world = World(random.Random(seed), 3)
    world.run()
    tools = [entry for entry in world.journal if entry.kind == StepKind.TOOL and entry.status == StepStatus.DONE]

    twice = folding.begin()
    for entry in world.journal:
        if entry in tools:
            twice = folding.step(twice, replace(entry, status=StepStatus.STARTED, output={}))
        twice = folding.step(twice, entry)

    assert replace(twice, entry=None) == replace(world.state(), entry=None)


def test_a_failure_after_the_hand_off_does_not_undo_it():
    state = folding.fold(
        folding.begin(),
        [
            Entry(1, StepKind.INPUT, "in", StepStatus.DONE, output={"text": "I want a person"}),
            Entry(
                2,
                StepKind.GUARDRAIL,
                "none",
                StepStatus.DONE,
                verdict="passed",
                input={"on": "input"},
                output={"last": True},
            ),
            Entry(
                3,
                StepKind.MODEL,
                "m",
                StepStatus.DONE,
                output={"calls": [{"id": "c", "name": "hand_off", "arguments": {}}]},
            ),
            Entry(
                4,
                StepKind.TOOL,
                "hand_off",
                StepStatus.DONE,
                call_id="c",
                output={"content": "ok", "ends": "escalated"},
            ),
            Entry(5, StepKind.MODEL, "m", StepStatus.FAILED, error="recording_ended", output={"retry": False}),
        ],
    )

    assert commands.next_step(state, max_attempts=3, has_fallback=False) == Finish(RunStatus.ESCALATED, "tool:hand_off")


def test_a_permanent_failure_goes_to_the_fallback_model_at_once():
    checked = replace(folding.begin(), input_checked=True, failures=1, last_failure="no_key!")

    assert commands.next_step(checked, max_attempts=4, has_fallback=True) == CallModel(attempt=1, fallback=True)
    end = commands.next_step(checked, max_attempts=4, has_fallback=False)
    assert isinstance(end, Finish) and end.cause == "model_no_key"


@pytest.mark.parametrize(("stage", "command"), [(Stage.ASKED, Wait), (Stage.UNKNOWN, Wait), (Stage.NEW, Judge)])
def test_what_a_pending_call_needs_depends_on_its_stage(stage: Stage, command: type):
    state = replace(folding.begin([UserText("hi")]), input_checked=True, pending=(Call("c", "pay", {}),), stage=stage)

    assert isinstance(commands.next_step(state, max_attempts=1, has_fallback=False), command)
