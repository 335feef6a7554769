"""What may be said from so many runs: a share, a trend, a comparison, or that there is not enough data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ENOUGH_TO_COMPARE = 20  # runs in each of the two periods
ENOUGH_FOR_MEDIAN = 5
ENOUGH_FOR_P95 = 20
ENOUGH_POINTS = 4  # a line through three points is a story, not a trend
ENOUGH_PER_POINT = 5  # runs behind one point of a line


@dataclass(frozen=True)
class Change:
    """Against the period before: percentage `points` for shares, a `ratio` for amounts (0.1 is a tenth more)."""

    points: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class NotEnough:
    reason: str


def share(part: float, whole: float) -> float | None:
    """Between 0 and 1; None when there is nothing to divide by."""
    return part / whole if whole else None


def decide_change(
    now: float | None, before: float | None, *, runs: int, runs_before: int, is_share: bool
) -> Change | NotEnough:
    if runs_before == 0 or before is None:
        return NotEnough("nothing to compare with")
    if min(runs, runs_before) < ENOUGH_TO_COMPARE or now is None:
        return NotEnough(f"too few to compare ({runs} now, {runs_before} before)")
    if is_share:
        return Change(points=(now - before) * 100)
    return Change(ratio=(now - before) / before) if before else NotEnough("nothing to compare with")


def decide_trend(points: Sequence[float | None]) -> Sequence[float | None] | NotEnough:
    """A line needs points in at least half of the time that it covers, and four of them side by side."""
    known = sum(point is not None for point in points)
    longest = streak = 0
    for point in points:
        streak = 0 if point is None else streak + 1
        longest = max(longest, streak)
    is_enough = longest >= ENOUGH_POINTS and known >= len(points) / 2
    return points if is_enough else NotEnough("Not enough data for a trend")
