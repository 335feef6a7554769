"""Whether the workers know of the latest switch. The app that owns workers answers; without one nothing is said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)

# Switch epoch -> workers that have seen it, workers alive, seconds until the last one had.
Answer = Callable[[int], tuple[int, int, float | None]]

_answers: list[Answer] = []


@dataclass(frozen=True)
class Seen:
    seen: int
    alive: int
    seconds: float | None

    @property
    def is_complete(self) -> bool:
        return self.seen >= self.alive


def register(answer: Answer) -> None:
    """Called in `apps.ready()`; the latest registration counts."""
    _answers[:] = [answer]


def of(epoch: int) -> Seen | None:
    """None when nobody can say, so that a page about stopping agents opens whatever else is broken."""
    if not _answers:
        return None
    try:
        return Seen(*_answers[0](epoch))
    except Exception:
        log.exception("The workers' acknowledgement of switch epoch %s could not be read", epoch)
        return None
