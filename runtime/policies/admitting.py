"""How many runs may be at work at once, and whose turn it is when one more fits.

A slot is held for the whole turn, from the moment a run is admitted until it ends, parks or is given back. Holding it
only during a model call would let more runs be open at once, but every call would then have to ask all workers for
leave, and a run could stand still in the middle of its work, holding what it has read, while another one takes its
slot. A whole turn asks once and is exact; a run that waits for a person holds none.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

RETRY_BOUNDS_S = (1, 300)
RETRY_UNKNOWN_S = 30  # when nothing has ended lately, nobody can say how fast the queue drains


@dataclass(frozen=True)
class Candidate:
    """A queued run that needs a slot of each of its limits: {key: most at once}."""

    run_id: UUID
    limits: Mapping[str, int]


def slot_keys(
    *, agent: str, principal_id: str, model: str, of_release: Mapping[str, int | None], of_models: Mapping[str, int]
) -> dict[str, int]:
    """The limits a new run counts against. Runs of a release without limits have none and pay for none."""
    found = {}
    if most := of_release.get("agent"):
        found[f"agent:{agent}"] = most
    if most := of_release.get("principal"):
        found[f"principal:{agent}:{principal_id}"] = most
    if most := of_models.get(model):
        found[f"model:{model}"] = most
    return found


def decide_admissions(
    waiting: Iterable[Candidate], occupied: Mapping[str, int], of_models: Mapping[str, int]
) -> list[UUID]:
    """The runs that fit now, in the order they came. One that does not fit lets those pass that need other slots.

    `occupied` counts runs at work and admitted ones by key. A limit of a model is what is configured now; the others
    are those of the run's release.
    """
    taken, admitted = Counter(occupied), []
    for one in waiting:
        if all(taken[key] < _most(key, most, of_models) for key, most in one.limits.items()):
            taken.update(one.limits.keys())
            admitted.append(one.run_id)
    return admitted


def _most(key: str, frozen: int, of_models: Mapping[str, int]) -> int:
    kind, _, name = key.partition(":")
    return of_models.get(name, frozen) if kind == "model" else frozen


@dataclass(frozen=True)
class Depth:
    """How many runs wait, up to one more than the limit, and since when the first of them has."""

    waiting: int
    waiting_of_agent: int
    oldest: timedelta


@dataclass(frozen=True)
class QueueLimits:
    """0 means no limit."""

    waiting: int
    waiting_of_agent: int
    oldest: timedelta


def decide_intake(depth: Depth, limits: QueueLimits, *, agent: str) -> str:
    """Why no more work is taken in; empty when there is room. What was accepted before is not touched by it."""
    if limits.waiting and depth.waiting >= limits.waiting:
        return f"{limits.waiting:,} runs or more are waiting for a worker, which is the limit."
    if limits.waiting_of_agent and depth.waiting_of_agent >= limits.waiting_of_agent:
        return f"{limits.waiting_of_agent:,} runs or more of {agent} are waiting, which is its limit."
    if limits.oldest and depth.oldest > limits.oldest:
        return (
            f"The oldest run has waited {_seconds(depth.oldest):,} s for a worker; "
            f"at {_seconds(limits.oldest):,} s no more are taken in."
        )
    return ""


def retry_after_s(depth: Depth, limits: QueueLimits, ended_last_minute: int) -> int:
    """Whole seconds until a tenth of the queue has drained, at the rate of the last minute."""
    least, most = RETRY_BOUNDS_S
    if not ended_last_minute:
        return RETRY_UNKNOWN_S
    room = max(1, (limits.waiting or depth.waiting) // 10)
    return min(most, max(least, math.ceil(room * 60 / ended_last_minute)))


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
