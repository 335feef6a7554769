"""The socket of a tab: it says which topics changed, and nothing else ever goes through it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from importlib import import_module
from typing import ClassVar

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.utils.crypto import constant_time_compare

from console import live
from console.actors import ANONYMOUS, Actor
from console.models import User

log = logging.getLogger(__name__)

SESSION_ENDED = 4401
BAD_REQUEST = 4400
MOST_TOPICS = 60
LONGEST_MESSAGE = 8_000
LONGEST_S = 12 * 3600
# How long a right that was taken away, or a session that ended elsewhere, may keep its socket.
RECHECK_S = 15.0
TOPIC = re.compile(r"[a-z]{1,30}(:[a-z0-9_.-]{1,60})?")


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels ships no types
    """Takes `{"topics": [...]}`, answers `{"topic": ...}` whenever one of them was announced.

    `{"listening": true}` says that the topics asked for are heard from here on: what a page read before may be old.
    Topics the person may not hear are left out without a word: whether they exist is not told either.
    """

    recheck_s: ClassVar[float] = RECHECK_S

    async def connect(self) -> None:
        self.actor = ANONYMOUS
        self.heard: set[str] = set()
        self.wanted: set[str] = set()
        self.opened = time.monotonic()
        self.watch: asyncio.Task[None] | None = None
        self.checking = asyncio.Lock()  # what was read first must not be followed last
        self.session_key = str(self.scope["session"].session_key or "")
        actor = await database_sync_to_async(_actor)(self.session_key)
        await self.accept()
        if actor is None:
            await self.close(SESSION_ENDED)
            return
        self.actor = actor
        await self.channel_layer.group_add(live.person_group(actor.id), self.channel_name)
        self.watch = asyncio.create_task(self._watch())

    async def disconnect(self, code: int) -> None:
        if self.watch is not None:
            self.watch.cancel()
            await self.channel_layer.group_discard(live.person_group(self.actor.id), self.channel_name)
        await self._hear(set())

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        asked = _topics_in(text_data or "")
        if asked is None:
            await self.close(BAD_REQUEST)
            return
        self.wanted = asked
        async with self.checking:
            await self._hear_allowed()
        await self.send(json.dumps({"listening": True}))

    async def topic_changed(self, event: dict[str, str]) -> None:
        if event["topic"] in self.heard:
            await self.send(json.dumps({"topic": event["topic"]}))

    async def access_changed(self, event: dict[str, str]) -> None:
        await self._recheck()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.recheck_s)
            try:
                await self._recheck()
            except Exception as failed:  # a database that is away for a moment must not end the watch
                log.warning("A socket could not check its rights: %s", failed)

    async def _recheck(self) -> None:
        async with self.checking:
            actor = await database_sync_to_async(_actor)(self.session_key)
            if actor is None or time.monotonic() - self.opened > LONGEST_S:
                await self.close(SESSION_ENDED)
            elif actor != self.actor:
                self.actor = actor
                await self._hear_allowed()

    async def _hear_allowed(self) -> None:
        await self._hear(await database_sync_to_async(self._allowed)())

    async def _hear(self, names: set[str]) -> None:
        for name in names - self.heard:
            await self.channel_layer.group_add(live.group(name), self.channel_name)
        for name in self.heard - names:
            await self.channel_layer.group_discard(live.group(name), self.channel_name)
        self.heard = names

    def _allowed(self) -> set[str]:
        return {name for name in self.wanted if live.may_listen(self.actor, name)}


def _topics_in(text: str) -> set[str] | None:
    """The topics a message asks for; None when it is no such message."""
    try:
        content = json.loads(text) if len(text) <= LONGEST_MESSAGE else None
    except ValueError:
        return None
    asked = content.get("topics") if isinstance(content, dict) else None
    if not isinstance(asked, list) or len(asked) > MOST_TOPICS:
        return None
    is_sound = all(isinstance(name, str) and TOPIC.fullmatch(name) for name in asked)
    return set(asked) if is_sound else None


def _actor(session_key: str) -> Actor | None:
    """The person behind the session as the database knows both now; None when either has ended."""
    kept = import_module(settings.SESSION_ENGINE).SessionStore(session_key).load() if session_key else {}
    if SESSION_KEY not in kept:
        return None
    user = User.objects.prefetch_related("grants").filter(pk=kept[SESSION_KEY], is_active=True).first()
    if user is None or not constant_time_compare(kept.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()):
        return None
    return user.actor()
