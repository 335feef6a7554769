"""Announcements inside a process: none is missed because of another, and nobody is told who has left."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from console import live
from runtime import hearing, streams
from tests.patience import PATIENCE_S


class Layer:
    """A channel layer in memory, as channels has it: whoever is in a group is sent what is said there."""

    def __init__(self) -> None:
        self.queues: dict[str, asyncio.Queue[Any]] = {}
        self.groups: defaultdict[str, set[str]] = defaultdict(set)
        self.joined: asyncio.Queue[str] = asyncio.Queue()
        self.hangs = ""  # joining this group takes for ever

    async def new_channel(self, prefix: str) -> str:
        name = f"{prefix}{len(self.queues)}"
        self.queues[name] = asyncio.Queue()
        return name

    async def group_add(self, group: str, channel: str) -> None:
        self.groups[group].add(channel)
        if group == self.hangs:
            await asyncio.Future()
        self.joined.put_nowait(group)

    async def group_discard(self, group: str, channel: str) -> None:
        self.groups[group].discard(channel)

    async def receive(self, channel: str) -> Any:
        found = await self.queues[channel].get()
        if isinstance(found, Exception):
            raise found
        return found

    def say(self, said: Any, topic: str = "switches") -> None:
        for channel in self.groups[live.group(topic)]:
            self.queues[channel].put_nowait(said)


@pytest.fixture
def layer(monkeypatch) -> Layer:
    layer = Layer()
    monkeypatch.setattr(hearing, "get_channel_layer", lambda: layer)
    monkeypatch.setattr(streams, "get_channel_layer", lambda: layer)
    return layer


async def test_what_goes_wrong_with_one_announcement_does_not_hide_the_next(layer):
    heard: asyncio.Queue[None] = asyncio.Queue()

    async def broken() -> None:
        raise RuntimeError("The database is away.")

    async def fine() -> None:
        heard.put_nowait(None)

    listening = asyncio.create_task(hearing.listen({"runs": broken, "switches": fine}))
    await layer.joined.get()
    await layer.joined.get()
    layer.say({"topic": "runs"})
    layer.say({"topic": "of nobody"})
    layer.say({"topic": "switches"})
    await asyncio.wait_for(heard.get(), PATIENCE_S)
    listening.cancel()


async def test_a_listener_that_comes_back_leaves_nobody_behind_who_is_told(layer, monkeypatch):
    monkeypatch.setattr(hearing, "AGAIN_AFTER_S", 0)
    heard: asyncio.Queue[None] = asyncio.Queue()

    async def fine() -> None:
        heard.put_nowait(None)

    listening = asyncio.create_task(hearing.listen({"switches": fine}))
    await layer.joined.get()
    layer.say(ValueError("This cannot be read."))
    await asyncio.wait_for(layer.joined.get(), PATIENCE_S)
    layer.say({"topic": "switches"})
    await asyncio.wait_for(heard.get(), PATIENCE_S)
    assert len(layer.groups[live.group("switches")]) == 1
    listening.cancel()


async def test_a_stream_that_could_not_listen_to_everything_leaves_every_group(layer, monkeypatch):
    monkeypatch.setattr(streams, "SUBSCRIBE_WITHIN_S", 0.05)
    layer.hangs = live.group("draft:1")
    async with streams._Wake("run:1", "draft:1") as wake:
        assert wake.next is None
        assert layer.groups[live.group("run:1")]
    assert not any(layer.groups.values())


async def test_a_stream_that_was_cut_off_leaves_every_group(layer):
    async with streams._Wake("run:1") as wake:
        layer.say(ConnectionError("Redis has gone."), "run:1")
        assert await wake.wait(PATIENCE_S)
        assert wake.next is None
    assert not any(layer.groups.values())
