"""The loop of the simulated engine: runtime.engine, texts and modelling in small, function by function.

The pure core (folding, budgeting) is the product's own.
"""

from __future__ import annotations

from collections.abc import Generator

from runtime.messages import ModelReply
from runtime.policies import budgeting, commands, folding
from runtime.policies.budgeting import Exhausted
from runtime.policies.commands import CallModel, CheckInput, CheckOutput, Finish, Judge, Recover, Wait
from runtime.policies.folding import Stage
from runtime.states import RunStatus, StepKind, StepStatus, StepVerdict
from tests.runtime.simulation import agent, calling
from tests.runtime.simulation.rows import Write
from tests.runtime.simulation.store import LeaseLost
from tests.runtime.simulation.turns import (
    Await,
    Away,
    Interrupted,
    Surroundings,
    Turn,
    claim,
    commit,
    db,
    finish,
    flush,
    let_go,
    new_step,
    reload,
    spent,
)

LONG_WAIT_S = 30.0


def run_turn(at: Surroundings, run_id: int) -> Await:
    try:
        turn = yield from claim(at, run_id)
    except Away:  # perhaps claimed: the worker gives back what it holds and does not work on
        return
    if turn is None:
        return
    try:
        yield from advance(at, turn)
    except LeaseLost:
        return
    except Away:
        turn.take()  # whether it was written is not known; the next claim reads it
        yield from give_back_when_possible(at, turn)


def give_back_when_possible(at: Surroundings, turn: Turn) -> Await:
    for _ in range(20):
        yield "waits for the database"
        try:
            yield from commit(at, turn, Write(status=RunStatus.QUEUED, events=["run.yielded"]))
            return
        except LeaseLost:
            return
        except Away:
            continue


def advance(at: Surroundings, turn: Turn) -> Await:
    if turn.state.steps == 0:
        step = new_step(at, StepKind.INPUT, "in", StepStatus.DONE, output={"text": "hello"})
        turn.hold(Write(steps=[step]))
    while True:
        if turn.cancel_requested:
            yield from cancel(at, turn)
            return
        if turn.pause_requested and (yield from pause(at, turn)):
            return
        if at.is_draining:
            yield from commit(at, turn, Write(status=RunStatus.QUEUED, events=["run.yielded"]))
            return
        if (yield from perform(at, turn)):
            return


def perform(at: Surroundings, turn: Turn) -> Generator[str, None, bool]:
    """As Engine._perform. True when the turn is over."""
    command = commands.next_step(
        turn.state,
        max_attempts=agent.BUDGETS.max_model_attempts,
        has_fallback=turn.bundle.fallback_model is not None,
    )
    if isinstance(command, CallModel | Judge) and at.mechanisms.budgets_in_gate:
        room = budgeting.decide_budget(agent.BUDGETS, spent(at, turn))
        if isinstance(room, Exhausted):
            command = Finish(RunStatus.FAILED, f"budget:{room.budget}", room.reason)
    match command:
        case CheckInput():
            guardrail(at, turn, "input")
        case CheckOutput():
            guardrail(at, turn, "output")
        case CallModel():
            return (yield from call_model(at, turn, command))
        case Judge():
            return (yield from calling.judge(at, turn, command))
        case Recover():
            return (yield from calling.recover(at, turn, command))
        case Wait():
            yield from commit(at, turn, Write(status=RunStatus.WAITING, events=["run.waiting"]))
            return True
        case Finish():
            yield from finish(at, turn, command)
            return True
    return False


def guardrail(at: Surroundings, turn: Turn, on: str) -> None:
    step = new_step(
        at,
        StepKind.GUARDRAIL,
        on,
        StepStatus.DONE,
        verdict=StepVerdict.PASSED,
        input={"on": on},
        output={"last": True},
    )
    turn.hold(Write(steps=[step]))


def call_model(at: Surroundings, turn: Turn, command: CallModel) -> Generator[str, None, bool]:
    if turn.not_before and at.chance.random() < 0.2:
        wake_at = at.store.clock() + LONG_WAIT_S
        yield from commit(at, turn, Write(status=RunStatus.QUEUED, wake_at=wake_at, events=["run.yielded"]))
        return True
    if turn.must_flush:
        yield from flush(at, turn)
    yield "the model thinks"
    try:
        let_go(at, turn, on_pause=True)
    except Interrupted:  # the call that was broken off is a step, and is made again
        step = new_step(at, StepKind.MODEL, "m", StepStatus.FAILED, error=folding.BROKEN_OFF, tokens=10)
        turn.hold(Write(steps=[step]), must_flush=True)
        return False
    if turn.held and at.chance.random() < 0.5:  # as Engine._show
        yield from flush(at, turn)
    if at.chance.random() < 0.1:
        turn.not_before = True
        step = new_step(
            at,
            StepKind.MODEL,
            "m",
            StepStatus.FAILED,
            error="timeout",
            tokens=10,
            input={"fallback": command.fallback},
            output={"retry": at.chance.random() < 0.8},
        )
        yield from commit(at, turn, Write(steps=[step]))
        return False
    said = sum(isinstance(message, ModelReply) for message in turn.state.messages)
    proposed = agent.proposal(at.chance) if said < turn.row.replies else []
    calls = [{"id": f"c{next(at.store.ids)}", "name": name, "arguments": args} for name, args in proposed]
    output = {"text": "" if calls else "Done.", "calls": calls}
    reply = new_step(at, StepKind.MODEL, "m", StepStatus.DONE, tokens=50, output=output)
    turn.hold(Write(steps=[reply]), must_flush=True)
    return False


def pause(at: Surroundings, turn: Turn) -> Generator[str, None, bool]:
    if not (yield from db(at, lambda: at.store.follow_pause(turn.lease, turn.held, at.life))):
        turn.pause_requested = False
        return False
    turn.take()
    return True


def cancel(at: Surroundings, turn: Turn) -> Await:
    if turn.state.stage == Stage.STARTED and turn.state.entry is not None and at.mechanisms.open_calls_marked:
        yield from reload(at, turn)
        if turn.state.stage == Stage.STARTED:
            yield from commit(at, turn, Write(finished=[calling.broken_off(turn.state.entry)]))
    yield from finish(at, turn, Finish(RunStatus.CANCELLED, "cancelled"))
