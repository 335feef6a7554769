"""What follows from one attempt to tell a caller's URL something: it is done, tried again later, or given up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

WAITS = tuple(timedelta(seconds=s) for s in (10, 60, 300, 1800, 7200, 21600, 43200, 86400))
LONGEST_WAIT = timedelta(days=1)
MOST_ATTEMPTS = len(WAITS) + 1
LEAST_SHARE = 0.8  # of a wait; so that messages which failed together do not come back together
GONE = 410
BUSY = frozenset({429, 503})


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt. Without a status nobody answered, and `error` says why."""

    status: int | None = None
    error: str = ""
    retry_after: str = ""  # the header as it came
    is_forbidden: bool = False  # the address may not be reached from here


@dataclass(frozen=True)
class Delivered:
    pass


@dataclass(frozen=True)
class TryAgain:
    wait: timedelta
    why: str


@dataclass(frozen=True)
class GiveUp:
    why: str


def decide_next(outcome: Outcome, attempt: int, chance: float) -> Delivered | TryAgain | GiveUp:
    """Say what to do after the attempt of this number (from 1). `chance` in [0, 1) spreads the waits.

    A receiver that is busy may ask for a longer wait, up to a day; one that is gone (410) is not asked again.
    """
    if outcome.status is not None and 200 <= outcome.status < 300:
        return Delivered()
    why = outcome.error or f"The receiver answered {outcome.status}."
    if outcome.is_forbidden:
        return GiveUp(why)
    if outcome.status == GONE:
        return GiveUp(f"{why} It does not want to be told any more.")
    if attempt >= MOST_ATTEMPTS:
        return GiveUp(f"{why} That was attempt {attempt}, the last one.")
    wait = WAITS[attempt - 1] * (LEAST_SHARE + (1 - LEAST_SHARE) * chance)
    return TryAgain(min(max(wait, _asked(outcome)), LONGEST_WAIT), why)


def _asked(outcome: Outcome) -> timedelta:
    text = outcome.retry_after if outcome.status in BUSY else ""
    return timedelta(seconds=int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else timedelta()
