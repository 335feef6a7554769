"""Guardrails over calls: the arguments before the gate decides, the result before the model reads it.

What is found in a result is written with the result, in the same commit; the model reads what is left of it. A result
that a model or a person has to judge first is written, and waits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from releases.bundles import Bundle, Guardrail, ToolManifest
from runtime import grading, texts, threads, toolbox, verdicts
from runtime.grading import Grade, Question
from runtime.journal import Finished, NewStep, Write
from runtime.messages import Call
from runtime.policies import folding, guardrails
from runtime.policies.commands import CheckResult
from runtime.policies.folding import Entry
from runtime.policies.gating import Content
from runtime.policies.guardrails import Checked
from runtime.states import StepStatus
from runtime.turns import Shell, Turn

# What these find must not stay anywhere, not even in the trace of what was withheld.
REMOVING = frozenset({"secrets", "personal_data"})
WHOLE_TEXTS = ("error", "verified", "detail")  # of a finished call, beside its result


# Arguments


@dataclass(frozen=True)
class AboutCall:
    """What guardrails say of the arguments of a call: `found` goes to the gate, `notes` are steps to be written."""

    found: tuple[Content, ...] = ()
    notes: list[NewStep] = field(default_factory=list)
    left: tuple[Guardrail, ...] = ()  # those that a model has to decide first


async def consider(
    turn: Turn, call: Call, arguments: Mapping[str, Any] | None, *, is_first: bool, is_edited: bool
) -> AboutCall:
    """As `about_call`; over long arguments beside the loop."""
    if arguments is None or "arguments" not in turn.bundle.rails:
        return AboutCall()
    if len(verdicts.written(dict(arguments))) <= texts.LONG:
        return about_call(turn, call, arguments, is_first=is_first, is_edited=is_edited)
    about: AboutCall = await threads.run(
        partial(about_call, turn, call, arguments, is_first=is_first, is_edited=is_edited)
    )
    return about


def about_call(turn: Turn, call: Call, arguments: Mapping[str, Any], *, is_first: bool, is_edited: bool) -> AboutCall:
    """Ask the guardrails about the arguments. `is_first`: nobody has judged this call with them before.

    `is_edited`: they are those of a person, not what the model proposed.

    Verdicts that the journal has are not given again: those that saw the arguments before they were kept, and those
    that a model gave.
    """
    rails = [rail for rail in turn.bundle.rails.get("arguments", ()) if guardrails.covers(rail, call.name)]
    if not rails:
        return AboutCall()
    said = turn.state.about_calls.get(call.id, ())
    known = {(entry.rule, str(entry.output.get("rule_version"))): entry for entry in said}
    found, notes, passed, left = [], [], [], []
    started = datetime.now(UTC)
    about = texts.subject(turn, verdicts.written(dict(arguments)), rails, dict(arguments))
    for rail in rails:
        is_in_journal = guardrails.is_asked(rail) or (guardrails.is_early(rail) and not is_edited)
        entry = known.get((rail.id, rail.version)) if is_in_journal else None
        if entry is not None:
            found += _known(rail, entry)
        elif guardrails.is_asked(rail):
            left.append(rail)
        else:
            checked = guardrails.run(rail, about)
            if checked.passed:
                passed.append(rail)
            else:
                found.append(_content(checked))
                notes += [] if checked.then in ("ask", *verdicts.ENDS) else [_note(checked, call, started)]
    if passed:
        notes.insert(0, verdicts.passed("arguments", passed, started, call_id=call.id, tool=call.name))
    return AboutCall(tuple(found), notes if is_first else [], tuple(left) if is_first else ())


async def grade_call(engine: Shell, turn: Turn, call: Call, rail: Guardrail, arguments: Mapping[str, Any]) -> bool:
    """Let a model judge the arguments, and write down what it says; the gate reads it then."""
    started, text = datetime.now(UTC), verdicts.written(dict(arguments))
    what = f"call of {call.name} with these arguments"
    grade = await grading.ask(engine, turn, Question.of(rail, text, what, asked=texts.asked(turn)))
    if not isinstance(grade, Grade):
        return grade
    step = verdicts.step(
        grade.checked(rail), "arguments", started, call_id=call.id, tool=call.name, charges=grade.charges, graded=True
    )
    turn.hold(Write(steps=[step], model_calls=1), must_flush=True)
    return False


def edited(bundle: Bundle, tool: str, arguments: Mapping[str, Any]) -> tuple[Content, ...]:
    """What guardrails find in arguments that a person has edited. No model is asked: a person decides about them.

    Nothing is taken out of them: what is approved is what is called, so they are refused instead.
    """
    rails = [rail for rail in bundle.rails.get("arguments", ()) if guardrails.covers(rail, tool)]
    about = guardrails.Subject(verdicts.written(dict(arguments)), dict(arguments))
    checks = [guardrails.run(rail, about) for rail in rails if not guardrails.is_asked(rail)]
    found = [_content(checked) for checked in checks if not checked.passed]
    return tuple(replace(one, then="refuse") if one.then == "redact" else one for one in found)


def _known(rail: Guardrail, entry: Entry) -> list[Content]:
    """A verdict that stands in the journal."""
    then = str(entry.output.get("decision", "pass"))
    if then == "pass":
        return []
    said = entry.output
    return [Content(rail.id, rail.version, rail.check, str(said.get("reason", "")), then, rail.risk)]


def _content(checked: Checked) -> Content:
    rail = checked.guardrail
    return Content(rail.id, rail.version, rail.check, checked.finding, checked.then, rail.risk, checked.evidence)


def _note(checked: Checked, call: Call, started: datetime) -> NewStep:
    return verdicts.step(checked, "arguments", started, call_id=call.id, tool=call.name)


# Results


async def look(turn: Turn, manifest: ToolManifest, entry: Entry, finished: Finished) -> tuple[Finished, list[NewStep]]:
    """As `result`; a long one does not keep other runs from their turn."""
    if not rails_of(turn.bundle, manifest):
        return finished, []
    value = finished.output.get("result", finished.output.get("content", ""))
    if len(verdicts.written(value)) > texts.LONG:
        seen: tuple[Finished, list[NewStep]] = await threads.run(result, turn, manifest, entry, finished)
        return seen
    return result(turn, manifest, entry, finished)


def result(turn: Turn, manifest: ToolManifest, entry: Entry, finished: Finished) -> tuple[Finished, list[NewStep]]:
    """The end of a call as it may be kept and read, and the verdicts to be written with it."""
    rails = rails_of(turn.bundle, manifest)
    if not rails or finished.status == StepStatus.UNKNOWN:
        return finished, []
    if finished.output.get("again"):  # no model reads of an attempt that is made again
        return _only_redacted(turn, rails, finished), []
    started, output = datetime.now(UTC), dict(finished.output)
    key = "result" if "result" in output else "content"
    steps: list[NewStep] = []
    passed: list[Guardrail] = []
    grades: list[str] = []
    for rail in rails:
        if guardrails.is_asked(rail):
            grades.append(rail.id)
            continue
        value = output.get(key, "")
        text = verdicts.written(value)
        checked = guardrails.run(rail, texts.subject(turn, text, [rail], None if isinstance(value, str) else value))
        if checked.passed:
            passed.append(rail)
            continue
        steps.append(verdicts.step(checked, rail.on, started, call_id=entry.call_id, tool=manifest.name))
        if checked.taints:
            output["tainted"] = True
        if checked.then == "redact":
            output[key] = checked.value
        elif checked.then == "ask":
            output.setdefault("asks", _asking(checked))
        elif checked.then in verdicts.ENDS:
            output, grades = _withheld(manifest, checked, output, value), []
            break
    if grades:
        output["grades"] = grades
    if passed:
        steps.insert(0, verdicts.passed(rails[0].on, passed, started, call_id=entry.call_id, tool=manifest.name))
    return _rewritten(turn, manifest, rails, replace(finished, output=output)), steps


async def check_result(engine: Shell, turn: Turn, command: CheckResult) -> bool:
    """Let a model judge a result that waits. True when the turn is over."""
    call, entry, name = command.call, command.entry, command.left[0]
    is_last: dict[str, Any] = {"last": True} if len(command.left) == 1 else {}
    rail = next((rail for rail in turn.bundle.guardrails if rail.id == name and guardrails.is_asked(rail)), None)
    started = datetime.now(UTC)
    if rail is None:  # a fork with another release, which does not have it
        gone = Guardrail(id=name, on="results", check="model_graded")
        step = verdicts.step(Checked(gone, ""), "results", started, call_id=call.id, decides=True, **is_last)
        turn.hold(Write(steps=[step]))
        return False
    text = folding.told(entry.output)
    what = f"result that the tool {call.name} returned"
    grade = await grading.ask(engine, turn, Question.of(rail, text, what, asked=texts.asked(turn)))
    if not isinstance(grade, Grade):
        return grade
    checked = grade.checked(rail)
    said: dict[str, Any] = {"decides": True, "graded": True, **is_last, **verdicts.stopping(checked)}
    if checked.then in verdicts.ENDS:
        said["content"] = _sentence(call.name, checked)
    if checked.then == "ask":
        said["asks"] = _asking(checked)
    step = verdicts.step(checked, rail.on, started, call_id=call.id, tool=call.name, charges=grade.charges, **said)
    turn.hold(Write(steps=[step], model_calls=1), must_flush=True)
    return False


def rails_of(bundle: Bundle, manifest: ToolManifest) -> Sequence[Guardrail]:
    """The guardrails over the results of a tool, in their order."""
    rails = bundle.rails
    if "results" not in rails and "retrieved" not in rails:
        return ()
    sides = ("results", "retrieved") if manifest.is_retrieval else ("results",)
    return [rail for rail in bundle.guardrails if rail.on in sides and guardrails.covers(rail, manifest.name)]


def _asking(checked: Checked) -> dict[str, Any]:
    rail = checked.guardrail
    return {"rule": rail.id, "version": rail.version, "reason": checked.finding, "risk": rail.risk}


def _sentence(tool: str, checked: Checked) -> str:
    return f"The result of {tool} is withheld by a guardrail. {checked.finding}"


def _withheld(manifest: ToolManifest, checked: Checked, output: Mapping[str, Any], value: Any) -> dict[str, Any]:
    """What is kept of a result that the model must not read. People can look at it, unless it must be gone."""
    rail, text = checked.guardrail, verdicts.written(value)
    about: dict[str, Any] = {"rule": rail.id, "reason": checked.finding, "characters": len(text)}
    if rail.check not in REMOVING:
        about["result"] = value
    kept = {name: output[name] for name in ("tainted", "ends", "detail") if name in output}
    stops = verdicts.stopping(checked)
    if stops:
        stops["reason"] = checked.finding
    return {**kept, "content": _sentence(manifest.name, checked), "withheld": about, **stops}


def _rewritten(turn: Turn, manifest: ToolManifest, rails: Sequence[Guardrail], finished: Finished) -> Finished:
    """The end of the call with a summary that repeats nothing of what was taken out."""
    output = finished.output
    if "withheld" in output:
        return replace(finished, summary=f"Withheld: {output['withheld']['reason']}")
    if finished.status == StepStatus.DONE and finished.summary and "verified" not in output:
        finished = replace(finished, summary=toolbox.phrase(manifest, output))
    return _only_redacted(turn, rails, finished)


def _only_redacted(turn: Turn, rails: Sequence[Guardrail], finished: Finished) -> Finished:
    """The texts around a result, and of an attempt that is made again, without what guardrails take out."""
    redacting = [rail for rail in rails if rail.then == "redact"]
    if not redacting:
        return finished

    def clean(text: str) -> str:
        for rail in redacting:
            checked = guardrails.run(rail, texts.subject(turn, text))
            if not checked.passed:
                text = str(checked.value) if checked.is_decided else verdicts.NOTHING_LEFT
        return text

    names = [*WHOLE_TEXTS, "content"]
    output = {name: clean(said) if name in names and isinstance(said, str) else said
              for name, said in finished.output.items()}  # fmt: skip
    return replace(finished, summary=clean(finished.summary), output=output)
