"""Percentiles over many hours from small histograms: buckets grow by 2 %, so a percentile is right within 1 %."""

from __future__ import annotations

import math
from collections.abc import Mapping

GROWTH = 1.02
LN_GROWTH = math.log(GROWTH)


def bucket(ms: float) -> int:
    """The bucket of a duration; everything up to one millisecond shares the first. rollups.py does the same in SQL."""
    return math.floor(math.log(max(ms, 1.0)) / LN_GROWTH)


def middle_ms(index: int) -> float:
    return math.exp((index + 0.5) * LN_GROWTH)


def percentile_ms(histogram: Mapping[int, int], share: float, *, at_least: int) -> float | None:
    """The duration that `share` of all runs stay within; None while fewer than `at_least` are known."""
    total = sum(histogram.values())
    if total < max(at_least, 1):
        return None
    rank, seen = share * total, 0
    for index in sorted(histogram):
        seen += histogram[index]
        if seen >= rank:
            return middle_ms(index)
    return middle_ms(max(histogram))
