"""Figures and texts in words, the same on every page: durations, money, times, hidden characters."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

NOTHING = "–"
Duration = timedelta | float | int


def duration(value: Duration | None) -> str:
    """A span in the two units that matter; a bare number is milliseconds."""
    if value is None:
        return NOTHING
    ms = value.total_seconds() * 1000 if isinstance(value, timedelta) else float(value)
    if ms < 0:
        return f"−{duration(-ms)}"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 9_995:
        return f"{ms / 1000:.2f} s"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    return _units(round(ms / 1000))


def _units(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next(i for i, (count, _) in enumerate(parts) if count)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count)


def span(seconds: float) -> str:
    """A rough span for relative times and deadlines: `4 min`, `1 h 10 min`, `3 d`."""
    whole = int(abs(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min"
    if whole < 6 * 3600:
        return _units(whole // 60 * 60)
    if whole < 48 * 3600:
        return f"{whole // 3600} h"
    return f"{round(whole / 86400)} d"


def relative(at: datetime, now: datetime) -> str:
    seconds = (at - now).total_seconds()
    if -5 < seconds < 1:
        return "just now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"


def money(usd: Decimal | float | int | None) -> str:
    """US dollars: cents from one dollar on, thousandths below, more where a model call costs next to nothing."""
    if usd is None:
        return NOTHING
    amount = Decimal(usd) if not isinstance(usd, float) else Decimal(str(usd))
    size, sign = abs(amount), "−" if amount < 0 else ""
    if size == 0 or size >= 1:
        return f"{sign}${size:,.2f}"
    if size >= Decimal("0.01"):
        return f"{sign}${size:.3f}"
    return f"{sign}${size:.4f}" if size >= Decimal("0.0001") else f"{sign}<$0.0001"


def number(value: float | int | Decimal | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:,}".replace("-", "−")


def initials(name: str) -> str:
    words = [word for word in name.replace("@", " ").replace(".", " ").split() if word[0].isalnum()]
    return "".join(word[0] for word in words[:2]).upper() or "?"


def _kind(char: str) -> str:
    """`break`, `plain`, or `unseen`: what a reader cannot see but a program obeys (controls, bidi marks, tags)."""
    if char == "\n":
        return "break"
    if char in " \t" or (char.isprintable() and char not in BLANK and not "\U000e0100" <= char <= "\U000e01ef"):
        return "plain"
    return "plain" if unicodedata.category(char) in {"Zs", "Cn"} else "unseen"


# Printable by their category, and yet nothing is seen.
BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
MOST_BREAKS = 3


def visible(text: object) -> SafeString:
    """Escaped text with hidden characters spelled out and runs of empty lines counted."""
    return format_html_join("", "{}", ((part,) for part in _parts(str(text))))


def _parts(text: str) -> Iterator[str]:
    for kind, group in itertools.groupby(text, _kind):
        chars = "".join(group)
        if kind == "unseen":
            for char in chars:
                yield _unseen(f"U+{ord(char):04X}", unicodedata.name(char, "control character").lower())
        elif kind == "break" and len(chars) > MOST_BREAKS:
            yield "\n"
            yield empty_lines(len(chars) - 1)
            yield "\n"
        else:
            yield chars


def empty_lines(count: int) -> SafeString:
    """What stands for lines in which nothing is."""
    return _unseen(f"{count:,} empty lines", "left out here")


def _unseen(label: str, name: str) -> SafeString:
    return format_html('<span class="unseen" title="{}">{}</span>', name, label)
