"""The circuit breaker as a pure state machine."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.policies import breaking
from runtime.policies.breaking import Limits, Opens, Pass, Probe, Seen, Tally, Wait
from runtime.states import BreakerState

LIMITS = Limits(in_a_row=3, ratio=0.5, minimum=10, window=timedelta(seconds=60))


def after(*outcomes: bool, every_s: float = 0.1, began: float = 1000.0) -> tuple[Tally, float]:
    """The tally after calls that failed (True) or not, and the time of the last one."""
    tally, at = Tally(), began
    for failed in outcomes:
        at += every_s
        tally = breaking.count(tally, failed=failed, at=at, limits=LIMITS)
    return tally, at


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (None, Pass()),
        (Seen(BreakerState.CLOSED), Pass()),
        (Seen(BreakerState.OPEN, open_s=4.0), Wait(4.0)),
        (Seen(BreakerState.OPEN, open_s=0.0), Probe()),
        (Seen(BreakerState.OPEN, open_s=-100.0), Probe()),
        (Seen(BreakerState.HALF_OPEN, probe_s=2.0), Wait(2.0, is_probing=True)),
        (Seen(BreakerState.HALF_OPEN, probe_s=-1.0), Probe()),  # whoever made the probe has died over it
        (Seen(BreakerState.HELD, open_s=-100.0), Wait(None)),  # only a person ends it
    ],
)
def test_the_table_of_states(seen, expected):
    assert breaking.decide_call(seen) == expected


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([True, True], None),
        ([True, True, True], Opens(3, 3)),
        ([True, True, False, True, True], None),  # a success in between begins anew
        ([True, False] * 4, None),  # half of them fail, of too few
        ([True, False] * 5, Opens(5, 10)),
        ([True, False, False] * 10, None),  # one in three
        ([False] * 100, None),
    ],
)
def test_what_opens_it(outcomes, expected):
    tally, at = after(*outcomes)

    assert breaking.decide_opening(tally, at=at, limits=LIMITS) == expected


def test_what_is_older_than_the_window_no_longer_counts():
    tally, at = after(*([True, False] * 4))

    later = breaking.count(tally, failed=True, at=at + 75, limits=LIMITS)
    later = breaking.count(later, failed=False, at=at + 75, limits=LIMITS)

    assert breaking.decide_opening(later, at=at + 75, limits=LIMITS) is None
    assert len(later.slots) == 1


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 30)), max_size=200))
def test_a_tally_stays_small_and_too_few_calls_never_open_by_ratio(calls):
    tally, at, row = Tally(), 0.0, 0
    for failed, gap in calls:
        at += gap
        row = row + 1 if failed else 0
        tally = breaking.count(tally, failed=failed, at=at, limits=LIMITS)
        opens = breaking.decide_opening(tally, at=at, limits=LIMITS)

        assert len(tally.slots) <= breaking.SLOTS + 1
        assert tally.in_a_row == row
        if opens and row < LIMITS.in_a_row:
            assert opens.calls >= LIMITS.minimum and opens.failures * 2 >= opens.calls


@pytest.mark.parametrize(
    ("error_class", "counts"),
    [
        ("timeout", True), ("unavailable", True), ("exception", True),
        ("rate_limited", False), ("bad_request", False), ("refused", False), ("auth", False), (None, False),
    ],
)  # fmt: skip
def test_only_what_says_that_the_other_side_is_out_of_order_counts(error_class, counts):
    assert breaking.is_failure(error_class) is counts
