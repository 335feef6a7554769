"""Chaos from its first process to its judgement."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import DatabaseError, InterfaceError, close_old_connections, connection

from console.embedded import session
from runtime import workers
from runtime.chaos import judging, loads
from runtime.chaos.crew import Crew
from runtime.chaos.faults import Faults
from runtime.chaos.judging import Judgement
from runtime.chaos.loads import Load
from runtime.chaos.people import People

TICK_S = 0.05
START_S = 90.0
SETTLE_S = 180.0
LOOK_S = 0.5


class NotStarted(Exception):
    """The load or the workers do not work, so there is nothing to judge."""


@dataclass(frozen=True)
class Options:
    """`pause_s`: the mean time between two faults. `lease_s`: None for the product's own lease.

    `most_s`: when faults stop although not every kill has been made.
    """

    kills: int
    seed: int
    workers: int
    runs_at_once: int
    pause_s: float
    lease_s: float | None
    most_s: float | None


@dataclass(frozen=True)
class Figures:
    """How far it is, for whoever looks on."""

    kills: int
    faults: int
    accepted: int
    unfinished: int | None  # None: the database is away


Progress = Callable[[Figures], None]


class Storm:
    def __init__(self, options: Options, progress: Progress) -> None:
        self.options = options
        self.progress = progress
        self.folder = Path(tempfile.mkdtemp(prefix="steadyhand-chaos-"))
        self.lease_s = options.lease_s or workers.LEASE.total_seconds()
        self.crew = Crew(self.folder, options.workers, options.lease_s, session.own)
        self.faults = Faults(self.crew, seed=options.seed, lease_s=self.lease_s)
        self.chance = random.Random(options.seed + 1)
        self.unfinished: int | None = None  # runs, as last looked
        self._looked_at = 0.0

    def run(self) -> dict[str, Any]:
        """Start everything, hurt it, let it settle and judge. Whatever was started is ended again.

        Raises:
            NotStarted: the first runs did not end, or no more could be created.
        """
        began = time.monotonic()
        call_command("migrate", verbosity=0, interactive=False)
        release = loads.release(f"chaos-{uuid.uuid4().hex[:8]}")
        load = Load(release.agent, at_once=self.options.runs_at_once, seed=self.options.seed + 2)
        people = People(release.agent.slug, seed=self.options.seed + 3, may_look=lambda: not self.faults.is_frozen())
        self.load = load
        try:
            load.start()
            people.start()
            self._until_it_works()
            started = time.monotonic()
            self._rage()
            stormed = time.monotonic()
            settled_s = self._settle()
            judgement = judging.judge(release.agent, load.accepted)
            report = self._report(people, judgement)
            report |= {
                "seconds": round(time.monotonic() - began, 1),
                "storm_s": round(stormed - started, 1),
                "settled_s": settled_s,
            }
            if not judgement.is_clean:
                report["last_words"] = self.crew.last_words()
            return report
        finally:
            load.closing.set()
            people.closing.set()
            self.crew.stop()
            load.join(10)
            people.join(10)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _until_it_works(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._ended():
            if time.monotonic() > deadline:
                raise NotStarted(f"No run ended within {START_S:.0f} s.{self.crew.last_words()}")
            self._tick()

    def _rage(self) -> None:
        next_at = time.monotonic()
        end = next_at + (self.options.most_s or float("inf"))
        while self.faults.kills < self.options.kills and time.monotonic() < end:
            if time.monotonic() >= next_at and self.faults.inject():
                next_at = time.monotonic() + self.chance.uniform(0.2, 1.8) * self.options.pause_s
            self._tick()

    def _settle(self) -> float | None:
        """Seconds until every run had ended once faults had stopped; None when that did not come about."""
        self.load.closing.set()
        self.faults.mend_all()
        began = time.monotonic()
        while time.monotonic() - began < SETTLE_S:
            self._tick()
            if self.unfinished == 0:
                return round(time.monotonic() - began, 1)
        return None

    def _tick(self) -> None:
        self.faults.mend_due()
        self.crew.revive()
        if time.monotonic() - self._looked_at > LOOK_S:
            self._looked_at = time.monotonic()
            self.unfinished = _unless_away(lambda: loads.unfinished(self.load.agent))
            self.progress(
                Figures(self.faults.kills, self.faults.counts.total(), len(self.load.accepted), self.unfinished)
            )
        if not self.load.is_alive() and not self.load.closing.is_set():
            raise NotStarted("The load broke off; its error stands above.")
        time.sleep(TICK_S)

    def _ended(self) -> bool:
        return self.unfinished is not None and len(self.load.accepted) > self.unfinished

    def _report(self, people: People, judgement: Judgement) -> dict[str, Any]:
        agent = self.load.agent.pk
        of_agent = "run_id IN (SELECT id FROM runtime_run WHERE agent_id = %s)"
        settlements = f"SELECT count(*) FROM runtime_step WHERE name = 'Approval' AND {of_agent} AND id IN ("  # noqa: S608
        settlements += "SELECT step_id FROM runtime_steppayload WHERE input ? 'settles')"
        events = f"SELECT count(*) FROM runtime_runevent WHERE kind = %s AND {of_agent}"  # noqa: S608
        return {
            "seed": self.options.seed,
            "workers": self.options.workers,
            "lease_s": self.lease_s,
            "kills": self.faults.kills,
            "faults": dict(sorted(self.faults.counts.items())),
            "servers_restarted": [server.name for server in self.crew.own.each()] if self.crew.own else [],
            "worker_starts": sum(member.starts for member in self.crew.members if member.name != "scheduler"),
            "accepted": len(self.load.accepted),
            "ends": judging.ends(self.load.agent),
            "cancels": self.load.cancelled,
            "answers": dict(sorted(people.answered.items())),
            "effects": judging.number("SELECT count(*) FROM chaos_effect"),
            "takeovers": judging.number(events, "lease.lost", agent),
            "calls_made_again": judging.number(events, "call.repeated", agent),
            "unknown": judging.number(settlements, agent),
            "lost": judging.count(judgement.lost),
            "duplicated": judging.count(judgement.duplicated),
            "stuck": judging.count(judgement.stuck),
            "journal": judging.count(judgement.journal),
            "found": {**judgement.lost, **judgement.duplicated, **judgement.stuck, **judgement.journal},
        }


def _unless_away(ask: Callable[[], int]) -> int | None:
    close_old_connections()
    try:
        return ask()
    except (DatabaseError, InterfaceError):
        connection.close()
        return None
