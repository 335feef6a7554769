"""Persons and their roles. An admin of every agent keeps them, and whoever may run commands on the server."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.validators import validate_email, validate_slug
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from console import audit, live, problems
from console.actors import Actor
from console.models import ApiToken, RoleGrant, User
from console.roles import Role

PASSWORD_BYTES = 15
NAME_LENGTH = 120


Agents = Callable[[], Iterable[tuple[str, str]]]
_agents: list[Agents] = []


def declare_agents(source: Agents) -> None:
    """Say which agents a role can be given on, as (slug, name): this app knows none."""
    _agents[:] = [source]


def agents() -> list[tuple[str, str]]:
    return [pair for source in _agents for pair in source()]


@dataclass(frozen=True)
class _Account:
    user: User

    def audit_subject(self) -> tuple[str, str, str, str]:
        label = f"{self.user.name} <{self.user.email}>"
        return "user", str(self.user.pk), label, reverse("console:person-detail", args=[self.user.pk])


def find(email: str) -> User | None:
    return User.objects.filter(email__iexact=email).first()


@transaction.atomic
def create(email: str, name: str, *, by: Actor, reason: str) -> tuple[User, str]:
    """A new person without any right, and their password, which is kept nowhere else.

    Raises:
        problems.Forbidden: the actor does not keep people.
        problems.Invalid: the address or the name cannot be used, or somebody has the address.
    """
    _require_keeper(by)
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
def add(*, email: str, name: str, role: str, agent: str = "", by: Actor, reason: str) -> tuple[User, str]:
    """A new person with a first role, and their password. What `create` or `grant` refuses leaves nobody behind."""
    user, password = create(email, name, by=by, reason=reason)
    grant(user, Role(role), agent=agent, by=by, reason=reason)
    return user, password


@transaction.atomic
def grant(user: User, role: Role, *, agent: str = "", by: Actor, reason: str) -> bool:
    """Give a role on one agent, or on all when `agent` is empty. Says whether it is new."""
    _require_keeper(by)
    if agent:
        try:
            validate_slug(agent)
        except ValidationError as wrong:
            text = f"{agent[:80]!r} is no slug of an agent."
            raise problems.Invalid(text, errors={"agent": text}) from wrong
    _, is_new = RoleGrant.objects.get_or_create(user=user, role=role, agent=agent)
    if is_new:
        audit.record(
            by, "role.grant", _Account(user), reason=reason, changes={"role": [None, role], "agent": [None, agent]}
        )
        live.access_changed(str(user.pk))
    return is_new


@transaction.atomic
def take_away(grant_id: UUID, *, by: Actor, reason: str) -> RoleGrant:
    """Take a role from somebody. Their open pages and their tokens lose it at once.

    Raises:
        RoleGrant.DoesNotExist: nobody holds it any more.
        problems.Forbidden, problems.Invalid, problems.Conflict: see `_require`.
    """
    held = RoleGrant.objects.select_related("user").get(pk=grant_id)
    is_keeping = held.role == Role.ADMIN and not held.agent
    user = _require(held.user_id, by, reason, stays_keeper=not is_keeping)
    held.delete()
    changes = {"role": [held.role, None], "agent": [held.agent, None]}
    audit.record(by, "role.revoke", _Account(user), reason=reason, changes=changes)
    live.access_changed(str(user.pk))
    return held


@transaction.atomic
def deactivate(user_id: UUID, *, by: Actor, reason: str) -> User:
    """Shut somebody out at once, and their tokens for good. What they did stays; `reactivate` makes a new password.

    Raises:
        User.DoesNotExist: there is no such person.
        problems.Forbidden, problems.Invalid, problems.Conflict: see `_require`.
    """
    user = _require(user_id, by, reason, stays_keeper=False)
    if not user.is_active:
        return user
    user.is_active = False
    user.save(update_fields=["is_active"])
    ended = user.tokens.filter(revoked_at=None).update(revoked_at=timezone.now())
    changes = {"active": [True, False], "live_tokens": [ended, 0]}
    audit.record(by, "user.deactivate", _Account(user), reason=reason, changes=changes)
    live.access_changed(str(user.pk))
    return user


@transaction.atomic
def reactivate(user_id: UUID, *, by: Actor, reason: str) -> tuple[User, str]:
    """Let somebody in again, with the roles they had and a new password, which is kept nowhere else.

    Raises:
        User.DoesNotExist: there is no such person.
        problems.Conflict: they are active.
        problems.Forbidden, problems.Invalid: see `_require`.
    """
    user = _require(user_id, by, reason)
    if user.is_active:
        raise problems.Conflict(f"{user} is active already.")
    user.is_active = True
    password = _renewed(user)
    audit.record(by, "user.reactivate", _Account(user), reason=reason, changes={"active": [False, True]})
    return user, password


@transaction.atomic
def new_password(user_id: UUID, *, by: Actor, reason: str) -> tuple[User, str]:
    """Make a password for somebody who has forgotten theirs, which is kept nowhere else. Their sessions end.

    Raises:
        User.DoesNotExist: there is no such person.
        problems.Conflict: they are not active.
        problems.Forbidden, problems.Invalid: see `_require`.
    """
    user = _require(user_id, by, reason)
    if not user.is_active:
        raise problems.Conflict(f"{user} is not active. Reactivate them; that makes a password.")
    password = _renewed(user)
    audit.record(by, "user.new_password", _Account(user), reason=reason)
    live.access_changed(str(user.pk))
    return user, password


def _renewed(user: User) -> str:
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    user.set_password(password)
    user.save(update_fields=["is_active", "password"])
    return password


def _require_keeper(by: Actor) -> None:
    if by.kind != "system" and not (by.is_person and by.agents("people.manage") is None):
        raise problems.Forbidden("Only an admin of every agent, signed in as a person, may change who may do what.")


def _require(user_id: UUID, by: Actor, reason: str, *, stays_keeper: bool = True) -> User:
    """The person, locked, once the change is allowed. `stays_keeper`: the change leaves them admin, if they are one.

    Raises:
        problems.Forbidden: the actor does not keep people, or would change their own account.
        problems.Invalid: there is no reason.
        problems.Conflict: nobody would be left who may undo it.
    """
    _require_keeper(by)
    if not reason.strip():
        raise problems.Invalid("Say why; it stands in the audit log.", errors={"reason": "Say why."})
    # All of them, in one order: two admins who remove each other must not both find the other still there.
    keepers = RoleGrant.objects.filter(role=Role.ADMIN, agent="", user__is_active=True).select_related("user")
    found = {grant.user_id for grant in keepers.order_by("user_id").select_for_update(of=("self", "user"))}
    user = User.objects.select_for_update().get(pk=user_id)
    if str(user.pk) == by.id:
        raise problems.Forbidden("This is your own account. Another admin has to change it.")
    if found == {user.pk} and not stays_keeper:
        raise problems.Conflict(f"{user} is the last admin of every agent. Give somebody else that role first.")
    return user


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
