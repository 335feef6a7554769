"""The chart of runs by outcome: a figure for Plotly, and the same figures as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from telemetry.policies import figures
from telemetry.policies.periods import Period
from telemetry.readings import Counted

# Colours name roles; charts.js resolves them for the theme. The pattern tells outcomes apart without colour.
OUTCOMES = (
    ("succeeded", "Succeeded", "var(--ok)", ""),
    ("refused", "Refused", "var(--mute)", "/"),
    ("escalated", "Escalated", "var(--wait)", "\\"),
    ("expired", "Expired", "var(--warn)", "-"),
    ("failed", "Failed", "var(--bad)", "x"),
    ("cancelled", "Cancelled", "var(--line-strong)", "."),
)
PATTERN = {"fillmode": "overlay", "fgcolor": "var(--surface)", "size": 6, "solidity": 0.2}
SUCCESS_LINE_NEEDS = figures.ENOUGH_PER_POINT


@dataclass(frozen=True)
class Cell:
    label: str
    count: int


@dataclass(frozen=True)
class Line:
    """One slot as a row of the table."""

    at: datetime
    counts: Sequence[Cell]
    success: str


def figure(period: Period, slots: Sequence[Counted]) -> dict[str, Any]:
    at = [_moment(moment) for moment in period.slots]
    bars = [
        {
            "type": "bar",
            "name": label,
            "x": at,
            "y": [getattr(slot, name) for slot in slots],
            "marker": {"color": color, "opacity": 1 if shape else 0.7, "pattern": {**PATTERN, "shape": shape}},
            "hovertemplate": "%{y}",
        }
        for name, label, color, shape in OUTCOMES
        if any(getattr(slot, name) for slot in slots)
    ]
    shares = [_success(slot) if slot.judged >= SUCCESS_LINE_NEEDS else None for slot in slots]
    line = {
        "type": "scatter", "mode": "lines+markers", "name": "Success, right scale", "yaxis": "y2", "x": at,
        "y": [None if share is None else round(share * 100, 1) for share in shares],
        "line": {"color": "var(--accent)", "width": 2}, "marker": {"size": 5, "color": "var(--accent)"},
        "hovertemplate": "%{y}%",
    }  # fmt: skip
    has_line = sum(share is not None for share in shares) >= figures.ENOUGH_POINTS
    return {
        "data": [*bars, *([line] if has_line else [])],
        "layout": _layout(period, max((slot.runs for slot in slots), default=0)),
    }


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def _layout(period: Period, most: int) -> dict[str, Any]:
    # Marks between two whole runs would all be written as whole ones.
    marks = {"dtick": 1} if most <= 5 else {"nticks": 5}
    return {
        "barmode": "stack",
        "bargap": 0.25,
        "legend": {"orientation": "h", "y": -0.2, "traceorder": "normal"},
        "margin": {"l": 44, "r": 48, "t": 8, "b": 48},
        "xaxis": {
            "type": "date", "tickformat": "%b %-d" if period.slot.days else "%H:%M\n%b %-d", "nticks": 8,
            # Said, because without a run there is nothing to tell it from.
            "range": [_moment(period.slots[0] - period.slot / 2), _moment(period.slots[-1] + period.slot / 2)],
        },
        "yaxis": {"rangemode": "tozero", "tickformat": ",d", **marks},
        "yaxis2": {
            "overlaying": "y", "side": "right", "range": [0, 105],
            "tickvals": [0, 50, 100], "ticktext": ["0%", "50%", "100%"],
            "showgrid": False, "zeroline": False, "fixedrange": True,
        },
    }  # fmt: skip


def table(period: Period, slots: Sequence[Counted]) -> list[Line]:
    """Newest first; slots in which nothing ended are left out."""
    lines = [
        Line(at, [Cell(label, getattr(slot, name)) for name, label, *_ in OUTCOMES], _text(_success(slot)))
        for at, slot in zip(period.slots, slots, strict=True)
        if slot.runs
    ]
    return lines[::-1]


def summary(period: Period, whole: Counted) -> str:
    """What the chart shows, in a sentence."""
    parts = [f"{getattr(whole, name):,} {label.lower()}" for name, label, *_ in OUTCOMES if getattr(whole, name)]
    return f"Runs that ended, by outcome and {period.slot_label}: {', '.join(parts) or 'none'}."


def _success(slot: Counted) -> float | None:
    return figures.share(slot.succeeded, slot.judged)


def _text(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"
