"""Guardrails over texts: what the user wrote, what the model replies, and what the agent is about to answer.

What redacts, and what looks for what is masked when it is stored, sees a reply before it becomes a step
(`first_look`); everything else checks the message or the answer as the journal has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from releases.bundles import Guardrail, Side
from runtime import grading, threads, verdicts
from runtime.grading import Grade, Question
from runtime.journal import NewStep, Write
from runtime.messages import Call, Reply, ToolResult, UserText
from runtime.policies import guardrails
from runtime.policies.guardrails import Checked, Subject, citations
from runtime.states import StepKind, StepStatus, StepVerdict
from runtime.turns import Shell, Turn
from runtime.verdicts import NOTHING_LEFT

INSTEAD = {"input": verdicts.REFUSED_INPUT, "output": verdicts.REFUSED_OUTPUT}
HELD_BACK = 80  # characters of a reply being written
LONG = 20_000  # characters from which a check is made beside the loop
NOTED_SQL = "SELECT data->'guardrails' FROM runtime_runevent WHERE run_id = %s AND kind = 'run.created' LIMIT 1"


async def take_input(engine: Shell, turn: Turn) -> None:
    """The message as the run's first step, with what was found in it before it was stored."""
    moment = datetime.now(UTC)
    step = NewStep(
        StepKind.INPUT,
        "Message received",
        StepStatus.DONE,
        moment,
        moment,
        summary=str(turn.row["principal_label"] or turn.row["principal_id"]),
        output={"text": str(turn.row["input_text"])},
    )
    steps = [step, *await _noted(engine, turn, moment)]
    turn.hold(Write(steps=steps, tainted=any(one.output.get("tainted") for one in steps)))


async def check_input(engine: Shell, turn: Turn) -> bool:
    """Pass the user's message through the input guardrails; each is a step, written with what follows."""
    return await _check(engine, turn, "input", asked(turn))


async def check_output(engine: Shell, turn: Turn, text: str) -> bool:
    """Pass the answer through the output guardrails. True when the turn is over."""
    return await _check(engine, turn, "output", text)


async def look_first(turn: Turn, reply: Reply) -> tuple[Reply, list[NewStep]]:
    """As `first_look`; at a long reply beside the loop."""
    if not (_early(turn, "output") or _early(turn, "arguments")):
        return reply, []
    size = len(reply.text) + sum(len(str(call.arguments)) for call in reply.calls)
    if size <= LONG:
        return first_look(turn, reply)
    seen: tuple[Reply, list[NewStep]] = await threads.run(first_look, turn, reply)
    return seen


def first_look(turn: Turn, reply: Reply) -> tuple[Reply, list[NewStep]]:
    """The reply as it may be kept, and the verdicts about it that go with its step."""
    of_text, of_calls = _early(turn, "output"), _early(turn, "arguments")
    started = datetime.now(UTC)
    text, steps = _first_look_at_text(turn, of_text, reply, started)
    calls = []
    for call in reply.calls:
        seen, more = _first_look_at_call(turn, of_calls, call, started)
        calls.append(seen)
        steps += more
    opaque = _reasoning([rail for rail in (*of_text, *of_calls) if rail.then == "redact"], reply)
    return replace(reply, text=text, calls=tuple(calls), opaque=opaque), steps


def _early(turn: Turn, on: Side) -> list[Guardrail]:
    return [rail for rail in turn.bundle.rails.get(on, ()) if guardrails.is_early(rail)]


def watched(turn: Turn) -> Callable[[str], str] | None:
    """What of a reply may be watched while it is written: what guardrails take out is taken out of it before.

    Its last words are held back: what is being written there may turn out to be part of what is taken out.
    """
    redacting = [rail for rail in turn.bundle.rails.get("output", ()) if rail.then == "redact"]
    if not redacting:
        return None
    around = subject(turn, "")

    def shown(text: str) -> str:
        for rail in redacting:
            checked = guardrails.run(rail, replace(around, text=text))
            if not checked.passed:
                text = str(checked.value) if checked.is_decided else ""
        return text[:-HELD_BACK]

    return shown


def subject(turn: Turn, text: str, rails: Iterable[Guardrail] = (), value: Any = None) -> Subject:
    """A text and what these guardrails want to know around it."""
    checks = {rail.check for rail in rails}
    return Subject(
        text,
        value,
        told=sources(turn) if "grounded_figures" in checks else (),
        asked=asked(turn),
        passages=passages(turn) if "citations" in checks else {},
    )


def asked(turn: Turn) -> str:
    """The user's words in this run."""
    said = turn.state.messages[turn.history :]
    return next((message.text for message in reversed(said) if isinstance(message, UserText)), "")


def sources(turn: Turn) -> list[str]:
    """Everything the run was told: the user's words and the tools' results, of this run and of its thread."""
    told = [message.text for message in turn.state.messages if isinstance(message, UserText)]
    told += [message.content for message in turn.state.messages if isinstance(message, ToolResult)]
    return [*told, turn.bundle.instructions]


def passages(turn: Turn) -> dict[str, str]:
    """What this run has retrieved, by citation."""
    retrieving = {tool.name for tool in turn.bundle.tools if tool.is_retrieval}
    return citations.passages(
        message.content
        for message in turn.state.messages[turn.history :]
        if isinstance(message, ToolResult) and message.name in retrieving and not message.is_error
    )


async def run(rail: Guardrail, about: Subject) -> Checked:
    """Make one check; a long one, or one whose package is heavy to load, does not keep other runs from their turn."""
    if len(about.text) > LONG or rail.check == "language":
        found: Checked = await threads.run(guardrails.run, rail, about)
        return found
    return guardrails.run(rail, about)


async def _check(engine: Shell, turn: Turn, on: Any, text: str) -> bool:
    """Ask the guardrails that have not spoken about the text yet: all that need no model, then one that does."""
    configured = turn.bundle.rails.get(on, ())
    left = [rail for rail in configured if rail.id not in turn.state.checked]
    if not left:
        turn.hold(Write(steps=[_nothing_left(on, is_any=bool(configured))]))
        return False
    plain = [rail for rail in left if not guardrails.is_asked(rail)]
    if not plain:
        return await _grade(engine, turn, on, text, left)
    steps: list[NewStep] = []
    about = subject(turn, text, plain)
    for rail in plain:
        started = datetime.now(UTC)
        checked = await run(rail, about)
        said = verdicts.ending(checked, INSTEAD[on])
        if checked.then == "redact":
            about = replace(about, text=str(checked.value) or NOTHING_LEFT)
            said["becomes"] = about.text
        steps.append(verdicts.step(checked, on, started, **said))
        if steps[-1].verdict == StepVerdict.REFUSED:
            break
    if len(plain) == len(left):
        steps[-1].output = {**steps[-1].output, "last": True}
    turn.hold(Write(steps=steps, tainted=any(step.output.get("tainted") for step in steps)))
    return False


async def _grade(engine: Shell, turn: Turn, on: str, text: str, left: Sequence[Guardrail]) -> bool:
    rail, started = left[0], datetime.now(UTC)
    what = "message of the user" if on == "input" else "answer to the user"
    grade = await grading.ask(engine, turn, Question.of(rail, text, what, asked=asked(turn)))
    if not isinstance(grade, Grade):
        return grade
    checked = grade.checked(rail)
    said = {**verdicts.ending(checked, INSTEAD[on]), **({"last": True} if len(left) == 1 else {})}
    step = verdicts.step(checked, on, started, charges=grade.charges, graded=True, **said)
    turn.hold(Write(steps=[step], model_calls=1), must_flush=True)
    return False


def _first_look_at_text(
    turn: Turn, rails: Sequence[Guardrail], reply: Reply, started: datetime
) -> tuple[str, list[NewStep]]:
    """What is said beside calls is only redacted; an answer is decided about."""
    is_answer = not reply.calls
    text, steps = reply.text, []
    for rail in rails if text else ():
        checked = guardrails.run(rail, subject(turn, text, [rail]))
        if rail.then == "redact" and not checked.passed:
            text = str(checked.value) if checked.is_decided and checked.value else NOTHING_LEFT
        if is_answer or (rail.then == "redact" and not checked.passed):
            said = verdicts.ending(checked, verdicts.REFUSED_OUTPUT) if is_answer else {}
            steps.append(verdicts.step(checked, "output", started, **said))
    if is_answer and steps and len(steps) == len(turn.bundle.rails["output"]):
        steps[-1].output = {**steps[-1].output, "last": True}
    return text, steps


def _first_look_at_call(
    turn: Turn, rails: Sequence[Guardrail], call: Call, started: datetime
) -> tuple[Call, list[NewStep]]:
    steps = []
    for rail in rails:
        if not guardrails.covers(rail, call.name):
            continue
        text = verdicts.written(call.arguments)
        given = None if isinstance(call.arguments, str) else call.arguments
        checked = guardrails.run(rail, subject(turn, text, [rail], given))
        if checked.passed:
            continue
        if rail.then == "redact":
            call = replace(call, arguments=checked.value if checked.is_decided else NOTHING_LEFT)
        steps.append(verdicts.step(checked, "arguments", started, call_id=call.id, tool=call.name[:80]))
    return call, steps


def _reasoning(redacting: Sequence[Guardrail], reply: Reply) -> tuple[dict[str, Any], ...]:
    """The signed reasoning, unless there is something in it that has to be gone: it cannot be changed, only dropped."""
    value = list(reply.opaque)
    about = Subject(verdicts.written(value), value)
    is_clean = not value or all(guardrails.run(rail, about).passed for rail in redacting)
    return reply.opaque if is_clean else ()


async def _noted(engine: Shell, turn: Turn, moment: datetime) -> list[NewStep]:
    """Only a release that looks at messages before they are stored has something to read here."""
    if not _early(turn, "input"):
        return []
    async with engine.pool.connection() as connection:
        cursor = await connection.execute(NOTED_SQL, [turn.run_id])
        row = await cursor.fetchone()
    return verdicts.noted(turn.bundle, (row and row[0]) or [], moment)


def _nothing_left(on: str, *, is_any: bool) -> NewStep:
    moment = datetime.now(UTC)
    said = "Nothing more is checked." if is_any else "This release configures none."
    return NewStep(
        StepKind.GUARDRAIL,
        f"No {'more ' if is_any else ''}{on} guardrails",
        StepStatus.DONE,
        moment,
        moment,
        verdict=StepVerdict.PASSED,
        summary=said,
        input={"on": on},
        output={"decision": "pass", "reason": said, "last": True},
    )
