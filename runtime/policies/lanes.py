"""Which callback may leave next, so that a slow receiver holds up nobody but the client that named it.

A lane is what one client sends to one host. Each message that is on its way holds a thread until the host has answered
or the time limit is over. A lane is quick while its last attempt was over quickly, whatever came of it. Those that are
not (slow, dead, never tried) share half of the threads: the other half is always there for quick ones.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Lane(NamedTuple):
    client: str
    host: str


@dataclass(frozen=True)
class Limits:
    """Messages of one worker that are on their way at once: of all lanes, of one client, of one lane."""

    total: int
    client: int
    lane: int


PLACES = 16
MOST = Limits(PLACES, client=8, lane=4)
MOST_UNPROVEN = Limits(PLACES // 2, client=4, lane=2)
QUICK_S = 2.0


def decide_start(lane: Lane, under_way: Sequence[Lane], quick: Container[Lane]) -> bool:
    """Say whether one more message of the lane may leave beside those that are on their way."""
    if not _fits(lane, under_way, MOST):
        return False
    return lane in quick or _fits(lane, [each for each in under_way if each not in quick], MOST_UNPROVEN)


def _fits(lane: Lane, others: Sequence[Lane], limits: Limits) -> bool:
    of_client = sum(each.client == lane.client for each in others)
    return len(others) < limits.total and of_client < limits.client and others.count(lane) < limits.lane
