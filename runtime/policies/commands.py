"""What a run does next: command = next_step(state). No database, no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.messages import Call
from runtime.policies import folding, retrying
from runtime.policies.folding import Entry, Stage, State
from runtime.policies.retrying import Fallback, Policy, RetryIn
from runtime.states import RunStatus


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
class CheckResult:
    """The result of a call is known and no model has read it: the guardrails `left` have to speak first."""

    call: Call
    entry: Entry
    left: tuple[str, ...]


@dataclass(frozen=True)
class Consult:
    """A person has to say whether a text goes on: the result of `entry`, or without one the answer."""

    why: Entry
    text: str
    call: Call | None = None


@dataclass(frozen=True)
class Wait:
    """A person is asked; nothing to do until the decision."""


@dataclass(frozen=True)
class CheckOutput:
    text: str


@dataclass(frozen=True)
class Verify:
    """The answer has passed the guardrails; the release wants it verified. `again`: it was sent back so often."""

    text: str
    again: int


@dataclass(frozen=True)
class Finish:
    status: RunStatus
    cause: str
    detail: str = ""
    text: str = ""


Command = CheckInput | CallModel | Judge | Recover | CheckResult | Consult | Wait | CheckOutput | Verify | Finish


def next_step(
    state: State,
    *,
    max_attempts: int,
    has_fallback: bool,
    on: frozenset[str] = retrying.MAY_PASS,
    verifies: bool = False,
) -> Command:
    """What to do now. Budgets and kill switches are the gate's business, not the order of steps.

    A failed model call is made again after errors of the classes `on`. `verifies`: the release has a verifier.
    """
    if not state.input_checked:
        return CheckInput()
    if state.answer is not None:
        return _closing(state, state.answer, verifies=verifies)
    if state.pending:
        return _calling(state, state.pending[0])
    if state.failures == 0:
        return CallModel(attempt=1, fallback=state.on_fallback)
    return _after_failure(state, Policy(max_attempts, on=on, has_fallback=has_fallback and not state.on_fallback))


def _calling(state: State, call: Call) -> Command:
    if state.stage in (Stage.ASKED, Stage.UNKNOWN):
        return Wait()
    if state.stage == Stage.WITHHELD and state.withheld is not None:
        return _withheld(state, call, state.withheld)
    if state.stage == Stage.STARTED and state.entry is not None:
        return Recover(call, state.entry)
    return Judge(call, state.entry if state.stage == Stage.APPROVED else None, state.retried)


def _withheld(state: State, call: Call, entry: Entry) -> Command:
    left = tuple(rule for rule in entry.output.get("grades", []) if rule not in state.checked)
    if left:
        return CheckResult(call, entry, left)
    return Consult(state.asks or entry, folding.told(entry.output), call)


def _closing(state: State, text: str, *, verifies: bool) -> Command:
    if not state.output_checked:
        return CheckOutput(text)
    if verifies and not state.verified:
        return Verify(text, state.answers_again)
    if state.asks is not None:
        return Wait() if state.stage == Stage.ASKED else Consult(state.asks, text)
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
