"""The loop as a pure fold: state = fold(entries), command = next_step(state). No database, no clock, no I/O.

A run's journal is a list of entries. A call is written twice at the same `seq`: when it starts and when its
result is known; folding the finished entry alone gives the same state, so a restart sees what the first run saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

from releases.bundles import canonical
from runtime.messages import Call, Message, ModelReply, ToolResult, UserText
from runtime.policies import looping, retrying
from runtime.policies.retrying import Fallback, Policy, RetryIn
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict


@dataclass(frozen=True)
class Entry:
    """A step with its payload, as the fold reads it."""

    seq: int
    kind: StepKind
    name: str
    status: StepStatus
    id: str = ""
    verdict: str = ""
    rule: str = ""
    error: str = ""
    summary: str = ""
    call_id: str = ""
    idempotency_key: str = ""
    attempt: int = 1
    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)


COPIED = "forked_from"  # in the input of a step that a fork has taken over: what it cost is charged to the other run
BROKEN_OFF = "broken_off"  # error of a call that somebody let go of: no failure of the model or the tool


def is_copied(entry: Entry) -> bool:
    return COPIED in entry.input


class Stage(StrEnum):
    """How far the first unanswered call has come."""

    NEW = "new"
    ASKED = "asked"  # a person is asked whether to make it
    APPROVED = "approved"
    STARTED = "started"  # the intent is committed, no result is known
    UNKNOWN = "unknown"  # a person is asked whether it happened


@dataclass(frozen=True)
class Ending:
    """How the run will end once the agent has said its last words."""

    status: RunStatus
    cause: str
    detail: str = ""


@dataclass(frozen=True)
class State:
    messages: tuple[Message, ...] = ()
    sent: int = 0  # messages that the last answered model call has seen
    input_checked: bool = False
    pending: tuple[Call, ...] = ()
    stage: Stage = Stage.NEW
    entry: Entry | None = None  # the approval or tool entry behind `stage`
    approved: Entry | None = None  # a person's approval of the first unanswered call
    retried: Entry | None = None  # its last attempt, which failed and is made again
    answer: str | None = None
    output_checked: bool = False
    ending: Ending | None = None
    last_refusal: Entry | None = None
    failures: int = 0  # failed model attempts in a row
    last_failure: str = ""
    on_fallback: bool = False
    steps: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    approvals: int = 0
    tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    repeats: Mapping[str, int] = field(default_factory=dict)
    made: tuple[str, ...] = ()  # likenesses of the last calls, in order
    seen: frozenset[int] = frozenset()

    def but(self, **changes: Any) -> State:
        """The same with some values changed. Steps make many; `dataclasses.replace` would go through all fields."""
        changed = object.__new__(State)
        changed.__dict__.update(self.__dict__, **changes)
        return changed


@dataclass(frozen=True)
class CheckInput:
    pass


@dataclass(frozen=True)
class CallModel:
    attempt: int
    fallback: bool


@dataclass(frozen=True)
class Judge:
    """Pass the call through the gate. `approval` is the entry of a person's approval, if there is one.

    `again` is an attempt of the call that has failed, when this is to be the next one.
    """

    call: Call
    approval: Entry | None = None
    again: Entry | None = None


@dataclass(frozen=True)
class Recover:
    """A call was started and its result is not known: the process died in between."""

    call: Call
    entry: Entry


@dataclass(frozen=True)
class Wait:
    """A person is asked; nothing to do until the decision."""


@dataclass(frozen=True)
class CheckOutput:
    text: str


@dataclass(frozen=True)
class Finish:
    status: RunStatus
    cause: str
    detail: str = ""
    text: str = ""


Command = CheckInput | CallModel | Judge | Recover | Wait | CheckOutput | Finish


def begin(history: Iterable[Message] = ()) -> State:
    """The state before the first entry. `history` is what earlier runs of the thread said."""
    messages = tuple(history)
    return State(messages=messages)


def fold(state: State, entries: Iterable[Entry]) -> State:
    for entry in entries:
        state = step(state, entry)
    return state


def step(state: State, entry: Entry) -> State:
    """The state after one more entry."""
    again = entry.seq in state.seen or is_copied(entry)
    if not again:
        state = state.but(
            steps=state.steps + 1,
            tokens=state.tokens + entry.tokens,
            cost_usd=state.cost_usd + entry.cost_usd,
        )
    if entry.seq not in state.seen:
        state = state.but(seen=state.seen | {entry.seq})
    match entry.kind:
        case StepKind.INPUT:
            return state.but(messages=(*state.messages, UserText(str(entry.output["text"]))))
        case StepKind.MODEL:
            return _model(state, entry)
        case StepKind.GUARDRAIL:
            return _guardrail(state, entry)
        case StepKind.APPROVAL:
            return _approval(state, entry, again)
        case StepKind.TOOL | StepKind.RETRIEVAL:
            return _tool(state, entry, again)
        case StepKind.ANSWER:
            return state


def next_step(
    state: State, *, max_attempts: int, has_fallback: bool, on: frozenset[str] = retrying.MAY_PASS
) -> Command:
    """What to do now. Budgets and kill switches are the gate's business, not the order of steps.

    A failed model call is made again after errors of the classes `on`.
    """
    if not state.input_checked:
        return CheckInput()
    if state.answer is not None:
        return _closing(state, state.answer)
    if state.pending:
        return _calling(state, state.pending[0])
    if state.failures == 0:
        return CallModel(attempt=1, fallback=state.on_fallback)
    return _after_failure(state, Policy(max_attempts, on=on, has_fallback=has_fallback and not state.on_fallback))


def _calling(state: State, call: Call) -> Command:
    if state.stage in (Stage.ASKED, Stage.UNKNOWN):
        return Wait()
    if state.stage == Stage.STARTED and state.entry is not None:
        return Recover(call, state.entry)
    return Judge(call, state.entry if state.stage == Stage.APPROVED else None, state.retried)


def _closing(state: State, text: str) -> Command:
    if not state.output_checked:
        return CheckOutput(text)
    if state.ending is not None:
        return Finish(state.ending.status, state.ending.cause, state.ending.detail, text)
    return Finish(RunStatus.SUCCEEDED, "answered", text=text)


def _after_failure(state: State, policy: Policy) -> Command:
    code = state.last_failure.rstrip("!")
    error_class = retrying.classify(code, may_pass=not state.last_failure.endswith("!"))
    match retrying.decide_retry(error_class, state.failures, policy, jitter=0):
        case RetryIn(attempt=attempt):
            return CallModel(attempt=attempt, fallback=state.on_fallback)
        case Fallback():
            return CallModel(attempt=1, fallback=True)
    if state.ending is not None:  # the agent had already handed off or declined; its last words are missing, no more
        return Finish(state.ending.status, state.ending.cause, state.ending.detail)
    return Finish(RunStatus.FAILED, f"model_{code}", f"The model did not answer after {state.failures} attempts.")


def _model(state: State, entry: Entry) -> State:
    if entry.error == BROKEN_OFF:
        return state
    if entry.status == StepStatus.FAILED:
        fallback = bool(entry.input.get("fallback"))
        failures = 1 if fallback and not state.on_fallback else state.failures + 1
        mark = "" if entry.output.get("retry", True) else "!"
        if ends := entry.output.get("ends"):
            ending = Ending(RunStatus(ends), str(entry.output["cause"]), str(entry.output["message"]))
            state = state.but(ending=state.ending or ending)
        return state.but(failures=failures, last_failure=entry.error + mark, on_fallback=fallback)
    calls = tuple(Call(c["id"], c["name"], c["arguments"]) for c in entry.output.get("calls", []))
    text = str(entry.output.get("text", ""))
    return state.but(
        sent=len(state.messages),
        messages=(*state.messages, ModelReply(text, calls, tuple(entry.output.get("opaque", ())))),
        pending=calls,
        stage=Stage.NEW,
        entry=None,
        approved=None,
        retried=None,
        answer=None if calls else text,
        failures=0,
        last_failure="",
        model_calls=state.model_calls + int(not is_copied(entry)),
    )


def _guardrail(state: State, entry: Entry) -> State:
    if entry.call_id:
        if entry.verdict != StepVerdict.REFUSED:
            return state  # asked: the approval entry follows
        return _answered(state.but(last_refusal=entry), entry, is_error=True)
    on_input = entry.input.get("on") == "input"
    if entry.verdict == StepVerdict.REFUSED:
        status = RunStatus(str(entry.output.get("ends", RunStatus.REFUSED)))
        ending = Ending(status, f"guardrail:{entry.rule}", str(entry.output.get("reason", "")))
        text = str(entry.output.get("text", ""))
        return state.but(input_checked=True, output_checked=True, answer=text, ending=ending)
    if on_input:
        return state.but(input_checked=state.input_checked or bool(entry.output.get("last")))
    return state.but(output_checked=state.output_checked or bool(entry.output.get("last")))


def _approval(state: State, entry: Entry, again: bool) -> State:
    if entry.input.get("settles") is not None:  # about a call that may have happened; the answer is in its own entry
        return state.but(stage=Stage.UNKNOWN, entry=entry) if entry.status == StepStatus.STARTED else state
    if not again:
        state = state.but(approvals=state.approvals + 1)
    if entry.status == StepStatus.STARTED:
        return state.but(stage=Stage.ASKED, entry=entry)
    if entry.verdict in (StepVerdict.APPROVED, StepVerdict.EDITED):
        return state.but(stage=Stage.APPROVED, entry=entry, approved=entry)
    return _answered(state.but(last_refusal=entry), entry, is_error=True)


def _tool(state: State, entry: Entry, again: bool) -> State:
    if not again and entry.attempt == 1:  # what is made again is the same call
        fingerprint = str(entry.input.get("fingerprint", ""))
        repeats = {**state.repeats, fingerprint: state.repeats.get(fingerprint, 0) + 1}
        made = (*state.made[1 - looping.MOST_REMEMBERED :], str(entry.input.get("likeness") or fingerprint))
        state = state.but(repeats=repeats, made=made, tool_calls=state.tool_calls + 1)
    if entry.status in (StepStatus.STARTED, StepStatus.UNKNOWN):
        return state.but(stage=Stage.STARTED, entry=entry)
    if entry.output.get("again"):
        stage = Stage.NEW if state.approved is None else Stage.APPROVED
        return state.but(stage=stage, entry=state.approved, retried=entry)
    ends = entry.output.get("ends")
    if ends:
        refusal = state.last_refusal
        cause = refusal.rule if refusal is not None and ends == RunStatus.REFUSED else f"tool:{entry.name}"
        state = state.but(ending=Ending(RunStatus(ends), cause, str(entry.output.get("detail", ""))))
    return _answered(state, entry, is_error=entry.status != StepStatus.DONE)


def told(output: Mapping[str, Any]) -> str:
    """What the model reads of a call: a text written for it, else the result, a text as it is and JSON in one form."""
    if "content" in output or "result" not in output:
        return str(output.get("content", output.get("reason", "")))
    result = output["result"]
    return result if isinstance(result, str) else canonical(result)


def _answered(state: State, entry: Entry, *, is_error: bool) -> State:
    """The first pending call has its answer; the model will read `content`."""
    result = ToolResult(
        entry.call_id,
        state.pending[0].name if state.pending else entry.name,
        told(entry.output),
        is_error,
    )
    return state.but(
        messages=(*state.messages, result),
        pending=state.pending[1:],
        stage=Stage.NEW,
        entry=None,
        approved=None,
        retried=None,
    )
