"""What the overview says about the runs of a period: each measure with its formula, and the words that explain it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from console import words
from telemetry.policies import figures, latency
from telemetry.policies.figures import ENOUGH_FOR_MEDIAN, ENOUGH_FOR_P95, Change, NotEnough
from telemetry.readings import Counted

LIVE_ONLY = "Live runs that ended in the period; shadow, eval, drill and replay runs are left out."
NOT_CANCELLED = f"{LIVE_ONLY} Cancelled runs are left out, too: somebody stopped them."


class Unit(StrEnum):
    SHARE = "share"
    NUMBER = "number"
    MS = "ms"
    USD = "usd"


@dataclass(frozen=True)
class Measure:
    """`population` says how many runs (or calls, or ratings) the value rests on."""

    key: str
    label: str
    unit: Unit
    value: Callable[[Counted], float | None]
    population: Callable[[Counted], int]
    of: str  # runs, calls, ratings
    numerator: str
    denominator: str
    excluded: str = LIVE_ONLY
    note: Callable[[Counted], str] = lambda _: ""


def _judged_share(part: Callable[[Counted], int]) -> Callable[[Counted], float | None]:
    return lambda counted: figures.share(part(counted), counted.judged)


def _percentile(share: float, at_least: int) -> Callable[[Counted], float | None]:
    return lambda counted: latency.percentile_ms(counted.working, share, at_least=at_least)


def _judged(counted: Counted) -> int:
    return counted.judged


def _runs(counted: Counted) -> int:
    return counted.runs


def _sureness(counted: Counted) -> str:
    unsure = [(counted.unpriced_runs, "without a price"), (counted.estimated_runs, "estimated")]
    return ", ".join(f"{words.number(count)} {word}" for count, word in unsure if count)


def _cached(counted: Counted) -> str:
    cached = figures.share(counted.cached_tokens, counted.input_tokens)
    return f"{cached:.0%} of input from cache" if cached else ""


ENDED = "Runs that ended and were not cancelled"
MEASURES: tuple[Measure, ...] = (
    Measure("success", "Success", Unit.SHARE, _judged_share(lambda c: c.succeeded), _judged, "runs",
            "Runs in which the agent answered", ENDED, NOT_CANCELLED),
    Measure("refusal", "Refusals", Unit.SHARE, _judged_share(lambda c: c.refused), _judged, "runs",
            "Runs that the agent or a rule declined; a refusal is not a failure", ENDED, NOT_CANCELLED),
    Measure("escalation", "Handed to people", Unit.SHARE, _judged_share(lambda c: c.escalated), _judged, "runs",
            "Runs that the agent handed off to a person", ENDED, NOT_CANCELLED),
    Measure("failure", "Failures", Unit.SHARE, _judged_share(lambda c: c.failed), _judged, "runs",
            "Runs that broke: model, tool, budget or time-out", ENDED, NOT_CANCELLED,
            lambda c: f"{words.number(c.expired)} expired undecided" if c.expired else ""),
    Measure("steps", "Steps per run", Unit.NUMBER, lambda c: figures.share(c.steps, c.runs), _runs, "runs",
            "Steps of all kinds", "Runs that ended"),
    Measure("tool-errors", "Tool errors", Unit.SHARE, lambda c: figures.share(c.tool_errors, c.tool_calls),
            lambda c: c.tool_calls, "calls", "Tool calls that failed or whose outcome is unknown",
            "Tool calls that were made", f"{LIVE_ONLY} Calls that a rule refused were never made."),
    Measure("latency-p50", "Working time, median", Unit.MS, _percentile(0.5, ENOUGH_FOR_MEDIAN), _judged, "runs",
            "Half of the runs took this long or less; waiting for people does not count", ENDED,
            f"{NOT_CANCELLED} Right within 1%."),
    Measure("latency-p95", "Working time, p95", Unit.MS, _percentile(0.95, ENOUGH_FOR_P95), _judged, "runs",
            "95 of 100 runs took this long or less; waiting for people does not count", ENDED,
            f"{NOT_CANCELLED} Right within 1%."),
    Measure("parked", "Wait for people, median", Unit.MS,
            lambda c: latency.percentile_ms(c.parked, 0.5, at_least=ENOUGH_FOR_MEDIAN), lambda c: c.parked_runs, "runs",
            "Half of the runs that waited for a decision waited this long or less", "Runs that waited for a person"),
    Measure("cost", "Cost per run", Unit.USD, lambda c: figures.share(float(c.cost_usd), c.runs), _runs, "runs",
            "What model calls cost, in US dollars", "Runs that ended",
            f"{LIVE_ONLY} Calls without a known price count as zero.",
            lambda c: ", ".join(filter(None, (f"{words.money(c.cost_usd)} in total", _sureness(c))))),
    Measure("tokens", "Tokens per run", Unit.NUMBER,
            lambda c: figures.share(c.input_tokens + c.output_tokens, c.runs), _runs, "runs",
            "Tokens read and written by models, cached ones included", "Runs that ended", note=_cached),
    Measure("feedback", "Found helpful", Unit.SHARE, lambda c: figures.share(c.helpful, c.rated), lambda c: c.rated,
            "ratings", "Ratings that say helpful", "Ratings of runs that ended in the period"),
)  # fmt: skip


@dataclass(frozen=True)
class Tile:
    key: str
    label: str
    value: str
    population: str
    change: str
    note: str
    points: Sequence[float | None]
    no_trend: str
    is_thin: bool
    measure: Measure


def tile(measure: Measure, slots: Sequence[Counted], whole: Counted, before: Counted, against: str) -> Tile:
    value, size = measure.value(whole), measure.population(whole)
    change = figures.decide_change(
        value,
        measure.value(before),
        runs=size,
        runs_before=measure.population(before),
        is_share=measure.unit == Unit.SHARE,
    )
    trend = figures.decide_trend(
        [measure.value(slot) if measure.population(slot) >= figures.ENOUGH_PER_POINT else None for slot in slots]
    )
    return Tile(
        key=measure.key,
        label=measure.label,
        value=said(measure.unit, value),
        population=f"{words.number(size)} {measure.of if size != 1 else measure.of.removesuffix('s')}",
        change=_change(change, against),
        note=measure.note(whole),
        points=() if isinstance(trend, NotEnough) else trend,
        no_trend=trend.reason if isinstance(trend, NotEnough) else "",
        is_thin=0 < size < figures.ENOUGH_TO_COMPARE,
        measure=measure,
    )


def said(unit: Unit, value: float | None) -> str:
    if value is None:
        return "Not enough data"
    match unit:
        case Unit.SHARE:
            return f"{value:.1%}"
        case Unit.MS:
            return words.duration(value)
        case Unit.USD:
            return words.money(value)
        case Unit.NUMBER:
            return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _change(change: Change | NotEnough, against: str) -> str:
    if isinstance(change, NotEnough):
        return change.reason.capitalize()
    if change.points is not None:
        return f"{_signed(change.points, 1)} pp {against}"
    return f"{_signed((change.ratio or 0) * 100, 0)}% {against}"


def _signed(number: float, digits: int) -> str:
    text = f"{number:+.{digits}f}"
    return f"±{text[1:]}" if not float(text) else text.replace("-", "−")
