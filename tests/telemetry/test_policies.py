from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from telemetry.policies import figures, latency, periods
from telemetry.policies.figures import Change, NotEnough

NOW = datetime(2026, 11, 24, 14, 25, tzinfo=UTC)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 0.99])
def test_percentiles_of_a_histogram_are_right_within_one_percent(share: float) -> None:
    draw = random.Random(7)
    times = sorted(draw.lognormvariate(8, 1.5) for _ in range(4000))
    histogram: dict[int, int] = {}
    for ms in times:
        histogram[latency.bucket(ms)] = histogram.get(latency.bucket(ms), 0) + 1

    found = latency.percentile_ms(histogram, share, at_least=20)

    assert found == pytest.approx(times[int(share * len(times)) - 1], rel=0.012)


@pytest.mark.parametrize(("count", "at_least"), [(0, 1), (0, 0), (4, 5), (19, 20)])
def test_too_few_runs_have_no_percentile(count: int, at_least: int) -> None:
    histogram = {300: count} if count else {}

    assert latency.percentile_ms(histogram, 0.5, at_least=at_least) is None


def test_durations_below_a_millisecond_share_the_first_bucket() -> None:
    assert latency.bucket(0) == latency.bucket(0.4) == latency.bucket(1) == 0


@pytest.mark.parametrize(
    ("now", "before", "runs", "runs_before", "is_share", "expected"),
    [
        (0.9, 0.8, 100, 100, True, Change(points=pytest.approx(10))),
        (0.12, 0.10, 20, 20, False, Change(ratio=pytest.approx(0.2))),
        (0.9, 0.8, 19, 100, True, NotEnough("too few to compare (19 now, 100 before)")),
        (0.9, 0.8, 100, 19, True, NotEnough("too few to compare (100 now, 19 before)")),
        (0.9, None, 100, 0, True, NotEnough("nothing to compare with")),
        (None, 0.8, 100, 100, True, NotEnough("too few to compare (100 now, 100 before)")),
        (5.0, 0.0, 100, 100, False, NotEnough("nothing to compare with")),
    ],
)
def test_changes_need_enough_runs_on_both_sides(now, before, runs, runs_before, is_share, expected) -> None:
    found = figures.decide_change(now, before, runs=runs, runs_before=runs_before, is_share=is_share)

    assert found == expected


def test_a_line_through_three_points_is_not_drawn() -> None:
    assert isinstance(figures.decide_trend([1.0, None, 2.0, 3.0]), NotEnough)
    assert isinstance(figures.decide_trend([1.0, None] * 6), NotEnough)
    assert isinstance(figures.decide_trend([1.0] * 4 + [None] * 5), NotEnough)
    assert figures.decide_trend([1.0, 2.0, 3.0, 4.0, None, 5.0]) == [1.0, 2.0, 3.0, 4.0, None, 5.0]


@pytest.mark.parametrize(
    ("key", "start", "end", "before", "slots"),
    [
        ("today", "2026-11-24 00", "2026-11-24 15", "2026-11-23 00", 15),
        ("24h", "2026-11-23 15", "2026-11-24 15", "2026-11-22 15", 24),
        ("7d", "2026-11-17 15", "2026-11-24 15", "2026-11-10 15", 28),
        ("30d", "2026-10-25 15", "2026-11-24 15", "2026-09-25 15", 30),
        ("nonsense", "2026-11-24 00", "2026-11-24 15", "2026-11-23 00", 15),
    ],
)
def test_periods(key: str, start: str, end: str, before: str, slots: int) -> None:
    found = periods.period(key, NOW)

    assert [f"{moment:%Y-%m-%d %H}" for moment in (found.start, found.end, found.before)] == [start, end, before]
    assert len(found.slots) == slots
    assert found.slots[-1] < found.end <= found.slots[-1] + found.slot
    assert found.before_end - found.before == found.end - found.start
    assert found.before_end <= found.start + timedelta(0)
