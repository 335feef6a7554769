"""The list of runs: filters from the address to a query, pages by cursor, counts that stop counting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from urllib.parse import urlencode
from uuid import UUID

from django.db import OperationalError, connection, transaction
from django.db.models import Q
from django.http import QueryDict

from console import ids, problems, words
from console.paging import SIZE, Page
from runtime import figures, labels, masking, traces
from runtime.labels import Badge
from runtime.models import Run, RunQuerySet
from runtime.states import RunKind, RunStatus
from runtime.waits import Waits

PLACE = ("before", "after", "top")
MOST_COUNTED = 1000
MOST_NEW = 99
SHORTEST_SEARCH = 3
SEARCH_MS = 2000
RANGES = {
    "hour": ("Last hour", timedelta(hours=1)),
    "day": ("Last 24 hours", timedelta(days=1)),
    "week": ("Last 7 days", timedelta(days=7)),
    "month": ("Last 30 days", timedelta(days=30)),
}
TODAY = "today"
COSTLY_USD = "0.05"
PRESETS = {
    "Failed today": {"status": [RunStatus.FAILED.value], "since": [TODAY]},
    "Refused": {"status": [RunStatus.REFUSED.value]},
    "Waiting": {"status": [RunStatus.WAITING.value]},
    "Costly": {"cost": [COSTLY_USD]},
}
KINDS = {"": "Live", "replay": "Replays", "eval": "Evals", "shadow": "Shadow", "all": "All kinds"}


@dataclass(frozen=True)
class Filters:
    """What the address asks for. `wrong` holds a sentence for each value that cannot be used."""

    statuses: Sequence[str] = ()
    agents: Sequence[str] = ()
    release: str = ""
    tool: str = ""
    kind: str = ""
    cause: str = ""
    cost_over: Decimal | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str = ""
    wrong: Sequence[str] = field(default=())

    @property
    def is_empty(self) -> bool:
        chosen = (self.statuses, self.agents, self.release, self.tool, self.cause, self.text, self.since, self.until)
        return not any(chosen) and self.cost_over is None

    @property
    def is_scan(self) -> bool:
        """Whether the words are looked for in the texts of all runs that fit otherwise."""
        return bool(self.text) and _id_range(self.text) is None


@dataclass(frozen=True)
class Preset:
    label: str
    query: str
    is_on: bool


def presets(query: QueryDict) -> list[Preset]:
    """Ready-made filters. One is on when the address asks for exactly it; its link then takes it off."""
    asked = {name: query.getlist(name) for name in query if name not in PLACE and query[name]}
    return [
        Preset(label, "" if asked == wanted else urlencode(wanted, doseq=True), asked == wanted)
        for label, wanted in PRESETS.items()
    ]


def ranges(chosen: str) -> list[tuple[str, str]]:
    """The time ranges to choose from, and a date from the address, so that filtering on keeps it."""
    found = [(TODAY, "Today"), *((key, label) for key, (label, _) in RANGES.items())]
    return found if not chosen or chosen in dict(found) else [*found, (chosen, f"Since {chosen[:40]}")]


def causes(chosen: str) -> list[tuple[str, str]]:
    """The causes worth a filter, and the chosen one even when it is not among them."""
    codes = [*labels.CAUSES, *(f"budget:{name}" for name in labels.ENDING_BUDGETS)]
    if chosen and chosen not in codes:
        codes.append(chosen)
    return [(code, labels.cause(code)) for code in codes]


def without_place(query: QueryDict) -> str:
    """The filters of an address without its place in the list."""
    kept = query.copy()
    for name in PLACE:
        kept.pop(name, None)
    return kept.urlencode()


def filters(query: QueryDict, now: datetime) -> Filters:
    wrong: list[str] = []
    text = query.get("q", "").strip()[:200]
    if text and len(text) < SHORTEST_SEARCH:
        wrong.append(f"Search for at least {SHORTEST_SEARCH} letters; {text!r} was left out.")
        text = ""
    return Filters(
        statuses=[one for one in query.getlist("status") if one in set(RunStatus)],
        agents=[one for one in query.getlist("agent") if one],
        release=query.get("release", ""),
        tool=query.get("tool", ""),
        kind=query.get("kind", "") if query.get("kind", "") in KINDS else "",
        cause=query.get("cause", ""),
        cost_over=_cost(query.get("cost", ""), wrong),
        since=_since(query.get("since", ""), now, wrong),
        until=_moment(query.get("until", ""), wrong, is_end=True),
        text=text,
        wrong=wrong,
    )


def _cost(text: str, wrong: list[str]) -> Decimal | None:
    if not text.strip():
        return None
    try:
        cost = Decimal(text.strip().lstrip("$"))
    except InvalidOperation:
        cost = Decimal("NaN")
    if not cost.is_finite() or cost < 0:
        wrong.append(f"Cost over {text[:20]!r} is not an amount in dollars and was left out.")
        return None
    return cost


def _since(text: str, now: datetime, wrong: list[str]) -> datetime | None:
    if text == TODAY:
        return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if text in RANGES:
        return now - RANGES[text][1]
    return _moment(text, wrong, is_end=False)


def _moment(text: str, wrong: list[str], *, is_end: bool) -> datetime | None:
    """A day (the whole of it) or a moment; without an offset it is UTC."""
    if not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        wrong.append(f"{text[:40]!r} is not a date like 2026-11-24 and was left out.")
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment + timedelta(days=1) if is_end and len(text.strip()) == len("2026-11-24") else moment


def matching(runs: RunQuerySet, chosen: Filters) -> RunQuerySet:
    if chosen.kind != "all":
        runs = runs.filter(kind=chosen.kind or RunKind.LIVE)
    if chosen.statuses:
        runs = runs.filter(status__in=chosen.statuses)
    if chosen.agents:
        runs = runs.filter(agent__slug__in=chosen.agents)
    if chosen.release:
        runs = runs.filter(release__version=chosen.release)
    if chosen.tool:
        runs = runs.filter(tools_called__contains=[chosen.tool])
    if chosen.cause:
        runs = runs.filter(cause=chosen.cause)
    if chosen.cost_over is not None:
        runs = runs.filter(cost_usd__gt=chosen.cost_over)
    if chosen.since:
        runs = runs.filter(created_at__gte=chosen.since)
    if chosen.until:
        runs = runs.filter(created_at__lt=chosen.until)
    return runs.filter(_says(chosen.text)) if chosen.text else runs


def _says(text: str) -> Q:
    """An id or its beginning is looked up by key; anything else in title and customer."""
    span = _id_range(text)
    if span:
        return Q(pk__gte=span[0], pk__lte=span[1])
    return Q(title__icontains=text) | Q(principal_label__icontains=text) | Q(principal_id=text)


def _id_range(text: str) -> tuple[UUID, UUID] | None:
    """The keys whose public id begins with the text."""
    head, _, body = text.lower().partition("_")
    if head != "run" or not body or len(body) > ids.LENGTH or any(letter not in ids.VALUES for letter in body):
        return None
    low = sum(ids.VALUES[letter] << 5 * (ids.LENGTH - 1 - place) for place, letter in enumerate(body))
    high = low + (1 << 5 * (ids.LENGTH - len(body))) - 1
    largest = (1 << 128) - 1
    return (UUID(int=low), UUID(int=min(high, largest))) if low <= largest else None


# Pages


def cursor(run: Run) -> str:
    """Where a run stands in the order of the list: by time, then by key."""
    micros = round(run.created_at.timestamp() * 1_000_000)
    return f"{micros:x}-{ids.public('run', run.pk).removeprefix('run_')}"


def _place(text: str) -> tuple[datetime, UUID]:
    head, _, body = text.partition("-")
    try:
        micros = int(head, 16)
        moment = datetime.fromtimestamp(micros // 1_000_000, UTC) + timedelta(microseconds=micros % 1_000_000)
        return moment, ids.parse("run", f"run_{body}")
    except (ValueError, OverflowError, OSError) as wrong:
        raise problems.Invalid(f"The page mark {text[:60]!r} is not one this list gave out.") from wrong


def _older(text: str) -> Q:
    at, key = _place(text)
    return Q(created_at__lte=at) & (Q(created_at__lt=at) | Q(pk__lt=key))


def _newer(text: str) -> Q:
    at, key = _place(text)
    return Q(created_at__gte=at) & (Q(created_at__gt=at) | Q(pk__gt=key))


def page(runs: RunQuerySet, query: Mapping[str, str], *, size: int = SIZE) -> Page[Run]:
    """One page, newest first: runs before a cursor, after one, or (for a refresh in place) from `top` downwards."""
    runs = runs.select_related("agent", "release")
    before, after, top = query.get("before", ""), query.get("after", ""), query.get("top", "")
    if after:
        found = list(runs.filter(_newer(after)).order_by("created_at", "pk")[: size + 1])
        items = found[:size][::-1]
        return Page(items, cursor(items[0]) if len(found) > size else "", cursor(items[-1]) if items else "")
    if before:
        runs = runs.filter(_older(before))
    elif top:
        at, key = _place(top)
        runs = runs.filter(_older(top) | Q(created_at=at, pk=key))
    found = list(runs.order_by("-created_at", "-pk")[: size + 1])
    items = found[:size]
    return Page(items, cursor(items[0]) if before and items else "", cursor(items[-1]) if len(found) > size else "")


def newer_count(runs: RunQuerySet, top: str) -> int:
    """How many matching runs have come since the list was opened, at most MOST_NEW."""
    return runs.filter(_newer(top)).order_by()[:MOST_NEW].count()


def count(runs: RunQuerySet, chosen: Filters, page: Page[Run]) -> str:
    """How many runs match, as text. A search of all texts is not made twice: the page tells whether there are more."""
    if chosen.is_scan:
        return f"{len(page.items)} or more" if page.older or page.newer else f"{len(page.items)}"
    found = runs.order_by()[: MOST_COUNTED + 1].count()
    return f"{MOST_COUNTED:,}+" if found > MOST_COUNTED else f"{found:,}"


@contextmanager
def patience(chosen: Filters) -> Iterator[None]:
    """Ends a free-text search that takes too long, instead of letting it hold the database.

    Raises:
        problems.Problem: (503) says how to narrow it.
    """
    if not chosen.is_scan:
        yield
        return
    try:
        with transaction.atomic():  # whose end also ends the limit
            with connection.cursor() as cursor:
                cursor.execute("SELECT set_config('statement_timeout', %s, true)", [str(SEARCH_MS)])
            yield
    except OperationalError as slow:
        if "statement timeout" not in str(slow):
            raise
        raise problems.Problem(
            f"The search took longer than {SEARCH_MS / 1000:g} s and was ended. Narrow it: choose a time range, an"
            " agent or a status, or search for the id.",
            status=503,
            title="Search too slow",
        ) from slow


# Rows


@dataclass(frozen=True)
class Row:
    run: Run
    title: str
    principal: str
    badge: Badge
    note: str
    time: str
    bar: Bar
    cost: str
    is_unpriced: bool


@dataclass(frozen=True)
class Bar:
    """Shares of the elapsed time, as lengths for SVG. What is left of it was spent waiting for a worker."""

    working: str
    waiting: str
    label: str


def rows(runs: Sequence[Run], shown_of: Callable[[Run], masking.Shown], now: datetime) -> list[Row]:
    """`shown_of` says how the texts of a run are shown: personal data may be masked on one agent and not on another."""
    held = Waits(now)
    return [_row(run, shown_of(run), now, held) for run in runs]


def _row(run: Run, shown: masking.Shown, now: datetime, held: Waits) -> Row:
    note = labels.cause(run.cause) if run.cause and run.cause not in ("answered", "cancelled") else ""
    if run.status == RunStatus.QUEUED and (reason := held.reason(run)) is not None:
        note = labels.waits_for(reason)
    return Row(
        run=run,
        title=shown(run.title),
        principal=shown(run.principal_label or run.principal_id),
        badge=labels.run(run.status, is_short=True),
        note=note,
        time=words.duration((run.finished_at or now) - run.created_at),
        bar=_bar(run, now),
        cost=words.money(run.cost_usd),
        is_unpriced=run.cost_basis == "unpriced",
    )


def _bar(run: Run, now: datetime) -> Bar:
    working, parked = figures.spent(run, now)
    total = max((run.finished_at or now) - run.created_at, working + parked, timedelta(milliseconds=1))
    label = f"{words.duration(working)} working, {words.duration(parked)} waiting for a person"
    return Bar(traces.percent(100 * (working / total)), traces.percent(100 * (parked / total)), label)
