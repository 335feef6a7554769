"""The verifier before the final answer: what it finds is told to the model once, and hands off the second time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from releases.bundles import Verification
from runtime import flights, grading, texts, threads, verdicts, verifiers
from runtime.grading import Grade, Question
from runtime.journal import NewStep, Write
from runtime.messages import ModelReply, ToolResult
from runtime.policies.commands import Verify
from runtime.policies.guardrails import figures
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict
from runtime.turns import Shell, Turn
from runtime.verifiers import Answer, Made, Verifier

RULE = "verification"
LONGEST_FINDING = 2000
TOLD = "Your answer was not given to the user: a check found that it cannot stand. {} Answer once more, without that."


async def verify(engine: Shell, turn: Turn, command: Verify) -> bool:
    """Look at the answer and write down the verdict. True when the turn is over."""
    spec, started = turn.bundle.verification, datetime.now(UTC)
    grade: Grade | bool
    if spec.kind == "model":
        question = Question(
            spec.criteria, command.text, "answer to the user", spec.model, spec.timeout_s,
            asked=texts.asked(turn), told=[made.content for made in _answer(turn, command.text).calls],
        )  # fmt: skip
        grade = await grading.ask(engine, turn, question)
        if not isinstance(grade, Grade):
            return grade
    elif spec.kind == "code":
        grade = await _by_code(engine, turn, spec, command.text)
    else:
        found = figures.grounded(command.text, texts.sources(turn))
        grade = Grade(found is None, found.sentence if found else "")
    step = _step(spec, grade, command, started)
    turn.hold(Write(steps=[step], model_calls=int("graded" in step.output)), must_flush=step.verdict != "passed")
    return False


async def _by_code(engine: Shell, turn: Turn, spec: Verification, text: str) -> Grade:
    assert spec.name is not None
    found = verifiers.find(spec.name)
    if found is None:
        return Grade(None, f"No installed package offers the verifier {spec.name}.")
    try:
        async with asyncio.timeout(spec.timeout_s):
            said = await _call(engine, found, _answer(turn, text))
    except TimeoutError:
        return Grade(None, f"{spec.name} did not answer within {spec.timeout_s:g} s.")
    except Exception as broken:
        return Grade(None, f"{spec.name} broke off ({type(broken).__name__}: {broken})."[:LONGEST_FINDING])
    if said is not None and not isinstance(said, str):
        return Grade(None, f"{spec.name} answered {type(said).__name__}, which is no finding.")
    return Grade(not said, (said or "")[:LONGEST_FINDING])


async def _call(engine: Shell, found: Verifier, answer: Answer) -> Any:
    if found.is_async:
        return await flights.apart(found.function(answer))  # type: ignore[arg-type]
    return await threads.run_tool(engine.tool_room, f"verifier-{found.name}", found.function, answer)


def _answer(turn: Turn, text: str) -> Answer:
    said = turn.state.messages[turn.history :]
    proposed = {call.id: call.arguments for one in said if isinstance(one, ModelReply) for call in one.calls}
    return Answer(
        text=text,
        asked=texts.asked(turn),
        calls=[
            Made(one.name, proposed.get(one.call_id, {}), one.content, one.is_error)
            for one in said
            if isinstance(one, ToolResult)
        ],
        passages=texts.passages(turn),
        agent=turn.agent,
        release=str(turn.row["version"]),
        run_id=turn.public_id,
        principal_id=str(turn.row["principal_id"]),
    )


def _step(spec: Verification, grade: Grade, command: Verify, started: datetime) -> NewStep:
    passed = grade.is_passed if grade.is_passed is not None else spec.unchecked == "pass"
    finding = grade.reason or "It does not pass."
    output: dict[str, Any] = {"check": spec.kind, "attempt": command.again + 1}
    if grade.charges:
        output["graded"] = True
    if grade.is_passed is None:
        output["undecided"] = True
    if passed:
        verdict = StepVerdict.PASSED if grade.is_passed else StepVerdict.FLAGGED
        output |= {"decision": "pass", **({"reason": finding} if not grade.is_passed else {})}
    elif command.again < spec.retries:
        verdict = StepVerdict.FLAGGED
        output |= {"decision": "again", "reason": finding, "told": TOLD.format(finding)}
    else:
        verdict = StepVerdict.REFUSED
        output |= {"decision": "escalate", "reason": finding, "cause": RULE, "ends": RunStatus.ESCALATED}
        output["text"] = verdicts.REFUSED_OUTPUT
    return NewStep(
        StepKind.GUARDRAIL,
        f"Verifier {spec.name}" if spec.name else "Verification",
        StepStatus.REFUSED if verdict == StepVerdict.REFUSED else StepStatus.DONE,
        started,
        datetime.now(UTC),
        verdict=verdict,
        rule=RULE,
        summary="" if grade.is_passed else finding,
        input={"on": RULE, "text": command.text},
        output=output,
        **grade.charges,
    )
