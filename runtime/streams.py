"""A run's journal as server-sent events.

The journal is read by cursor: each entry has a place (`seq`), places are taken under the run's row lock and become
visible in order, so whoever resumes after a place misses nothing and sees nothing twice. The channel layer only says
that it is time to look; without it the journal is looked at every second. All listeners of a process share a few
threads and their database connections.

Text that a model is writing comes beside the journal, as pieces without an id: each says how much of the text before it
to keep, and the end of a step ends the text.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any
from uuid import UUID, uuid4

from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DatabaseError, close_old_connections, connection
from django.db.models import F, Q

from console import bearer, live, ratelimits, stopping
from console.actors import Actor
from runtime import drafts, masking, wire
from runtime.masking import Shown
from runtime.models import Run, RunEvent, Step

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0  # without a wake-up to rely on
LOOK_ANYWAY_S = 5.0  # with one
LOOK_NO_SOONER_S = 0.1
HEARTBEAT_S = 15.0
PLACE_HELD_S = 3 * HEARTBEAT_S
RECONNECT_MS = 2000
SUBSCRIBE_WITHIN_S = 2.0
NOTICE_A_STOP_S = 0.5
BATCH = 200
LOOKERS = 4
END = "run.finished"
Place = tuple[str, str]  # what the place is counted under, and the name of this one

_lookers = ThreadPoolExecutor(LOOKERS, thread_name_prefix="stream")


@dataclass
class Batch:
    """What one look at the journal found, in order. `seq` is the place up to which everything is in it."""

    events: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    seq: int = 0
    is_whole: bool = True  # nothing was left for the next look
    is_over: bool = False
    draft: str | None = None


def is_over(run: Run, after: int) -> bool:
    """Whether the run has ended and everything up to its end lies before the cursor."""
    return run.is_final and after >= run.seq and (after > run.seq or _told_end(run.pk))


def take_place(listener: Actor) -> Place:
    """One of the streams that this token may hold open. It falls free by itself if the stream never begins.

    Raises:
        problems.TooMany: they are all in use.
    """
    place = f"streams:{listener.id}", uuid4().hex
    _hold(place)
    return place


async def follow(run: Run, after: int, place: Place, *, listener: Actor) -> AsyncIterator[bytes]:
    """Yield the events after a number, and new ones as they come, until the run has ended. Gives the place back."""
    try:
        await sync_to_async(_let_go)()
        async with _Wake(f"run:{run.public_id}", drafts.topic(run.public_id)) as wake:
            yield f"retry: {RECONNECT_MS}\n\n".encode()
            async for piece in _pieces(run, after, listener, place, wake):
                yield piece
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.shield(sync_to_async(ratelimits.let_go, thread_sensitive=False)(*place))


async def _pieces(run: Run, after: int, listener: Actor, place: Place, wake: _Wake) -> AsyncIterator[bytes]:
    shown = masking.masked_for(listener, run.agent.slug)
    written = ""  # of the model call in flight, as this listener has it
    beat = time.monotonic() + HEARTBEAT_S
    while True:
        batch = await _look(run.pk, after, shown)
        for number, name, data in batch.events:
            yield _event(name, data, number)
            written = ""
        if batch.draft is not None and (grown := drafts.change(written, shown(batch.draft))) is not None:
            written = shown(batch.draft)
            yield _event("draft", {"at": grown[0], "text": grown[1]})
        after = max(after, batch.seq)
        if batch.is_over or stopping.is_asked():
            return
        if time.monotonic() >= beat:
            beat = time.monotonic() + HEARTBEAT_S
            if not await _may_go_on(listener, run.agent.slug):
                yield _event("stream.closed", {"reason": "The token has lost the right to read this run."})
                return
            await sync_to_async(_hold, thread_sensitive=False)(place)
            yield b": keep-alive\n\n"
        if batch.is_whole:
            await _wait(wake, min(wake.patience_s, max(0.0, beat - time.monotonic())))


async def _wait(wake: _Wake, at_most_s: float) -> None:
    """In short pieces, so that a server that stops is not held up."""
    end = time.monotonic() + at_most_s
    while not stopping.is_asked() and (left := end - time.monotonic()) > 0:
        if await wake.wait(min(left, NOTICE_A_STOP_S)):
            return


def look(run_id: UUID, after: int, shown: Shown) -> Batch:
    """Read the next entries of the journal, at most a batch of them.

    The run's own number is read first: whatever is up to it has been committed, so reading on piece by piece cannot
    skip an entry that is being written meanwhile.
    """
    run = Run.objects.select_related("agent", "release").defer("release__content", "input_text").get(pk=run_id)
    batch = Batch(seq=run.seq)
    if run.seq > after:
        batch.events = _entries(run, after, shown)
        if len(batch.events) > BATCH:
            batch.events = batch.events[:BATCH]
            batch.seq, batch.is_whole = batch.events[-1][0], False
    if batch.is_whole and run.is_final:
        batch.is_over = True
        if not _told_end(run_id):
            batch.events.append((run.seq + 1, END, wire.end(run, shown)))
    if batch.is_whole and not run.is_final:
        batch.draft = drafts.read(run_id)
    return batch


def _entries(run: Run, after: int, shown: Shown) -> list[tuple[int, str, dict[str, Any]]]:
    """One more than a batch of entries after a place, merged from steps that began, steps that ended, and events."""
    most, upto = BATCH + 1, run.seq
    steps = Step.objects.filter(run=run)
    at_once = Q(done_seq=F("seq"))  # begun and ended in one write: one event
    begun = steps.filter(~at_once | Q(done_seq__isnull=True), seq__gt=after, seq__lte=upto).order_by("seq")[:most]
    ended = steps.filter(done_seq__gt=after, done_seq__lte=upto).order_by("done_seq")[:most]
    events = RunEvent.objects.filter(run=run, seq__gt=after, seq__lte=upto).order_by("seq")[:most]
    found = [
        *((step.seq, "step.started", wire.started(step)) for step in begun),
        *((step.done_seq or 0, "step.finished", wire.step(step, shown)) for step in ended),
        *((event.seq, event.kind, _told(run, event, shown)) for event in events),
    ]
    return sorted(found, key=lambda entry: entry[0])[:most]


def _told(run: Run, event: RunEvent, shown: Shown) -> dict[str, Any]:
    return wire.end(run, shown) if event.kind == END else wire.event(event, shown)


def _told_end(run_id: UUID) -> bool:
    return RunEvent.objects.filter(run_id=run_id, kind=END).exists()


async def _look(run_id: UUID, after: int, shown: Shown) -> Batch:
    try:
        batch: Batch = await _ask(look, run_id, after, shown)
        return batch
    except DatabaseError as away:
        # The listener keeps its place; the next look finds what it missed.
        log.warning("The journal could not be read: %s", away)
        await asyncio.sleep(LOOK_EVERY_S)
        return Batch(seq=after)


async def _may_go_on(listener: Actor, agent: str) -> bool:
    try:
        return bool(await _ask(bearer.may_still, listener, "runs.read", agent))
    except DatabaseError:
        return True  # asked again at the next heartbeat


async def _ask(question: Callable[..., Any], *arguments: Any) -> Any:
    return await sync_to_async(_asked, thread_sensitive=False, executor=_lookers)(question, *arguments)


def _asked(question: Callable[..., Any], *arguments: Any) -> Any:
    """Ask the database as a request does: on a connection that is whole, and kept no longer than is set."""
    close_old_connections()
    try:
        return question(*arguments)
    finally:
        close_old_connections()


def _let_go() -> None:
    """Close the request's own connection: the request goes on for as long as the stream."""
    connection.close()


def _hold(place: Place) -> None:
    ratelimits.hold(*place, limit=settings.API_STREAMS_PER_TOKEN, for_s=PLACE_HELD_S)


def _event(name: str, data: dict[str, Any], number: int | None = None) -> bytes:
    text = json.dumps(data, cls=DjangoJSONEncoder, ensure_ascii=False)
    head = f"id: {number}\n" if number is not None else ""
    return f"{head}event: {name}\ndata: {text}\n\n".encode()


class _Wake:
    """A place in the channel layer's groups of some topics. Everything goes on without it, only less promptly."""

    def __init__(self, *topics: str) -> None:
        self.groups = [live.group(topic) for topic in topics]
        self.layer: Any = get_channel_layer()
        self.channel = ""
        self.next: asyncio.Task[Any] | None = None

    @property
    def patience_s(self) -> float:
        return LOOK_ANYWAY_S if self.next is not None else LOOK_EVERY_S

    async def __aenter__(self) -> _Wake:
        try:
            async with asyncio.timeout(SUBSCRIBE_WITHIN_S):
                self.channel = await self.layer.new_channel("stream")
                for group in self.groups:
                    await self.layer.group_add(group, self.channel)
            self._listen()
        except Exception as away:
            log.warning("A stream goes on by polling: %r", away)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, wrong: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.next is not None:
            self.next.cancel()  # receive() gives its channel back when it is cancelled
        if not self.channel:
            return
        with contextlib.suppress(asyncio.CancelledError, Exception):
            async with asyncio.timeout(SUBSCRIBE_WITHIN_S):
                for group in self.groups:
                    await self.layer.group_discard(group, self.channel)

    async def wait(self, at_most_s: float) -> bool:
        """Until something was announced (true), or the time is up."""
        if self.next is None:
            await asyncio.sleep(at_most_s)
            return False
        done, _ = await asyncio.wait({self.next}, timeout=at_most_s)
        if done:
            self._listen(lost=self.next.exception())
            await asyncio.sleep(LOOK_NO_SOONER_S)  # one look for a burst of announcements
        return bool(done)

    def _listen(self, lost: BaseException | None = None) -> None:
        if lost is not None:
            log.warning("A stream goes on by polling: %s", lost)
            self.next = None
            return
        self.next = asyncio.ensure_future(self.layer.receive(self.channel))
