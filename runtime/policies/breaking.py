"""The circuit breaker of a tool or a model: closed, open, half open, or held open by a person.

Closed: calls pass and are counted. Enough failures open it, and calls are refused until its time is over; each
opening in a row lasts longer. Then one call at a time goes through as a probe: it closes or opens the breaker again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from runtime.policies.retrying import ErrorClass
from runtime.states import BreakerState

# What says that the other side is out of order. A rate limit says that it works; a bad request, that we do not.
COUNTED = frozenset({ErrorClass.TIMEOUT, ErrorClass.UNAVAILABLE, ErrorClass.EXCEPTION})
SLOTS = 6  # parts of the window that are dropped one by one


@dataclass(frozen=True)
class Limits:
    """When a breaker opens and for how long: after `in_a_row` failures, or when `ratio` of at least `minimum` calls
    within `window` have failed.
    """

    in_a_row: int = 5
    ratio: float = 0.5
    minimum: int = 20
    window: timedelta = timedelta(seconds=60)
    open_for: timedelta = timedelta(seconds=10)
    longest: timedelta = timedelta(minutes=10)


@dataclass(frozen=True)
class Tally:
    """What one process has seen of a closed breaker. `slots` are (number of the slot, calls, failures)."""

    in_a_row: int = 0
    slots: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class Seen:
    """A breaker as it stands. Waits are in seconds from now; zero or less means that they are over."""

    state: BreakerState
    open_s: float = 0.0
    probe_s: float = 0.0


@dataclass(frozen=True)
class Pass:
    pass


@dataclass(frozen=True)
class Probe:
    """The call may go through if no other caller becomes the probe first."""


@dataclass(frozen=True)
class Wait:
    """`seconds` is None when only a person can end it; `is_probing`: it may be over as soon as the probe answers."""

    seconds: float | None
    is_probing: bool = False


@dataclass(frozen=True)
class Opens:
    failures: int
    calls: int


def decide_call(seen: Seen | None) -> Pass | Probe | Wait:
    """Say whether a call may start. None is a breaker that never opened."""
    if seen is None or seen.state == BreakerState.CLOSED:
        return Pass()
    if seen.state == BreakerState.HELD:
        return Wait(None)
    if seen.state == BreakerState.HALF_OPEN:
        return Wait(seen.probe_s, is_probing=True) if seen.probe_s > 0 else Probe()
    return Wait(seen.open_s) if seen.open_s > 0 else Probe()


def is_failure(error_class: str | None) -> bool:
    """Whether the outcome counts against the other side. None: it answered."""
    return error_class in COUNTED


def count(tally: Tally, *, failed: bool, at: float, limits: Limits) -> Tally:
    """The tally after one more call; `at` is a monotonic clock in seconds."""
    slot = _slot(at, limits)
    kept = [part for part in tally.slots if part[0] > slot - SLOTS]
    calls, failures = (kept.pop()[1:]) if kept and kept[-1][0] == slot else (0, 0)
    return Tally(tally.in_a_row + 1 if failed else 0, (*kept, (slot, calls + 1, failures + failed)))


def decide_opening(tally: Tally, *, at: float, limits: Limits) -> Opens | None:
    """Say whether what was seen opens the breaker; too few calls never do."""
    if tally.in_a_row >= limits.in_a_row:
        return Opens(tally.in_a_row, tally.in_a_row)
    oldest = _slot(at, limits) - SLOTS
    recent = [part for part in tally.slots if part[0] > oldest]
    calls, failures = sum(part[1] for part in recent), sum(part[2] for part in recent)
    if calls >= limits.minimum and failures >= limits.ratio * calls:
        return Opens(failures, calls)
    return None


def _slot(at: float, limits: Limits) -> int:
    return int(at // (limits.window.total_seconds() / SLOTS))
