"""Tool calls: through the gate, to a person, to the tool, and back with a result that is certain."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from console import ids, redact
from console.principals import PrincipalKind
from releases import switches
from releases.bundles import ToolManifest
from releases.policies.switching import Engaged
from releases.policies.variables import Totals
from runtime import (
    acting,
    attempts,
    calls,
    flights,
    guarding,
    journal,
    rulings,
    spending,
    threads,
    toolbox,
    totals,
    turns,
    verdicts,
    verifying,
)
from runtime.attempts import Failure
from runtime.circuits import Open, Outcome
from runtime.flights import Interrupted
from runtime.journal import CancelRequested, Finished, Guard, LeaseLost, NewStep, SwitchedOff, Write, Written
from runtime.messages import Call
from runtime.policies import folding, gating, looping, provenance, ruling
from runtime.policies.budgeting import Exhausted
from runtime.policies.folding import Entry, Finish, Judge, Recover
from runtime.policies.gating import Allow, Ask, Facts, Refuse
from runtime.policies.recovering import Park, Repeat, Settle, Wait
from runtime.policies.retrying import ErrorClass
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict
from runtime.toolbox import Executable
from runtime.tools import ToolError
from runtime.turns import Shell, Turn
from runtime.verifying import Found

LONGEST_ERROR = 4000  # characters of a tool's own error that are kept and told


@dataclass(frozen=True)
class Prints:
    """What tells one call from another: exactly, and but for case, spaces and punctuation. See `toolbox`."""

    fingerprint: str
    likeness: str

    @classmethod
    def of(cls, tool: str, arguments: Mapping[str, Any] | None) -> Prints:
        return cls(toolbox.fingerprint(tool, arguments), toolbox.likeness(tool, arguments))


@dataclass(frozen=True)
class Allowed:
    """A call that the gate lets through. `again` is the failed attempt before this one."""

    call: Call
    manifest: ToolManifest
    executable: Executable
    arguments: Mapping[str, Any]
    prints: Prints
    verdict: Allow
    again: Entry | None
    notes: Sequence[NewStep] = ()  # what guardrails noted of its arguments
    totals: Totals | None = None  # that the verdict was made with


async def judge(engine: Shell, turn: Turn, command: Judge) -> bool:
    """Pass a proposed call through the gate and act on the verdict. True when the turn is over."""
    call, approval = command.call, command.approval
    manifest = turn.bundle.toolset.get(call.name)
    executable = toolbox.resolve(turn.bundle, manifest, turn.row["thread_id"], call.id) if manifest else None
    raw = approval.output["arguments"] if approval else call.arguments
    prepared = toolbox.prepare(executable, raw) if manifest else toolbox.Prepared(None, {})
    if approval is not None:
        void = await threads.run(
            calls.why_void, turn.run_id, approval, call.name, prepared.arguments, turn.row["digest"]
        )
        if void:
            return await _refuse(engine, turn, call, Refuse("approval-void", void))

    prints = Prints.of(call.name, prepared.arguments)
    is_edited = approval is not None and approval.verdict == StepVerdict.EDITED
    is_first = command.again is None and (approval is None or is_edited)
    about = await guarding.consider(turn, call, prepared.arguments, is_first=is_first, is_edited=is_edited)
    facts = replace(_facts(turn, command, prepared, prints, await engine.switches()), content=about.found)
    if facts.principal.kind == PrincipalKind.STAFF:
        facts = await threads.run(acting.as_staff, facts)
    facts = replace(facts, totals=await totals.seen(engine, turn, manifest))
    verdict = gating.decide_call(facts)
    if isinstance(verdict, Refuse) and verdict.switch_id:  # a switch that was lifted meanwhile refuses nothing
        verdict = gating.decide_call(replace(facts, switches=await engine.switches(fresh=True)))
    if isinstance(verdict, Refuse):
        if approval is None and command.again is None:
            await rulings.count(engine.pool, turn.row["release_id"], verdict.rules)
        return await _refuse(engine, turn, call, verdict, about.notes)
    assert manifest is not None and executable is not None and prepared.arguments is not None
    if about.left and approval is None:
        return await guarding.grade_call(engine, turn, call, about.left[0], prepared.arguments)
    if manifest.server:
        try:
            with flights.under_way(turn, on_pause=True):
                barred = await toolbox.why_not(executable)
        except Interrupted:
            return False
        if barred is not None:
            return await _refuse(engine, turn, call, Refuse(barred.rule, barred.reason))
    if isinstance(verdict, Ask):
        await threads.run(calls.park, turn, call, manifest, prepared.arguments, verdict, about.notes)
        await rulings.count(engine.pool, turn.row["release_id"], verdict.rules)
        engine.announce(turn, ended=True)
        return True
    leave = await attempts.for_tool(engine, turn, manifest)
    if isinstance(leave, Open):
        return await _refuse(engine, turn, call, attempts.refusal(leave))
    allowed = Allowed(
        call, manifest, executable, prepared.arguments, prints, verdict, command.again, about.notes, facts.totals
    )
    async with engine.circuits.using(leave) as outcome:
        return await _start(engine, turn, allowed, outcome)


async def recover(engine: Shell, turn: Turn, command: Recover) -> bool:
    """Decide about a call whose process died between its intent and its result (see the effect contract)."""
    call, entry = command.call, command.entry
    manifest = turn.bundle.toolset[call.name]
    found = await verifying.find_out(engine, turn, manifest, entry)
    decision = found.decision
    if isinstance(decision, Repeat) and folding.is_copied(entry):  # no approval of the other run covers it here
        decision = Park("It was under way in the run that this one retries, and nobody knows whether it happened.")
    said: dict[str, Any] = {"tool": call.name, "step": entry.id, "fence": turn.lease.fence}
    if found.finding is not None:
        said |= {"answer": found.answer, "evidence": found.evidence}
    match decision:
        case Settle():
            return await _settle(engine, turn, manifest, entry, found, said)
        case Wait(until=until):
            asked = Write(events=[("call.verified", said)])
            why = f"whether {call.name} happened is asked again later"
            await engine.commit(turn, journal.yielded(why, until=until, write=asked))
            return True
        case Park(why=why_asked):
            await threads.run(calls.park_unknown, turn, call, manifest, entry, why_asked, found.evidence)
            engine.announce(turn, ended=True)
            return True
    # Read and idempotent calls are made again with the same key; a transactional one is known not to have happened,
    # and so is an unsafe one whose outside says so at a time when it can not happen any more.
    executable = toolbox.resolve(turn.bundle, manifest, turn.row["thread_id"], call.id)
    again = Write(events=[("call.repeated", said)], guard=_guard(turn, manifest, is_reviewed=True))
    try:
        await engine.commit(turn, again)
    except SwitchedOff as stopped:
        await _finish(engine, turn, manifest, _stopped(entry, await _switched_off(engine, stopped)))
        return False
    except CancelRequested:
        return False
    assert executable is not None
    return await _perform(engine, turn, manifest, executable, entry, Outcome())


async def _settle(
    engine: Shell, turn: Turn, manifest: ToolManifest, entry: Entry, found: Found, said: Mapping[str, Any]
) -> bool:
    """The outside knows the call: it happened, and what it says is the result."""
    result = getattr(found.finding, "result", None)
    value = result if result is not None else f"It happened. {found.evidence}".strip()
    done = _succeeded(manifest, entry, value)
    done = replace(
        done, summary=f"Found to have happened: {found.evidence}", output={**done.output, "verified": found.evidence}
    )
    done, found_in_it = await guarding.look(turn, manifest, entry, done)
    events = [("call.verified", said)]
    await engine.commit(turn, Write(found_in_it, [done], events, tainted=_taints(manifest, done)))
    return False


def unknown(entry: Entry) -> Finished:
    """The mark of a call that may or may not have happened."""
    return Finished(UUID(entry.id), StepStatus.UNKNOWN, None, summary="It is not known whether this happened.")


def broken_off(turn: Turn, entry: Entry) -> Finished:
    """What is known of a call that was under way when its run was cancelled."""
    manifest = turn.bundle.toolset.get(entry.name)
    if manifest is None or manifest.retry not in ("read", "transactional"):
        return unknown(entry)
    certain = "It changes nothing." if manifest.retry == "read" else "Its effect commits with its result: none."
    text = f"Let go of when the run was cancelled. {certain}"
    return _failed(entry, folding.BROKEN_OFF, text, text)


def _not_begun(entry: Entry) -> Finished:
    text = "The run was cancelled before the call was made."
    return _failed(entry, folding.BROKEN_OFF, text, text)


def _facts(
    turn: Turn, command: Judge, prepared: toolbox.Prepared, prints: Prints, engaged: tuple[Engaged, ...]
) -> Facts:
    """What the gate is told. A call that is made again was counted when it was made first."""
    call, counted = command.call, int(command.again is not None)
    spent = turn.spent()
    return Facts(
        tool=call.name,
        bundle=turn.bundle,
        agent=turn.agent,
        switches=engaged,
        scopes=frozenset(turn.row["scopes"]),
        principal=turn.principal,
        arguments=prepared.arguments,
        schema_errors=prepared.errors,
        has_secret=prepared.has_secret,
        spent=replace(spent, tool_calls=spent.tool_calls - counted) if counted else spent,
        budgets=turn.budgets,
        repeats=turn.state.repeats.get(prints.fingerprint, 0) - counted,
        loop=looping.decide_loop(
            turn.state.made[: len(turn.state.made) - counted],
            prints.likeness,
            most=turn.budgets.max_repeats,
        ),
        approvals=turn.state.approvals,
        reviewed=command.approval is not None,
        known=turn.known,
        labels=turn.labels.get(call.name),
        thread_id=ids.public("thr", UUID(str(turn.row["thread_id"]))),
        now=datetime.now(UTC),
    )


async def _refuse(engine: Shell, turn: Turn, call: Call, refusal: Refuse, notes: Sequence[NewStep] = ()) -> bool:
    """Record the refusal, tell the model why, and end the run when nothing further can pass."""
    moment = datetime.now(UTC)
    step = NewStep(
        StepKind.GUARDRAIL,
        refusal.rule,
        StepStatus.REFUSED,
        moment,
        moment,
        verdict=StepVerdict.REFUSED,
        rule=refusal.rule,
        summary=f"{call.name[:60]}: {refusal.reason}",
        call_id=call.id,
        input={"call": {"id": call.id, "name": call.name[:200], "arguments": call.arguments}},
        output={
            "decision": "refuse",
            "rule": refusal.rule,
            "reason": refusal.reason,
            "content": f"The call was not made. {refusal.reason}",
            **verdicts.listed(refusal.content),
            **_rules(refusal),
        },
    )
    turn.hold(Write(steps=[*notes, step], tool_errors=1), must_flush=True)
    if refusal.switch_id:
        await threads.run(switches.count_blocked, UUID(refusal.switch_id))
    if refusal.ends_run:
        said = verdicts.STOPPED if refusal.ends else ""
        end = RunStatus(refusal.ends) if refusal.ends else RunStatus.FAILED
        await engine.finish(turn, Finish(end, refusal.rule, refusal.reason, said))
        return True
    return False


async def _start(engine: Shell, turn: Turn, allowed: Allowed, outcome: Outcome) -> bool:
    """Commit the intent, in the statement that asks the kill switches, and only then make the call.

    A call that is made again uses the key of its failed attempt once more.
    """
    call, manifest, verdict, again = allowed.call, allowed.manifest, allowed.verdict, allowed.again
    held = await spending.hold_tool_call(engine, turn)
    if isinstance(held, Exhausted):
        return await _refuse(engine, turn, call, Refuse(f"budget:{held.budget}", held.reason, ends_run=True))
    if not await totals.hold(engine, turn, manifest, allowed.arguments, held.step_id, allowed.totals, again):
        await spending.settle(engine, held, None)
        return False  # another call has changed the totals since the verdict: the gate judges this one again
    step = NewStep(
        StepKind.RETRIEVAL if manifest.is_retrieval else StepKind.TOOL,
        call.name,
        StepStatus.STARTED,
        datetime.now(UTC),
        id=held.step_id,
        verdict=StepVerdict.ALLOWED,
        rule=verdict.rule,
        call_id=call.id,
        attempt=again.attempt + 1 if again else 1,
        idempotency_key=again.idempotency_key if again else turn.next_key(),
        input={
            "call_id": call.id,
            "arguments": dict(allowed.arguments),
            "fingerprint": allowed.prints.fingerprint,
            "likeness": allowed.prints.likeness,
            "reason": verdict.reason,
            **_origins(turn, verdict),
            **_rules(verdict),
        },
    )
    write = Write(
        steps=[*allowed.notes, step],
        tool_calls=int(again is None),
        tool=call.name,
        risk="medium" if manifest.is_write else "low",
        guard=_guard(turn, manifest, is_reviewed=verdict.is_reviewed),
    )
    try:
        await engine.commit(turn, write)
    except (SwitchedOff, CancelRequested) as stopped:
        await spending.settle(engine, held, None)
        await totals.settle(engine, turn, manifest, held.step_id)
        if isinstance(stopped, SwitchedOff):
            await engine.switches(fresh=True)
        return False  # engaged since the verdict: the gate judges the call again, and says which and why
    await spending.settle(engine, held, step)
    if again is None and not verdict.is_reviewed:
        await rulings.count(engine.pool, turn.row["release_id"], verdict.rules)
    entry = turn.state.entry
    assert entry is not None
    return await _perform(engine, turn, manifest, allowed.executable, entry, outcome)


def _origins(turn: Turn, verdict: Allow) -> dict[str, Any]:
    """Why a tainted run may make the call: kept with the call."""
    if verdict.origins is None:
        return {}
    return {"provenance": provenance.as_json(verdict.origins, turn.known)}


def _rules(verdict: Allow | Refuse) -> dict[str, Any]:
    """The operator's rules that held: kept with the call."""
    return {"rules": ruling.as_json(verdict.rules)} if verdict.rules else {}


def _guard(turn: Turn, manifest: ToolManifest, *, is_reviewed: bool) -> Guard:
    return Guard(turn.agent, manifest.name, manifest.is_write, is_reviewed)


async def _switched_off(engine: Shell, stopped: SwitchedOff) -> str:
    found = {switch.id: switch for switch in await engine.switches(fresh=True)}
    switch = found.get(str(stopped.switch_id))
    return f"Kill switch: {switch.title}. {switch.reason}" if switch else "A kill switch was engaged just now."


async def _perform(
    engine: Shell, turn: Turn, manifest: ToolManifest, executable: Executable, entry: Entry, outcome: Outcome
) -> bool:
    """Make the call whose intent is committed, and commit its result. Never makes it twice.

    True when the turn is over, because the call is made again after a long wait.
    """
    context = turn.context(entry.idempotency_key)
    arguments = entry.input["arguments"]
    failure: Failure | None = None
    try:
        async with asyncio.timeout(manifest.timeout_s):
            if manifest.retry == "transactional" and not executable.is_async:
                with flights.under_way(turn, on_pause=False):
                    write, written = await threads.run_tool(
                        engine.tool_room,
                        manifest.name,
                        _with_its_step,
                        turn,
                        manifest,
                        executable,
                        entry,
                        context,
                        arguments,
                    )
                outcome.say()
                turn.fold(write, written.seq - write.size)
                turn.settle(written)
                engine.announce(turn)
                return False
            with flights.under_way(turn, on_pause=manifest.retry == "read"):
                value = await _call(engine, manifest, executable, context, arguments)
            finished = _succeeded(manifest, entry, value)
    except Interrupted as stopped:
        # One that was begun stays open: the loop rests, and makes a read again later; or it ends the run and says so.
        if turn.cancel_requested and not stopped.is_made:
            await engine.commit(turn, Write(finished=[_not_begun(entry)]))
        return False
    except ToolError as said:
        failure = Failure(said.kind, str(said), said.retry_after_s)
        finished = _failed(entry, said.code, str(said)[:300], f"The tool said: {str(said)[:LONGEST_ERROR]}")
    except TimeoutError:
        failure = Failure(ErrorClass.TIMEOUT, f"no result within {manifest.timeout_s:g} s")
        finished = _late(manifest, entry)
    except LeaseLost:
        raise
    except Exception as broken:
        failure = Failure(attempts.class_of(broken), f"{type(broken).__name__}: {broken}")
        finished = _broken(manifest, entry, broken)
    outcome.say(*((failure.error_class, redact.text(failure.error)) if failure else ()))
    if failure is not None and finished.status == StepStatus.FAILED:
        wait_s = attempts.tool_wait_s(manifest, entry, failure)
        if wait_s is not None:
            return await _again(engine, turn, manifest, entry, finished, wait_s)
    await _finish(engine, turn, manifest, finished)
    if finished.status == StepStatus.FAILED:
        await totals.settle(engine, turn, manifest, finished.id)
    return False


async def _again(
    engine: Shell, turn: Turn, manifest: ToolManifest, entry: Entry, failed: Finished, wait_s: float
) -> bool:
    """Write the failed attempt down and wait for the next one: asleep, or with the run given back until then."""
    told = {"again": True, "waits_s": round(wait_s, 3), "attempt": entry.attempt}
    failed = replace(
        failed,
        summary=f"{failed.summary[:240]} Made again after {wait_s:.1f} s.",
        output={**failed.output, **told},
    )
    failed, _ = await guarding.look(turn, manifest, entry, failed)
    write = Write(finished=[failed])
    if wait_s <= attempts.LONGEST_SLEEP_S:
        await _write_result(engine, turn, manifest, write)
        with contextlib.suppress(Interrupted), flights.under_way(turn, on_pause=True):
            await asyncio.sleep(wait_s)
        return False
    until = datetime.now(UTC) + timedelta(seconds=wait_s)
    await engine.commit(turn, journal.yielded(f"{manifest.name} is tried again later", until=until, write=write))
    return True


async def _call(
    engine: Shell, manifest: ToolManifest, executable: Executable, context: Any, arguments: Mapping[str, Any]
) -> Any:
    def call() -> Any:
        if not engine.is_trusted():  # frozen since the intent: others may have taken the run over
            raise LeaseLost
        return executable.call(context, arguments)

    value = call() if executable.is_async else await threads.run_tool(engine.tool_room, manifest.name, call)
    return await flights.apart(value) if inspect.isawaitable(value) else value


def _with_its_step(
    turn: Turn, manifest: ToolManifest, executable: Executable, entry: Entry, context: Any, arguments: Any
) -> tuple[Write, Written]:
    """Effect and result in one transaction: after a crash it either happened with its step or not at all."""
    with transaction.atomic(), connection.cursor() as cursor:
        value = executable.call(context, arguments)
        cursor.execute(
            "SELECT 1 FROM runtime_run WHERE id = %s AND fence = %s AND status = 'running' FOR UPDATE", turn.lease
        )
        held = cursor.fetchone()
        cursor.execute("SELECT 1 FROM runtime_step WHERE id = %s AND finished_at IS NULL", [entry.id])
        if held is None or cursor.fetchone() is None:
            raise LeaseLost
        done, found_in_it = guarding.result(turn, manifest, entry, _succeeded(manifest, entry, value))
        write = Write(found_in_it, [done], tainted=_taints(manifest, done))
        return write, journal.commit_within(cursor, turn.lease, write)


async def _finish(engine: Shell, turn: Turn, manifest: ToolManifest, finished: Finished) -> None:
    """Write the result. That of a read may wait for the next write: after a crash it is read again."""
    failed = finished.status != StepStatus.DONE
    assert turn.state.entry is not None
    finished, found_in_it = await guarding.look(turn, manifest, turn.state.entry, finished)
    write = Write(found_in_it, [finished], tool_errors=int(failed), tainted=_taints(manifest, finished))
    if manifest.retry == "read" and not failed:
        turn.hold(write)
    else:
        await _write_result(engine, turn, manifest, write)


async def _write_result(engine: Shell, turn: Turn, manifest: ToolManifest, write: Write) -> None:
    """Commit a result. A transactional call that was given up on may have been faster: the journal says what counts."""
    await engine.commit(turn, write)
    if manifest.retry == "transactional":
        await turns.reload(engine.pool, turn)


def _taints(manifest: ToolManifest, finished: Finished) -> bool:
    """Whether who reads this is tainted. An error is read like a result, and says what its author wants it to say."""
    return manifest.output_trust == "untrusted" or bool(finished.output.get("tainted"))


def _succeeded(manifest: ToolManifest, entry: Entry, value: Any) -> Finished:
    kept = toolbox.output(manifest, value, str(entry.input["arguments"].get("reason", "")))
    return Finished(
        UUID(entry.id), StepStatus.DONE, datetime.now(UTC), summary=toolbox.phrase(manifest, kept), output=kept
    )


def _failed(entry: Entry, code: str, summary: str, content: str) -> Finished:
    return Finished(
        UUID(entry.id),
        StepStatus.FAILED,
        datetime.now(UTC),
        summary=summary,
        error=code,
        output={"content": content, "error": summary},
    )


def _late(manifest: ToolManifest, entry: Entry) -> Finished:
    if manifest.retry == "unsafe":
        return unknown(entry)
    text = f"No result within {manifest.timeout_s:g} s."
    return _failed(entry, "timeout", text, f"The tool did not answer. {text}")


def _broken(manifest: ToolManifest, entry: Entry, broken: Exception) -> Finished:
    """Only a ToolError says that nothing happened; from an unsafe tool any other exception leaves it open."""
    if manifest.retry == "unsafe":
        return unknown(entry)
    text = f"{type(broken).__name__}: {broken}"[:300]
    return _failed(entry, "exception", text, f"The tool failed ({type(broken).__name__}).")


def _stopped(entry: Entry, why: str) -> Finished:
    return _failed(entry, "kill_switch", why, f"The call was not made again. {why}")
