"""Statuses, causes, kinds and verdicts as people read them: always a word and an icon beside the colour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from console.principals import Principal, PrincipalKind
from runtime.models import Step
from runtime.policies import daily, folding
from runtime.policies.waiting import Reason
from runtime.states import FINAL, RunStatus, StepKind, StepStatus, StepVerdict


@dataclass(frozen=True)
class Badge:
    tone: str
    icon: str
    label: str


@dataclass(frozen=True)
class Kind:
    """How steps of one kind are drawn. `css` colours the bar, `tone` the icon."""

    label: str
    icon: str
    css: str
    tone: str


RUNS = {
    RunStatus.QUEUED: Badge("mute", "clock", "Queued"),
    RunStatus.RUNNING: Badge("info", "activity", "Running"),
    RunStatus.WAITING: Badge("wait", "pause", "Waiting for approval"),
    RunStatus.PAUSED: Badge("warn", "circle-pause", "Paused"),
    RunStatus.SUCCEEDED: Badge("ok", "check", "Succeeded"),
    RunStatus.REFUSED: Badge("mute", "shield", "Refused"),
    RunStatus.ESCALATED: Badge("mute", "arrow-up", "Escalated"),
    RunStatus.FAILED: Badge("bad", "x", "Failed"),
    RunStatus.CANCELLED: Badge("mute", "square", "Stopped"),
    RunStatus.EXPIRED: Badge("warn", "timer-off", "Expired"),
}
SHORT_WAITING = Badge("wait", "pause", "Waiting")

REASONS = {
    Reason.WORKER: Badge("info", "server", "A worker"),
    Reason.RATE_LIMIT: Badge("mute", "gauge", "A rate limit"),
    Reason.BUDGET: Badge("warn", "wallet", "The day’s budget"),
    Reason.BREAKER: Badge("warn", "unplug", "A circuit breaker"),
    Reason.SWITCH: Badge("warn", "power", "A kill switch"),
    Reason.THREAD: Badge("mute", "message-square", "Its conversation"),
    Reason.TIMER: Badge("mute", "timer", "Its time"),
    Reason.PERSON: Badge("wait", "pause", "A person"),
    Reason.PAUSED: Badge("warn", "circle-pause", "Whoever paused it"),
}
ABOUT_REASONS = {
    Reason.WORKER: "Could be worked on at once, if a worker were free",
    Reason.RATE_LIMIT: "As many runs as allowed are at work, or a provider asked to wait",
    Reason.BUDGET: "What may be spent today is used up or reserved",
    Reason.BREAKER: "A tool or model that it needs is out of order",
    Reason.SWITCH: "New runs of its agent are paused",
    Reason.THREAD: "An earlier run of the same conversation has not ended",
    Reason.TIMER: "It was scheduled for later, or waits before it tries again",
    Reason.PERSON: "A request is open in the approvals inbox",
    Reason.PAUSED: "Somebody holds it until they let it go on",
}

KINDS = {
    StepKind.INPUT: Kind("Message", "message-square", "k-know", "faint"),
    StepKind.MODEL: Kind("Model", "sparkle", "k-model", "t-acc"),
    StepKind.TOOL: Kind("Tool", "square-terminal", "k-tool", "t-info"),
    StepKind.RETRIEVAL: Kind("Context", "book-open", "k-know", "faint"),
    StepKind.GUARDRAIL: Kind("Guardrail", "shield", "k-guard", "t-ok"),
    StepKind.APPROVAL: Kind("Person", "user-check", "k-wait", "t-wait"),
    StepKind.ANSWER: Kind("Answer", "message-square-reply", "k-know", "faint"),
}
COPIED = Badge("mute", "copy", "Taken over")
FAILED_KIND = ("k-bad", "t-bad")
WAITING_KIND = ("k-wait", "t-wait")
REFUSED_KIND = ("k-warn", "t-warn")

VERDICTS = {
    StepVerdict.REFUSED: Badge("warn", "shield-x", "Refused"),
    StepVerdict.ASKED: Badge("wait", "pause", "Needs approval"),
    StepVerdict.FLAGGED: Badge("warn", "flag", "Flagged"),
    StepVerdict.REDACTED: Badge("info", "eraser", "Redacted"),
    StepVerdict.APPROVED: Badge("ok", "check", "Approved"),
    StepVerdict.EDITED: Badge("ok", "pencil", "Approved with edits"),
    StepVerdict.REJECTED: Badge("warn", "x", "Rejected"),
    StepVerdict.EXPIRED: Badge("warn", "timer-off", "Not decided"),
}

ERRORS = {
    "timeout": "Timed out",
    "rate_limit": "Rate limited",
    "rate_limited": "Rate limited",
    "server_error": "Server error",
    "bad_arguments": "Bad arguments",
    "tool_error": "Failed",
    "mcp_away": "Server away",
    "mcp_off": "Server off",
    "mcp_changed": "Tool changed",
    "mcp_protocol": "Not taken",
    "crashed": "Worker lost",
    folding.BROKEN_OFF: "Broken off",
    folding.NOT_BEGUN: "Not made",
}

CAUSES = {
    "answered": "Answered",
    "approval_expired": "Not decided in time",
    "kill_switch": "A kill switch stood in the way",
    "cancelled": "Stopped by a person",
    "loop-guard": "The same calls again and again",
    "budget:deadline": "Past its deadline",
    "release-tools": "A tool the release does not have",
    "write-tools-off": "Write tools are off",
    "principal-scope": "The customer lacks a scope",
    "principal-role": "Who it works for may no longer",
    "principal-kind": "Not for this kind of principal",
    "schema": "Arguments did not fit the tool",
    "forced-review": "Every write needs a person",
    "effect_unknown": "Nobody can say whether a call happened",
    "breaker:tool": "A tool was out of order",
    "mcp-changed": "An MCP server describes a tool differently",
    "mcp-server-off": "An MCP server is off",
    "verification": "The answer could not be verified",
}
PRINCIPALS = {
    PrincipalKind.END_USER: "End user",
    PrincipalKind.STAFF: "Member of staff",
    PrincipalKind.SERVICE: "Service",
}
CAUSE_GROUPS = {
    "budget": "Budget used up: {}",
    "guardrail": "Guardrail {}",
    "rule": "Rule {}",
    "tool": "The agent’s decision: {}",
}
BUDGETS = {
    "max_steps": "steps",
    "max_model_calls": "model calls",
    "max_tool_calls": "tool calls",
    "max_tokens": "tokens",
    "max_cost_usd": "cost",
    "max_seconds": "working time",
    "deadline_seconds": "deadline",
    "max_approvals": "approvals",
    "max_repeats": "identical calls",
    "max_model_attempts": "model attempts",
}
DAYS = {"per_agent": "the agent’s day", "per_principal": "the principal’s day"}
# What can end a run, as in its cause.
ENDING_BUDGETS = (
    *(name for name in BUDGETS if name not in ("deadline_seconds", "max_repeats", "max_model_attempts")),
    *(f"{scope}.{name}" for scope in DAYS for name in (*daily.OF_A_MODEL_CALL, *daily.OF_A_TOOL_CALL)),
)


def whom(principal: Principal, shown: Callable[[str], str]) -> str:
    """What is known of a principal, beside the name: `end user, country PT`."""
    known = [f"{name.replace('_', ' ')} {shown(value)}" for name, value in sorted(principal.attributes.items())]
    return ", ".join([PRINCIPALS[principal.kind].lower(), *known])


def starter(kind: str, label: str) -> str:
    """Who started something: a person by name, a program as such."""
    return f"the program {label}" if kind == "token" else label


def waits_for(reason: Reason) -> str:
    label = REASONS[reason].label
    return f"Waits for {label[0].lower()}{label[1:]}"


def run(status: str, *, is_short: bool = False) -> Badge:
    if is_short and status == RunStatus.WAITING:
        return SHORT_WAITING
    return RUNS[RunStatus(status)]


def cause(code: str) -> str:
    """Why a run ended, in words; an unknown code is shown as it is."""
    group, _, name = code.partition(":")
    if code in CAUSES:
        return CAUSES[code]
    if name and group in CAUSE_GROUPS:
        return CAUSE_GROUPS[group].format(name.replace("_", " ") if group == "tool" else budget(name))
    if code.startswith("model_"):
        return f"The model did not answer: {error(code.removeprefix('model_')).lower()}"
    return code.replace("_", " ").capitalize()


def budget(name: str) -> str:
    """A budget in words: `max_tokens`, or `per_agent.max_usd` of a day."""
    scope, _, limit = name.partition(".")
    return f"{daily.WORDS.get(limit, limit)} of {DAYS[scope]}" if scope in DAYS else BUDGETS.get(name, name)


def error(code: str) -> str:
    return ERRORS.get(code, code.replace("_", " ").capitalize())


def name(step: Step) -> str:
    """A step's name; rules, budgets and switches are named in words."""
    group, _, rest = step.name.partition(":")
    if step.kind != StepKind.GUARDRAIL:
        return step.name
    if group == "budget" and rest:
        return f"Budget of {budget(rest)}"
    return {"kill_switch": "Kill switch"}.get(step.name, rest if group == "rule" else step.name)


def badges(step: Step, run_status: str = RunStatus.RUNNING) -> list[Badge]:
    """What must be seen of a step without opening it."""
    found: list[Badge] = []
    if step.error == folding.BROKEN_OFF:
        found.append(Badge("mute", "square", error(step.error)))
    elif step.status == StepStatus.FAILED:
        found.append(Badge("bad", "triangle-alert", error(step.error) if step.error else "Failed"))
    elif step.status == StepStatus.UNKNOWN:
        found.append(Badge("warn", "circle-question-mark", "Outcome unknown"))
    elif step.verdict in VERDICTS:
        found.append(VERDICTS[StepVerdict(step.verdict)])
    elif step.status == StepStatus.REFUSED:
        found.append(VERDICTS[StepVerdict.REFUSED])
    elif is_broken_off(step, run_status):
        found.append(Badge("mute", "square", "Not finished"))
    elif step.status == StepStatus.STARTED:
        is_waiting = step.kind == StepKind.APPROVAL
        found.append(Badge("wait", "pause", "Waiting") if is_waiting else Badge("info", "activity", "Running"))
    if step.attempt > 1:
        found.append(Badge("mute", "rotate-cw", f"Retry {step.attempt - 1}"))
    return found


def is_broken_off(step: Step, run_status: str) -> bool:
    """Whether nobody works on a step without a result: its run has ended, or rests in the middle of a call."""
    is_held = run_status == RunStatus.PAUSED and step.kind != StepKind.APPROVAL
    return step.status == StepStatus.STARTED and (run_status in FINAL or is_held)


def colours(step: Step) -> tuple[str, str]:
    """CSS classes of a step's bar and icon."""
    if step.status in (StepStatus.FAILED, StepStatus.UNKNOWN) and step.error != folding.BROKEN_OFF:
        return FAILED_KIND
    if step.verdict == StepVerdict.ASKED:
        return WAITING_KIND
    if StepVerdict.REFUSED in (step.verdict, step.status):
        return REFUSED_KIND
    kind = KINDS[StepKind(step.kind)]
    return kind.css, kind.tone
