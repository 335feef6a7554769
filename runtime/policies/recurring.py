"""When a schedule is due: `every 15 minutes`, or five cron fields in a time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from croniter.croniter import CroniterError

EVERY = re.compile(r"every\s+(?:(\d{1,5})\s+)?(minute|hour|day|week)s?", re.IGNORECASE)
UNITS = {
    "minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1),
}  # fmt: skip
LONGEST_INTERVAL = timedelta(days=366)
FIELDS = 5


class BadExpression(ValueError):
    """The sentence says what is wrong and what would do."""


@dataclass(frozen=True)
class Recurrence:
    """A checked expression. `interval` or cron fields, never both."""

    expression: str
    zone: ZoneInfo
    interval: timedelta | None = None

    def next_after(self, moment: datetime, *, anchor: datetime) -> datetime | None:
        """The first due time after `moment`, in UTC; None when there is none within years.

        An interval counts from `anchor`, a due time before: late or missed starts do not shift it. Cron fields follow
        the clocks of the zone: a wall time that a change of clocks skips is made up right after it, and one that comes
        twice is due once, unless the hours are a wildcard.
        """
        if self.interval is not None:
            steps = max(1, (moment - anchor) // self.interval + 1)
            return (anchor + steps * self.interval).astimezone(UTC)
        try:
            times = croniter(self.expression, moment.astimezone(self.zone))
            found: datetime = times.get_next(datetime)
            while found.fold and "*" not in self.expression.split()[1]:
                found = times.get_next(datetime)
        except CroniterError:
            return None
        return found.astimezone(UTC)


def parse(expression: str, time_zone: str) -> Recurrence:
    """The recurrence behind the words.

    Raises:
        BadExpression: neither an interval nor cron, or no such time zone.
    """
    zone = _zone(time_zone)
    text = " ".join(expression.split())
    if every := EVERY.fullmatch(text):
        interval = int(every[1] or 1) * UNITS[every[2].lower()]
        if not timedelta() < interval <= LONGEST_INTERVAL:
            raise BadExpression(f"{text!r} is no interval between a minute and {LONGEST_INTERVAL.days} days.")
        return Recurrence(text.lower(), zone, interval)
    if len(text.split(" ")) != FIELDS or not croniter.is_valid(text):
        raise BadExpression(
            f"{text[:60]!r} is no schedule. Write every 15 minutes, or five cron fields such as 0 9 * * mon-fri."
        )
    return Recurrence(text, zone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as wrong:
        raise BadExpression(f"There is no time zone {name[:60]!r}. Write one such as Europe/Lisbon, or UTC.") from wrong
