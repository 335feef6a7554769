"""Code that others wrote (tools, look-ups, verifiers), held to what the loop can handle.

A tool that ends the interpreter, or raises what only the interpreter or the event loop raises, would take down every
turn of its worker, and the next worker after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any


class Outlandish(Exception):
    """Foreign code raised what nobody could catch or put into words. Says what it was."""


def called(function: Callable[..., Any], *args: Any) -> Any:
    """Call it. Whatever it raises is an ordinary exception with a text."""
    try:
        return function(*args)
    except BaseException as wrong:
        if _is_ordinary(wrong):
            raise
        raise _named(wrong) from wrong


async def awaited(call: Awaitable[Any]) -> Any:
    """The same for what runs on the event loop, where whoever cancels it is obeyed."""
    try:
        return await call
    except asyncio.CancelledError:
        raise
    except BaseException as wrong:
        if _is_ordinary(wrong):
            raise
        raise _named(wrong) from wrong


def _is_ordinary(wrong: BaseException) -> bool:
    if not isinstance(wrong, Exception) or isinstance(wrong, StopIteration):  # no future takes a StopIteration
        return False
    try:
        return isinstance(str(wrong), str)
    except Exception:
        return False


def _named(wrong: BaseException) -> Outlandish:
    return Outlandish(f"It raised {type(wrong).__name__}.")
