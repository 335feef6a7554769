"""Telling callers' URLs what happened to their runs: each event once, in order, signed, retried with backoff.

The journal is the truth: deliveries are made from its events beyond a cursor, so nothing on a run's way waits for
them and none is forgotten. One is claimed by moving `next_at` ahead and writing the attempt down before anything is
sent: two workers do not send at once, and a worker that dies over it leaves a row that comes due again. A receiver may
therefore see a message twice, always with the same `webhook-id`.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, F, Func, OuterRef, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils.timezone import now

from console import audit, fetch, live, problems
from console.actors import Actor
from console.states import move
from runtime import callbacks, lanes, queueing
from runtime.models import Callback, Delivery, DeliveryAttempt, Run, RunEvent
from runtime.policies import delivering
from runtime.policies.delivering import Delivered, GiveUp, Outcome, TryAgain
from runtime.policies.lanes import Lane
from runtime.states import DELIVERY_MOVES, DeliveryStatus

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
CLAIM = timedelta(seconds=60)  # longer than one attempt can take
DERIVE_AT_MOST = 500
SWEEP_AT_MOST = 1000
SWEEP_OF_A_LANE = 100
LONGEST_ERROR = 500
LONGEST_REASON = 500
TOPIC = "deliveries"


def deliver(run_id: UUID) -> int:
    """Send what is due of one run, in order, until one fails. Returns how many were taken; twice is harmless.

    While its lane is full (see `policies.lanes`) nothing is sent: it waits without a thread and is asked for again.
    """
    lane = _lane(run_id)
    if lane is None or not lanes.OURS.enter(lane, run_id):
        return 0
    taken = 0
    try:
        derive([run_id])
        while not lanes.OURS.is_closed and (claimed := _claim(run_id)) is not None:
            if not _attempt(claimed, lane):
                break
            taken += 1
    finally:
        queueing.callbacks_due(lanes.OURS.leave(lane))
    return taken


def sweep() -> list[UUID]:
    """Make the deliveries nobody asked for yet, and ask for what is due. Returns the runs it is due of.

    Each client's host in turn: those of one that have waited for longest, however many, leave room for the others.
    """
    derive()
    due = list(_due_by_turns()[:SWEEP_AT_MOST])
    queueing.callbacks_due(due)
    return due


def _lane(run_id: UUID) -> Lane | None:
    run = Run.objects.filter(pk=run_id).values_list("started_by_id", "callback_url").first()
    return lanes.lane_of(*run) if run else None


@transaction.atomic
def derive(run_ids: Iterable[UUID] | None = None) -> int:
    """Turn events beyond each callback's cursor into deliveries; of all open callbacks unless told which.

    A run's number and the events up to it become visible together, so a cursor that follows the number skips nothing.
    """
    wanted = Callback.objects.filter(is_open=True, run__seq__gt=F("seen_seq"))
    if run_ids is not None:
        wanted = wanted.filter(pk__in=list(run_ids))
    locked = wanted.select_for_update(of=("self",), skip_locked=True).select_related("run")
    behind = list(locked.only("events", "seen_seq", "run__seq", "run__status")[:DERIVE_AT_MOST])
    new = [row for callback in behind for row in _beyond(callback)]
    Delivery.objects.bulk_create(new, ignore_conflicts=True)
    for callback in behind:
        callback.seen_seq, callback.is_open = callback.run.seq, not callback.run.is_final
        callback.attempts = 1  # a worker of the version before takes it for its own otherwise
    Callback.objects.bulk_update(behind, ["seen_seq", "is_open", "attempts"])
    return len(new)


def _beyond(callback: Callback) -> list[Delivery]:
    events = RunEvent.objects.filter(
        run_id=callback.pk, seq__gt=callback.seen_seq, seq__lte=callback.run.seq, kind__in=callback.events
    )
    return [
        Delivery(run_id=callback.pk, seq=seq, kind=kind, happened_at=at)
        for seq, kind, at in events.order_by("seq").values_list("seq", "kind", "at")
    ]


@transaction.atomic
def send_again(delivery_id: UUID, *, by: Actor, reason: str) -> Delivery:
    """Send a message once more now, whatever became of it. What waits for its next attempt is only brought forward.

    Raises:
        Delivery.DoesNotExist: no such delivery, or not on an agent this actor may do it for.
        problems.Invalid: the reason is missing.
        problems.Conflict: it is being sent at this moment.
    """
    mine = Delivery.objects.filter(run__in=Run.objects.on_agents(by.agents("deliveries.send")))
    found = mine.select_for_update(of=("self",)).get(pk=delivery_id)
    reason = reason.strip()[:LONGEST_REASON]
    if not reason:
        raise problems.Invalid("Say why; it is kept in the audit log.", errors={"reason": "Say why."})
    if found.status == DeliveryStatus.PENDING and _is_under_way(found):
        raise problems.Conflict("This message is being sent right now. Look again in a minute.")
    before = found.status
    if before != DeliveryStatus.PENDING:
        found.status = move(DELIVERY_MOVES, DeliveryStatus(before), DeliveryStatus.PENDING)
    found.next_at = now()
    found.save(update_fields=["status", "next_at"])
    audit.record(by, "delivery.send_again", found, reason=reason, changes={"status": [before, found.status]})
    queueing.callback_due(found.run_id)
    live.announce(TOPIC)
    return found


def _is_under_way(delivery: Delivery) -> bool:
    last = delivery.tries.order_by("-number").first()
    return last is not None and last.took_ms is None and last.at > now() - CLAIM


def _due() -> QuerySet[Delivery]:
    """The first message of each run that is due, oldest first. Those behind it wait, so that the order is kept."""
    pending = Delivery.objects.filter(status=DeliveryStatus.PENDING)
    earlier = pending.filter(run_id=OuterRef("run_id"), seq__lt=OuterRef("seq"))
    return pending.filter(~Exists(earlier), next_at__lte=now()).order_by("next_at")


def _due_by_turns() -> QuerySet[Delivery, UUID]:
    """The runs of what is due: first one of each lane, then a second one of each, and so on."""
    host = Func("run__callback_url", template="substring(%(expressions)s from '//([^/?#]*)')")
    lane: list[F | Func] = [F("run__started_by_id"), host]
    place = Window(RowNumber(), partition_by=lane, order_by="next_at")
    first = _due().annotate(place=place).filter(place__lte=SWEEP_OF_A_LANE)
    return first.order_by("place", "next_at").values_list("run_id", flat=True)


@transaction.atomic
def _claim(run_id: UUID) -> Delivery | None:
    """Take the run's first open message for one attempt; None when it is not due or there is none.

    Whoever comes second waits for the row and then finds it not due any more.
    """
    pending = Delivery.objects.filter(run_id=run_id, status=DeliveryStatus.PENDING)
    first = pending.select_for_update().order_by("seq").first()
    moment = now()
    if first is None or first.next_at is None or first.next_at > moment:
        return None
    first.attempts += 1
    first.next_at = moment + CLAIM
    first.save(update_fields=["attempts", "next_at"])
    DeliveryAttempt.objects.create(delivery=first, number=first.attempts, at=moment)
    return first


def _attempt(claimed: Delivery, lane: Lane) -> bool:
    runs = Run.objects.select_related("agent", "release").defer("release__content")
    claimed.run = runs.get(pk=claimed.run_id)
    began = time.monotonic()
    outcome = _send(claimed)
    took_ms = round((time.monotonic() - began) * 1000)
    lanes.OURS.tell(lane, took_ms / 1000)
    after = delivering.decide_next(outcome, claimed.attempts, random.random())
    _record(claimed, outcome, took_ms, after)
    live.announce(TOPIC, f"run:{claimed.run.public_id}")
    if not isinstance(after, Delivered):
        log.warning("%s could not be told (attempt %s): %s", claimed.webhook_id, claimed.attempts, after.why)
    return isinstance(after, Delivered)


def _send(claimed: Delivery) -> Outcome:
    event = RunEvent.objects.get(run_id=claimed.run_id, seq=claimed.seq)
    content, headers = callbacks.message(claimed, event, now())
    try:
        answer = fetch.request("POST", claimed.run.callback_url, headers=headers, body=content, timeout_s=TIMEOUT_S)
    except fetch.Refused as refused:
        return Outcome(error=str(refused), is_forbidden=True)
    except fetch.Failed as failed:
        return Outcome(error=str(failed))
    return Outcome(answer.status, retry_after=answer.headers.get("retry-after", ""))


@transaction.atomic
def _record(claimed: Delivery, outcome: Outcome, took_ms: int, after: Delivered | TryAgain | GiveUp) -> None:
    """Write down what came of an attempt. What the receiver has taken counts, however late we say so; a failure counts
    only as long as nobody has begun another attempt meanwhile.
    """
    error = "" if isinstance(after, Delivered) else after.why[:LONGEST_ERROR]
    DeliveryAttempt.objects.filter(delivery=claimed, number=claimed.attempts).update(
        took_ms=took_ms, answer=outcome.status, error=error
    )
    still = Delivery.objects.filter(pk=claimed.pk, status=DeliveryStatus.PENDING)
    mine = still.filter(attempts=claimed.attempts)
    match after:
        case Delivered():
            still.update(status=DeliveryStatus.DELIVERED, delivered_at=now(), next_at=None, last_error="")
        case TryAgain(wait):
            mine.update(next_at=now() + wait, last_error=error)
        case GiveUp():
            mine.update(status=DeliveryStatus.GIVEN_UP, next_at=None, last_error=error)
