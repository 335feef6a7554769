"""Who answers model calls. Vendor packages are imported only where a release asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from releases.bundles import ModelSpec
    from runtime.providers.base import Provider

HOSTED = frozenset({"openai", "anthropic", "openai-compatible"})

_others: dict[str, Callable[[], Provider]] = {}


def register(name: str, make: Callable[[], Provider]) -> None:
    """Make a provider known that lives in a room of its own, in `apps.ready()`."""
    _others[name] = make


def get(spec: ModelSpec) -> Provider:
    """The provider that speaks for this model. Its connections are shared by all calls of the event loop.

    A fallback model is a spec of its own: ask for it with `get(bundle.fallback_model)`.
    """
    if spec.provider == "scripted":
        from runtime.providers import scripted

        return scripted.Scripted()
    if spec.provider in _others:
        return _others[spec.provider]()
    from runtime.providers import hosted

    return hosted.PROVIDER


def preload(specs: list[ModelSpec]) -> None:
    """Import what these models need, so that the first run does not pay for it (up to a second)."""
    for spec in specs:
        if spec.provider in HOSTED:
            from runtime.providers import hosted

            hosted.load(spec.provider)


async def aclose_all() -> None:
    """Close the connections of the running event loop. Nothing is imported for it."""
    import sys

    hosted = sys.modules.get("runtime.providers.hosted")
    if hosted is not None:
        await hosted.aclose_all()
