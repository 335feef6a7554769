"""The steady load of chaos: runs of every shape, created as fast as they end, some delayed, some cancelled.

What `runs.create` returned is accepted, and has to be found again after everything.
"""

from __future__ import annotations

import random
import threading
import uuid
from datetime import timedelta
from uuid import UUID

from django.db import DatabaseError, InterfaceError, close_old_connections, connection, transaction

from console.actors import EVERY_SCOPE, Actor
from console.problems import Problem
from console.states import IllegalMove
from releases import bundles
from releases.models import Agent, Release
from runtime import runs, tools
from runtime.chaos import scenes
from runtime.models import Run
from runtime.states import FINAL

STARTER = Actor(
    kind="system",
    id="chaos",
    label="chaos",
    rights=frozenset({("runs.create", "*"), ("runs.cancel", "*"), ("runs.read", "*")}),
    tool_scopes=frozenset({EVERY_SCOPE}),
)
BUDGETS = {"max_steps": 1000, "max_tool_calls": 500, "max_tokens": 10**9, "max_seconds": 86_400, "max_approvals": 100}
DELAYED, CANCELLED = 0.1, 0.01  # of the runs created; of the newest, at each look
LOOK_S = 0.2
AWAY = (DatabaseError, InterfaceError)


def release(slug: str) -> Release:
    """An agent with one release, and the tables of its tools. Written as rows: it is no release of anybody's."""
    manifests = [tools.known()[name].manifest for name in scenes.TOOLS]
    rule = {
        "id": "much",
        "tool": "chaos_pay",
        "when": [{"argument": "amount", "op": "gt", "value": scenes.ASKED_FROM}],
        "then": "ask",
        "reason": "Much money.",
    }
    bundle = bundles.Bundle.model_validate(
        {
            "version": "chaos",
            "model": {"provider": "scripted", "name": scenes.SCRIPT},
            "instructions": "Do as you are told.",
            "tools": manifests,
            "rules": [rule],
            "budgets": BUDGETS,
        }
    )
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(scenes.MAKE_TABLES_SQL)
        agent = Agent.objects.create(slug=slug, name="Chaos")
        made = Release.objects.create(
            agent=agent, version="chaos", digest=bundles.digest(bundle), content=bundle.model_dump(mode="json")
        )
        agent.active_release = made
        agent.save(update_fields=["active_release"])
    return made


class Load(threading.Thread):
    """Keeps that many runs unfinished until `closing` is set. The database may go away meanwhile."""

    def __init__(self, agent: Agent, *, at_once: int, seed: int) -> None:
        super().__init__(name="load", daemon=True)
        self.agent = agent
        self.at_once = at_once
        self.chance = random.Random(seed)
        self.accepted: list[UUID] = []
        self.cancelled = 0
        self.closing = threading.Event()
        self._key = uuid.uuid4().hex  # of the next run, until it is known to be accepted

    def run(self) -> None:
        while not self.closing.wait(LOOK_S):
            close_old_connections()
            try:
                for _ in range(self.at_once - unfinished(self.agent)):
                    self._create()
                self._cancel_some()
            except AWAY:
                connection.close()
            except Problem:
                continue  # turned away: the queue is full, or new runs are paused
        connection.close()

    def _create(self) -> None:
        delay = timedelta(seconds=self.chance.uniform(1, 5)) if self.chance.random() < DELAYED else None
        run, _ = runs.create(
            agent=self.agent.slug,
            text=self.chance.choice([*scenes.SHAPES]),
            by=STARTER,
            principal_id=f"chaos-{len(self.accepted) % 50}",
            idempotency_key=self._key,
            delay=delay,
        )
        self.accepted.append(run.pk)
        self._key = uuid.uuid4().hex

    def _cancel_some(self) -> None:
        open_runs = Run.objects.filter(agent=self.agent).exclude(status__in=FINAL).order_by("-created_at")
        for key in open_runs.values_list("pk", flat=True)[:3]:
            if self.chance.random() < CANCELLED:
                try:
                    runs.cancel(key, by=STARTER, reason="chaos")
                    self.cancelled += 1
                except IllegalMove:  # it ended in the meantime
                    continue


def unfinished(agent: Agent) -> int:
    return Run.objects.filter(agent=agent).exclude(status__in=FINAL).count()
