"""Hearing an announcement inside a worker, without waiting for its next heartbeat. Losing one costs a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from channels.layers import get_channel_layer

from console import live

log = logging.getLogger(__name__)

AGAIN_AFTER_S = 5.0


async def listen(heard: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
    """Call what stands under a topic whenever it is announced, for as long as the task lives. Redis may come and go."""
    channel = ""
    while True:
        try:
            layer = get_channel_layer()
            channel = channel or await layer.new_channel("worker")
            for topic in heard:
                await layer.group_add(live.group(topic), channel)
            while True:
                await _told(heard, await layer.receive(channel))
        except Exception as away:
            log.debug("%s: nothing is heard of for a while: %s", ", ".join(heard), away)
        await asyncio.sleep(AGAIN_AFTER_S)


async def _told(heard: Mapping[str, Callable[[], Awaitable[None]]], message: Mapping[str, str]) -> None:
    """What comes of one announcement is no reason to miss the next."""
    try:
        await heard[message["topic"]]()
    except Exception as wrong:
        log.debug("An announcement was not followed: %r", wrong)
