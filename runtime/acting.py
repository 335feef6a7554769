"""For whom a piece of work is done: claims to act for somebody, checked; and who a member of staff still is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from console import ids, principals, problems
from console.actors import Actor
from console.models import User
from console.principals import BadClaim, Principal, PrincipalKind, narrowed
from runtime import journal
from runtime.policies.gating import Facts


def claimed(by: Actor, principal_id: str, label: str, attributes: Mapping[str, str], *, is_kept: bool) -> Principal:
    """The principal that somebody wants to act for, with what their grant says of them.

    `is_kept`: the work goes on for the principal it began for (a schedule, a conversation). Then nothing is asserted
    anew, and a person or the system may see to it whoever that is; a program still only within its grant.

    Raises:
        problems.Invalid: the principal cannot be read.
        problems.Forbidden: they may not act for this one, or not say this of them.
    """
    wanted = Principal(principal_id.strip(), journal.plain(label).strip()[:200], dict(attributes))
    try:
        if by.kind != "token" and (is_kept or by.kind == "system"):
            return _kept(wanted)
        if is_kept:
            allowed = principals.claim(replace(wanted, attributes={}), itself=by.itself, grant=by.acts_for)
            return _carried(wanted, allowed)
        return principals.claim(wanted, itself=by.itself, grant=by.acts_for)
    except BadClaim as wrong:
        if wrong.is_forbidden:
            raise problems.Forbidden(str(wrong), errors=wrong.errors) from wrong
        raise problems.Invalid(str(wrong), errors=wrong.errors) from wrong


def guard_kept(by: Actor, principal: Principal) -> None:
    """Let somebody go on with work for this principal, or start it again.

    Raises:
        problems.Forbidden: a program that was not granted this principal.
    """
    claimed(by, principal.id, principal.label, principal.attributes, is_kept=True)


def own(by: Actor) -> Principal:
    """Whoever acts for nobody but themselves."""
    return Principal(by.itself, by.label[:200])


def as_staff(facts: Facts) -> Facts:
    """The facts about a call for a member of staff, with the rights that this person holds now, not only then."""
    if facts.principal.kind != PrincipalKind.STAFF:
        return facts
    person = _person(facts.principal.id)
    if person is None or not person.may("runs.create", agent=facts.agent):
        who = facts.principal.name
        return replace(facts, barred=f"{who} may no longer start runs of this agent, so it does nothing for them.")
    return replace(facts, scopes=frozenset(narrowed(facts.scopes, person.tool_scopes)))


def _kept(wanted: Principal) -> Principal:
    if errors := principals.wrong_with(wanted):
        raise BadClaim(errors)
    return wanted


def _carried(wanted: Principal, allowed: Principal) -> Principal:
    """The principal as it is, unless the grant puts something else on it."""
    if any(wanted.attributes.get(name) != value for name, value in allowed.attributes.items()):
        said = "This work is for a principal outside of what you were granted."
        raise BadClaim({"attributes": said}, is_forbidden=True)
    return wanted


def _person(principal_id: str) -> Actor | None:
    try:
        key: UUID = ids.parse("usr", principal_id.partition(":")[2])
    except ValueError:
        return None
    user = User.objects.filter(pk=key, is_active=True).prefetch_related("grants").first()
    return user.actor() if user else None
