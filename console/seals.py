"""Marks on rows that only this installation can make: a row written or edited in the database bears none that fits."""

from __future__ import annotations

import hashlib
import hmac
import json

from django.conf import settings


def seal(purpose: str, *parts: object) -> str:
    """HMAC-SHA-256 over the parts in JSON form, hexadecimal; the key is not in the database.

    `purpose` keeps seals of different rows apart.
    """
    text = json.dumps([purpose, *parts], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hmac.new(settings.AUDIT_KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def fits(mark: str, purpose: str, *parts: object) -> bool:
    return hmac.compare_digest(mark, seal(purpose, *parts))
