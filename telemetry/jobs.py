"""Entry points for the queue."""

from __future__ import annotations

from django.utils import timezone

from telemetry import rollups

EVERY_S = 50  # so that the figures of today are never older than a minute


def roll_up() -> int:
    """Count what has ended since the last time. Twice at once is harmless."""
    return rollups.roll_up_recent(timezone.now())


ENTRY_POINTS = (roll_up,)
CRON = ((roll_up, EVERY_S),)
