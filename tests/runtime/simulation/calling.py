"""Tool calls of the simulated engine: runtime.calling and runtime.calls in small, function by function.

The pure core (gating, toolbox) is the product's own.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from releases.bundles import ToolManifest
from releases.policies.switching import Engaged
from runtime import toolbox
from runtime.messages import Call
from runtime.policies import folding, gating
from runtime.policies.commands import Finish, Judge, Recover
from runtime.policies.folding import Entry
from runtime.policies.gating import Ask, Facts, Refuse
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict
from tests.runtime.simulation import agent
from tests.runtime.simulation.outside import SaidNo
from tests.runtime.simulation.rows import ApprovalRow, Arguments, Finished, Guard, Write
from tests.runtime.simulation.store import LeaseLost, SwitchedOff
from tests.runtime.simulation.turns import (
    Await,
    Away,
    CancelRequested,
    Interrupted,
    Late,
    Surroundings,
    Turn,
    commit,
    db,
    finish,
    let_go,
    new_step,
    reload,
    spent,
)
from tests.runtime.simulation.witness import Sent

MOST_ATTEMPTS = 3


def judge(at: Surroundings, turn: Turn, command: Judge) -> Generator[str, None, bool]:
    call, approval = command.call, command.approval
    manifest = agent.TOOLSET.get(call.name)
    raw = approval.output["arguments"] if approval else call.arguments
    arguments = dict(raw) if manifest and isinstance(raw, dict) and agent.is_well_formed(raw) else None
    if approval is not None:
        digest = agent.DIGESTS[turn.row.release]
        void = yield from db(at, lambda: at.store.why_void(turn.row.id, approval, call.name, arguments, digest))
        if void:
            refuse(at, turn, call, Refuse("approval-void", void))
            return False
    known = yield from switches(at)
    verdict: gating.Verdict = gating.Allow()
    if at.mechanisms.gate or manifest is None or arguments is None:
        verdict = gating.decide_call(facts(at, turn, command, arguments, known))
    if isinstance(verdict, Refuse) and verdict.switch_id:
        known = yield from switches(at, fresh=True)
        verdict = gating.decide_call(facts(at, turn, command, arguments, known))
    if isinstance(verdict, Refuse):
        refuse(at, turn, call, verdict)
        if verdict.ends_run:
            yield from finish(at, turn, Finish(RunStatus.FAILED, verdict.rule))
        return verdict.ends_run
    assert manifest is not None and arguments is not None
    if isinstance(verdict, Ask):
        yield from park(at, turn, call, arguments)
        return True
    yield from start(at, turn, command, manifest, arguments, is_reviewed=verdict.is_reviewed)
    return False


def switches(at: Surroundings, *, fresh: bool = False) -> Generator[str, None, list[Engaged]]:
    """As Engine.switches."""
    if fresh or at.known_switches is None:
        at.known_switches = yield from db(at, at.store.engaged)
    return at.known_switches


def broken_off(entry: Entry) -> Finished:
    """As calling.broken_off."""
    if agent.RETRY[entry.name] not in ("read", "transactional"):
        return Finished(entry.id, StepStatus.UNKNOWN)
    return Finished(entry.id, StepStatus.FAILED, folding.BROKEN_OFF, {"content": "let go of"})


def facts(at: Surroundings, turn: Turn, command: Judge, arguments: Arguments | None, known: list[Engaged]) -> Facts:
    """A call that is made again was counted when it was made first."""
    call, counted = command.call, int(command.again is not None)
    used = spent(at, turn)
    budgets = agent.BUDGETS if at.mechanisms.budgets_in_gate else agent.BUDGETS.model_copy(update=dict.fromkeys(
        ("max_tool_calls", "max_approvals", "max_steps", "max_repeats"), 1000))  # fmt: skip
    return Facts(
        tool=call.name,
        bundle=turn.bundle,
        agent=agent.AGENT,
        switches=tuple(known),
        scopes=turn.row.scopes,
        arguments=arguments,
        schema_errors={} if arguments is not None else {"amount": "no number"},
        has_secret=False,
        spent=replace(used, tool_calls=used.tool_calls - counted),
        budgets=budgets,
        repeats=turn.state.repeats.get(toolbox.fingerprint(call.name, arguments), 0) - counted,
        approvals=turn.state.approvals,
        reviewed=command.approval is not None,
    )


def refuse(at: Surroundings, turn: Turn, call: Call, refusal: Refuse) -> None:
    step = new_step(
        at,
        StepKind.GUARDRAIL,
        refusal.rule,
        StepStatus.REFUSED,
        verdict=StepVerdict.REFUSED,
        rule=refusal.rule,
        call_id=call.id,
        output={"content": refusal.reason},
    )
    turn.hold(Write(steps=[step]), must_flush=True)


def park(at: Surroundings, turn: Turn, call: Call, arguments: Arguments) -> Await:
    """As calls.park."""
    digest = toolbox.digest(call.name, arguments, agent.DIGESTS[turn.row.release])
    card = ApprovalRow(f"apr{next(at.store.ids)}", False, turn.row.id, call.id, call.name, dict(arguments), digest)
    verdict = new_step(at, StepKind.GUARDRAIL, "ask", StepStatus.DONE, verdict=StepVerdict.ASKED, call_id=call.id)
    bound = {"request": card.id, "tool": call.name, "digest": digest, "arguments": dict(arguments)}
    asked = new_step(at, StepKind.APPROVAL, "Approval", StepStatus.STARTED, call_id=call.id, input=bound)
    card.step = asked.id
    write = Write(steps=[verdict, asked])
    yield from db(at, lambda: at.store.park(turn.lease, turn.held, write, card, at.life))


def park_unknown(at: Surroundings, turn: Turn, call: Call, entry: Entry) -> Await:
    """As calls.park_unknown."""
    arguments = dict(entry.input["arguments"])
    card = ApprovalRow(f"apr{next(at.store.ids)}", True, turn.row.id, call.id, call.name, arguments, "")
    bound = {"request": card.id, "tool": call.name, "settles": entry.id}
    asked = new_step(at, StepKind.APPROVAL, "Approval", StepStatus.STARTED, call_id=call.id, input=bound)
    card.step = asked.id
    write = Write(steps=[asked], finished=[Finished(entry.id, StepStatus.UNKNOWN)])
    yield from db(at, lambda: at.store.park(turn.lease, turn.held, write, card, at.life))


def start(
    at: Surroundings, turn: Turn, command: Judge, manifest: ToolManifest, arguments: Arguments, *, is_reviewed: bool
) -> Await:
    call, again = command.call, command.again
    step = new_step(
        at,
        StepKind.TOOL,
        call.name,
        StepStatus.STARTED,
        verdict=StepVerdict.ALLOWED,
        call_id=call.id,
        attempt=again.attempt + 1 if again else 1,
        key=again.idempotency_key if again and at.mechanisms.same_key else turn.next_key(),
        input={"arguments": dict(arguments), "fingerprint": toolbox.fingerprint(call.name, arguments)},
    )
    write = Write(steps=[step], guard=Guard(call.name, manifest.is_write, is_reviewed))
    if not at.mechanisms.intent_first:
        yield from make_call(at, turn, Sent(turn.row.id, call.name, f"early:{call.id}", call.id, dict(arguments)))
    try:
        yield from commit(at, turn, write)
    except SwitchedOff:
        yield from switches(at, fresh=True)
        return
    except CancelRequested:
        return
    entry = turn.state.entry
    assert entry is not None
    yield from carry_out(at, turn, manifest, entry)


def recover(at: Surroundings, turn: Turn, command: Recover) -> Generator[str, None, bool]:
    call, entry = command.call, command.entry
    manifest = agent.TOOLSET[call.name]
    if manifest.retry == "unsafe" and at.mechanisms.unsafe_parks:
        yield from park_unknown(at, turn, call, entry)
        return True
    guard = Guard(call.name, manifest.is_write, is_reviewed=True)
    try:
        yield from commit(at, turn, Write(events=["call.repeated"], guard=guard))
    except SwitchedOff:
        yield from finish_call(at, turn, manifest, Finished(entry.id, StepStatus.FAILED, "kill_switch"))
        return False
    except CancelRequested:
        return False
    yield from carry_out(at, turn, manifest, entry, again=True)
    return False


def carry_out(at: Surroundings, turn: Turn, manifest: ToolManifest, entry: Entry, *, again: bool = False) -> Await:
    """As calling.perform: make the call whose intent is committed, and commit its result."""
    key = entry.idempotency_key if at.mechanisms.same_key or not again else f"{entry.idempotency_key}:again"
    sent = Sent(turn.row.id, entry.name, key, entry.call_id, dict(entry.input["arguments"]))
    finished = Finished(entry.id, StepStatus.DONE, output={"content": "done"})
    try:
        if manifest.retry == "transactional":
            yield from with_its_step(at, turn, sent, finished)
            yield from reload(at, turn)
            return
        yield from make_call(at, turn, sent)
    except Interrupted:
        return
    except SaidNo:
        finished = Finished(entry.id, StepStatus.FAILED, "tool_error", {"content": "no"})
    except LeaseLost:
        raise
    except (Late, Away, ConnectionError) as broken:
        again_too = {"again": True} if entry.attempt < MOST_ATTEMPTS and at.chance.random() < 0.5 else {}
        finished = Finished(entry.id, StepStatus.FAILED, type(broken).__name__, {"content": "failed", **again_too})
        if manifest.retry == "unsafe":
            finished = Finished(entry.id, StepStatus.UNKNOWN)
    yield from finish_call(at, turn, manifest, finished)


def finish_call(at: Surroundings, turn: Turn, manifest: ToolManifest, finished: Finished) -> Await:
    """As calling._finish: the result of a read may wait for the next write."""
    write = Write(finished=[finished])
    if manifest.retry == "read" and finished.status == StepStatus.DONE:
        turn.hold(write)
        return
    yield from commit(at, turn, write)
    if manifest.retry == "transactional" and at.mechanisms.journal_decides:
        yield from reload(at, turn)
    at.must_agree(turn)


def make_call(at: Surroundings, turn: Turn, sent: Sent) -> Await:
    """The call leaves; what becomes of it on the way is not the worker's to know."""
    at.outside.receive(sent, turn.row.release, turn.row.scopes)
    yield "the call is on its way"
    let_go(at, turn, on_pause=agent.RETRY[sent.tool] == "read")
    if at.chance.random() < 0.05:
        raise Late
    if at.chance.random() < 0.05:
        raise ConnectionError
    if at.chance.random() < 0.05:
        at.outside.decline(sent)
    at.outside.carry_out(sent)
    yield "the result is on its way"


def with_its_step(at: Surroundings, turn: Turn, sent: Sent, finished: Finished) -> Await:
    """As calling._with_its_step, in a thread that goes on when the turn has given up waiting."""

    def both() -> None:
        at.outside.receive(sent, turn.row.release, turn.row.scopes, at_once=True)

    def work() -> None:
        if at.mechanisms.effect_with_step:
            at.store.write_with_effect(turn.lease, finished.id, both, Write(finished=[finished]), at.life)
        else:
            both()

    if at.chance.random() < 0.1:
        at.in_thread(db(at, work))
        yield "the tool takes long"
        let_go(at, turn, on_pause=False)
        raise Late
    yield from db(at, work)
    if not at.mechanisms.effect_with_step:
        yield from commit(at, turn, Write(finished=[finished]))
