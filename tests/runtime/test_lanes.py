"""Which callback may leave beside those on their way, and what waits for it."""

from __future__ import annotations

import pytest

from console import ids
from runtime.lanes import Lanes, lane_of
from runtime.policies.lanes import MOST, MOST_UNPROVEN, PLACES, QUICK_S, Lane, decide_start

SLOW, QUICK = 10.0, 0.1


def lanes_of(count: int, *, client: str = "", host: str = "") -> list[Lane]:
    return [Lane(client or f"client-{number}", host or f"host-{number}") for number in range(count)]


@pytest.mark.parametrize("is_quick", [False, True])
def test_a_host_a_client_and_all_together_have_their_limits(is_quick):
    limits, new = MOST if is_quick else MOST_UNPROVEN, Lane("me", "here")

    def may_start(others: list[Lane]) -> bool:
        return decide_start(new, others, {new, *others} if is_quick else set())

    assert may_start([new] * (limits.lane - 1))
    assert not may_start([new] * limits.lane)
    assert may_start(lanes_of(limits.client - 1, client="me"))
    assert not may_start(lanes_of(limits.client, client="me"))
    assert may_start(lanes_of(limits.total - 1))
    assert not may_start(lanes_of(limits.total))


def test_however_many_receivers_are_slow_half_of_the_places_is_left_to_quick_ones():
    quick = Lane("us", "quick")
    slow: list[Lane] = []
    for lane in lanes_of(100):
        if decide_start(lane, slow, {quick}):
            slow.append(lane)

    assert len(slow) == PLACES // 2
    assert decide_start(quick, slow, {quick})


def test_another_host_of_the_same_client_is_not_held_up():
    assert decide_start(Lane("me", "good"), [Lane("me", "dead")] * MOST_UNPROVEN.lane, set())


@pytest.mark.parametrize(
    "url", ["https://Shop.example:8443/hooks?x=1", "https://shop.EXAMPLE:8443", "https://a:b@shop.example:8443/"]
)
def test_a_lane_is_a_client_and_a_host(url):
    assert lane_of("c1", url) == Lane("c1", "shop.example:8443")


def test_a_receiver_that_answers_quickly_is_sent_more_at_once_until_it_does_not():
    ours, lane, runs = Lanes(), Lane("c1", "h1"), [ids.new() for _ in range(9)]
    assert [ours.enter(lane, run) for run in runs] == [True] * 2 + [False] * 7

    ours.tell(lane, QUICK)
    assert ours.leave(lane) == runs[2:5]  # one is on its way, four may be
    assert [ours.enter(lane, run) for run in runs[2:5]] == [True] * 3

    ours.tell(lane, QUICK_S)
    assert ours.leave(lane) == ours.leave(lane) == []
    assert ours.leave(lane) == [runs[5]]


def test_what_became_free_goes_to_each_client_in_turn():
    ours, full = Lanes(), lanes_of(MOST_UNPROVEN.total)
    assert all(ours.enter(lane, ids.new()) for lane in full)
    a, b = Lane("a", "slow"), Lane("b", "slow")
    of_a, of_b = [ids.new() for _ in range(3)], [ids.new() for _ in range(2)]
    assert not any(ours.enter(a, run) for run in of_a) | any(ours.enter(b, run) for run in of_b)

    def released(gone: Lane, into: Lane) -> list[object]:
        found = ours.leave(gone)
        assert ours.enter(into, found[0])
        return found

    assert released(full[0], a) == [of_a[0]]
    assert released(full[1], b) == [of_b[0]]
    assert released(full[2], a) == [of_a[1]]
    assert released(full[3], b) == [of_b[1]]


def test_a_run_waits_once_and_after_the_end_nothing_starts():
    ours, lane, run = Lanes(), Lane("c1", "h1"), ids.new()
    for _ in range(2):
        ours.enter(lane, ids.new())
    for _ in range(3):
        assert not ours.enter(lane, run)
    assert ours.leave(lane) == [run]

    assert ours.enter(lane, run)
    assert not ours.enter(lane, run)
    ours.close()
    assert ours.leave(lane) == []
    assert not ours.enter(Lane("c2", "h2"), run)
