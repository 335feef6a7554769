"""Foreign code on the loop that goes on when it is told to end: the turn goes on without it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, cast

from runtime import verification, verifiers, verifying
from runtime.tools import Unknown
from runtime.verifiers import Verifier
from tests.patience import PATIENCE_S

TIMEOUT_S = 0.05


def deaf(may_end: asyncio.Event) -> Callable[..., Coroutine[Any, Any, None]]:
    async def goes_on(*given: Any) -> None:
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()

    return goes_on


async def told(waiting: Coroutine[Any, Any, Any], may_end: asyncio.Event) -> Any:
    """What is answered while the foreign code goes on; it is let go after."""
    task = asyncio.create_task(waiting)
    answered, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
    may_end.set()
    await asyncio.wait({task})
    assert answered, "The turn waited for it."
    return task.result()


async def test_a_verifier(monkeypatch):
    may_end = asyncio.Event()
    monkeypatch.setattr(verifiers, "find", lambda name: Verifier(name, deaf(may_end), is_async=True))
    monkeypatch.setattr(verification, "_answer", lambda turn, text: text)
    spec = cast(Any, SimpleNamespace(name="deaf", timeout_s=TIMEOUT_S))

    grade = await told(verification._by_code(cast(Any, None), cast(Any, None), spec, "It is on its way."), may_end)

    assert (grade.is_passed, grade.reason) == (None, "deaf did not answer within 0.05 s.")


async def test_a_look_up_of_what_became_of_a_call():
    may_end = asyncio.Event()
    turn = cast(Any, SimpleNamespace(context=lambda key: key))
    manifest = cast(Any, SimpleNamespace(name="send", timeout_s=TIMEOUT_S))
    entry = cast(Any, SimpleNamespace(idempotency_key="run:1", input={"arguments": {}}))

    finding = await told(verifying._ask(cast(Any, None), turn, manifest, entry, deaf(may_end)), may_end)

    assert finding == Unknown("The other system did not answer within 0.05 s.")
