"""What becomes of a call that was started and whose result nobody knows.

A call may be made again only where that cannot have its effect twice. Its effect class says so, or the outside says
that it did not happen, at a time when the first attempt can certainly not happen any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from releases.bundles import Retry


class Fate(StrEnum):
    """What is known of the process that made a call."""

    GONE = "gone"  # it has certainly ended: nothing of it can still happen
    ALIVE = "alive"  # it runs, or is frozen and may go on at any time
    UNSEEN = "unseen"  # on another machine, or nothing says which process it was


class Answer(StrEnum):
    """What the tool's own look-up says about a call."""

    HAPPENED = "happened"
    DID_NOT = "did_not"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Holder:
    """One life of a worker that may have made the call. `over_at`: its lease and the tool's time-out are over then."""

    fate: Fate
    over_at: datetime


@dataclass(frozen=True)
class Facts:
    retry: Retry
    has_verify: bool
    holders: tuple[Holder, ...]  # every life that may have made the call; empty when nobody knows
    now: datetime


@dataclass(frozen=True)
class Repeat:
    """Make it again with the same key."""


@dataclass(frozen=True)
class Verify:
    """Ask the outside. `safe_at` is the time from which "it did not happen" stays true; None when it never does."""

    safe_at: datetime | None


@dataclass(frozen=True)
class Wait:
    """Ask again at this time: the first attempt may still be under way."""

    until: datetime


@dataclass(frozen=True)
class Settle:
    """It happened; the call has its result."""


@dataclass(frozen=True)
class Park:
    """A person has to say whether it happened."""

    why: str


# Clocks of machines differ, and a call that was cut off may still be on its way.
MARGIN = timedelta(seconds=5)


def decide_recovery(facts: Facts) -> Repeat | Verify | Park:
    """Say how to find out what became of the call."""
    if facts.retry != "unsafe":
        return Repeat()
    if not facts.has_verify:
        return Park("This tool cannot be asked whether a call happened.")
    return Verify(_safe_at(facts))


def decide_finding(answer: Answer, verify: Verify, *, now: datetime) -> Settle | Repeat | Wait | Park:
    """Say what follows from the tool's answer. That it happened is certain at any time; that it did not, later only."""
    if answer == Answer.HAPPENED:
        return Settle()
    if verify.safe_at is not None and now < verify.safe_at:
        return Wait(verify.safe_at)
    if answer == Answer.UNKNOWN:
        return Park("The other system could not say whether it happened.")
    if verify.safe_at is None:
        return Park("The other system has not seen it, but the process that made the call may still be at it.")
    return Repeat()


def _safe_at(facts: Facts) -> datetime | None:
    if not facts.holders or any(holder.fate == Fate.ALIVE for holder in facts.holders):
        return None
    unseen = [holder.over_at + MARGIN for holder in facts.holders if holder.fate == Fate.UNSEEN]
    return max(unseen, default=facts.now)
