from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from runtime.policies import recurring
from runtime.policies.recurring import BadExpression


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def due(expression: str, zone: str, after: str, count: int = 1) -> list[str]:
    recurrence, moment = recurring.parse(expression, zone), at(after)
    found = []
    for _ in range(count):
        moment = recurrence.next_after(moment, anchor=at(after))
        found.append(moment.strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        ("every 15 minutes", "UTC", "2026-11-28 10:07", "2026-11-28 10:22"),
        ("Every hour", "UTC", "2026-11-28 10:07", "2026-11-28 11:07"),
        ("every 2 days", "UTC", "2026-11-28 10:07", "2026-11-30 10:07"),
        ("0 9 * * mon-fri", "UTC", "2026-11-28 10:07", "2026-11-30 09:00"),
        ("0 9 * * *", "Asia/Tokyo", "2026-11-28 10:07", "2026-11-29 00:00"),
        ("0 0 29 2 *", "UTC", "2026-11-28 10:07", "2028-02-29 00:00"),
    ],
)
def test_the_next_time_follows_the_words(expression, zone, after, expected):
    assert due(expression, zone, after) == [expected]


def test_a_wall_time_stays_when_clocks_change_and_comes_once():
    spring = due("30 1 * * *", "Europe/Lisbon", "2026-03-27 12:00", 3)
    autumn = due("30 1 * * *", "Europe/Lisbon", "2026-10-23 12:00", 3)

    assert spring == ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"]
    assert autumn == ["2026-10-24 00:30", "2026-10-25 00:30", "2026-10-26 01:30"]


def test_a_wildcard_hour_comes_in_every_hour_there_is():
    found = due("30 * * * *", "Europe/Lisbon", "2026-10-24 23:45", 3)

    assert found == ["2026-10-25 00:30", "2026-10-25 01:30", "2026-10-25 02:30"]


def test_missed_times_of_an_interval_do_not_shift_it():
    recurrence = recurring.parse("every 15 minutes", "UTC")
    anchor = at("2026-11-28 10:00")

    assert recurrence.next_after(anchor + timedelta(minutes=50), anchor=anchor) == at("2026-11-28 11:00")
    assert recurrence.next_after(anchor + timedelta(minutes=45), anchor=anchor) == at("2026-11-28 11:00")


@pytest.mark.parametrize(
    "expression",
    ["", "soon", "every 0 minutes", "every 5 seconds", "every 99999 weeks", "* * * * * *", "@daily", "61 * * * *",
     "0 9 * *", "0 9 * * mon-fri; drop"],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_with_what_would_do(expression):
    with pytest.raises(BadExpression, match=r"every 15 minutes|interval"):
        recurring.parse(expression, "UTC")


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime"])
def test_an_unknown_time_zone_is_refused(zone):
    with pytest.raises(BadExpression, match="time zone"):
        recurring.parse("0 9 * * *", zone)


def test_a_day_that_never_comes_has_no_next_time():
    assert (
        recurring.parse("0 0 30 2 *", "UTC").next_after(at("2026-11-28 10:00"), anchor=at("2026-11-28 10:00")) is None
    )
