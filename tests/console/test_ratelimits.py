from __future__ import annotations

import contextlib
import threading

import pytest
import redis
from django.conf import settings as current

from console import problems, ratelimits

NOON = 1_800_000_000.0  # the beginning of a minute
assert NOON % 60 == 0


@pytest.fixture
def no_redis(settings, monkeypatch):
    """A port where nobody listens."""
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(ratelimits, "_local", ratelimits.LocalCounters())
    monkeypatch.setattr(ratelimits, "_redis_away_until", 0.0)


@pytest.fixture(params=["redis", "without redis"])
def counters(request):
    """The same rule holds in both."""
    if request.param == "without redis":
        request.getfixturevalue("no_redis")


def spend_all(key, n, *, limit, at):
    for _ in range(n):
        ratelimits.spend(key, limit=limit, now=at)


@pytest.mark.usefixtures("counters")
def test_as_many_as_the_limit_pass_and_no_more():
    spend_all("a", 5, limit=5, at=NOON)

    with pytest.raises(problems.TooMany) as refused:
        ratelimits.spend("a", limit=5, now=NOON)

    assert refused.value.retry_after > 0
    assert ratelimits.spend("b", limit=5, now=NOON).remaining == 4


@pytest.mark.usefixtures("counters")
def test_waiting_as_long_as_told_lets_the_next_one_through():
    for moment in (NOON, NOON + 7.5, NOON + 59.9):
        key = f"at {moment}"
        spend_all(key, 10, limit=10, at=moment)
        with pytest.raises(problems.TooMany) as refused:
            ratelimits.spend(key, limit=10, now=moment)

        ratelimits.spend(key, limit=10, now=moment + refused.value.retry_after)


@pytest.mark.usefixtures("counters")
def test_the_window_slides_so_a_minutes_edge_gives_no_double_share():
    spend_all("a", 10, limit=10, at=NOON + 59)

    with pytest.raises(problems.TooMany):
        ratelimits.spend("a", limit=10, now=NOON + 61)


@pytest.mark.usefixtures("counters")
def test_a_refused_request_does_not_count():
    spend_all("a", 3, limit=3, at=NOON)
    for _ in range(50):
        with pytest.raises(problems.TooMany):
            ratelimits.spend("a", limit=3, now=NOON + 1)

    assert ratelimits.spend("a", limit=3, now=NOON + 120).remaining == 2


def test_twenty_threads_share_one_limit():
    start, passed = threading.Barrier(20), []

    def one():
        start.wait()
        with contextlib.suppress(problems.TooMany):
            passed.append(ratelimits.spend("race", limit=10, now=NOON))

    threads = [threading.Thread(target=one) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # Counting and taking back are two steps: a race may refuse one that would fit, never let one more through.
    assert 1 <= len(passed) <= 10


@pytest.mark.usefixtures("counters")
def test_places_are_limited_renewed_given_back_and_fall_free():
    ratelimits.hold("s", "one", limit=2, for_s=45, now=NOON)
    ratelimits.hold("s", "two", limit=2, for_s=45, now=NOON)
    with pytest.raises(problems.TooMany):
        ratelimits.hold("s", "three", limit=2, for_s=45, now=NOON)

    ratelimits.hold("s", "one", limit=2, for_s=45, now=NOON + 30)  # renewed; it keeps its place
    ratelimits.hold("s", "three", limit=2, for_s=45, now=NOON + 50)  # "two" was never renewed
    with pytest.raises(problems.TooMany):
        ratelimits.hold("s", "four", limit=2, for_s=45, now=NOON + 51)

    ratelimits.let_go("s", "one")
    ratelimits.hold("s", "four", limit=2, for_s=45, now=NOON + 51)


@pytest.mark.usefixtures("no_redis")
def test_without_redis_it_is_not_asked_again_for_a_while(monkeypatch):
    asked = []

    def connect(connection):
        asked.append(connection)
        raise redis.ConnectionError("away")

    monkeypatch.setattr(redis.Connection, "connect", connect)

    spend_all("a", 5, limit=10, at=NOON)

    assert 0 < len(asked) < 5


def test_counts_leave_redis_by_themselves():
    ratelimits.spend("a", limit=5)
    ratelimits.hold("s", "one", limit=2, for_s=45)

    client = redis.Redis.from_url(current.REDIS_URL)
    keys = [key for key in client.scan_iter() if key.startswith(ratelimits.SPACE.encode())]
    assert len(keys) == 2
    assert all(0 < client.ttl(key) <= 120 for key in keys)
