"""When a message is tried again, and when not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from runtime.policies.delivering import (
    LEAST_SHARE,
    LONGEST_WAIT,
    MOST_ATTEMPTS,
    WAITS,
    Delivered,
    GiveUp,
    Outcome,
    TryAgain,
    decide_next,
)

UNTOLD = "The receiver answered 500."


@pytest.mark.parametrize("status", [200, 202, 204, 299])
def test_what_the_receiver_took_is_delivered(status):
    assert decide_next(Outcome(status), 1, 0.5) == Delivered()


@pytest.mark.parametrize("attempt", range(1, MOST_ATTEMPTS))
def test_the_wait_grows_and_is_spread(attempt):
    early, late = decide_next(Outcome(500), attempt, 0.0), decide_next(Outcome(500), attempt, 1.0)

    assert early == TryAgain(WAITS[attempt - 1] * LEAST_SHARE, UNTOLD)
    assert late == TryAgain(WAITS[attempt - 1], UNTOLD)


@pytest.mark.parametrize("attempt", [MOST_ATTEMPTS, MOST_ATTEMPTS + 1])
def test_the_last_attempt_is_the_last(attempt):
    after = decide_next(Outcome(500), attempt, 0.5)

    assert after == GiveUp(f"{UNTOLD} That was attempt {attempt}, the last one.")


@pytest.mark.parametrize(
    ("outcome", "wait"),
    [
        (Outcome(503, retry_after="900"), timedelta(seconds=900)),
        (Outcome(429, retry_after="999999"), LONGEST_WAIT),
        (Outcome(429, retry_after="1"), WAITS[0]),  # shorter than ours: ours
        (Outcome(429, retry_after="soon"), WAITS[0]),
        (Outcome(429, retry_after="9" * 40), WAITS[0]),
        (Outcome(500, retry_after="900"), WAITS[0]),  # not busy, only broken
        (Outcome(302), WAITS[0]),  # redirects are not followed
        (Outcome(error="The connection failed."), WAITS[0]),
    ],
)
def test_a_busy_receiver_is_heard(outcome, wait):
    assert decide_next(outcome, 1, 1.0).wait == wait


@pytest.mark.parametrize("outcome", [Outcome(410), Outcome(error="It is private.", is_forbidden=True)])
def test_what_cannot_get_better_is_given_up(outcome):
    assert isinstance(decide_next(outcome, 1, 0.5), GiveUp)
