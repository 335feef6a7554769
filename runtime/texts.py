"""Guardrails over texts: what the user wrote, and what the agent is about to answer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from releases.bundles import Guardrail
from runtime.journal import NewStep, Write
from runtime.messages import ToolResult, UserText
from runtime.policies import guardrails
from runtime.policies.guardrails import Checked
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict
from runtime.turns import Turn

REFUSED_INPUT = "I cannot work on this message."
REFUSED_OUTPUT = "I cannot give you a reliable answer to this. A colleague will look at it."


def check_input(turn: Turn) -> None:
    """Pass the user's message through the input guardrails; each is a step, written with what follows."""
    _check(turn, "input", str(turn.row["input_text"]), REFUSED_INPUT)


def check_output(turn: Turn, text: str) -> None:
    """Pass the answer through the output guardrails, and verification where the release asks for it."""
    _check(turn, "output", text, REFUSED_OUTPUT)


def _check(turn: Turn, on: str, text: str, instead: str) -> None:
    rails = list(turn.bundle.guardrails)
    if turn.bundle.verification.kind == "grounded_figures":
        rails.append(Guardrail(id="verification", version="1", on="output", check="grounded_figures", then="escalate"))
    started = datetime.now(UTC)
    steps = []
    for checked in guardrails.check(rails, on, text, _sources(turn)):
        steps.append(_step(checked, on, started, instead))
        if steps[-1].verdict == StepVerdict.REFUSED:
            break
    if not steps:
        steps = [_nothing_configured(on, started)]
    steps[-1].output = {**steps[-1].output, "last": True}
    turn.hold(Write(steps=steps))


def _step(checked: Checked, on: str, started: datetime, instead: str) -> NewStep:
    rail = checked.guardrail
    verdict, status = StepVerdict.PASSED, StepStatus.DONE
    output: dict[str, Any] = {"decision": "pass", "rule": rail.id, "rule_version": rail.version, "check": rail.check}
    if not checked.passed:
        verdict = StepVerdict.FLAGGED
        output |= {"decision": checked.then, "reason": checked.finding}
        if checked.then != "flag":
            verdict, status = StepVerdict.REFUSED, StepStatus.REFUSED
            output |= {
                "ends": RunStatus.ESCALATED if checked.then == "escalate" else RunStatus.REFUSED,
                "text": instead,
            }
    return NewStep(
        StepKind.GUARDRAIL,
        rail.id,
        status,
        started,
        datetime.now(UTC),
        verdict=verdict,
        rule=rail.id,
        summary=checked.finding,
        input={"on": on},
        output=output,
    )


def _nothing_configured(on: str, started: datetime) -> NewStep:
    return NewStep(
        StepKind.GUARDRAIL,
        f"No {on} guardrails",
        StepStatus.DONE,
        started,
        started,
        verdict=StepVerdict.PASSED,
        summary="This release configures none.",
        input={"on": on},
        output={"decision": "pass", "reason": "This release configures none."},
    )


def _sources(turn: Turn) -> list[str]:
    """Everything the run was told: the user's words and the tools' results, of this run and of its thread."""
    told = [message.text for message in turn.state.messages if isinstance(message, UserText)]
    told += [message.content for message in turn.state.messages if isinstance(message, ToolResult)]
    told += [turn.bundle.instructions]
    return told
