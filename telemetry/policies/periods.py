"""The stretches of time that the overview compares. Whole hours in UTC, the present one included."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Period:
    """[start, end) cut into slots, and as long a stretch before it to compare with."""

    key: str
    label: str
    start: datetime
    end: datetime
    slot: timedelta
    before: datetime  # start of the stretch compared with
    against: str  # "on yesterday"

    @property
    def before_end(self) -> datetime:
        return self.before + (self.end - self.start)

    @property
    def slots(self) -> list[datetime]:
        count = -((self.start - self.end) // self.slot)
        return [self.start + number * self.slot for number in range(count)]

    @property
    def title(self) -> str:
        return self.label if self.key == TODAY else f"Last {self.label}"

    @property
    def slot_label(self) -> str:
        hours = self.slot // HOUR
        return "day" if hours == 24 else "hour" if hours == 1 else f"{hours} h"


RANGES = {
    "24h": ("24 h", DAY, HOUR, "on the 24 h before"),
    "7d": ("7 days", 7 * DAY, 6 * HOUR, "on the 7 days before"),
    "30d": ("30 days", 30 * DAY, DAY, "on the 30 days before"),
}
TODAY = "today"
CHOICES = {TODAY: "Today", **{key: label for key, (label, *_) in RANGES.items()}}


def period(key: str, now: datetime) -> Period:
    """The period of that name as of `now`; an unknown name means today. `now` is in UTC."""
    end = now.replace(minute=0, second=0, microsecond=0) + HOUR
    if key in RANGES:
        label, length, slot, against = RANGES[key]
        return Period(key, label, end - length, end, slot, end - 2 * length, against)
    start = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return Period(TODAY, CHOICES[TODAY], start, end, HOUR, start - DAY, "on the same hours yesterday")
