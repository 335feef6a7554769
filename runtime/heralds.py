"""Telling open pages that a run has changed: gathered for a moment, each topic once, in one round trip."""

from __future__ import annotations

import asyncio
import logging
import time

from console import live

log = logging.getLogger(__name__)

GATHER_S = 0.05  # a page is told at most this late, and of a busy run at most twenty times a second
LIST_EVERY_S = 1.0
LIST = "runs"


class Herald:
    """Announces for one event loop without making anybody wait."""

    def __init__(self) -> None:
        self.topics: dict[str, None] = {}
        self.sending: asyncio.Task[None] | None = None
        self.list_told_at = 0.0

    def announce(self, *topics: str) -> None:
        """Have the topics told soon. The list of runs is told at least once a second while something happens."""
        self.topics.update(dict.fromkeys(topics))
        if time.monotonic() - self.list_told_at > LIST_EVERY_S:
            self.topics[LIST] = None
        if self.sending is None or self.sending.done():
            self.sending = asyncio.create_task(self._send())

    async def settle(self) -> None:
        """Wait until all that was announced has been sent."""
        if self.sending is not None:
            await asyncio.wait([self.sending])

    async def _send(self) -> None:
        while self.topics:
            await asyncio.sleep(GATHER_S)
            topics, self.topics = list(self.topics), {}
            if LIST in topics:
                self.list_told_at = time.monotonic()
            try:
                await live.publish(*topics)
            except Exception as lost:
                log.debug("Pages were not told: %s. They catch up by polling.", lost)
