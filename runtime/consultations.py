"""Asking a person about a text: a result before the model reads it, or an answer before it is given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.utils.timezone import now

from approvals import decisions
from approvals.models import ApprovalRequest, Decision
from approvals.states import Verdict
from console import problems
from releases.bundles import Bundle, ToolManifest
from runtime import calls, cards, drafts, threads, toolbox, verdicts
from runtime.journal import Write
from runtime.messages import Call
from runtime.policies import guardrails
from runtime.policies.commands import Consult, Finish
from runtime.policies.guardrails import Subject
from runtime.states import RunStatus, StepStatus, StepVerdict
from runtime.turns import Shell, Turn

MOST_SHOWN = 20_000  # characters of a result on its card
ANSWER = ToolManifest(name="answer", description="What is said to the user", effect="write", title="Give the answer")
# Checks that need nothing but the text, and so can be made again on one that a person has edited.
OF_ITSELF = frozenset({
    "length", "hidden_characters", "secrets", "personal_data", "injection", "forbidden_topics", "banned_phrases",
})  # fmt: skip


async def ask(engine: Shell, turn: Turn, command: Consult) -> bool:
    """Put the question and park the run. True: the turn is over."""
    asked = turn.state.approvals
    if asked >= turn.budgets.max_approvals:
        why = f"This run has asked people {asked} times already."
        await engine.finish(turn, Finish(RunStatus.FAILED, "budget:max_approvals", why))
        return True
    await threads.run(park, turn, command)
    engine.announce(turn, ended=True)
    return True


def park(turn: Turn, command: Consult) -> None:
    """The open approval step, the request and the waiting status, in one transaction."""
    about = _about(command)
    on = "results" if command.call else "output"
    manifest = turn.bundle.toolset.get(command.call.name, ANSWER) if command.call else ANSWER
    title = f"May the agent read what {manifest.name} returned?" if command.call else "May this answer be given?"
    arguments = _arguments(command)
    digest = toolbox.digest(manifest.name, arguments, str(turn.row["digest"]))
    bound = {"text_of": on, "digest": digest, "rule": about["rule"]}
    approval = calls.approval_step(command.call or Call("", "", {}), title, datetime.now(UTC), bound)
    approval.rule = f"guardrail:{about['rule']}"
    card = {
        **cards.about_text(turn, manifest, arguments, title),
        "risk": about["risk"],
        "fields": [_field(command, arguments)],
        "rule": f"guardrail:{about['rule']}",
        "rule_version": about["version"],
        "why": about["reason"],
        "if_nobody_decides": "If nobody decides in time, the run ends as expired.",
        "reversible": False,
        "labels": {"approve": "Let it pass", "reject": "Hold it back"},
        "four_eyes": False,
        "due_at": now() + timedelta(minutes=turn.bundle.approval_minutes),
    }
    write = Write(steps=[approval], approvals_asked=1, risk=about["risk"])
    calls.park_with(turn, approval, write, calls.TEXT, card, digest)


def _about(command: Consult) -> dict[str, str]:
    """Which guardrail asks, and why: in its own step, or for a result checked at once in the result."""
    entry = command.why
    asks = entry.output.get("asks")
    if isinstance(asks, Mapping):
        return {name: str(asks[name]) for name in ("rule", "version", "reason", "risk")}
    said = entry.output
    return {
        "rule": entry.rule,
        "version": str(said.get("rule_version", "1")),
        "reason": str(said.get("reason", "")),
        "risk": str(said.get("risk", "medium")),
    }


def _arguments(command: Consult) -> dict[str, Any]:
    """What the decision holds for. A long result is shown in part, and bound whole."""
    if command.call is None or len(command.text) <= MOST_SHOWN:
        return {"text": command.text}
    whole = hashlib.sha256(command.text.encode("utf-8", "replace")).hexdigest()
    return {"text": f"{command.text[:MOST_SHOWN]} …", "characters": len(command.text), "sha256": whole}


def _field(command: Consult, arguments: Mapping[str, Any]) -> dict[str, Any]:
    is_answer = command.call is None
    return {
        "name": "text",
        "label": "Answer" if is_answer else "Result",
        "value": arguments["text"],
        "editable": is_answer,
        "type": "text",
        "class": "content",
        "origin": "written by the model" if is_answer else f"returned by {command.call.name}" if command.call else "",
        "is_doubted": False,
        "note": "",
    }


class TextHandler:
    """Answers `approvals` on behalf of runs in which a text waits for a person."""

    def check(self, request: ApprovalRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        run, _ = calls.subject_of(request)
        text = str(arguments.get("text", "")).strip()
        wrong = "" if text else "The answer is empty. Reject the request if nothing is to be said."
        if len(text) > drafts.LONGEST_TEXT:
            wrong = f"The answer has {len(text):,} characters; at most {drafts.LONGEST_TEXT:,} are given."
        wrong = wrong or _finding(run.release.bundle, text)
        if wrong:
            raise problems.Invalid(wrong, errors={"text": wrong})
        return {"text": text}

    def decided(self, request: ApprovalRequest, decision: Decision) -> None:
        run, step = calls.subject_of(request)
        is_answer = step.payload.input.get("text_of") == "output"
        asked = toolbox.digest(request.action, request.arguments, run.release.digest)
        if not asked == request.digest == step.payload.input.get("digest"):
            raise problems.Conflict("The text was changed after it was put to you. Cancel the run and start it again.")
        approved = decision.verdict == Verdict.APPROVE
        by = decisions.deciders(request) if approved else decision.by_label
        output: dict[str, Any] = {"by": by, "reason": decision.reason, "edits": decision.edits}
        if approved:
            verdict = StepVerdict.EDITED if decision.edits else StepVerdict.APPROVED
            output |= {"text": decision.arguments["text"]} if is_answer else {}
        else:
            verdict = StepVerdict.REJECTED
            output |= _held_back(decision, step.payload.input) if is_answer else {"content": _kept_from(decision)}
        output["verdict"] = verdict
        status = StepStatus.DONE if approved else StepStatus.REFUSED
        calls.close(step, status, verdict, output, f"by {by}")
        calls.wake(run, "approval.decided", {"verdict": verdict, "by": by})

    def ended(self, request: ApprovalRequest) -> None:
        run, step = calls.subject_of(request)
        said = {"verdict": "expired"}
        calls.close(step, StepStatus.REFUSED, StepVerdict.EXPIRED, said, f"{decisions.lacking(request)} in time")
        calls.expire(run, request)


def _held_back(decision: Decision, given: Mapping[str, Any]) -> dict[str, Any]:
    """How a run goes on whose answer a person holds back: to people."""
    return {
        "ends": RunStatus.ESCALATED,
        "cause": f"guardrail:{given.get('rule', '')}",
        "reason": f"{decision.by_label} held the answer back. {decision.reason}".strip(),
        "text": verdicts.REFUSED_OUTPUT,
    }


def _kept_from(decision: Decision) -> str:
    return f"A person decided that this result is not read. Reason: {decision.reason}"


def _finding(bundle: Bundle, text: str) -> str:
    """What the output guardrails say of an edited answer, as far as they need nothing but the text."""
    for rail in bundle.rails.get("output", ()):
        if rail.check in OF_ITSELF and rail.then not in ("flag", "ask"):
            checked = guardrails.run(rail, Subject(text))
            if not checked.passed:
                return f"The guardrail {rail.id} does not let this answer pass. {checked.finding}"
    return ""
