"""The text of the model call in flight: kept for those who watch, without waiting for the disk, and may vanish.

It is no part of the journal and never holds a turn up. Readers fetch the whole and compare it with what they have, so
that a lost notice or a reconnect costs nothing and no piece comes twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from uuid import UUID

import psycopg
from psycopg_pool import PoolTimeout

from console import live, redact
from runtime.models import Draft
from runtime.turns import Shell, Turn

log = logging.getLogger(__name__)

LONGEST_TEXT = 200_000  # characters of one reply that are kept
EVERY_S = 0.15
TOLD_WITHIN_S = 0.5  # by a Redis that does not answer, or not at all: the reply waits for it
MOST_PER_S = 100_000  # characters written for one run: the longer the text, the rarer

KEEP_SQL = """
    INSERT INTO runtime_draft (run_id, text, updated_at) VALUES (%s, %s, clock_timestamp())
    ON CONFLICT (run_id) DO UPDATE SET text = EXCLUDED.text, updated_at = EXCLUDED.updated_at
"""


def topic(public_id: str) -> str:
    """What is announced when the text has grown. The steps of the run have not changed then."""
    return f"draft:{public_id}"


def read(run_id: UUID) -> str | None:
    """The text so far; None while nothing is written."""
    return Draft.objects.filter(run_id=run_id).values_list("text", flat=True).first()


def change(known: str, text: str) -> tuple[int, str] | None:
    """What turns the known text into the new one: keep so many characters, then append. None when nothing does."""
    if known == text:
        return None
    if text.startswith(known):
        at = len(known)
    else:
        pairs = enumerate(zip(known, text, strict=False))
        at = next((place for place, (one, other) in pairs if one != other), min(len(known), len(text)))
    return at, text[at:]


async def unheard(piece: str) -> None:
    """For a reply that nobody watches while it is written."""


def _as_it_is(text: str) -> str:
    return text


class Writing:
    """One reply as it grows. What comes last before a pause is kept, too; when the reply is there, nothing more is.

    `shown` says what of the text so far may be watched; left out, all of it.
    """

    def __init__(self, engine: Shell, turn: Turn, shown: Callable[[str], str] | None = None) -> None:
        self.engine = engine
        self.turn = turn
        self.shown = shown or _as_it_is
        self.text = ""
        self.kept = 0  # characters
        self.is_over = False
        self.due: asyncio.TimerHandle | None = None
        self.keeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Writing:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, wrong: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is being kept: written after the step, it would outlive it."""
        self.is_over = True
        if self.due is not None:
            self.due.cancel()
        if self.keeping is not None and not self.keeping.done():
            await asyncio.wait([self.keeping])

    async def add(self, piece: str) -> None:
        if len(self.text) >= LONGEST_TEXT:
            return
        self.text += piece
        if self.due is None and (self.keeping is None or self.keeping.done()):
            self._keep_soon()

    def _keep_soon(self) -> None:
        if self.is_over:
            return
        wait = max(EVERY_S, len(self.text) / MOST_PER_S)
        self.due = asyncio.get_running_loop().call_later(wait, self._keep_now)

    def _keep_now(self) -> None:
        self.due = None
        self.keeping = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        self.kept = len(self.text)
        text = redact.text(self.shown(self.text)).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        self.turn.has_draft = True
        try:
            async with self.engine.pool.connection() as connection, connection.transaction():
                await connection.execute("SET LOCAL synchronous_commit TO off")
                await connection.execute(KEEP_SQL, [self.turn.run_id, text])
            async with asyncio.timeout(TOLD_WITHIN_S):
                await live.publish(topic(self.turn.public_id))
        except (psycopg.Error, PoolTimeout) as away:
            log.debug("The draft of %s was not kept: %s", self.turn.public_id, away)
        except Exception as lost:
            log.debug("Nobody was told of the draft of %s: %s", self.turn.public_id, lost)
        if len(self.text) > self.kept:
            self._keep_soon()
