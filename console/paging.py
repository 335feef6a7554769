"""Pages by cursor. Keys sort by time, so the key itself is the cursor: no OFFSET, and new rows shift nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet

from console import problems

M = TypeVar("M", bound=Model)

SIZE = 50


@dataclass(frozen=True)
class Page(Generic[M]):
    """Newest first. `newer` and `older` are cursors, empty where there is nothing more."""

    items: list[M]
    newer: str
    older: str


def page(rows: QuerySet[M], query: Mapping[str, str], *, size: int = SIZE) -> Page[M]:
    """Cut one page out of `rows` by the key given as `before` (older rows) or `after` (newer rows)."""
    before, after = query.get("before", ""), query.get("after", "")
    try:
        if after:
            found = list(rows.filter(pk__gt=after).order_by("pk")[: size + 1])
            items = found[:size][::-1]
            return Page(items, _key(items[:1]) if len(found) > size else "", _key(items[-1:]))
        chosen = rows.filter(pk__lt=before) if before else rows
        found = list(chosen.order_by("-pk")[: size + 1])
    except (ValueError, ValidationError) as wrong:
        raise problems.Invalid(f"The page mark {(before or after)[:60]!r} is not one this list gave out.") from wrong
    items = found[:size]
    return Page(items, _key(items[:1]) if before else "", _key(items[-1:]) if len(found) > size else "")


def _key(items: list[M]) -> str:
    return str(items[0].pk) if items else ""


def capped_count(rows: QuerySet[M], *, cap: int = 1000) -> str:
    """How many rows there are, as text, counting no further than the cap: `1,000+`."""
    count = rows.order_by()[: cap + 1].count()
    return f"{cap:,}+" if count > cap else f"{count:,}"
