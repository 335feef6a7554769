"""What callers were told, as people read it: finished rows for the list and for a run's own tab."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.db.models import QuerySet
from django.http import QueryDict

from console import ids, words
from console.actors import Actor
from runtime import masking
from runtime.labels import Badge
from runtime.models import Callback, Delivery, DeliveryAttempt, Run
from runtime.states import CallbackEvent, DeliveryStatus

MOST_OF_A_RUN = 100
MOST_NEW = 99
BADGES = {
    DeliveryStatus.PENDING: Badge("info", "clock", "Not sent yet"),
    DeliveryStatus.DELIVERED: Badge("ok", "check", "Delivered"),
    DeliveryStatus.GIVEN_UP: Badge("bad", "x", "Given up"),
}
TRYING_AGAIN = Badge("warn", "rotate-cw", "Trying again")
EVENTS = {
    CallbackEvent.STARTED: "Started",
    CallbackEvent.RESUMED: "Went on",
    CallbackEvent.WAITING: "Waits for a person",
    CallbackEvent.UNKNOWN_EFFECT: "Outcome unknown",
    CallbackEvent.PAUSED: "Paused",
    CallbackEvent.PAUSE_ENDED: "Pause ended",
    CallbackEvent.CANCEL_REQUESTED: "Stop asked for",
    CallbackEvent.FINISHED: "Ended",
}


@dataclass(frozen=True)
class Attempt:
    number: int
    row: DeliveryAttempt
    came_of_it: str
    took: str
    is_good: bool


@dataclass(frozen=True)
class Row:
    delivery: Delivery
    badge: Badge
    what: str
    title: str
    host: str
    attempts: Sequence[Attempt]
    may_send: bool


def matching(actor: Actor, query: QueryDict) -> QuerySet[Delivery]:
    """The deliveries this actor may see that fit the address; what makes no sense in it counts as not given."""
    found = Delivery.objects.filter(run__in=Run.objects.on_agents(actor.agents("deliveries.read")))
    if actor.agents("deliveries.read") is None:
        found = Delivery.objects.all()
    statuses = [one for one in query.getlist("status") if one in set(DeliveryStatus)]
    if statuses:
        found = found.filter(status__in=statuses)
    if query.get("kind") in set(CallbackEvent):
        found = found.filter(kind=query["kind"])
    try:
        return found.filter(run_id=ids.parse("run", query.get("run", "").strip()))
    except ValueError:
        return found


def newer_count(found: QuerySet[Delivery], top: UUID) -> int:
    """How many came after the first row that a page shows, counting no further than that there are many."""
    return found.filter(pk__gt=top).order_by()[:MOST_NEW].count()


def with_everything(found: QuerySet[Delivery]) -> QuerySet[Delivery]:
    texts = "run__input_text", "run__answer", "run__cause_detail", "run__budgets"
    return found.select_related("run__agent").defer(*texts).prefetch_related("tries")


def told(run: Run, actor: Actor) -> dict[str, Any]:
    """What a run's own tab shows: its latest messages, newest first, and what its caller asked for."""
    wish = Callback.objects.filter(run=run).first()
    found = with_everything(Delivery.objects.filter(run=run)).order_by("-seq")[:MOST_OF_A_RUN]
    return {
        "rows": rows(found, actor),
        "wanted": [EVENTS[CallbackEvent(kind)].lower() for kind in wish.events] if wish else [],
        "callback_host": _host(run.callback_url),
        "here": f"{run.get_absolute_url()}?tab=deliveries",
    }


def rows(found: Iterable[Delivery], actor: Actor) -> list[Row]:
    return [
        Row(
            delivery=one,
            badge=badge(one),
            what=EVENTS[CallbackEvent(one.kind)],
            title=masking.masked_for(actor, one.run.agent.slug)(one.run.title),
            host=_host(one.run.callback_url),
            attempts=[_attempt(row) for row in one.tries.all()],
            may_send=actor.may("deliveries.send", agent=one.run.agent.slug),
        )
        for one in found
    ]


def badge(delivery: Delivery) -> Badge:
    if delivery.status == DeliveryStatus.PENDING and delivery.attempts:
        return TRYING_AGAIN
    return BADGES[DeliveryStatus(delivery.status)]


def _attempt(row: DeliveryAttempt) -> Attempt:
    is_good = row.answer is not None and 200 <= row.answer < 300
    if row.took_ms is None:
        said = "No outcome was written down: it may have arrived or not"
    elif is_good:
        said = f"Answered {row.answer}"
    else:
        said = row.error
    return Attempt(row.number, row, said, words.duration(row.took_ms), is_good)


def _host(url: str) -> str:
    """Where messages go, without what may be secret in the address."""
    return urlsplit(url).netloc.rpartition("@")[2]
