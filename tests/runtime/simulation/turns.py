"""A turn of the simulated engine, and its only doors to the database: runtime.turns and journal.commit in small.

Everything here is a coroutine that stops at every await. Every `yield` is a place where the process may die, freeze
or be overtaken.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any, Protocol, TypeVar

from releases.bundles import Bundle
from releases.policies.switching import Engaged
from runtime.policies import folding
from runtime.policies.budgeting import Spent
from runtime.policies.commands import Finish
from runtime.policies.folding import State
from runtime.states import RunStatus, StepKind, StepStatus
from tests.runtime.simulation import agent
from tests.runtime.simulation.mechanisms import Mechanisms
from tests.runtime.simulation.outside import Outside
from tests.runtime.simulation.rows import Lease, NewStep, RunRow, Write
from tests.runtime.simulation.store import LeaseLost, Store, Written

Await = Generator[str, None, Any]
T = TypeVar("T")


class Away(Exception):
    """The database does not answer, or its answer was lost on the way."""


class CancelRequested(Exception):
    """As journal.CancelRequested."""


class Interrupted(Exception):
    """As flights.Interrupted: somebody cancelled or paused the run in the middle of a call."""


class Late(Exception):
    """A call took longer than its time-out."""


class Surroundings(Protocol):
    """What a turn touches: the process it runs in and the world around that."""

    store: Store
    outside: Outside
    chance: Random
    mechanisms: Mechanisms
    life: int
    is_draining: bool
    known_switches: list[Engaged] | None  # as Engine._switches: read once, and again when they matter

    def monotonic(self) -> float: ...

    def database_is_away(self) -> bool: ...

    def in_thread(self, work: Await) -> None: ...

    def must_agree(self, turn: Turn) -> None: ...


@dataclass
class Turn:
    """As turns.Turn."""

    row: RunRow
    bundle: Bundle
    state: State
    cancel_requested: bool
    pause_requested: bool
    began: float
    seq: int
    held: list[Write] = field(default_factory=list)
    must_flush: bool = False
    not_before: bool = False

    @property
    def lease(self) -> Lease:
        return Lease(self.row.id, self.row.fence)

    def next_key(self) -> str:
        return f"{self.row.id}:{self.state.steps + 1}"

    def hold(self, write: Write, *, must_flush: bool = False) -> None:
        self.fold(write, self.seq + sum(each.size for each in self.held))
        self.held.append(write)
        self.must_flush = self.must_flush or must_flush

    def take(self) -> list[Write]:
        taken, self.held, self.must_flush = self.held, [], False
        return taken

    def settle(self, answer: Written) -> None:
        self.seq = answer.seq
        self.cancel_requested = self.cancel_requested or answer.cancel_requested
        self.pause_requested = self.pause_requested or answer.pause_requested

    def fold(self, write: Write, before: int) -> None:
        entries = [step.entry(before + place) for place, step in enumerate(write.steps, start=1)]
        for done in write.finished:
            started = self.state.entry
            if started is not None and started.id == done.id:
                entries.append(replace(started, status=done.status, error=done.error, output=done.output))
        self.state = folding.fold(self.state, entries)


def new_step(at: Surroundings, kind: StepKind, name: str, status: StepStatus, **fields: Any) -> NewStep:
    return NewStep(kind, name, status, id=str(next(at.store.ids)), **fields)


def db(at: Surroundings, operation: Callable[[], T]) -> Generator[str, None, T]:
    """One round trip. It may fail before anything was written, or after, with nobody the wiser."""
    yield "asked"
    if at.database_is_away():
        raise Away
    answer = operation()
    yield "answered"
    if at.database_is_away():
        raise Away
    return answer


def claim(at: Surroundings, run_id: int) -> Generator[str, None, Turn | None]:
    row = yield from db(at, lambda: at.store.claim(run_id, at.life))
    if row is None:
        return None
    entries = yield from db(at, lambda: at.store.load(run_id))
    state = folding.fold(folding.begin(), entries)
    bundle = agent.BUNDLES[row.release]
    return Turn(row, bundle, state, row.cancel_requested, row.pause_requested, at.monotonic(), row.seq)


def reload(at: Surroundings, turn: Turn) -> Await:
    entries = yield from db(at, lambda: at.store.load(turn.row.id))
    turn.state = folding.fold(folding.begin(), entries)
    turn.seq = at.store.runs[turn.row.id].seq


def commit(at: Surroundings, turn: Turn, write: Write) -> Await:
    """As Engine.commit."""
    try:
        written = yield from db(at, lambda: at.store.write(turn.lease, [*turn.held, write], at.life, base=turn.seq))
    except LeaseLost:
        if write.guard is None:
            raise
        yield from commit(at, turn, Write())
        raise CancelRequested from None
    turn.take()
    turn.fold(write, written.seq - write.size)
    turn.settle(written)


def let_go(at: Surroundings, turn: Turn, *, on_pause: bool) -> None:
    """As Engine.look_for_requests and flights.let_go: perhaps the worker hears of it in time.

    Raises:
        Interrupted: it has.
    """
    run = at.store.runs[turn.row.id]
    mine = run.fence == turn.row.fence and run.status == RunStatus.RUNNING
    if not mine or at.database_is_away() or at.chance.random() < 0.3:
        return
    turn.cancel_requested = turn.cancel_requested or run.cancel_requested
    turn.pause_requested = turn.pause_requested or run.pause_requested
    if turn.cancel_requested or (on_pause and turn.pause_requested):
        raise Interrupted


def flush(at: Surroundings, turn: Turn) -> Await:
    """As Engine._flush_taken."""
    taken = turn.take()
    turn.settle((yield from db(at, lambda: at.store.write(turn.lease, taken, at.life, base=turn.seq))))


def finish(at: Surroundings, turn: Turn, end: Finish) -> Await:
    last = new_step(at, StepKind.ANSWER, end.cause, StepStatus.DONE, output={"text": end.text})
    whole = Write(steps=[last], status=end.status, cause=end.cause, events=["run.finished"])
    if not at.mechanisms.end_in_one_write:
        yield from commit(at, turn, Write(status=end.status))
        whole = Write(steps=[last], events=["run.finished"])
    yield from commit(at, turn, whole)


def spent(at: Surroundings, turn: Turn) -> Spent:
    working = timedelta(seconds=turn.row.working + at.monotonic() - turn.began)
    return Spent(turn.state.steps, turn.state.tool_calls, turn.state.tokens, Decimal(0), working)
