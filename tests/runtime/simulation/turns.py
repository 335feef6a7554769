"""A turn of the simulated engine, and its only doors to the database: runtime.turns and journal.commit in small.

Everything here is a coroutine that stops at every await. Every `yield` is a place where the process may die, freeze
or be overtaken.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any, Protocol, TypeVar

from releases.bundles import Bundle
from runtime.policies import folding
from runtime.policies.budgeting import Spent
from runtime.policies.folding import Finish, State
from runtime.states import StepKind, StepStatus
from tests.runtime.simulation import agent
from tests.runtime.simulation.mechanisms import Mechanisms
from tests.runtime.simulation.outside import Outside
from tests.runtime.simulation.rows import Lease, NewStep, RunRow, Write
from tests.runtime.simulation.store import Store

Await = Generator[str, None, Any]
T = TypeVar("T")


class Away(Exception):
    """The database does not answer, or its answer was lost on the way."""


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

    def monotonic(self) -> float: ...

    def database_is_away(self) -> bool: ...

    def in_thread(self, work: Await) -> None: ...


@dataclass
class Turn:
    """As turns.Turn."""

    row: RunRow
    bundle: Bundle
    state: State
    cancel_requested: bool
    began: float
    seq: int
    not_before: bool = False

    @property
    def lease(self) -> Lease:
        return Lease(self.row.id, self.row.fence)


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
    return Turn(row, agent.BUNDLES[row.release], state, row.cancel_requested, at.monotonic(), row.seq)


def reload(at: Surroundings, turn: Turn) -> Await:
    entries = yield from db(at, lambda: at.store.load(turn.row.id))
    turn.state = folding.fold(folding.begin(), entries)


def commit(at: Surroundings, turn: Turn, write: Write) -> Await:
    """As Engine.commit."""
    written = yield from db(at, lambda: at.store.write(turn.lease, write, at.life, base=turn.seq))
    turn.seq = written.seq
    turn.state = folding.fold(turn.state, written.entries)
    turn.cancel_requested = turn.cancel_requested or written.cancel_requested


def finish(at: Surroundings, turn: Turn, end: Finish) -> Await:
    last = NewStep(StepKind.ANSWER, end.cause, StepStatus.DONE, output={"text": end.text})
    whole = Write(steps=[last], status=end.status, cause=end.cause, events=["run.finished"])
    if not at.mechanisms.end_in_one_write:
        yield from commit(at, turn, Write(status=end.status))
        whole = Write(steps=[last], events=["run.finished"])
    yield from commit(at, turn, whole)


def spent(at: Surroundings, turn: Turn) -> Spent:
    working = timedelta(seconds=turn.row.working + at.monotonic() - turn.began)
    return Spent(turn.state.steps, turn.state.tool_calls, turn.state.tokens, Decimal(0), working)
