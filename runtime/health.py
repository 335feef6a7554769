"""How the queue is doing: who waits and why, who works, what was recovered. Four queries, however many runs there are.

Finished runs are never looked at: the groups come from the index over the status, the rates from those over the times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.models import Count, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from console.actors import Actor
from releases import switches
from runtime import masking
from runtime.models import Run, RunEvent, Worker
from runtime.policies import waiting
from runtime.policies.waiting import Facts, Reason
from runtime.states import FINAL, RunPriority, RunStatus

UNFINISHED = sorted(status.value for status in set(RunStatus) - FINAL)
RATE_OVER = timedelta(minutes=5)
LOOK_BACK = timedelta(hours=1)
MOST_RECOVERIES = 200
MOST_DEAD = 20
MOST_COUNTED = 100_000  # runs in RATE_OVER; beyond, the rate is at least that
LOST = "lease.lost"
ALARM_KEY = "runtime.health.alarm"
CALM = "calm"
ALARM_FOR_S = 5  # one look serves every page of that time
TOPIC = "health"

# A run waits since it was accepted, gave its worker back, was parked, or its time came.
SINCE_SQL = """CASE WHEN run.status = 'running' THEN COALESCE(run.turn_started_at, run.queued_at)
    ELSE GREATEST(COALESCE(run.waiting_since, CASE WHEN run.started_at IS NULL THEN run.created_at
        ELSE run.queued_at END), CASE WHEN run.held_for = '' AND run.wake_at <= %(now)s THEN run.wake_at END) END"""
GROUPS_SQL = f"""
WITH unfinished AS (
    SELECT id, agent_id, status, priority, wait_reason, held_for, started_at IS NOT NULL AS has_begun,
        wake_at IS NULL OR wake_at <= %(now)s AS is_due, {SINCE_SQL} AS since
    FROM runtime_run AS run WHERE status = ANY (%(unfinished)s)
), grouped AS (
    SELECT agent_id, status, priority, wait_reason, held_for, has_begun, is_due, count(*) AS count, min(since) AS since,
        (array_agg(id ORDER BY since, id))[1] AS oldest
    FROM unfinished GROUP BY agent_id, status, priority, wait_reason, held_for, has_begun, is_due
)
SELECT agent.slug, agent.name, grouped.status, grouped.priority, grouped.wait_reason, grouped.held_for,
    grouped.has_begun, grouped.is_due, EXISTS ({switches.pausing_sql("agent.slug")}) AS is_stopped,
    grouped.count, grouped.since, grouped.oldest, run.title
FROM grouped JOIN releases_agent AS agent ON agent.id = grouped.agent_id JOIN runtime_run AS run ON run.id = oldest
WHERE %(agents)s::text[] IS NULL OR agent.slug = ANY (%(agents)s)
"""  # noqa: S608 (constants of ours only)
FIGURES_SQL = """
SELECT COALESCE((SELECT epoch FROM releases_switchepoch WHERE id = 1), 0),
    (SELECT count(*) FROM (SELECT 1 FROM runtime_run WHERE created_at > %(since)s LIMIT %(most)s) AS accepted),
    (SELECT count(*) FROM (SELECT 1 FROM runtime_run WHERE finished_at > %(since)s LIMIT %(most)s) AS finished)
"""
ALARM_SQL = f"""
SELECT EXISTS (SELECT 1 FROM runtime_worker WHERE ended_at IS NULL AND lease_until > %(now)s),
    (SELECT min({SINCE_SQL}) FROM runtime_run AS run JOIN releases_agent AS agent ON agent.id = run.agent_id
     WHERE run.status = 'queued' AND run.held_for = '' AND (run.wake_at IS NULL OR run.wake_at <= %(now)s)
        AND (run.started_at IS NOT NULL OR NOT EXISTS ({switches.pausing_sql("agent.slug")})))
"""  # noqa: S608 (constants of ours only)


@dataclass(frozen=True)
class Oldest:
    run_id: UUID
    title: str
    since: datetime


@dataclass
class Group:
    """Runs that have something in common, and the one of them that has been so for longest."""

    count: int = 0
    oldest: Oldest | None = None

    def add(self, count: int, oldest: Oldest) -> None:
        self.count += count
        if self.oldest is None or oldest.since < self.oldest.since:
            self.oldest = oldest


@dataclass
class Part:
    """One agent or one priority: its runs at work, those that wait for a worker, and all others."""

    key: str
    label: str
    running: Group = field(default_factory=Group)
    ready: Group = field(default_factory=Group)
    other: Group = field(default_factory=Group)


@dataclass(frozen=True)
class Life:
    """One life of a worker. `capacity` 0: it did not say."""

    worker: Worker
    in_flight: int
    recovered: int  # runs it lost within LOOK_BACK
    lease_left: timedelta
    is_expired: bool
    is_behind: bool  # has not seen the latest switch


@dataclass(frozen=True)
class Recovery:
    """A run that was taken from a worker that had died."""

    at: datetime
    run_id: UUID
    title: str
    slot: str
    number: int


@dataclass
class Health:
    """The queue at one moment. Lists are in the order in which an operator reads them."""

    at: datetime
    reasons: dict[Reason, Group]
    running: Group
    priorities: list[Part]
    agents: list[Part]
    alive: list[Life]
    dead: list[Life]
    recoveries: list[Recovery]
    accepted_per_minute: float
    finished_per_minute: float
    switch_epoch: int

    @property
    def ready(self) -> Group:
        return self.reasons[Reason.WORKER]

    @property
    def capacity(self) -> int:
        return sum(life.worker.capacity for life in self.alive)


def read(actor: Actor, now: datetime) -> Health:
    """What the actor may see of it: runs of their agents, all workers."""
    epoch, accepted, finished = _figures(now)
    recoveries = _recoveries(actor, now)
    lost = Counter(str(event.data.get("worker", "")) for event in recoveries)
    lives = [_life(worker, lost[str(worker.pk)], epoch, now) for worker in _workers(now)]
    found = Health(
        at=now,
        reasons={reason: Group() for reason in Reason},
        running=Group(),
        priorities=[Part(priority, priority.value.capitalize()) for priority in RunPriority],
        agents=[],
        alive=[life for life in lives if life.worker.ended_at is None],
        dead=[life for life in lives if life.worker.ended_at is not None][:MOST_DEAD],
        recoveries=[_recovery(event, actor) for event in recoveries],
        accepted_per_minute=accepted / (RATE_OVER / timedelta(minutes=1)),
        finished_per_minute=finished / (RATE_OVER / timedelta(minutes=1)),
        switch_epoch=epoch,
    )
    _fill(found, _groups(actor, now), actor)
    return found


@dataclass(frozen=True)
class Alarm:
    """`since`: when the run that has waited longest for a worker began to; None when nothing waits."""

    is_without_worker: bool
    since: datetime | None


def alarm(now: datetime) -> Alarm | None:
    """What every operator should know at once. Looked up at most every few seconds in each process."""
    known: Alarm | str | None = cache.get(ALARM_KEY)
    if known is None:
        known = _alarm(now) or CALM
        cache.set(ALARM_KEY, known, ALARM_FOR_S)
    return known if isinstance(known, Alarm) else None


def _alarm(now: datetime) -> Alarm | None:
    with connection.cursor() as cursor:
        cursor.execute(ALARM_SQL, {"now": now})
        lives, since = cursor.fetchone()
    is_late = since is not None and now - since > timedelta(seconds=settings.QUEUE_ALARM_SECONDS)
    return Alarm(not lives, since) if is_late or not lives else None


def _figures(now: datetime) -> tuple[int, int, int]:
    with connection.cursor() as cursor:
        cursor.execute(FIGURES_SQL, {"since": now - RATE_OVER, "most": MOST_COUNTED})
        epoch, accepted, finished = cursor.fetchone()
    return epoch, accepted, finished


def _groups(actor: Actor, now: datetime) -> list[Mapping[str, Any]]:
    allowed = actor.agents("health.read")
    asked: dict[str, Any] = {
        "now": now,
        "unfinished": UNFINISHED,
        "agents": None if allowed is None else sorted(allowed),
    }
    names = ("slug", "agent", "status", "priority", "said", "hold", "has_begun", "is_due", "is_stopped", "count")
    with connection.cursor() as cursor:
        cursor.execute(GROUPS_SQL, asked)
        return [dict(zip((*names, "since", "oldest", "title"), row, strict=True)) for row in cursor.fetchall()]


def _fill(found: Health, groups: Iterable[Mapping[str, Any]], actor: Actor) -> None:
    priorities = {part.key: part for part in found.priorities}
    agents: dict[str, Part] = {}
    for group in groups:
        shown = masking.masked_for(actor, group["slug"])
        oldest = Oldest(group["oldest"], shown(group["title"]), group["since"])
        names = ("status", "said", "hold", "is_due", "has_begun", "is_stopped")
        reason = waiting.decide_reason(Facts(**{name: group[name] for name in names}))
        whole = found.running if reason is None else found.reasons[reason]
        agent = agents.setdefault(group["slug"], Part(group["slug"], group["agent"]))
        which = "running" if reason is None else "ready" if reason == Reason.WORKER else "other"
        for one in (whole, getattr(agent, which), getattr(priorities[group["priority"]], which)):
            one.add(group["count"], oldest)
    found.agents = sorted(agents.values(), key=lambda part: (-part.ready.count, part.label))


def _workers(now: datetime) -> Sequence[Worker]:
    """The living, and those whose life has ended lately, latest first."""
    held = Run.objects.filter(worker=OuterRef("pk"), status=RunStatus.RUNNING).order_by().values("worker")
    in_flight = Coalesce(Subquery(held.annotate(count=Count("pk")).values("count")), 0)
    lately = Q(ended_at__isnull=True) | Q(ended_at__gte=now - LOOK_BACK)
    return list(Worker.objects.filter(lately).annotate(in_flight=in_flight).order_by("ended_at", "slot"))


def _life(worker: Worker, recovered: int, epoch: int, now: datetime) -> Life:
    ended = worker.ended_at
    return Life(
        worker=worker,
        in_flight=worker.in_flight,  # type: ignore[attr-defined]  # annotated by _workers
        recovered=recovered,
        lease_left=max(worker.lease_until - now, timedelta()),
        is_expired=worker.lease_until <= (ended or now),
        is_behind=ended is None and worker.seen_switch_epoch < epoch,
    )


def _recoveries(actor: Actor, now: datetime) -> list[RunEvent]:
    found = RunEvent.objects.filter(kind=LOST, at__gte=now - LOOK_BACK).order_by("-at")
    allowed = actor.agents("health.read")
    if allowed is not None:
        found = found.filter(run__agent__slug__in=allowed)
    about = "run__title", "run__agent__slug"
    return list(found.select_related("run__agent").only("at", "data", *about)[:MOST_RECOVERIES])


def _recovery(event: RunEvent, actor: Actor) -> Recovery:
    run: Run = event.run
    title = masking.masked_for(actor, run.agent.slug)(run.title)
    return Recovery(event.at, run.pk, title, str(event.data.get("slot", "")), int(event.data.get("recovery", 1)))
