"""Which queue may take how many of a worker's places.

Interactive runs may have them all. A share is kept free from background runs, and one more from evaluations, so that
a burst of either never makes somebody wait who sits before the screen.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.states import RunKind, RunPriority

RESERVE_RATIO = 0.1  # of all places, kept for each class from those below it


_PRIORITIES = {
    RunKind.LIVE: RunPriority.INTERACTIVE,
    RunKind.DRILL: RunPriority.BACKGROUND,
    RunKind.REPLAY: RunPriority.BACKGROUND,
    RunKind.SHADOW: RunPriority.EVALUATION,
    RunKind.EVAL: RunPriority.EVALUATION,
}


def priority_of(kind: RunKind) -> RunPriority:
    """The queue of a run whose starter names none."""
    return _PRIORITIES[kind]


def limits(places: int, running: Sequence[int]) -> list[int]:
    """How many more may start of each class *and those below it together*, the first class going first.

    `running` counts the turns that hold a place by class. A worker with one place has nothing to reserve.
    """
    reserve = max(1, round(places * RESERVE_RATIO)) if places > 1 else 0
    most = [max(1, places - reserve * rank) for rank in range(len(running))]
    return [max(0, most[rank] - sum(running[rank:])) for rank in range(len(running))]


def rooms(limits: Sequence[int]) -> list[int]:
    """How many of each class alone may start, if none of the others do."""
    return [min(limits[: rank + 1]) for rank in range(len(limits))]
