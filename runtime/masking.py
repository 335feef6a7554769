"""Who sees texts of runs as they are, and who with personal data masked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from console import redact
from console.actors import Actor

Shown = Callable[[Any], Any]


def masked_for(actor: Actor, agent: str) -> Shown:
    """How texts of this agent's runs are shown to the actor: as they are, or with personal data masked."""
    return _as_it_is if actor.may("runs.personal", agent=agent) else redact.personal


def _as_it_is(value: Any) -> Any:
    return value
