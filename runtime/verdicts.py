"""Verdicts of guardrails as steps of a run, and the first look at a message before anything of it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from releases.bundles import Bundle, Guardrail, canonical
from runtime.journal import NewStep
from runtime.policies import guardrails
from runtime.policies.gating import Content
from runtime.policies.guardrails import Checked, Subject
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict

REFUSED_INPUT = "I cannot work on this message."
REFUSED_OUTPUT = "I cannot give you a reliable answer to this. A colleague will look at it."
STOPPED = "I cannot go on with this."
NOTHING_LEFT = "[removed]"

VERDICTS = {
    "pass": StepVerdict.PASSED,
    "flag": StepVerdict.FLAGGED,
    "redact": StepVerdict.REDACTED,
    "ask": StepVerdict.ASKED,
    "refuse": StepVerdict.REFUSED,
    "stop": StepVerdict.REFUSED,
    "escalate": StepVerdict.REFUSED,
}
FROM_OUTSIDE = frozenset({"input", "retrieved", "results"})
NOTES = {"flag": "noted", "redact": "taken out of the arguments", "ask": "asks a person"}
ENDS = {"refuse": RunStatus.REFUSED, "stop": RunStatus.REFUSED, "escalate": RunStatus.ESCALATED}


def step(
    checked: Checked,
    on: str,
    started: datetime,
    *,
    call_id: str = "",
    tool: str = "",
    charges: Mapping[str, Any] | None = None,
    **said: Any,
) -> NewStep:
    """What one guardrail says of one text. `charges` is what a model took for it, `said` what else follows."""
    rail, then = checked.guardrail, checked.then
    output: dict[str, Any] = {"decision": then, "rule": rail.id, "rule_version": rail.version, "check": rail.check}
    if not checked.passed:
        output["reason"] = checked.finding
    if checked.evidence:
        output["evidence"] = list(checked.evidence)
    if then == "ask":
        output["risk"] = rail.risk
    if not checked.is_decided:
        output["undecided"] = True
    if checked.taints and on in FROM_OUTSIDE:
        output["tainted"] = True
    verdict = VERDICTS[then]
    summary = checked.finding or ("nothing found" if tool else "")
    return NewStep(
        StepKind.GUARDRAIL,
        rail.id,
        StepStatus.REFUSED if verdict == StepVerdict.REFUSED else StepStatus.DONE,
        started,
        datetime.now(UTC),
        verdict=verdict,
        rule=rail.id,
        summary=f"{tool}: {summary}" if tool else summary,
        call_id=call_id,
        input={"on": on, **({"tool": tool} if tool else {})},
        output={**output, **said},
        **(charges or {}),
    )


def ending(checked: Checked, text: str) -> dict[str, Any]:
    """How a verdict about the message or the answer ends the run; nothing when it does not."""
    return {"ends": ENDS[checked.then], "text": text} if checked.then in ENDS else {}


def stopping(checked: Checked) -> dict[str, Any]:
    """How a verdict about a call ends the run; nothing when the run goes on."""
    if checked.then not in ("stop", "escalate"):
        return {}
    return {"stops": True, "cause": f"guardrail:{checked.guardrail.id}", **ending(checked, STOPPED)}


def passed(on: str, rails: Sequence[Guardrail], started: datetime, *, call_id: str, tool: str) -> NewStep:
    """One step for all that found nothing in the texts of a call."""
    if len(rails) == 1:
        return step(Checked(rails[0], ""), on, started, call_id=call_id, tool=tool)
    found = [{"rule": rail.id, "rule_version": rail.version, "check": rail.check} for rail in rails]
    return NewStep(
        StepKind.GUARDRAIL,
        f"{len(rails)} checks",
        StepStatus.DONE,
        started,
        datetime.now(UTC),
        verdict=StepVerdict.PASSED,
        summary=f"{tool}: nothing found",
        call_id=call_id,
        input={"on": on, "tool": tool},
        output={"decision": "pass", "passed": found},
    )


def listed(content: Sequence[Content]) -> dict[str, Any]:
    """What guardrails have found in arguments, as it is kept with the gate's verdict; nothing for nothing."""
    names = ("rule", "version", "check", "then", "finding")
    return {"guardrails": [{name: getattr(one, name) for name in names} for one in content]} if content else {}


def evidence(content: Sequence[Content]) -> list[dict[str, Any]]:
    """The same for whoever decides about the call."""
    return [
        {"kind": "fact", "title": f"Guardrail {one.rule}", "text": one.finding, "note": NOTES[one.then], "url": ""}
        for one in content
    ]


def written(value: Any) -> str:
    """A value as the text that checks read."""
    if isinstance(value, str):
        return value
    try:
        return canonical(value)
    except (ValueError, TypeError, RecursionError):
        return str(value)


# The first look at a message


def first_look(bundle: Bundle, text: str) -> tuple[str, list[dict[str, Any]]]:
    """The message as it may be stored, and what was found in it: for the run's first event, and `noted` of it."""
    found = []
    for rail in bundle.rails.get("input", ()):
        if not guardrails.is_early(rail):
            continue
        checked = guardrails.run(rail, Subject(text))
        if checked.passed:
            continue
        if rail.then == "redact":
            text = (checked.value if checked.is_decided else "") or NOTHING_LEFT
        found.append({
            "rule": rail.id,
            "finding": checked.finding,
            "evidence": list(checked.evidence),
            "is_decided": checked.is_decided,
        })  # fmt: skip
    return text, found


def noted(bundle: Bundle, found: Sequence[Mapping[str, Any]], started: datetime) -> list[NewStep]:
    """The steps of what the first look has found; the last of them closes the input where nothing else checks it."""
    rails = {rail.id: rail for rail in bundle.rails.get("input", ())}
    steps = []
    for one in found:
        rail = rails.get(str(one.get("rule")))
        if rail is not None:
            checked = Checked(rail, str(one["finding"]), bool(one["is_decided"]), tuple(one["evidence"]))
            steps.append(step(checked, "input", started, **ending(checked, REFUSED_INPUT)))
    if steps and len(steps) == len(rails):
        steps[-1].output = {**steps[-1].output, "last": True}
    return steps
