"""What a socket follows when threads answer it out of order: always what was read last."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from console import consumers, live
from console.actors import Actor
from console.consumers import LiveConsumer


def person(name: str, *rights: str) -> Actor:
    return Actor(kind="user", id="1", label=name, rights=frozenset((right, "*") for right in rights))


class Layer:
    """The groups of one channel."""

    def __init__(self) -> None:
        self.groups: set[str] = set()

    async def group_add(self, group: str, channel: str) -> None:
        self.groups.add(group)

    async def group_discard(self, group: str, channel: str) -> None:
        self.groups.discard(group)


class Threads:
    """Stands for the threads that read the database: what was read comes at once, or when it is let through."""

    def __init__(self) -> None:
        self.held = ""  # the next answer of this function is held back
        self.has_read = asyncio.Event()
        self.let_through = asyncio.Event()

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(*args: Any) -> Any:
            found = function(*args)
            if function.__name__ == self.held:
                self.held = ""
                self.has_read.set()
                await self.let_through.wait()
            return found

        return answer


class Socket(LiveConsumer):
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.known = person("As it was", "audit.read")
        self.threads = Threads()
        self.layer = Layer()
        self.channel_layer, self.channel_name = self.layer, "tab"
        self.scope = {"session": SimpleNamespace(session_key="one")}
        monkeypatch.setattr(consumers, "database_sync_to_async", self.threads)
        monkeypatch.setattr(consumers, "_actor", self._actor)
        monkeypatch.setitem(live._rules, "lamps", lambda actor, name: actor.may("audit.read"))

    def _actor(self, session_key: str) -> Actor:
        return self.known

    async def base_send(self, message: Any) -> None:
        """Nobody reads it here."""

    async def asks_for(self, *topics: str) -> None:
        await self.receive(json.dumps({"topics": topics}))

    def hears(self) -> set[str]:
        groups = {name.removeprefix("live.") for name in self.layer.groups if name.startswith("live.")}
        assert groups == {name.replace(":", ".") for name in self.heard}
        return self.heard


async def some_steps() -> None:
    """As many steps of the loop as anything here needs that waits for nobody."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_page_that_changes_during_a_check_of_rights_hears_what_it_shows_now(monkeypatch):
    socket = Socket(monkeypatch)
    await socket.connect()
    await socket.asks_for("lamps:hall")
    socket.known = person("With another role", "audit.read", "runs.read")
    socket.threads.held = "_allowed"
    checking = asyncio.create_task(socket.access_changed({}))
    await socket.threads.has_read.wait()

    asking = asyncio.create_task(socket.asks_for("lamps:attic"))
    await some_steps()
    socket.threads.let_through.set()
    await asyncio.gather(checking, asking)

    assert socket.hears() == {"lamps:attic"}
    await socket.disconnect(1000)


async def test_a_right_that_was_taken_away_during_a_check_of_rights_stays_taken_away(monkeypatch):
    socket = Socket(monkeypatch)
    await socket.connect()
    await socket.asks_for("lamps:hall")
    socket.known = person("With another role", "audit.read", "runs.read")
    socket.threads.held = "_actor"
    earlier = asyncio.create_task(socket.access_changed({}))
    await socket.threads.has_read.wait()

    socket.known = person("Without any role")
    later = asyncio.create_task(socket.access_changed({}))
    await some_steps()
    socket.threads.let_through.set()
    await asyncio.gather(earlier, later)

    assert socket.actor == socket.known
    assert socket.hears() == set()
    await socket.disconnect(1000)
