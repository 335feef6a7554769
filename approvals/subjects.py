"""What approvals are about. An app that asks people registers one handler per subject kind in `apps.ready()`.

The handler runs inside the deciding transaction: if it raises, nothing was decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # apps import this module before models may be loaded
    from approvals.models import ApprovalRequest, Decision


class Handler(Protocol):
    def check(self, request: ApprovalRequest, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The canonical form of (edited) arguments.

        Raises:
            problems.Invalid: they break the tool's schema or a policy rule; says which and how to mend it.
        """
        ...

    def decided(self, request: ApprovalRequest, decision: Decision) -> None:
        """A person approved or rejected."""
        ...

    def ended(self, request: ApprovalRequest) -> None:
        """The request expired without a decision."""
        ...


_handlers: dict[str, Handler] = {}


def register(kind: str, handler: Handler) -> None:
    _handlers[kind] = handler


def handler(kind: str) -> Handler:
    return _handlers[kind]
