"""The health of the queue for programs: monitoring asks it, and pages people elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils.timezone import now
from ninja import Router, Schema
from pydantic import Field

from console import ids
from console.access import Request
from console.bearer import Token
from runtime import health
from runtime.health import Group, Health, Life, Part
from runtime.policies.waiting import Reason

router = Router(tags=["Runs"])


class GroupOut(Schema):
    count: int
    oldest_run_id: str | None
    oldest_since: datetime | None = Field(description="Since when that run has been so")


class PartOut(Schema):
    name: str
    running: GroupOut
    ready: GroupOut = Field(description="Runs that wait for a worker and for nothing else")
    other: GroupOut


class WorkerOut(Schema):
    slot: str
    host: str
    pid: int
    version: str = Field(description="Of the code that it runs; empty when it did not say")
    capacity: int | None = Field(description="Turns at once; null when it did not say")
    in_flight: int
    started_at: datetime
    ended_at: datetime | None = Field(description="Lives that ended within the last hour are listed, too")
    lease_left_ms: int
    lease_ran_out: bool = Field(description="It died, or is about to be taken for dead")
    seen_switch_epoch: int
    recoveries_last_hour: int = Field(description="Runs that were taken from it because it had died")


class HealthOut(Schema):
    at: datetime
    waiting: dict[Reason, GroupOut]
    running: GroupOut
    queues: list[PartOut]
    agents: list[PartOut]
    workers: list[WorkerOut]
    recoveries_last_hour: int
    accepted_per_minute: float
    finished_per_minute: float
    switch_epoch: int


@router.get("/queue", auth=Token("health.read"), response=HealthOut)
def get_queue(request: Request) -> Any:
    """Who waits and why, who works, and what was recovered, for the agents that the token may see."""
    return _public(health.read(request.actor, now()))


def _public(found: Health) -> dict[str, Any]:
    return {
        "at": found.at,
        "waiting": {reason.value: _group(group) for reason, group in found.reasons.items()},
        "running": _group(found.running),
        "queues": [_part(part) for part in found.priorities],
        "agents": [_part(part) for part in found.agents],
        "workers": [_worker(life) for life in [*found.alive, *found.dead]],
        "recoveries_last_hour": len(found.recoveries),
        "accepted_per_minute": found.accepted_per_minute,
        "finished_per_minute": found.finished_per_minute,
        "switch_epoch": found.switch_epoch,
    }


def _group(group: Group) -> dict[str, Any]:
    oldest = group.oldest
    return {
        "count": group.count,
        "oldest_run_id": oldest and ids.public("run", oldest.run_id),
        "oldest_since": oldest and oldest.since,
    }


def _part(part: Part) -> dict[str, Any]:
    groups = {"running": part.running, "ready": part.ready, "other": part.other}
    return {"name": part.key, **{name: _group(group) for name, group in groups.items()}}


def _worker(life: Life) -> dict[str, Any]:
    worker = life.worker
    return {
        "slot": worker.slot,
        "host": worker.host,
        "pid": worker.pid,
        "version": worker.version,
        "capacity": worker.capacity or None,
        "in_flight": life.in_flight,
        "started_at": worker.started_at,
        "ended_at": worker.ended_at,
        "lease_left_ms": int(life.lease_left.total_seconds() * 1000),
        "lease_ran_out": life.is_expired,
        "seen_switch_epoch": worker.seen_switch_epoch,
        "recoveries_last_hour": life.recovered,
    }
