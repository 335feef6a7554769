"""The health of the queue for operators: a page that keeps itself current, and a strip on every page when it is bad."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from console import words
from console.access import Request, requires
from runtime import health, labels
from runtime.health import Group, Health, Life
from runtime.labels import Badge
from runtime.policies.waiting import Reason

MOST_AGENTS = 20
MOST_SHOWN_RECOVERIES = 20


@dataclass(frozen=True)
class WaitingRow:
    badge: Badge
    about: str
    group: Group


@dataclass(frozen=True)
class WorkerRow:
    life: Life
    badge: Badge
    load: str
    filled: str  # of the bar, as SVG wants it; empty when nobody knows how much it can hold
    lease: str


@require_GET
@requires("health.read")
def queue_health(request: Request) -> HttpResponse:
    found = health.read(request.actor, timezone.now())
    context = {
        "health": found,
        "figures": _figures(found),
        "waiting": _waiting(found),
        "agents": found.agents[:MOST_AGENTS],
        "more_agents": max(0, len(found.agents) - MOST_AGENTS),
        "alive": [_worker(life) for life in found.alive],
        "dead": [_worker(life) for life in found.dead],
        "recoveries": found.recoveries[:MOST_SHOWN_RECOVERIES],
    }
    return render(request, "runtime/queue_health.html", context)


@require_GET
@requires("health.read")
def queue_strip(request: Request) -> HttpResponse:
    alarm = health.alarm(timezone.now())
    return render(request, "runtime/_queue_strip.html", {"alarm": alarm})


def _figures(found: Health) -> list[tuple[str, str, str]]:
    oldest, capacity = found.ready.oldest, found.capacity
    parked = sum(found.reasons[reason].count for reason in (Reason.PERSON, Reason.PAUSED))
    held = sum(group.count for group in found.reasons.values()) - found.ready.count - parked
    last = found.recoveries[0].at if found.recoveries else None
    return [
        (
            "Wait for a worker",
            words.number(found.ready.count),
            f"oldest {words.span((found.at - oldest.since).total_seconds())}" if oldest else "none",
        ),
        ("Wait for something else", words.number(held), "limits, budgets, timers, switches"),
        ("Parked", words.number(parked), "for a person, or paused"),
        (
            "At work",
            words.number(found.running.count),
            f"of {words.number(capacity)} at once" if capacity else f"{_workers(len(found.alive))}",
        ),
        (
            "Accepted, finished",
            f"{_rate(found.accepted_per_minute)}, {_rate(found.finished_per_minute)}",
            "per minute, over 5 min",
        ),
        (
            "Recovered",
            words.number(len(found.recoveries)),
            f"in the last hour, last {words.relative(last, found.at)}" if last else "none in the last hour",
        ),
    ]


def _workers(count: int) -> str:
    return f"{count} worker" if count == 1 else f"{count} workers"


def _rate(per_minute: float) -> str:
    return f"{per_minute:.1f}" if 0 < per_minute < 10 else f"{per_minute:,.0f}"


def _waiting(found: Health) -> list[WaitingRow]:
    """Every reason that applies to a run, and always the one that should apply to none."""
    return [
        WaitingRow(labels.REASONS[reason], labels.ABOUT_REASONS[reason], group)
        for reason, group in found.reasons.items()
        if group.count or reason == Reason.WORKER
    ]


def _worker(life: Life) -> WorkerRow:
    capacity = life.worker.capacity
    share = min(1.0, life.in_flight / capacity) if capacity else None
    return WorkerRow(
        life=life,
        badge=_state(life),
        load=f"{words.number(life.in_flight)} of {words.number(capacity)}"
        if capacity
        else words.number(life.in_flight),
        filled=f"{share * 100:.1f}%" if share is not None else "",
        lease=words.duration(timedelta(seconds=round(life.lease_left.total_seconds()))),
    )


def _state(life: Life) -> Badge:
    if life.worker.ended_at is not None:
        return Badge("bad", "heart-crack", "Died") if life.is_expired else Badge("mute", "square", "Ended")
    if life.is_expired:
        return Badge("bad", "triangle-alert", "Lease ran out")
    if life.is_behind:
        return Badge("warn", "triangle-alert", "Behind on switches")
    return Badge("ok", "check", "Alive")
