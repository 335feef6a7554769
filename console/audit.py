"""The audit log: who changed what, when and why, in a chain that shows tampering."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from django.conf import settings
from django.db import connection
from django.utils import timezone

from console import redact
from console.actors import Actor
from console.models import AuditEntry

# One writer at a time, so that the chain never forks. Taken last in every verb and held until its commit.
CHAIN_LOCK = 0x5D1A
GENESIS = "0" * 64


class Subject(Protocol):
    """What an audited object says of itself; every audited model offers it."""

    def audit_subject(self) -> tuple[str, str, str, str]: ...  # kind, id, label, url


def record(by: Actor, action: str, subject: Subject, *, reason: str, changes: Mapping[str, Any] | None = None) -> None:
    """Append one entry inside the caller's transaction.

    `action` is `noun.verb`; `changes` maps a field to [before, after]. Secrets are masked on the way in.
    """
    kind, key, label, url = subject.audit_subject()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [CHAIN_LOCK])
    last = AuditEntry.objects.order_by("-id").values_list("hash", flat=True).first()
    entry = AuditEntry(
        at=timezone.now(),
        actor_kind=by.kind,
        actor_id=by.id,
        actor_label=by.label,
        action=action,
        object_kind=kind,
        object_id=key,
        object_label=redact.text(label)[:300],
        object_url=url,
        reason=redact.text(reason),
        changes=redact.value(dict(changes or {})),
        previous_hash=last or GENESIS,
    )
    entry.hash = seal(entry)
    entry.save(force_insert=True)


def seal(entry: AuditEntry) -> str:
    """HMAC-SHA-256 over the entry's content and its predecessor's hash; the key is not in the database."""
    content = [
        entry.previous_hash, entry.at.isoformat(), entry.actor_kind, entry.actor_id, entry.actor_label,
        entry.action, entry.object_kind, entry.object_id, entry.object_label, entry.object_url,
        entry.reason, entry.changes,
    ]  # fmt: skip
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hmac.new(settings.AUDIT_KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True)
class Anchor:
    """How long the chain was at some time and what it ended with. Kept outside the database, it shows a cut tail."""

    entries: int
    id: int
    hash: str


@dataclass(frozen=True)
class Verified:
    """`entries` fit together. `first_bad_id` does not, or is missing; None when the chain is whole."""

    entries: int
    first_bad_id: int | None
    why: str = ""
    head: Anchor | None = None


def verify(since: Anchor | None = None) -> Verified:
    """Walk the chain and name the first entry that does not fit.

    A cut tail, or a chain that was made anew, is not visible from inside the table: give the anchor of an earlier walk.
    """
    previous, seen, last = GENESIS, 0, 0
    for entry in AuditEntry.objects.order_by("id").iterator(chunk_size=2000):
        if entry.previous_hash != previous:
            return Verified(seen, entry.pk, "an entry before it is missing or was changed")
        if not hmac.compare_digest(entry.hash, seal(entry)):
            return Verified(seen, entry.pk, "its content does not match its hash")
        if since is not None and seen + 1 == since.entries and (entry.pk, entry.hash) != (since.id, since.hash):
            return Verified(seen, entry.pk, f"entry {since.id} stood in its place when the anchor was taken")
        previous, seen, last = entry.hash, seen + 1, entry.pk
    if since is not None and seen < since.entries:
        return Verified(seen, since.id, f"it and {since.entries - seen - 1:,} before it were cut off the end")
    return Verified(seen, None, head=Anchor(seen, last, previous))
