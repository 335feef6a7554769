"""Calls under way that may be let go of: a model call, a tool, a wait between two attempts.

Whoever cancels or pauses a run does not wait for its call. The turn stops waiting at once; what is known of the call
is the caller's to write down. A synchronous tool goes on in its thread, and the fence discards what it brings.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from runtime import foreign

_abandoned: set[asyncio.Future[Any]] = set()  # a task without a reference may be collected in the middle of its work


class Interrupted(Exception):
    """Somebody cancelled or paused the run. `is_made`: the call was under way; otherwise it was not begun."""

    def __init__(self, *, is_made: bool) -> None:
        super().__init__("under way" if is_made else "not begun")
        self.is_made = is_made


@dataclass
class Flight:
    """A call under way. One that may not be repeated is not let go of for a pause."""

    task: asyncio.Task[Any]
    on_pause: bool
    is_let_go: bool = False


class Holder(Protocol):
    """What is asked of a turn here."""

    flight: Flight | None
    cancel_requested: bool
    pause_requested: bool


@contextlib.contextmanager
def under_way(turn: Holder, *, on_pause: bool) -> Iterator[None]:
    """A stretch of the turn that `let_go` ends at once. `on_pause`: also for a pause, because it can be made again.

    Raises:
        Interrupted: it was let go of, or was not begun because that was asked for before.
    """
    if _is_asked(turn, on_pause):
        raise Interrupted(is_made=False)
    task = asyncio.current_task()
    assert task is not None
    flight = turn.flight = Flight(task, on_pause)
    try:
        yield
    except asyncio.CancelledError:
        if not flight.is_let_go or task.uncancel():  # the worker is leaving, which goes first
            raise
        raise Interrupted(is_made=True) from None
    finally:
        turn.flight = None


def let_go(turn: Holder) -> bool:
    """Stop waiting for the turn's call, if it is in one that what was asked for may end. On the turn's loop."""
    flight = turn.flight
    if flight is None or flight.is_let_go or not _is_asked(turn, flight.on_pause):
        return False
    flight.is_let_go = True
    return flight.task.cancel()


async def apart(call: Awaitable[Any]) -> Any:
    """Wait for foreign code in a task of its own, so that letting go of it does not wait for it to clean up."""
    task = asyncio.ensure_future(foreign.awaited(call))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        _abandoned.add(task)
        task.add_done_callback(_forget)
        raise
    if task.cancelled():
        raise RuntimeError("The tool cancelled its own task.")
    return task.result()


def _is_asked(turn: Holder, on_pause: bool) -> bool:
    return turn.cancel_requested or (on_pause and turn.pause_requested)


def _forget(task: asyncio.Future[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # what it brings is discarded; asked for, so that nobody misses it
