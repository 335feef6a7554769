"""The inbox: which requests a person sees, in which order and under which heading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import reduce
from operator import or_
from statistics import median
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Count, F, Q, TextField
from django.db.models.functions import Cast
from django.http import QueryDict
from django.utils.timezone import now

from approvals.models import RISKS, ApprovalQuerySet, ApprovalRequest, Decision
from approvals.states import OPEN, SETTLED, ApprovalStatus, Verdict
from console import ids, redact
from console.actors import Actor

VIEWS = {"open": "Open", "mine": "Mine", "done": "Done today"}
SORTS = {"due": "Due first", "newest": "Newest first", "amount": "By amount"}
SOON = timedelta(minutes=10)
MOST_ROWS = 100
# status -> tone, icon, word
BADGES = {
    ApprovalStatus.PENDING: ("wait", "pause", "Waiting"),
    ApprovalStatus.FROZEN: ("warn", "power", "Stopped"),
    ApprovalStatus.APPROVED: ("ok", "check", "Approved"),
    ApprovalStatus.REJECTED: ("mute", "x", "Rejected"),
    ApprovalStatus.EXPIRED: ("warn", "clock-alert", "Expired"),
    ApprovalStatus.VOID: ("mute", "ban", "Withdrawn"),
}
SHOWN = ("title", "why", "arguments", "fields", "evidence", "side", "history")
APPROVED = Count("decisions", filter=Q(decisions__verdict=Verdict.APPROVE))
DONE = (ApprovalStatus.APPROVED, ApprovalStatus.REJECTED, ApprovalStatus.EXPIRED, ApprovalStatus.VOID)


@dataclass(frozen=True)
class Filters:
    """What the address says. Words it does not know are ignored, so an old link still opens."""

    view: str = "open"
    sort: str = "due"
    q: str = ""
    risk: tuple[str, ...] = ()
    tool: tuple[str, ...] = ()
    agent: tuple[str, ...] = ()

    @classmethod
    def of(cls, query: QueryDict) -> Filters:
        view, sort = query.get("view", ""), query.get("sort", "")
        return cls(
            view=view if view in VIEWS else "open",
            sort=sort if sort in SORTS else "due",
            q=query.get("q", "").strip()[:100],
            risk=tuple(risk for risk in query.getlist("risk") if risk in dict(RISKS)),
            tool=tuple(filter(None, query.getlist("tool"))),
            agent=tuple(filter(None, query.getlist("agent"))),
        )

    @property
    def query(self) -> str:
        """The same as a query string with its question mark; empty when nothing is chosen."""
        fallback = Filters()
        pairs = {name: value for name, value in vars(self).items() if value != getattr(fallback, name)}
        return f"?{urlencode(pairs, doseq=True)}" if pairs else ""

    @property
    def is_narrow(self) -> bool:
        return bool(self.q or self.risk or self.tool or self.agent)

    def on(self, view: str) -> Filters:
        return replace(self, view=view)

    def without_narrowing(self) -> Filters:
        return Filters(view=self.view, sort=self.sort)


def visible(actor: Actor) -> ApprovalQuerySet:
    return ApprovalRequest.objects.on_agents(actor.agents("approvals.read")).select_related("claimed_by")


def may_listen(actor: Actor, topic: str) -> bool:
    """Whether the actor may be told of changes of `approval:<public id>`."""
    try:
        key = ids.parse("apr", topic.partition(":")[2])
    except ValueError:
        return False
    return visible(actor).filter(pk=key).exists()


def found(actor: Actor, filters: Filters) -> ApprovalQuerySet:
    """Every request that fits, in order."""
    rows = visible(actor).filter(_in_view(filters.view, actor))
    if filters.risk:
        rows = rows.filter(risk__in=filters.risk)
    if filters.tool:
        rows = rows.filter(action__in=filters.tool)
    if filters.agent:
        rows = rows.filter(agent__in=filters.agent)
    if filters.q:
        searched = {"said": Cast("arguments", TextField()), "beside": Cast("side", TextField())}
        rows = rows.alias(**searched).filter(_about(filters.q))
    return rows.order_by(*_order(filters))


def _in_view(view: str, actor: Actor) -> Q:
    is_open = Q(status__in=OPEN)
    if view == "done":
        midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
        return Q(status__in=DONE, decided_at__gte=midnight)
    if view == "mine":
        return is_open & Q(claimed_until__gt=now(), claimed_by_id=_key(actor))
    return is_open


def _about(text: str) -> Q:
    """Requests whose title, tool, agent, customer, arguments or amount contain the text, or that have this id."""
    places = ("title", "action", "agent_name", "requested_for", "rule", "why", "said", "beside")
    wanted = Q()
    for place in places:
        wanted |= Q(**{f"{place}__icontains": text})
    with suppress(InvalidOperation):
        wanted |= Q(amount_usd=Decimal(text.lstrip("$€").replace(",", "")))
    with suppress(ValueError):
        wanted |= Q(pk=ids.parse("apr", text))
    return wanted


def _order(filters: Filters) -> tuple[Any, ...]:
    if filters.view == "done":
        return ("-decided_at", "-pk")
    if filters.sort == "newest":
        return ("-pk",)
    if filters.sort == "amount":
        return (F("amount_usd").desc(nulls_last=True), "due_at", "pk")
    # Frozen ones come last: nobody can do anything about them here.
    return ("-status", "due_at", "pk")


def masked(request: ApprovalRequest, actor: Actor) -> ApprovalRequest:
    """The request for this person's eyes: who only looks on sees no e-mail, telephone or postal addresses.

    Changes the object, never the row.
    """
    if not actor.may("approvals.decide", agent=request.agent):
        for name in SHOWN:
            setattr(request, name, redact.personal(getattr(request, name)))
    return request


@dataclass(frozen=True)
class Item:
    """One line of the list."""

    request: ApprovalRequest
    icon: str
    word: str
    is_held: bool
    people: str  # `2 people` while nobody has approved, `1 of 2 approved`; empty where one decides


@dataclass(frozen=True)
class Group:
    label: str
    items: list[Item] = field(default_factory=list)


@dataclass(frozen=True)
class Listing:
    """What the left pane shows. `newest` is the mark that later refreshes compare with; `waiting` came after it."""

    groups: list[Group]
    newest: str
    waiting: int
    is_cut: bool

    @property
    def first(self) -> ApprovalRequest | None:
        return self.groups[0].items[0].request if self.groups else None


def listing(actor: Actor, filters: Filters, *, upto: UUID | None = None) -> Listing:
    """The rows under their headings. With `upto`, rows made later wait behind a bar, so that nothing moves."""
    rows = found(actor, filters)
    shown = rows.filter(pk__lte=upto) if upto else rows
    items = [masked(item, actor) for item in shown.annotate(approved=APPROVED)[: MOST_ROWS + 1]]
    newest = upto or max((item.pk for item in items), default=None)
    return Listing(
        groups=_grouped(items[:MOST_ROWS], filters, now()),
        newest=ids.public("apr", newest) if newest else "",
        waiting=rows.filter(pk__gt=upto).count() if upto else 0,
        is_cut=len(items) > MOST_ROWS,
    )


def _grouped(items: Iterable[ApprovalRequest], filters: Filters, moment: datetime) -> list[Group]:
    groups: dict[str, Group] = {}
    for item in items:
        label = _heading(item, filters, moment)
        groups.setdefault(label, Group(label)).items.append(_item(item, moment))
    return list(groups.values())


def _item(item: ApprovalRequest, moment: datetime) -> Item:
    _, icon, word = BADGES[ApprovalStatus(item.status)]
    is_pending = item.status == ApprovalStatus.PENDING
    is_held = is_pending and item.claimed_until is not None and item.claimed_until > moment
    return Item(item, "square-terminal" if is_pending else icon, word, is_held, _people(item))


def _people(item: ApprovalRequest) -> str:
    needed, given = item.approvals_needed, item.approved  # type: ignore[attr-defined]
    if needed == 1:
        return ""
    return f"{given} of {needed} approved" if given else f"{needed} people"


def _heading(item: ApprovalRequest, filters: Filters, moment: datetime) -> str:
    if filters.view == "done":
        return "Decided today"
    if item.status == ApprovalStatus.FROZEN:
        return "Stopped by a kill switch"
    if filters.sort != "due":
        return SORTS[filters.sort]
    left = item.due_at - moment
    if left <= timedelta(0):
        return "Overdue"
    if left <= SOON:
        return "Due within 10 minutes"
    return "Later today" if item.due_at.date() == moment.date() else "Later"


def following(actor: Actor, filters: Filters, after: ApprovalRequest | None = None) -> ApprovalRequest | None:
    """The next request this person can work on: not frozen, not held by a colleague; round to the start at the end."""
    free = Q(claimed_until__isnull=True) | Q(claimed_until__lte=now()) | Q(claimed_by_id=_key(actor))
    own = Q(requested_for=actor.id) | Q(four_eyes=True) & (Q(requested_by=actor.id) | Q(authored_by=actor.id))
    may = found(actor, filters.on("open")).on_agents(actor.agents("approvals.decide")).exclude(own)
    waiting = may.filter(free, status=ApprovalStatus.PENDING, due_at__gt=now()).exclude(decisions__person_id=actor.id)
    rows = [row for row in waiting[:MOST_ROWS] if _has_role(actor, row)]
    if after is None:
        return next(iter(rows), None)
    later = (row for row in rows if _rank(row, filters) > _rank(after, filters))
    return next(later, next((row for row in rows if row.pk != after.pk), None))


def _has_role(actor: Actor, row: ApprovalRequest) -> bool:
    return not row.roles or any(actor.has_role(role, agent=row.agent) for role in row.roles)


def _rank(row: ApprovalRequest, filters: Filters) -> tuple[Any, ...]:
    if filters.sort == "newest":
        return (-row.pk.int,)
    if filters.sort == "amount":
        return (-(row.amount_usd or Decimal(0)), row.due_at, row.pk)
    return (row.due_at, row.pk)


def _key(actor: Actor) -> UUID | None:
    return UUID(actor.id) if actor.is_person else None


def counts(actor: Actor, filters: Filters) -> Iterator[tuple[str, str, str, int]]:
    """For each tab: its key, word, address and number."""
    views = {view: _in_view(view, actor) for view in VIEWS}
    rows = visible(actor).filter(reduce(or_, views.values()))  # by their indexes, whatever was decided before
    numbers = rows.aggregate(**{view: Count("pk", filter=condition) for view, condition in views.items()})
    for view, label in VIEWS.items():
        yield view, label, filters.on(view).query, numbers[view]


def choices(actor: Actor, filters: Filters) -> dict[str, list[tuple[str, str]]]:
    """What the chips offer: the tools and agents that occur, and those already chosen."""
    rows = visible(actor).filter(_in_view(filters.view, actor)).order_by()
    seen = set(rows.values_list("action", "agent", "agent_name")[:1000])
    tools = {action for action, _, _ in seen} | set(filters.tool)
    agents = {slug: slug for slug in filters.agent} | {slug: name for _, slug, name in seen}
    return {
        "risk": list(RISKS),
        "tool": sorted((name, name) for name in tools),
        "agent": sorted(agents.items()),
        "sort": list(SORTS.items()),
    }


@dataclass(frozen=True)
class Today:
    """How the day went: for the empty inbox."""

    decided: int
    half_within: timedelta | None


def today(actor: Actor) -> Today:
    midnight = now().replace(hour=0, minute=0, second=0, microsecond=0)
    decided = Decision.objects.filter(at__gte=midnight, request__in=visible(actor).order_by())
    rows = decided.filter(request__status__in=SETTLED).order_by("pk")
    # Of several people's answers the last one counts.
    last = {key: at - made for key, at, made in rows.values_list("request_id", "at", "request__created_at")[:2000]}
    times = list(last.values())
    return Today(len(times), timedelta(seconds=median(t.total_seconds() for t in times)) if times else None)
