"""Hearing an announcement inside a worker, without waiting for its next heartbeat. Losing one costs a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from channels.layers import get_channel_layer

from console import live

log = logging.getLogger(__name__)

AGAIN_AFTER_S = 5.0


async def listen(topic: str, heard: Callable[[], Awaitable[None]]) -> None:
    """Call `heard` whenever the topic is announced, for as long as the task lives. Redis may come and go."""
    while True:
        try:
            layer = get_channel_layer()
            channel = await layer.new_channel("worker")
            await layer.group_add(live.group(topic), channel)
            while True:
                await layer.receive(channel)
                await heard()
        except Exception as away:
            log.debug("%s is not heard of for a while: %s", topic, away)
        await asyncio.sleep(AGAIN_AFTER_S)
