"""The door to open pages: says that something changed, never what it is now (see UI: notify, then fetch)."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from weakref import WeakKeyDictionary

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from channels_redis.pubsub import RedisPubSubChannelLayer
from django.conf import settings
from django.db import transaction
from redis.asyncio import BlockingConnectionPool, Redis

from console.actors import Actor

log = logging.getLogger(__name__)

_rules: dict[str, Callable[[Actor, str], bool]] = {}


def topic(prefix: str, may_listen: Callable[[Actor, str], bool]) -> None:
    """Declare who may listen to `prefix` and `prefix:<id>`. An undeclared topic is open to nobody."""
    _rules[prefix] = may_listen


def may_listen(actor: Actor, name: str) -> bool:
    rule = _rules.get(name.partition(":")[0])
    return rule is not None and rule(actor, name)


def group(name: str) -> str:
    """Channels allows no colon in a group's name."""
    return "live." + name.replace(":", ".")


def person_group(person_id: str) -> str:
    """The group of all sockets of a person."""
    return f"person.{person_id}"


def access_changed(person_id: str) -> None:
    """After the commit, tell the person's open pages to check what they may still hear. Losing it costs seconds."""
    transaction.on_commit(lambda: _tell_person(person_id), robust=True)


def _tell_person(person_id: str) -> None:
    try:
        async_to_sync(get_channel_layer().group_send)(person_group(person_id), {"type": "access.changed"})
    except Exception as lost:
        log.warning("The sockets of %s were not told: %s. They check by themselves.", person_id, lost)


def announce(*topics: str) -> None:
    """After the transaction commits, tell every page that shows one of the topics. Losing it is harmless."""
    transaction.on_commit(lambda: send(*topics), robust=True)


def send(*topics: str) -> None:
    """Tell them now, from synchronous code outside of a transaction. Returns at once."""
    _courier.send(topics)


async def publish(*topics: str) -> None:
    """The same from asynchronous code that has committed already."""
    layer = get_channel_layer()
    told = {name: {"type": "topic.changed", "topic": name} for name in topics}
    if not isinstance(layer, RedisPubSubChannelLayer):
        for name, message in told.items():
            await layer.group_send(group(name), message)
        return
    async with _connection().pipeline(transaction=False) as pipeline:  # one round trip, however many have changed
        for name, message in told.items():
            pipeline.publish(f"{layer.prefix}__group__{group(name)}", layer.serialize(message))
        await pipeline.execute()


CONNECTIONS = 2  # of one loop, for publishing
LONGEST_WAIT_S = 10.0  # for one of them
_connections: WeakKeyDictionary[asyncio.AbstractEventLoop, Redis] = WeakKeyDictionary()


def _connection() -> Redis:
    """The Redis connection of the running loop that publishes."""
    loop = asyncio.get_running_loop()
    if loop not in _connections:
        # Whoever comes in a burst waits for a turn; the plain pool refuses the 101st, and its notice would be lost.
        pool = BlockingConnectionPool.from_url(settings.REDIS_URL, max_connections=CONNECTIONS, timeout=LONGEST_WAIT_S)
        _connections[loop] = Redis(connection_pool=pool)
    return _connections[loop]


class _Courier:
    """Sends for synchronous code, on one loop and one Redis connection per process, without making it wait."""

    def __init__(self) -> None:
        self.guard = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None
        self.owner = 0  # process that started the loop; a fork has to start its own
        self.under_way: set[Future[None]] = set()

    def send(self, topics: tuple[str, ...]) -> None:
        sent = asyncio.run_coroutine_threadsafe(self._publish(topics), self._started())
        self.under_way.add(sent)
        sent.add_done_callback(self.under_way.discard)

    def settle(self) -> None:
        if self.owner == os.getpid():
            wait(list(self.under_way), timeout=1)

    async def _publish(self, topics: tuple[str, ...]) -> None:
        try:
            await publish(*topics)
        except Exception as lost:
            log.warning("Pages were not told of %s: %s. They catch up by polling.", ", ".join(topics), lost)

    def _started(self) -> asyncio.AbstractEventLoop:
        with self.guard:
            if self.loop is None or self.owner != os.getpid():
                self.loop, self.owner = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self.loop.run_forever, name="live", daemon=True).start()
            return self.loop


_courier = _Courier()


@atexit.register
def settle() -> None:
    """Give what is under way a moment, at most a second; called when the process ends."""
    _courier.settle()
