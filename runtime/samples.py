"""What the page that starts runs offers for an agent: inputs to try, and people to work for.

A demo or an installed package registers a function for its agent in `apps.ready()`; it is called with what was
typed to search for a person ("" gives a first few) and must answer quickly.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Person:
    """Somebody a run can work for. `note` tells namesakes apart: `Lisboa, 3 orders`."""

    id: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Sample:
    """An input to try; `person` is who would write it."""

    title: str
    text: str
    person: Person


@dataclass(frozen=True)
class Samples:
    inputs: Sequence[Sample] = ()
    people: Sequence[Person] = ()


Find = Callable[[str], Samples]

_registry: dict[str, Find] = {}


def register(agent_slug: str, find: Find) -> None:
    _registry[agent_slug] = find


def of(agent_slug: str, search: str = "") -> Samples:
    """What is offered; nothing when the agent has no samples or they fail, because a run can start without."""
    find = _registry.get(agent_slug)
    if find is None:
        return Samples()
    try:
        return find(search)
    except Exception:
        log.exception("The samples of %s failed and were left out", agent_slug)
        return Samples()
