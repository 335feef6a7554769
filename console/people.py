"""Persons and their roles. Whoever may run commands on the server adds them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_email, validate_slug
from django.db import transaction

from console import audit, problems
from console.actors import Actor
from console.models import ApiToken, RoleGrant, User
from console.roles import Role

PASSWORD_BYTES = 15
NAME_LENGTH = 120


@dataclass(frozen=True)
class _Account:
    user: User

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "user", str(self.user.pk), f"{self.user.name} <{self.user.email}>", ""


def find(email: str) -> User | None:
    return User.objects.filter(email__iexact=email).first()


@transaction.atomic
def create(email: str, name: str, *, by: Actor, reason: str) -> tuple[User, str]:
    """A new person without any right, and their password, which is kept nowhere else.

    Raises:
        problems.Invalid: the address or the name cannot be used, or somebody has the address.
    """
    errors = {}
    try:
        validate_email(email)
    except ValidationError:
        errors["email"] = f"{email[:80]!r} is no e-mail address."
    if find(email) is not None:
        errors["email"] = f"Somebody has the address {email} already."
    if not 0 < len(name.strip()) <= NAME_LENGTH:
        errors["name"] = f"A name has 1 to {NAME_LENGTH} characters."
    if errors:
        raise problems.Invalid(" ".join(errors.values()), errors=errors)
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    user = User.objects.create_user(email, password, name=name.strip())
    audit.record(by, "user.create", _Account(user), reason=reason)
    return user, password


@transaction.atomic
def grant(user: User, role: Role, *, agent: str = "", by: Actor, reason: str) -> bool:
    """Give a role on one agent, or on all when `agent` is empty. Says whether it is new."""
    if agent:
        try:
            validate_slug(agent)
        except ValidationError as wrong:
            raise problems.Invalid(f"{agent[:80]!r} is no slug of an agent.") from wrong
    _, is_new = RoleGrant.objects.get_or_create(user=user, role=role, agent=agent)
    if is_new:
        audit.record(
            by, "role.grant", _Account(user), reason=reason, changes={"role": [None, role], "agent": [None, agent]}
        )
    return is_new


def of(by: Actor) -> str:
    """Id of the person who acts: a token acts for its owner, so nobody becomes a second person by using one."""
    return behind(by.id) if by.kind == "token" else by.id


def behind(actor_id: str) -> str:
    """The same for the id of an actor that was kept with a row."""
    token = _token(actor_id)
    return str(token.owner_id) if token else actor_id


def still(kind: str, actor_id: str) -> Actor | None:
    """A person or a token as they are now, with the rights of now; None when they are gone or revoked."""
    if kind == "token":
        token = _token(actor_id)
        is_live = token is not None and token.revoked_at is None and token.owner.is_active
        return token.actor() if token is not None and is_live else None
    key = _uuid(actor_id)
    person = User.objects.filter(pk=key, is_active=True).first() if kind == "user" and key else None
    return person.actor() if person else None


def _token(actor_id: str) -> ApiToken | None:
    key = _uuid(actor_id)
    return ApiToken.objects.select_related("owner").filter(pk=key).first() if key else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
