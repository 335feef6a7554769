"""Roles and the permissions they carry.

Apps declare their permissions in `apps.ready()`, so that this app knows no domain. A permission nobody
declared is held by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Role(StrEnum):
    SUPPORT = "support"
    OPERATOR = "operator"
    MANAGER = "manager"
    ADMIN = "admin"
    AUDITOR = "auditor"


EVERYONE = frozenset(Role)

_holders: dict[str, frozenset[Role]] = {}
_labels: dict[str, str] = {}


def declare(permission: str, roles: Iterable[Role], label: str) -> None:
    """Say who holds a permission. `label` is a verb phrase: "cancel runs"."""
    _holders[permission] = frozenset(roles)
    _labels[permission] = label


def permissions_of(role: str) -> frozenset[str]:
    return frozenset(name for name, roles in _holders.items() if role in roles)


def declared() -> dict[str, str]:
    """Every permission and its label, in order of name."""
    return dict(sorted(_labels.items()))


def label(permission: str) -> str:
    return _labels.get(permission, permission)


def holders(permission: str) -> frozenset[Role]:
    return _holders.get(permission, frozenset())
