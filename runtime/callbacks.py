"""Telling the caller's URL that a run has ended: signed (Standard Webhooks), retried with backoff.

The row is the truth: it is claimed by moving `next_at` ahead before anything is sent, so two workers do not send at
once, and a worker that dies while sending leaves a row that becomes due again. A receiver may therefore see a message
twice, always with the same `webhook-id`.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import F, Q
from django.utils.timezone import now
from standardwebhooks import Webhook

from console import fetch
from console.actors import ANONYMOUS
from console.models import ApiToken
from runtime import traces, wire
from runtime.models import Callback, Run

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
CLAIM = timedelta(seconds=60)  # longer than one attempt can take
WAITS = [timedelta(seconds=s) for s in (10, 60, 300, 1800, 7200, 21600, 43200, 86400)]
LONGEST_WAIT = timedelta(days=1)
GONE = 410
BUSY = {429, 503}
SWEEP_AT_MOST = 100
LONGEST_ERROR = 500


def secret(token_id: str) -> str:
    """The signing key of a token's callbacks. Derived, so that it is stored nowhere; another token has another one."""
    key = hmac.new(settings.SECRET_KEY.encode(), f"callbacks:{token_id}".encode(), hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(key).decode()


def deliver(run_id: UUID) -> bool:
    """Send the message about one run if it is due. True when the receiver has taken it; twice is harmless."""
    run = Run.objects.select_related("agent", "release").defer("release__content").filter(pk=run_id).first()
    if run is None or not run.callback_url or not run.is_final:
        return False
    callback = _claim(run_id)
    if callback is None:
        return False
    error, wait, is_hopeless = _attempt(run, callback.attempts)
    if not error:
        Callback.objects.filter(pk=run_id).update(delivered_at=now(), next_at=None, last_error="")
        return True
    later = None if is_hopeless else _next(callback.attempts, wait)
    Callback.objects.filter(pk=run_id).update(next_at=later, last_error=error[:LONGEST_ERROR])
    log.warning("Callback of %s failed (attempt %s): %s", run.public_id, callback.attempts, error)
    return False


def sweep() -> int:
    """Send what is due, and what the queue forgot to begin with. Returns how many were delivered."""
    due = Callback.objects.filter(next_at__lte=now()).order_by("next_at")
    forgotten = Callback.objects.filter(attempts=0, next_at__isnull=True, run__finished_at__isnull=False)
    keys = [key for rows in (due, forgotten) for key in rows.values_list("pk", flat=True)[:SWEEP_AT_MOST]]
    return sum(deliver(key) for key in keys)


def _claim(run_id: UUID) -> Callback | None:
    """Take the row for one attempt; None when it is delivered, given up, or not due yet."""
    moment = now()
    is_first = Q(attempts=0, next_at__isnull=True)
    taken = Callback.objects.filter(Q(next_at__lte=moment) | is_first, pk=run_id, delivered_at__isnull=True).update(
        next_at=moment + CLAIM, attempts=F("attempts") + 1
    )
    return Callback.objects.get(pk=run_id) if taken else None


def _attempt(run: Run, attempt: int) -> tuple[str, timedelta | None, bool]:
    """Send once: what went wrong (empty: nothing), how long the receiver asks to wait, whether to give up."""
    body, headers = message(run, now(), attempt)
    try:
        answer = fetch.request("POST", run.callback_url, headers=headers, body=body, timeout_s=TIMEOUT_S)
    except fetch.Refused as refused:
        return str(refused), None, True
    except fetch.Failed as failed:
        return str(failed), None, False
    if 200 <= answer.status < 300:
        return "", None, False
    asked = answer.headers.get("retry-after", "") if answer.status in BUSY else ""
    wait = timedelta(seconds=int(asked)) if asked.isascii() and asked.isdigit() and len(asked) < 7 else None
    return f"The receiver answered {answer.status}.", wait, answer.status == GONE


def message(run: Run, moment: datetime, attempt: int = 1) -> tuple[bytes, dict[str, str]]:
    """The body and the signed headers. The id stays the same over all attempts, the time of signing does not."""
    fields = {"type": "run.finished", "timestamp": run.finished_at, **wire.end(run, _shown(run))}
    text = json.dumps(fields, cls=DjangoJSONEncoder, ensure_ascii=False)
    message_id = f"msg_{run.public_id.removeprefix('run_')}"
    return text.encode(), {
        "Content-Type": "application/json",
        "User-Agent": "Steadyhand-Callbacks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret(run.started_by_id)).sign(message_id, moment, text),
        "Steadyhand-Attempt": str(attempt),
    }


def _shown(run: Run) -> traces.Shown:
    """What the token that started the run would be shown in the API."""
    token = ApiToken.objects.select_related("owner").filter(pk=run.started_by_id).first()
    return traces.masked_for(token.actor() if token else ANONYMOUS, run.agent.slug)


def _next(attempts: int, asked: timedelta | None) -> datetime | None:
    """When to try again; None when the last attempt was made."""
    if attempts > len(WAITS):
        return None
    return now() + min(max(WAITS[attempts - 1], asked or timedelta()), LONGEST_WAIT)
