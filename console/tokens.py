"""API tokens: `sth_<prefix>_<secret>`, shown once. The secret is random enough that a plain hash keeps it safe."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from console import audit, roles
from console.actors import EVERY_SCOPE, Actor
from console.models import ApiToken, User
from console.principals import EVERY_END_USER, Grant
from console.problems import Forbidden, Invalid

LEAD = "sth"
PREFIX_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
PREFIX_LENGTH = 8
LONGEST = timedelta(days=366)
LONGEST_SCOPE = 80
USE_NOTED_EVERY = timedelta(minutes=1)


@transaction.atomic
def create(
    *,
    by: Actor,
    name: str,
    scopes: Sequence[str],
    expires_in: timedelta,
    tool_scopes: Sequence[str] = (EVERY_SCOPE,),
    acts_for: Grant = EVERY_END_USER,
    reason: str = "",
) -> tuple[ApiToken, str]:
    """Make a token for the person who asks and return it with its text, which exists nowhere else.

    `tool_scopes` is the most its runs may do, `acts_for` for whom it may start them beside itself.

    Raises:
        Forbidden: programs cannot make tokens.
        Invalid: no name, no scope, a scope the person does not hold, a tool scope that cannot be, or a life longer
            than a year.
    """
    if not by.is_person:
        raise Forbidden("Only a signed-in person can make a token; a token cannot make another.")
    held = {permission for permission, _ in by.rights}
    _check(name, scopes, tool_scopes, expires_in, held)
    prefix = "".join(secrets.choice(PREFIX_ALPHABET) for _ in range(PREFIX_LENGTH))
    text = f"{LEAD}_{prefix}_{secrets.token_urlsafe(32)}"
    token = ApiToken.objects.create(
        owner=User.objects.get(pk=by.id),
        name=name.strip(),
        prefix=prefix,
        digest=_digest(text),
        scopes=sorted(set(scopes)),
        tool_scopes=sorted(set(tool_scopes)),
        end_users=list(acts_for.end_users),
        attributes=dict(acts_for.attributes),
        expires_at=timezone.now() + expires_in,
    )
    changes = {
        "scopes": [None, token.scopes],
        "tool_scopes": [None, token.tool_scopes],
        "end_users": [None, token.end_users],
        "attributes": [None, token.attributes],
        "expires_at": [None, token.expires_at.isoformat()],
    }
    audit.record(by, "token.create", token, reason=reason, changes=changes)
    return token, text


def _check(name: str, scopes: Sequence[str], tool_scopes: Sequence[str], expires_in: timedelta, held: set[str]) -> None:
    errors: dict[str, str] = {}
    if not name.strip():
        errors["name"] = "Say what the token is for, so that it can be told apart later."
    if not scopes:
        errors["scopes"] = "Choose at least one scope; a token without any can do nothing."
    for scope in scopes:
        if scope not in roles.declared():
            errors["scopes"] = f"There is no scope {scope[:60]!r}."
        elif scope not in held:
            errors["scopes"] = f"You do not hold {scope} yourself, so your token cannot either."
    if any(not scope or len(scope) > LONGEST_SCOPE or not scope.isprintable() for scope in tool_scopes):
        errors["tool_scopes"] = f"A tool scope is a text of 1 to {LONGEST_SCOPE} characters, like refunds:write."
    if not timedelta() < expires_in <= LONGEST:
        errors["expires_in"] = f"A token lives between one second and {LONGEST.days} days."
    if errors:
        raise Invalid(" ".join(errors.values()), errors=errors)


@transaction.atomic
def revoke(token_id: UUID, *, by: Actor, reason: str) -> ApiToken:
    """End a token for good. Revoking twice changes nothing.

    Raises:
        ApiToken.DoesNotExist: no such token, or somebody else's and the actor is no admin.
    """
    token = ApiToken.objects.select_for_update().filter(_reachable(by)).get(pk=token_id)
    if token.revoked_at is not None:
        return token
    token.revoked_at = timezone.now()
    token.save(update_fields=["revoked_at"])
    audit.record(by, "token.revoke", token, reason=reason, changes={"revoked": [False, True]})
    return token


def _reachable(by: Actor) -> Q:
    if by.kind == "system" or (by.is_person and by.agents("tokens.revoke") is None):
        return Q()
    return Q(owner_id=by.id) if by.is_person else Q(pk__in=[])


def authenticate(text: str) -> ApiToken | None:
    """The live token behind this text, or None: unknown, expired, revoked and orphaned look the same."""
    lead, _, rest = text.partition("_")
    prefix, _, secret = rest.partition("_")
    if lead != LEAD or len(prefix) != PREFIX_LENGTH or not secret or len(text) > 200:
        return None
    token = ApiToken.objects.select_related("owner").prefetch_related("owner__grants").filter(prefix=prefix).first()
    if not hmac.compare_digest(_digest(text), token.digest if token else _digest("")) or token is None:
        return None
    now = timezone.now()
    if token.revoked_at or token.expires_at <= now or not token.owner.is_active:
        return None
    if token.last_used_at is None or now - token.last_used_at >= USE_NOTED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)
    return token


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
