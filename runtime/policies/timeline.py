"""Where things stand on the time axis of a trace: moments in, percentages of its width out.

Moments are milliseconds since the axis begins. A pause, a stretch in which nothing worked, is drawn shortened
when it takes more than a fifth of the run; otherwise one wait of an hour would squeeze all work into a hair.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LONG_PAUSE_RATIO = 0.2
# What a shortened pause may take of the width, by how many there are.
SHORT_WIDTHS = {1: 24.0, 2: 16.0, 3: 12.0}
SHORT_WIDTH = 10.0
SMALLEST_BAR = 0.6
# One letter of a label takes this much of the axis, in percent: 260 px beside the inspector, 7 px in DejaVu Sans.
LETTER_WIDTH = 2.7
TICK_DISTANCE = 20.0
_SECOND, _MINUTE, _HOUR = 1_000, 60_000, 3_600_000
NICE_MS = [
    *(1, 2, 5, 10, 20, 50, 100, 200, 500),
    *(_SECOND * count for count in (1, 2, 3, 5, 10, 15, 30)),
    *(_MINUTE * count for count in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * count for count in (1, 2, 3, 6, 12, 24, 48, 96, 168)),
]


@dataclass(frozen=True)
class Span:
    start_ms: float
    end_ms: float

    @property
    def length_ms(self) -> float:
        return self.end_ms - self.start_ms


@dataclass(frozen=True)
class Piece:
    """A stretch of the axis with one scale of its own."""

    span: Span
    x: float
    width: float
    is_short: bool = False


@dataclass(frozen=True)
class Bar:
    x: float
    width: float
    is_short: bool = False


@dataclass(frozen=True)
class Tick:
    """A line across the timeline; the label is empty where it would touch its neighbour."""

    x: float
    label: str
    anchor: str  # start, middle, end


@dataclass(frozen=True)
class Axis:
    total_ms: float
    pieces: tuple[Piece, ...]

    def x(self, moment_ms: float) -> float:
        """Percent from the left; moments outside stand at the edge."""
        for piece in self.pieces:
            if moment_ms <= piece.span.end_ms:
                done = (moment_ms - piece.span.start_ms) / (piece.span.length_ms or 1)
                return round(piece.x + piece.width * max(0.0, done), 2)
        return 100.0

    def bar(self, start_ms: float, end_ms: float) -> Bar:
        """A bar wide enough to be seen, kept inside the axis."""
        left = self.x(start_ms)
        width = max(round(self.x(end_ms) - left, 2), SMALLEST_BAR)
        return Bar(min(left, 100 - SMALLEST_BAR), min(width, 100 - min(left, 100 - SMALLEST_BAR)))

    def parts(self, start_ms: float, end_ms: float) -> list[Bar]:
        """The same, cut where the axis is shortened, so that those parts can be drawn differently."""
        parts = []
        for piece in self.pieces:
            start, end = max(start_ms, piece.span.start_ms), min(end_ms, piece.span.end_ms)
            if end > start:
                bar = self.bar(start, end)
                parts.append(Bar(bar.x, bar.width, piece.is_short))
        return parts

    @property
    def has_short(self) -> bool:
        return any(piece.is_short for piece in self.pieces)


def pauses(work: Iterable[Span], total_ms: float) -> list[Span]:
    """The stretches without any work that are long enough to be shortened, in order."""
    found, reached = [], 0.0
    for span in [*sorted(work, key=lambda one: one.start_ms), Span(total_ms, total_ms)]:
        start = min(span.start_ms, total_ms)
        if start - reached > total_ms * LONG_PAUSE_RATIO:
            found.append(Span(reached, start))
        reached = max(reached, span.end_ms)
    return found


def axis(total_ms: float, shortened: Sequence[Span] = ()) -> Axis:
    """An axis over the whole of `total_ms` in which the given pauses take a fixed width each.

    Where nothing worked at all there is nothing to make room for, and no pause is shortened.
    """
    total_ms = max(total_ms, 1.0)
    if sum(pause.length_ms for pause in shortened) >= total_ms:
        shortened = ()
    short_width = SHORT_WIDTHS.get(len(shortened), SHORT_WIDTH)
    work_ms = total_ms - sum(pause.length_ms for pause in shortened)
    work_width = 100.0 - short_width * len(shortened)
    pieces: list[Piece] = []
    x, moment = 0.0, 0.0

    for pause in [*shortened, Span(total_ms, total_ms)]:
        length = pause.start_ms - moment
        if length > 0:
            width = work_width * length / work_ms
            pieces.append(Piece(Span(moment, pause.start_ms), x, width))
            x += width
        if pause.length_ms > 0:
            pieces.append(Piece(pause, x, short_width, is_short=True))
            x += short_width
        moment = pause.end_ms
    return Axis(total_ms, tuple(pieces))


def ticks(on: Axis) -> list[Tick]:
    """Round moments on the stretches of work, both ends of every shortened pause, and the end."""
    moments = sorted({0.0, on.total_ms, *_round_moments(on), *_edges(on)})
    fixed = {0.0, on.total_ms, *_edges(on)}
    taken: list[tuple[float, float]] = []
    labels: dict[float, str] = {}
    for moment in sorted(moments, key=lambda one: (one not in (0.0, on.total_ms), one not in fixed, one)):
        text = label(moment)
        left, right = _box(on.x(moment), _anchor(on, moment), width(text))
        if all(right + 1 <= other_left or left >= other_right + 1 for other_left, other_right in taken):
            taken.append((left, right))
            labels[moment] = text
    return [
        Tick(on.x(moment), labels.get(moment, ""), _anchor(on, moment))
        for moment in moments
        if moment in labels or moment in fixed
    ]


def _round_moments(on: Axis) -> list[float]:
    """Multiples of a round step, on the first stretch of work only: later ones count from somewhere uneven."""
    first = next((piece for piece in on.pieces if not piece.is_short), None)
    if first is None or first.span.start_ms > 0 or first.width < TICK_DISTANCE:
        return []
    wanted = first.span.length_ms * TICK_DISTANCE / first.width
    step = next((nice for nice in NICE_MS if nice >= wanted), wanted)
    count = int(first.span.length_ms / step)
    return [float(step * number) for number in range(1, count + 1)]


def _edges(on: Axis) -> list[float]:
    return [edge for piece in on.pieces if piece.is_short for edge in (piece.span.start_ms, piece.span.end_ms)]


def _box(x: float, anchor: str, width: float) -> tuple[float, float]:
    if anchor == "start":
        return x, x + width
    return (x - width, x) if anchor == "end" else (x - width / 2, x + width / 2)


def _anchor(on: Axis, moment: float) -> str:
    """Labels at an edge of a pause stand on its outer side, so that they do not lie over the hatching."""
    x = on.x(moment)
    if x < 4 or any(piece.is_short and piece.span.end_ms == moment < on.total_ms for piece in on.pieces):
        return "start"
    is_before_pause = any(piece.is_short and piece.span.start_ms == moment for piece in on.pieces)
    return "end" if x > 96 or is_before_pause else "middle"


def width(text: str) -> float:
    """What a label takes of the axis, in percent; a space is half a letter."""
    return LETTER_WIDTH * (len(text) - text.count(" ") / 2)


def label(moment_ms: float) -> str:
    """A moment of the axis in as few letters as it needs: `250 ms`, `9 s`, `2 min 48 s`, `1 h 5 min`."""
    if moment_ms < 1:
        return "0 s"
    if moment_ms < _SECOND:
        return f"{moment_ms:.0f} ms"
    if moment_ms < 10 * _SECOND:
        return f"{moment_ms / _SECOND:.1f}".removesuffix(".0") + " s"
    whole = round(moment_ms / _SECOND)
    units = [(whole // 3600, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next(index for index, (count, _) in enumerate(units) if count)
    return " ".join(f"{count} {unit}" for count, unit in units[first : first + 2] if count)
