"""A simulated worker process: one life at a time, many turns at once, threads, a lease and a reconciler."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from releases.policies.switching import Engaged
from runtime.policies import folding
from runtime.states import RunStatus
from tests.runtime.simulation import engine
from tests.runtime.simulation.mechanisms import Mechanisms
from tests.runtime.simulation.outside import Outside
from tests.runtime.simulation.store import LEASE_S, LeaseLost, Store
from tests.runtime.simulation.turns import Await, Away, Turn
from tests.runtime.simulation.witness import Witness


class World(Protocol):
    """What all processes share."""

    store: Store
    witness: Witness
    outside: Outside
    chance: Random
    mechanisms: Mechanisms
    counts: Counter[str]
    now: float
    is_database_away: bool


@dataclass
class Process:
    """Its own `turns.Surroundings`."""

    world: World
    slot: str
    life: int = 0
    is_up: bool = False
    is_frozen: bool = False
    is_draining: bool = False
    known_switches: list[Engaged] | None = None
    beat_at: float = 0.0
    turns: list[tuple[int, Await]] = field(default_factory=list)  # with the run each works on
    threads: list[Await] = field(default_factory=list)

    def __post_init__(self) -> None:
        world = self.world
        self.store, self.outside, self.chance = world.store, world.outside, world.chance
        self.mechanisms = world.mechanisms

    @property
    def can_work(self) -> bool:
        return self.is_up and not self.is_frozen

    def monotonic(self) -> float:
        return self.world.now

    def database_is_away(self) -> bool:
        return self.world.is_database_away

    def in_thread(self, work: Await) -> None:
        self.threads.append(work)

    def must_agree(self, turn: Turn) -> None:
        """What the turn knows is what the journal says, as long as the run is its own."""
        run = self.store.runs[turn.row.id]
        if run.status == RunStatus.RUNNING and run.fence == turn.row.fence and not turn.held:
            self.world.witness.compare(run, turn.state, folding.fold(folding.begin(), self.store.load(run.id)))

    def begin(self) -> None:
        """A new life in this slot; it waits for the database."""
        if self.world.is_database_away:
            return
        self.life = self.store.register(self.slot).id
        self.is_up, self.is_frozen, self.is_draining = True, False, False
        self.beat_at = self.world.now

    def die(self) -> None:
        """Everything in memory is gone; what was sent is sent."""
        self.is_up = self.is_frozen = False
        self.known_switches = None
        self.turns.clear()
        self.threads.clear()

    def take(self, run_id: int) -> None:
        """A job arrived. The same run may be delivered twice, also to the same process."""
        self.turns.append((run_id, engine.run_turn(self, run_id)))

    def step(self) -> None:
        """Resume one turn, or one thread, until its next await."""
        self.world.counts["steps"] += 1
        at = self.chance.randrange(len(self.turns) + len(self.threads))
        try:
            if at < len(self.turns):
                next(self.turns[at][1])
            else:
                next(self.threads[at - len(self.turns)])
        except StopIteration:
            self._forget(at)
        except (LeaseLost, Away):
            if at < len(self.turns):
                raise
            self._forget(at)

    def beat(self) -> None:
        """As AsyncWorker._keep_lease and _reconcile, once."""
        if not self.can_work:
            return
        if self.world.is_database_away:
            if self.world.now - self.beat_at >= LEASE_S:
                self.die()
            return
        if not self.store.beat(self.life):
            self.die()
            return
        self.beat_at = self.world.now
        self.store.give_back_strays(self.life, {run_id for run_id, _ in self.turns})
        self.store.reconcile()
        if self.is_draining and not self.turns:
            self.store.end(self.life)
            self.die()

    def _forget(self, at: int) -> None:
        if at < len(self.turns):
            del self.turns[at]
        else:
            del self.threads[at - len(self.turns)]
