"""Proposed calls: through the gate, to a person or to a committed intent, and only then to the tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from console.principals import PrincipalKind
from releases import switches
from releases.bundles import ToolManifest
from releases.policies.switching import Engaged
from releases.policies.variables import Totals
from runtime import (
    acting,
    attempts,
    calling,
    calls,
    flights,
    guarding,
    rulings,
    spending,
    threads,
    thresholds,
    toolbox,
    totals,
    verdicts,
)
from runtime.circuits import Open, Outcome
from runtime.flights import Interrupted
from runtime.guarding import AboutCall
from runtime.journal import CancelRequested, NewStep, SwitchedOff, Write
from runtime.messages import Call
from runtime.policies import gating, looping, provenance, ruling
from runtime.policies.budgeting import Exhausted
from runtime.policies.commands import Finish, Judge
from runtime.policies.folding import Entry
from runtime.policies.gating import Allow, Ask, Facts, Refuse
from runtime.pools import AWAY
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict
from runtime.thresholds import NotMade
from runtime.toolbox import Executable
from runtime.turns import Shell, Turn


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
    seen = await totals.seen(engine, turn, manifest)
    facts = _facts(turn, command, prepared, prints, await engine.switches(), about, seen)
    if facts.principal.kind == PrincipalKind.STAFF:
        facts = await threads.run(acting.as_staff, facts)
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


def _facts(
    turn: Turn,
    command: Judge,
    prepared: toolbox.Prepared,
    prints: Prints,
    engaged: tuple[Engaged, ...],
    about: AboutCall,
    seen: Totals | None,
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
        has_secret=prepared.has_secret or (call.is_masked and not any(one.check == "secrets" for one in about.found)),
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
        thread_id=turn.public_thread_id,
        now=datetime.now(UTC),
        content=about.found,
        totals=seen,
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
        guard=calling.guard(turn, manifest, is_reviewed=verdict.is_reviewed),
    )
    try:
        await _intend(engine, turn, manifest, write, held)
    except (SwitchedOff, CancelRequested) as stopped:
        await spending.settle(engine, held, None)
        await totals.settle(engine, turn, manifest, held.step_id)
        if isinstance(stopped, SwitchedOff):
            await engine.switches(fresh=True)
        return False  # engaged since the verdict: the gate judges the call again, and says which and why
    if again is None and not verdict.is_reviewed:
        await rulings.count(engine.pool, turn.row["release_id"], verdict.rules)
    entry = turn.state.entry
    assert entry is not None
    threshold = thresholds.of_first(manifest)
    return await calling.perform(engine, turn, manifest, allowed.executable, entry, outcome, threshold)


async def _intend(engine: Shell, turn: Turn, manifest: ToolManifest, write: Write, held: spending.Held) -> None:
    """Commit the intent, and charge the day for the call.

    Raises:
        SwitchedOff, CancelRequested: it was not committed.
        NotMade: of an unsafe call. It may be committed or not, and is not followed by the call.
    """
    try:
        await engine.commit(turn, write)
        await spending.settle(engine, held, write.steps[-1])
    except AWAY as away:
        if manifest.retry == "unsafe":
            raise NotMade(held.step_id) from away
        raise


def _origins(turn: Turn, verdict: Allow) -> dict[str, Any]:
    """Why a tainted run may make the call: kept with the call."""
    if verdict.origins is None:
        return {}
    return {"provenance": provenance.as_json(verdict.origins, turn.known)}


def _rules(verdict: Allow | Refuse) -> dict[str, Any]:
    """The operator's rules that held: kept with the call."""
    return {"rules": ruling.as_json(verdict.rules)} if verdict.rules else {}
