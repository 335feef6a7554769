"""One interleaving: processes, a queue, a clock and people, driven step by step by chance, and then judged.

`chance` is a random.Random with a seed, or hypothesis's, which can shrink what it chose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from approvals.states import OPEN, ApprovalStatus, Verdict
from releases.states import Scope, SwitchEffect
from runtime.states import FINAL, RunStatus
from tests.runtime.simulation import agent
from tests.runtime.simulation.mechanisms import ALL, Mechanisms
from tests.runtime.simulation.outside import Outside
from tests.runtime.simulation.processes import Process
from tests.runtime.simulation.rows import ApprovalRow, RunRow
from tests.runtime.simulation.store import Store
from tests.runtime.simulation.witness import Broken, Witness

SWITCHES = (
    (Scope.EVERYTHING, SwitchEffect.WRITES_OFF, ""),
    (Scope.EVERYTHING, SwitchEffect.PAUSE_RUNS, ""),
    (Scope.AGENT, SwitchEffect.FORCE_REVIEW, agent.AGENT),
    *((Scope.TOOL, SwitchEffect.DISABLE_TOOL, tool) for tool in ("look", "pay", "send")),
)
MOST_DRIFT_S = 100.0  # how far the database's clock may step away from the true time
PATIENCE = 400  # seconds in which a world without faults must come to rest
STEPS_PER_SECOND = 60  # of each process, when the world comes to rest


class World:
    def __init__(self, chance: Random, mechanisms: Mechanisms = ALL) -> None:
        self.chance = chance
        self.mechanisms = mechanisms
        self.counts: Counter[str] = Counter()
        self.now = 1000.0
        self.clock_error = 0.0
        self.is_database_away = False
        self.people_answer = chance.random() < 0.8  # in the end; where they do not, deadlines must do
        self.witness = Witness(lambda: self.now)
        self.store = Store(mechanisms, self.witness, lambda: self.now + self.clock_error)
        self.outside = Outside(self.witness)
        self.processes = [Process(self, f"slot-{number}") for number in range(chance.choice((2, 2, 3)))]
        for process in self.processes:
            process.begin()
        self._actions: tuple[tuple[int, str, Callable[[], None]], ...] = (
            (6, "time passes", self._time_passes),
            (4, "crash", self._crash),
            (6, "restart", self._restart),
            (3, "freeze", self._freeze),
            (5, "thaw", self._thaw),
            (2, "lease lost", self._lease_lost),
            (1, "drain", self._drain),
            (3, "delivered twice", self._deliver_twice),
            (1, "redis flushed", self.store.queue.clear),
            (2, "database away", self._database_leaves),
            (4, "database back", self._database_returns),
            (1, "clock step", self._clock_step),
            (2, "late call", lambda: self.outside.drift(self.chance)),
            (1, "cancel", self._cancel),
            (2, "pause", self._pause),
            (2, "resume", self._resume),
            (4, "switch engaged", self._engage),
            (4, "switch lifted", self._lift),
            (6, "decision", self._decide),
            (2, "expiry", self._expire),
            (1, "release changed", self._change_release),
            (2, "approval tampered", self._tamper),
        )
        self._weights = [weight for weight, _, _ in self._actions]

    def play(self) -> Counter[str]:
        """Live through one interleaving. Returns what happened, counted.

        Raises:
            Broken: a property does not hold.
        """
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            scopes = frozenset({agent.PAY_SCOPE} if self.chance.random() < 0.9 else ())
            self.store.create(scopes, self.chance.randint(1, 4))
        for _ in range(self.chance.choice((30, 60, 60, 120))):
            if self.chance.random() < 0.75:
                self._progress()
            else:
                _, name, act = self.chance.choices(self._actions, self._weights)[0]
                self.counts[name] += 1
                act()
        self._faults_stop()
        self._come_to_rest(self._is_accounted_for)
        self._people_finish_it()
        self._come_to_rest(lambda run: run.status in FINAL)
        for run in self.store.runs.values():
            self.witness.judge_end(run)
            self.counts[f"run {run.status}"] += 1
            self.counts.update(event.kind for event in run.events)
            self.counts.update(f"call {row.entry.rule}" for row in run.steps if row.entry.rule)
            self.counts["attempts after a failure"] += sum(row.entry.attempt > 1 for row in run.steps)
        self.counts["calls that may have happened"] = sum(card.is_settlement for card in self.store.approvals.values())
        return self.counts

    # --- work

    def _progress(self) -> None:
        """Let one process do one thing: resume a turn up to its next await, or take a job."""
        self.now += 0.02
        able = [process for process in self.processes if process.can_work]
        if not able:
            return
        process = self.chance.choice(able)
        takes = self.store.queue and not process.is_draining
        if takes and (not process.turns or self.chance.random() < 0.3):
            process.take(self.store.queue.popleft())
        elif process.turns or process.threads:
            process.step()

    def _pass_time(self, seconds: int) -> None:
        """Each process that can beats once a second."""
        for _ in range(seconds):
            self.now += 1.0
            for process in self.processes:
                process.beat()

    # --- faults

    def _time_passes(self) -> None:
        self._pass_time(self.chance.choice((1, 1, 2, 5, 14)))

    def _crash(self) -> None:
        self._one_of(self._busy(), Process.die)

    def _restart(self) -> None:
        self._one_of([process for process in self.processes if not process.is_up], Process.begin)

    def _freeze(self) -> None:
        """For a moment, or for so long that others take over."""
        for process in self._some(self._busy()):
            process.is_frozen = True
            if self.chance.random() < 0.6:
                self._pass_time(15)

    def _thaw(self) -> None:
        for process in self._some([process for process in self.processes if process.is_frozen]):
            process.is_frozen = False

    def _lease_lost(self) -> None:
        """The lease runs out while the process works on: its heartbeat was starved."""
        for process in self._some([process for process in self.processes if process.is_up]):
            self.store.lives[process.life].lease_until = self.store.clock() - 1

    def _drain(self) -> None:
        for process in self._some([process for process in self.processes if process.is_up]):
            process.is_draining = True

    def _deliver_twice(self) -> None:
        for process in self._some([process for process in self.processes if process.can_work]):
            process.take(self.chance.choice(list(self.store.runs)))

    def _database_leaves(self) -> None:
        self.is_database_away = True

    def _database_returns(self) -> None:
        self.is_database_away = False

    def _clock_step(self) -> None:
        step = self.chance.choice((-60.0, -5.0, 5.0, 60.0))
        self.clock_error = max(-MOST_DRIFT_S, min(MOST_DRIFT_S, self.clock_error + step))

    def _tamper(self) -> None:
        """Somebody with access to the database changes what was approved, after the decision or before it."""
        effective = (ApprovalStatus.PENDING, ApprovalStatus.APPROVED)
        cards = [c for c in self.store.approvals.values() if c.status in effective and not c.is_settlement]
        for card in self._some(cards):
            larger = {"amount": 777}
            if card.status == ApprovalStatus.PENDING:
                card.arguments = larger
            elif self.chance.random() < 0.3:
                card.decided = larger
            else:
                row = self.store.runs[card.run].step(card.step)
                row.entry = replace(row.entry, output={**row.entry.output, "arguments": larger})

    # --- people; they reach the product through the database

    def _cancel(self) -> None:
        if not self.is_database_away:
            self._one_of(list(self.store.runs.values()), self.store.cancel)

    def _pause(self) -> None:
        if not self.is_database_away:
            self._one_of(list(self.store.runs.values()), self.store.pause)

    def _resume(self) -> None:
        if not self.is_database_away:
            self._one_of([run for run in self.store.runs.values() if run.pause_requested], self.store.resume)

    def _engage(self) -> None:
        if not self.is_database_away:
            self.store.engage(*self.chance.choice(SWITCHES))

    def _lift(self) -> None:
        if not self.is_database_away:
            self._one_of([row for row in self.store.switches if not row.is_lifted], self.store.lift)

    def _expire(self) -> None:
        if not self.is_database_away:
            self.store.expire_due()

    def _change_release(self) -> None:
        self.store.active_release = self.chance.choice(tuple(agent.BUNDLES))

    def _decide(self) -> None:
        pending = [card for card in self.store.approvals.values() if card.status == ApprovalStatus.PENDING]
        if not self.is_database_away:
            self._one_of(pending, self._answer)

    def _answer(self, card: ApprovalRow) -> None:
        verdict = self.chance.choice((Verdict.APPROVE, Verdict.APPROVE, Verdict.REJECT))
        arguments = dict(card.arguments)
        if verdict == Verdict.APPROVE and not card.is_settlement and self.chance.random() < 0.3:
            edited = {"amount": self.chance.choice((1, 60, 150, 900, 5000))}
            if not agent.is_forbidden(card.tool, edited, self.store.runs[card.run].scopes):
                arguments = edited
        self.store.decide(card, verdict, arguments)
        if self.chance.random() < 0.1:
            self._tamper()

    # --- the end

    def _faults_stop(self) -> None:
        self.is_database_away = False
        for process in self.processes:
            process.is_frozen = False
            if not process.is_up or process.is_draining:
                process.die()
                process.begin()

    def _people_finish_it(self) -> None:
        for row in self.store.switches:
            self.store.lift(row)
        for run in self.store.runs.values():
            self.store.resume(run)

    def _come_to_rest(self, is_settled: Callable[[RunRow], bool]) -> None:
        people_answer = self.people_answer and all(row.is_lifted for row in self.store.switches)
        for _ in range(PATIENCE):
            if all(is_settled(run) for run in self.store.runs.values()):
                return
            self._work_through()
            self._pass_time(1)
            self.store.expire_due()
            if people_answer and self.chance.random() < 0.1:
                self._decide()
            for process in self.processes:
                if not process.is_up:
                    process.begin()
        left = [run for run in self.store.runs.values() if not is_settled(run)]
        raise Broken("lost", f"nothing moves: {[(run.id, run.status, run.cause) for run in left]}")

    def _work_through(self) -> None:
        self.outside.drift(self.chance)
        for process in self.processes:
            while self.store.queue and self.chance.random() < 0.8:
                process.take(self.store.queue.popleft())
            for _ in range(STEPS_PER_SECOND):
                if not process.turns and not process.threads:
                    break
                process.step()

    def _is_accounted_for(self, run: RunRow) -> bool:
        """Over, or waiting for something that has a name: a person, a switch, a time."""
        if run.status == RunStatus.PAUSED:
            return run.pause_requested
        if run.status == RunStatus.WAITING:
            return any(card.run == run.id and card.status in OPEN for card in self.store.approvals.values())
        paused = any(not r.is_lifted and r.engaged.effect == SwitchEffect.PAUSE_RUNS for r in self.store.switches)
        return run.status in FINAL or (run.status == RunStatus.QUEUED and not run.started and paused)

    def _busy(self) -> list[Process]:
        """Processes in the middle of something; where there are none, all that are up."""
        up = [process for process in self.processes if process.is_up]
        return [process for process in up if process.turns or process.threads] or up

    def _some(self, among: list[Any]) -> list[Any]:
        return [self.chance.choice(among)] if among else []

    def _one_of(self, among: list[Any], act: Callable[[Any], object]) -> None:
        for chosen in self._some(among):
            act(chosen)


def play(seed: int, mechanisms: Mechanisms = ALL) -> Counter[str]:
    return World(Random(seed), mechanisms).play()
