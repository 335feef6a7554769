from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.policies import timeline
from runtime.policies.timeline import Span

WORK_THEN_WAIT = [Span(0, 3_000), Span(2_000, 9_000)]


def test_a_wait_of_more_than_a_fifth_is_a_pause_and_a_short_gap_is_not():
    work = [Span(0, 1_000), Span(1_900, 5_000), Span(8_000, 10_000)]

    assert timeline.pauses(work, 10_000) == [Span(5_000, 8_000)]


def test_parallel_work_leaves_no_pause_between():
    work = [Span(0, 10_000), Span(1_000, 2_000), Span(9_000, 12_000)]

    assert timeline.pauses(work, 12_000) == []


def test_a_run_that_waits_for_a_worker_first_has_its_pause_in_front():
    assert timeline.pauses([Span(9_000, 10_000)], 10_000) == [Span(0, 9_000)]


def test_a_run_without_work_is_one_pause():
    assert timeline.pauses([], 10_000) == [Span(0, 10_000)]


def test_a_shortened_wait_takes_a_fixed_width_and_work_keeps_its_own_scale():
    axis = timeline.axis(3_600_000, timeline.pauses(WORK_THEN_WAIT, 3_600_000))

    assert axis.x(9_000) == 76
    assert axis.x(3_000) == pytest.approx(76 / 3, abs=0.01)
    assert axis.x(3_600_000) == 100
    assert [(piece.x, piece.width, piece.is_short) for piece in axis.pieces] == [(0, 76, False), (76, 24, True)]


def test_true_scale_shortens_nothing():
    axis = timeline.axis(100_000)

    assert axis.x(25_000) == 25
    assert not axis.has_short


def test_a_bar_over_a_pause_is_cut_at_its_edges():
    axis = timeline.axis(100_000, [Span(10_000, 90_000)])

    parts = axis.parts(5_000, 95_000)

    assert [part.is_short for part in parts] == [False, True, False]
    assert [(part.x, part.width) for part in parts] == [(19, 19), (38, 24), (62, 19)]


def test_the_shortest_step_can_still_be_seen_at_both_ends():
    axis = timeline.axis(1_000_000)

    first, last = axis.bar(0, 0), axis.bar(1_000_000, 1_000_000)

    assert (first.x, first.width) == (0, timeline.SMALLEST_BAR)
    assert last.x + last.width <= 100
    assert last.width == pytest.approx(timeline.SMALLEST_BAR)


def test_ticks_name_round_moments_the_edges_of_a_wait_and_the_end():
    axis = timeline.axis(168_000, [Span(9_000, 168_000)])

    labels = [tick.label for tick in timeline.ticks(axis)]

    assert labels == ["0 s", "3 s", "6 s", "9 s", "2 min 48 s"]


def test_a_round_moment_close_before_a_wait_is_not_named():
    axis = timeline.axis(799, [Span(280, 799)])

    assert [tick.label for tick in timeline.ticks(axis)] == ["0 s", "100 ms", "280 ms", "799 ms"]


def test_labels_never_touch():
    axis = timeline.axis(100_000, [Span(1_000, 40_000), Span(41_000, 99_000)])

    shown = [tick for tick in timeline.ticks(axis) if tick.label]

    boxes = sorted(timeline._box(tick.x, tick.anchor, timeline.width(tick.label)) for tick in shown)
    assert all(right <= left for (_, right), (left, _) in itertools.pairwise(boxes))


@pytest.mark.parametrize(
    ("moment_ms", "text"),
    [
        (0, "0 s"),
        (250, "250 ms"),
        (1_000, "1 s"),
        (8_990, "9 s"),
        (9_140, "9.1 s"),
        (60_000, "1 min"),
        (168_000, "2 min 48 s"),
        (3_900_000, "1 h 5 min"),
    ],
)
def test_a_label_uses_as_few_letters_as_it_needs(moment_ms, text):
    assert timeline.label(moment_ms) == text


spans = st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**6)), max_size=30)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spans, st.integers(1, 10**7))
def test_whatever_the_steps_the_axis_keeps_their_order_and_its_borders(starts, total):
    work = [Span(start, min(start + length, total)) for start, length in starts if start < total]
    found = timeline.pauses(work, total)
    axis = timeline.axis(total, found)

    moments = sorted({0, total, *(edge for span in work for edge in (span.start_ms, span.end_ms))})
    places = [axis.x(moment) for moment in moments]

    assert places == sorted(places)
    assert places[0] == 0
    assert places[-1] == 100
    assert sum(piece.width for piece in axis.pieces) == pytest.approx(100)
    assert not any(pause.start_ms < span.end_ms and span.start_ms < pause.end_ms for pause in found for span in work)
