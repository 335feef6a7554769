"""The loop as a pure fold: state = fold(entries). What follows from a state is in `commands`. No I/O, no clock.

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
from runtime.messages import Call, Message, ModelReply, Notice, ToolResult, UserText
from runtime.policies import looping
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
NOT_BEGUN = "not_begun"  # error of an unsafe call that was certainly not made
OURS = "ours"  # in the output of a failed call: its words are ours; the error alone may have been chosen by a tool


def is_copied(entry: Entry) -> bool:
    return COPIED in entry.input


class Stage(StrEnum):
    """How far the first unanswered call has come."""

    NEW = "new"
    ASKED = "asked"  # a person is asked whether to make it
    APPROVED = "approved"
    STARTED = "started"  # the intent is committed, no result is known
    UNKNOWN = "unknown"  # a person is asked whether it happened
    WITHHELD = "withheld"  # it was made, and its result waits for a verdict before the model reads it


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
    withheld: Entry | None = None  # the finished call whose result waits
    about_calls: Mapping[str, tuple[Entry, ...]] = field(default_factory=dict)  # verdicts of guardrails, by call id
    checked: frozenset[str] = frozenset()  # guardrails that have spoken about the text at hand
    asks: Entry | None = None  # the verdict by which a person decides whether the text at hand goes on
    answer: str | None = None
    output_checked: bool = False
    verified: bool = False
    answers_again: int = 0  # how often a verifier has sent an answer back
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
            return _guardrail(state, entry, again)
        case StepKind.APPROVAL:
            return _approval(state, entry, again)
        case StepKind.TOOL | StepKind.RETRIEVAL:
            return _tool(state, entry, again)
        case StepKind.ANSWER:
            return state


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
    calls = tuple(Call(c["id"], c["name"], c["arguments"], "masked" in c) for c in entry.output.get("calls", []))
    text = str(entry.output.get("text", ""))
    return state.but(
        sent=len(state.messages),
        messages=(*state.messages, ModelReply(text, calls, tuple(entry.output.get("opaque", ())))),
        pending=calls,
        stage=Stage.NEW,
        entry=None,
        approved=None,
        retried=None,
        withheld=None,
        about_calls={},
        checked=frozenset(),
        asks=None,
        answer=None if calls else text,
        output_checked=False,
        verified=False,
        failures=0,
        last_failure="",
        model_calls=state.model_calls + int(not is_copied(entry)),
    )


def _guardrail(state: State, entry: Entry, again: bool) -> State:
    if entry.output.get("graded") and not again:
        state = state.but(model_calls=state.model_calls + 1)
    if entry.error == BROKEN_OFF:
        return state
    on = entry.input.get("on")
    if on == "arguments":
        known = state.about_calls.get(entry.call_id, ())
        return state.but(about_calls={**state.about_calls, entry.call_id: (*known, entry)})
    if on in ("retrieved", "results"):
        return _about_result(state, entry)
    if on == "verification":
        return _about_answer(state, entry)
    if entry.call_id:
        if entry.verdict != StepVerdict.REFUSED:
            return state  # asked: the approval entry follows
        return _answered(state.but(last_refusal=entry), entry, is_error=True, is_ours=True)
    return _about_text(state, entry)


def _about_text(state: State, entry: Entry) -> State:
    """What a guardrail says of the user's message or of the answer."""
    on_input = entry.input.get("on") == "input"
    state = state.but(checked=state.checked | {entry.rule})
    if on_input and "becomes" in entry.output:
        state = state.but(messages=(*state.messages[:-1], UserText(str(entry.output["becomes"]))))
    if entry.verdict == StepVerdict.REFUSED:
        return _stopped(state, entry)
    if entry.verdict == StepVerdict.ASKED:
        state = state.but(asks=state.asks or entry)
    if not entry.output.get("last"):
        return state
    return state.but(input_checked=True, checked=frozenset()) if on_input else state.but(output_checked=True)


def _about_answer(state: State, entry: Entry) -> State:
    """What the verifier says. An answer that is sent back is gone: the model reads why, and answers once more."""
    if entry.verdict == StepVerdict.REFUSED:
        return _stopped(state, entry)
    if "told" not in entry.output:
        return state.but(verified=True)
    return state.but(
        messages=(*state.messages, Notice(str(entry.output["told"]))),
        answer=None,
        asks=None,
        answers_again=state.answers_again + 1,
    )


def _about_result(state: State, entry: Entry) -> State:
    """What is said of a result while it waits. What was found before is written into the result itself."""
    if state.withheld is None or not entry.output.get("decides"):
        return state
    state = state.but(checked=state.checked | {entry.rule})
    if entry.output.get("stops"):
        return _stopped(state, entry)
    if entry.verdict == StepVerdict.REFUSED:
        return _answered(state, entry, is_error=True, is_ours=True)
    if entry.verdict == StepVerdict.ASKED:
        state = state.but(asks=state.asks or entry)
    waits = state.asks is not None or state.withheld is None or state.withheld.output.get("asks")
    return state if waits or not entry.output.get("last") else _released(state)


def _released(state: State) -> State:
    """The result that waited is read."""
    assert state.withheld is not None
    return _answered(state, state.withheld, is_error=state.withheld.status != StepStatus.DONE)


def _stopped(state: State, entry: Entry) -> State:
    """A guardrail or the verifier ends the run; `text` is said in place of the answer."""
    status = RunStatus(str(entry.output.get("ends", RunStatus.REFUSED)))
    cause = str(entry.output.get("cause") or f"guardrail:{entry.rule}")
    return state.but(
        input_checked=True,
        pending=(),
        stage=Stage.NEW,
        entry=None,
        withheld=None,
        asks=None,
        answer=str(entry.output.get("text", "")),
        output_checked=True,
        verified=True,
        ending=Ending(status, cause, str(entry.output.get("reason", ""))),
    )


def _approval(state: State, entry: Entry, again: bool) -> State:
    if entry.input.get("settles") is not None:  # about a call that may have happened; the answer is in its own entry
        return state.but(stage=Stage.UNKNOWN, entry=entry) if entry.status == StepStatus.STARTED else state
    if not again:
        state = state.but(approvals=state.approvals + 1)
    if entry.status == StepStatus.STARTED:
        return state.but(stage=Stage.ASKED, entry=entry)
    is_approved = entry.verdict in (StepVerdict.APPROVED, StepVerdict.EDITED)
    if (on := entry.input.get("text_of")) is not None:
        return _consulted(state, entry, str(on), is_approved=is_approved)
    if is_approved:
        return state.but(stage=Stage.APPROVED, entry=entry, approved=entry)
    return _answered(state.but(last_refusal=entry), entry, is_error=True, is_ours=True)


def _consulted(state: State, entry: Entry, on: str, *, is_approved: bool) -> State:
    """A person has decided whether a text goes on. An answer may have been edited."""
    if on == "output":
        if not is_approved:
            return _stopped(state, entry)
        return state.but(stage=Stage.NEW, entry=None, asks=None, answer=str(entry.output["text"]))
    if is_approved:
        return _released(state)
    return _answered(state, entry, is_error=True, is_ours=True)


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
    if entry.output.get("stops"):
        return _stopped(state, entry)
    if entry.output.get("grades") or entry.output.get("asks"):
        return state.but(stage=Stage.WITHHELD, entry=entry, withheld=entry, checked=frozenset(), asks=None)
    is_withheld = "withheld" in entry.output
    return _answered(state, entry, is_error=is_withheld or entry.status != StepStatus.DONE, is_ours=is_withheld)


def told(output: Mapping[str, Any]) -> str:
    """What the model reads of a call: a text written for it, else the result, a text as it is and JSON in one form."""
    if "content" in output or "result" not in output:
        return str(output.get("content", output.get("reason", "")))
    result = output["result"]
    return result if isinstance(result, str) else canonical(result)


def _answered(state: State, entry: Entry, *, is_error: bool, is_ours: bool = False) -> State:
    """The first pending call has its answer; the model will read `content`."""
    result = ToolResult(
        entry.call_id,
        state.pending[0].name if state.pending else entry.name,
        told(entry.output),
        is_error,
        is_ours,
        bool(entry.output.get("tainted")),
    )
    return state.but(
        messages=(*state.messages, result),
        pending=state.pending[1:],
        stage=Stage.NEW,
        entry=None,
        approved=None,
        retried=None,
        withheld=None,
        checked=frozenset(),
        asks=None,
    )
