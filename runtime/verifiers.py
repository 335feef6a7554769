"""Verifiers: Python functions that look at an answer before it is given.

    @verifier("refunds-add-up")
    def refunds_add_up(answer: Answer) -> str | None:
        "What is wrong, as the model is to read it; None when nothing is."

One registers itself when its module is imported: among those with tools (STEADYHAND_TOOLS), or offered by an installed
package under the entry point group `steadyhand.verifiers`. A release names it in its `verification`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any

from runtime import tools

ENTRY_POINT_GROUP = "steadyhand.verifiers"


@dataclass(frozen=True)
class Made:
    """A call of the run whose result the model has read. `arguments` are as it proposed them."""

    tool: str
    arguments: Mapping[str, Any] | str
    content: str
    is_error: bool


@dataclass(frozen=True)
class Answer:
    """An answer and what the run knows: enough to judge it without looking anything up."""

    text: str
    asked: str  # the user's words in this run
    calls: Sequence[Made]
    passages: Mapping[str, str]  # retrieved, by citation
    agent: str
    release: str
    run_id: str
    principal_id: str


Check = Callable[[Answer], str | Awaitable[str | None] | None]


@dataclass(frozen=True)
class Verifier:
    name: str
    function: Check
    is_async: bool


_registry: dict[str, Verifier] = {}


def verifier(name: str) -> Callable[[Check], Check]:
    """Register a function as the verifier of this name."""

    def register(function: Check) -> Check:
        old = _registry.get(name)
        if old is not None and old.function.__module__ != function.__module__:
            raise ValueError(
                f"Two verifiers are called {name}: in {old.function.__module__} and in {function.__module__}. "
                "Rename one."
            )
        _registry[name] = Verifier(name, function, inspect.iscoroutinefunction(function))
        return function

    return register


def find(name: str) -> Verifier | None:
    _load()
    return _registry.get(name)


@lru_cache(maxsize=1)
def _load() -> None:
    tools.known()
    for point in entry_points(group=ENTRY_POINT_GROUP):
        point.load()
