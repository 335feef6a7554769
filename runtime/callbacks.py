"""What a caller's URL is told, and how it is signed (Standard Webhooks).

A message is made from an event of the journal and from what never changes of its run, so every attempt says the same.
Sending is in `deliveries`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.utils.timezone import now
from standardwebhooks import Webhook

from console import audit, problems
from console.actors import ANONYMOUS, Actor
from console.models import ApiToken
from runtime import masking, wire
from runtime.models import CallbackKey, Delivery, Run, RunEvent
from runtime.states import CallbackEvent, RunStatus

AGENT = "Steadyhand-Callbacks/1"
LONGEST_OVERLAP = timedelta(days=7)
# The status that an event means, where it means one. What the run is by now is another question.
STATUS = {
    CallbackEvent.STARTED: RunStatus.RUNNING,
    CallbackEvent.RESUMED: RunStatus.RUNNING,
    CallbackEvent.WAITING: RunStatus.WAITING,
    CallbackEvent.UNKNOWN_EFFECT: RunStatus.WAITING,
    CallbackEvent.PAUSED: RunStatus.PAUSED,
}


# Keys


def secret(client_id: str, generation: int = 0) -> str:
    """A signing key of a client. Derived, so that it is stored nowhere; another client has another one."""
    name = f"callbacks:{client_id}" + (f":{generation}" if generation else "")
    key = hmac.new(settings.SECRET_KEY.encode(), name.encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(key).decode()


def secrets(client_id: str, moment: datetime) -> list[str]:
    """The keys that sign at this moment: the present one, and for a while after a rotation the one before."""
    known = key(client_id)
    if known is None:
        return [secret(client_id)]
    present = secret(client_id, known.generation)
    return [present, secret(client_id, known.generation - 1)] if moment < known.previous_until else [present]


def key(client_id: str) -> CallbackKey | None:
    return CallbackKey.objects.filter(pk=client_id).first()


@transaction.atomic
def rotate(*, by: Actor, overlap: timedelta, reason: str) -> CallbackKey:
    """Give the client a new key. For the overlap messages carry two signatures, so that a receiver can change over.

    Without an overlap the present key is worth nothing from now on: for a key that has leaked.

    Raises:
        problems.Conflict: the change-over before is still going on, and another would end it too early.
        problems.Invalid: the overlap is longer than a week.
    """
    if not timedelta() <= overlap <= LONGEST_OVERLAP:
        hours = LONGEST_OVERLAP // timedelta(hours=1)
        raise problems.Invalid(
            f"Both keys can be valid for 0 to {hours} hours.", errors={"overlap_hours": f"0 to {hours}."}
        )
    moment = now()
    CallbackKey.objects.get_or_create(pk=by.id, defaults={"previous_until": moment})
    found = CallbackKey.objects.select_for_update().get(pk=by.id)
    if overlap and moment < found.previous_until:
        raise problems.Conflict(
            f"The key before is still valid until {found.previous_until:%Y-%m-%d %H:%M} UTC. Rotate again after that, "
            "or with overlap_hours 0, which ends both older keys at once."
        )
    found.generation += 1
    found.rotated_at, found.previous_until = moment, moment + overlap
    found.save(update_fields=["generation", "rotated_at", "previous_until"])
    audit.record(by, "callback_key.rotate", found, reason=reason, changes={"overlap": [None, str(overlap)]})
    return found


# Messages


def message(delivery: Delivery, event: RunEvent, moment: datetime) -> tuple[bytes, dict[str, str]]:
    """The body and the signed headers of one attempt. Only the time of signing and what follows from it differ."""
    text = json.dumps(body(delivery.run, event, _shown(delivery.run)), cls=DjangoJSONEncoder, ensure_ascii=False)
    keys = secrets(delivery.run.started_by_id, moment)
    return text.encode(), {
        "Content-Type": "application/json",
        "User-Agent": AGENT,
        "webhook-id": delivery.webhook_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": _signatures(keys, delivery.webhook_id, moment, text),
        "Steadyhand-Attempt": str(delivery.attempts),
    }


def body(run: Run, event: RunEvent, shown: masking.Shown) -> dict[str, object]:
    """What is told of an event. Of the end everything a caller waits for; of the rest what happened."""
    head = {"type": event.kind, "timestamp": event.at, "event_id": event.seq}
    if event.kind == CallbackEvent.FINISHED:
        return {**head, "timestamp": run.finished_at, **wire.end(run, shown)}
    told = {**head, **wire.origin(run, shown), "by": event.by_label, "data": shown(event.data)}
    status = STATUS.get(CallbackEvent(event.kind))
    return {**told, "status": status} if status else told


def _signatures(keys: Sequence[str], message_id: str, moment: datetime, text: str) -> str:
    return " ".join(Webhook(key).sign(message_id, moment, text) for key in keys)


def _shown(run: Run) -> masking.Shown:
    """What the token that started the run would be shown in the API."""
    known = ApiToken.objects.select_related("owner")
    token = known.filter(pk=run.started_by_id).first() if run.started_by_id else None
    return masking.masked_for(token.actor() if token else ANONYMOUS, run.agent.slug)
