"""Synchronous work beside the event loop: database verbs and synchronous tools.

Each tool has threads of its own, started when needed: one that hangs keeps neither the gate nor another tool from
working. A room bounds how many tools run at once in one engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

from django.db import close_old_connections

from runtime import foreign

AT_ONCE = 32
VERBS = ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="verb")


async def run(function: Callable[..., Any], *args: Any) -> Any:
    """Run a synchronous function with a usable database connection of its own."""
    return await asyncio.get_running_loop().run_in_executor(VERBS, partial(_connected, function, *args))


async def run_tool(room: asyncio.Semaphore, tool: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a synchronous tool. A call that was given up on no longer takes room, though its thread may still hang."""
    async with room:
        call = partial(foreign.called, _connected, function, *args)
        return await asyncio.get_running_loop().run_in_executor(_of(tool), call)


@cache
def _of(tool: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix=f"tool-{tool}")


def _connected(function: Callable[..., Any], *args: Any) -> Any:
    close_old_connections()
    try:
        return function(*args)
    finally:
        close_old_connections()
