"""Who a program is: the token in the Authorization header, its scopes and its rate."""

from __future__ import annotations

from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest
from django.utils.timezone import now
from ninja.security import HttpBearer

from console import problems, ratelimits, roles, tokens
from console.access import Request
from console.actors import Actor
from console.models import ApiToken


class Token(HttpBearer):
    """Lets a token in that carries the permission as a scope. Sessions of the browser do not count here."""

    openapi_description = "A token made under Settings. Each operation names the scope it needs."

    def __init__(self, permission: str) -> None:
        super().__init__()
        self.permission = permission

    def __call__(self, request: HttpRequest) -> Actor:
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not text.strip():
            raise _unauthorized("Send the header Authorization: Bearer <token>. Tokens are made under Settings.")
        return self.authenticate(request, text.strip())

    def authenticate(self, request: HttpRequest, token: str) -> Actor:
        usable = token.isascii() and token.isprintable()
        found = tokens.authenticate(token) if usable else None
        if found is None:
            raise _unauthorized("This token is unknown, expired or revoked. Make a new one under Settings.")
        actor = found.actor()
        ours = cast(Request, request)
        ours.actor = actor
        cast(Any, request).rate = ratelimits.spend(actor.id, limit=settings.API_REQUESTS_PER_MINUTE)
        if not actor.may(self.permission):
            raise problems.Forbidden(
                f"This token may not {roles.label(self.permission)}: it needs the scope {self.permission}, and its "
                "owner a role that carries it. Make a token with that scope."
            )
        return actor


def may_still(actor: Actor, permission: str, agent: str) -> bool:
    """Whether a token that was let in some time ago is still good, and still has the right on this agent."""
    token = ApiToken.objects.filter(
        pk=actor.id, revoked_at__isnull=True, expires_at__gt=now(), owner__is_active=True
    ).first()
    return token is not None and token.actor().may(permission, agent=agent)


def _unauthorized(detail: str) -> problems.Problem:
    return problems.Problem(detail, status=401, title="Not signed in")
