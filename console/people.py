"""Persons and their roles. Whoever may run commands on the server adds them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.core.validators import validate_email, validate_slug
from django.db import transaction

from console import audit, problems
from console.actors import Actor
from console.models import RoleGrant, User
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
