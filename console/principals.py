"""Principals: for whom work is done, and who may claim to act for whom. Pure.

The kind of a principal shows in its id: a service is `service:tok_…`, the token that acts for itself; a member of
staff is `staff:usr_…`, a person of ours; everybody else is an end user, whose id is the client's own. So one id never
names two principals, and whatever is kept by id (threads, memory, budgets of a day) is kept by principal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LONGEST_ID = 120
MOST_ATTRIBUTES = 16
LONGEST_VALUE = 200
MOST_PATTERNS = 20
ANY = "*"
ATTRIBUTE_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


class PrincipalKind(StrEnum):
    END_USER = "end_user"
    STAFF = "staff"
    SERVICE = "service"


@dataclass(frozen=True)
class Principal:
    """For whom a run works, frozen on it. `attributes` are facts about them that rules and tools may use."""

    id: str
    label: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> PrincipalKind:
        return kind_of(self.id)

    @property
    def name(self) -> str:
        return self.label or self.id


NOBODY = Principal("")


def kind_of(principal_id: str) -> PrincipalKind:
    lead, colon, _ = principal_id.partition(":")
    if colon and lead.strip().casefold() in (PrincipalKind.STAFF, PrincipalKind.SERVICE):
        return PrincipalKind(lead.strip().casefold())
    return PrincipalKind.END_USER


@dataclass(frozen=True)
class Grant:
    """For whom somebody may act, beside themselves.

    `end_users` are patterns of ids, in which `*` stands for any characters. `attributes` says what may be asserted of
    them: a name with `*` for any value; with a value of its own it is put on every principal, and no other is taken.
    """

    end_users: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)

    def covers(self, principal_id: str) -> bool:
        return any(_matches(pattern, principal_id) for pattern in self.end_users)


EVERY_END_USER = Grant(end_users=(ANY,))


class BadClaim(Exception):
    """Somebody may not act for whom they claim to, or the claim cannot be read; `errors` maps a field to its sentence.

    `is_forbidden` tells the two apart.
    """

    def __init__(self, errors: Mapping[str, str], *, is_forbidden: bool = False) -> None:
        super().__init__(" ".join(errors.values()))
        self.errors = dict(errors)
        self.is_forbidden = is_forbidden


def claim(wanted: Principal, *, itself: str, grant: Grant) -> Principal:
    """The principal that a claim stands for, with the attributes that the grant puts on it.

    `itself` is the id under which whoever claims acts for nobody else.

    Raises:
        BadClaim: it cannot be read, or goes beyond the grant.
    """
    errors = wrong_with(wanted)
    if errors:
        raise BadClaim(errors)
    if wanted.kind != PrincipalKind.END_USER and wanted.id != itself:
        who = itself or "nobody of that kind"
        raise BadClaim(
            {"user_id": f"Nobody acts for another {wanted.kind}. You may act for {who}, or for end users."},
            is_forbidden=True,
        )
    if wanted.kind == PrincipalKind.END_USER and not grant.covers(wanted.id):
        raise BadClaim({"user_id": f"You may not act for {wanted.id[:60]!r}. {sentence(grant)}"}, is_forbidden=True)
    beyond = {name: value for name, value in wanted.attributes.items() if not _may_assert(grant, name, value)}
    if beyond:
        may = ", ".join(_assertable(grant)) or "none"
        what = ", ".join(f"{name}={value[:40]}" for name, value in sorted(beyond.items()))
        said = f"You may not say {what} of a principal. You may assert: {may}."
        raise BadClaim({"attributes": said}, is_forbidden=True)
    stamped = {name: value for name, value in grant.attributes.items() if value != ANY}
    return Principal(wanted.id, wanted.label, dict(sorted({**wanted.attributes, **stamped}.items())))


def wrong_with(principal: Principal) -> dict[str, str]:
    """What cannot be kept of a principal: a sentence for each field."""
    errors = {}
    if not principal.id or len(principal.id) > LONGEST_ID:
        errors["user_id"] = f"Say for whom the run works, in at most {LONGEST_ID} characters."
    elif not principal.id.isprintable() or principal.id != principal.id.strip():
        errors["user_id"] = "An id has no hidden characters, no line breaks and no spaces around it."
    if wrong := _wrong_attributes(principal.attributes):
        errors["attributes"] = wrong
    return errors


def read_grant(end_users: Iterable[str], attributes: Iterable[str]) -> Grant:
    """A grant from what a person writes: patterns of ids, and attributes as `tier` or `tenant=acme`.

    Raises:
        BadClaim: says which field and why.
    """
    patterns = tuple(dict.fromkeys(pattern.strip() for pattern in end_users if pattern.strip()))
    named = [part.partition("=") for part in (text.strip() for text in attributes) if part]
    found = {name.strip(): value.strip() if equals else ANY for name, equals, value in named}
    errors = {}
    if len(patterns) > MOST_PATTERNS or any(len(one) > LONGEST_ID or not one.isprintable() for one in patterns):
        errors["end_users"] = f"At most {MOST_PATTERNS} patterns of at most {LONGEST_ID} printable characters each."
    if wrong := _wrong_attributes(found):
        errors["attributes"] = wrong
    if errors:
        raise BadClaim(errors)
    return Grant(patterns, dict(sorted(found.items())))


def narrowed(wanted: Iterable[str], held: Iterable[str]) -> list[str]:
    """Of the scopes that are wanted those that are held; `*` among either stands for all."""
    wanted, held = set(wanted), set(held)
    if ANY in held:
        return sorted(wanted)
    return sorted(held if ANY in wanted else wanted & held)


def sentence(grant: Grant) -> str:
    """For whom a grant lets somebody act, for people."""
    if not grant.end_users:
        return "It acts for nobody but itself."
    if ANY in grant.end_users:
        return "It acts for itself and for any end user."
    return f"It acts for itself and for end users {' or '.join(grant.end_users)}."


def _assertable(grant: Grant) -> list[str]:
    return [name if value == ANY else f"{name}={value}" for name, value in sorted(grant.attributes.items())]


def _may_assert(grant: Grant, name: str, value: str) -> bool:
    return grant.attributes.get(name) in (ANY, value)


def _matches(pattern: str, text: str) -> bool:
    """Whether the whole text fits; every character but `*` stands for itself, so this takes time in proportion."""
    first, *rest = pattern.split(ANY)
    if not rest:
        return text == pattern
    *middle, last = rest
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _wrong_attributes(attributes: Mapping[str, str]) -> str:
    if len(attributes) > MOST_ATTRIBUTES:
        return f"At most {MOST_ATTRIBUTES} attributes."
    for name, value in attributes.items():
        if not ATTRIBUTE_NAME.fullmatch(name):
            return f"{name[:60]!r} is no name of an attribute: small letters, digits and _, at most 40 of them."
        if not value or len(value) > LONGEST_VALUE or not value.isprintable():
            return f"The value of {name} is a text of 1 to {LONGEST_VALUE} printable characters."
    return ""
