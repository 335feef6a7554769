"""Why nobody works on a run right now. One answer for the page, the list and the API."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runtime.states import Hold, RunStatus


class Reason(StrEnum):
    """In the order in which an operator looks at them: first what a working system should not have."""

    WORKER = "worker"  # it could be worked on, if a worker were free
    RATE_LIMIT = "rate_limit"  # as many runs as allowed are at work, or a provider asked to wait
    BUDGET = "budget"  # the day's money or tokens are used up or reserved
    BREAKER = "breaker"  # a tool or model is out of order
    SWITCH = "switch"  # somebody has paused new runs of its agent
    THREAD = "thread"  # an earlier run of its conversation has not ended
    TIMER = "timer"  # its time has not come
    PERSON = "person"  # somebody has to decide
    PAUSED = "paused"  # somebody holds it


@dataclass(frozen=True)
class Facts:
    """What is known of a run. `said` is what the one who put it there gave as a reason; it may be old or empty."""

    status: str
    said: str = ""
    hold: str = ""
    is_due: bool = True
    has_begun: bool = True
    is_stopped: bool = False  # a switch pauses new runs of its agent


_BY_ITSELF = frozenset({Reason.RATE_LIMIT, Reason.BUDGET, Reason.BREAKER})
_OF_HOLD = {Hold.TIMER: Reason.TIMER, Hold.THREAD: Reason.THREAD}


def decide_reason(facts: Facts) -> Reason | None:
    """The reason, or None for a run that is worked on or has ended."""
    if facts.status == RunStatus.PAUSED:
        return Reason.PAUSED
    if facts.status == RunStatus.WAITING:
        return Reason.PERSON
    if facts.status != RunStatus.QUEUED:
        return None
    if facts.hold in _OF_HOLD:
        return _OF_HOLD[Hold(facts.hold)]
    if facts.hold or not facts.is_due:
        return Reason(facts.said) if facts.said in _BY_ITSELF else Reason.RATE_LIMIT if facts.hold else Reason.TIMER
    if facts.is_stopped and not facts.has_begun:
        return Reason.SWITCH
    return Reason.WORKER
