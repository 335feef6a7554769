from __future__ import annotations

import asyncio
import json
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import transaction
from redis import Redis

from console import consumers, live
from console.asgi import application
from console.models import RoleGrant
from console.roles import Role
from tests.builders import a_user
from tests.patience import PATIENCE_S

pytestmark = [pytest.mark.django_db(transaction=True)]
ORIGIN = b"http://localhost"
SOON = 0.3


@pytest.fixture(autouse=True)
def lamps(monkeypatch):
    """A topic of our own, open to those who may read the audit log."""
    monkeypatch.setitem(live._rules, "lamps", lambda actor, name: actor.may("audit.read") and name != "lamps:secret")


def a_session(user) -> str:
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    store[SESSION_KEY] = str(user.pk)
    store[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    store[HASH_SESSION_KEY] = user.get_session_auth_hash()
    store.save()
    return store.session_key


class Tab(ApplicationCommunicator):
    """A browser tab's end of the socket. (The one that channels brings needs daphne.)"""

    def __init__(self, session: str = "", origin: bytes | None = ORIGIN) -> None:
        headers = [(b"host", b"localhost"), (b"cookie", f"{settings.SESSION_COOKIE_NAME}={session}".encode())]
        headers += [(b"origin", origin)] if origin else []
        scope = {"type": "websocket", "path": "/live/", "query_string": b"", "headers": headers, "subprotocols": []}
        super().__init__(application, scope)

    async def connect(self) -> bool:
        await self.send_input({"type": "websocket.connect"})
        return (await self.receive_output(PATIENCE_S))["type"] == "websocket.accept"

    async def ask(self, text: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text})

    async def ask_for(self, *topics: str) -> None:
        await self.ask(json.dumps({"topics": topics}))
        assert await self.told() == {"listening": True}

    async def told(self) -> Any:
        return json.loads((await self.receive_output(PATIENCE_S))["text"])

    async def leave(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(PATIENCE_S)


async def listening(session: str, *topics: str) -> Tab:
    tab = Tab(session)
    assert await tab.connect()
    await tab.ask_for(*topics)
    return tab


@pytest.fixture
async def auditor():
    return await sync_to_async(a_user)(Role.AUDITOR)


@pytest.fixture
async def session(auditor):
    return await sync_to_async(a_session)(auditor)


async def test_a_listener_is_told_what_changed_and_nothing_more(session):
    tab = await listening(session, "lamps", "lamps:hall")

    await live.publish("lamps:hall")

    assert await tab.told() == {"topic": "lamps:hall"}
    assert await tab.receive_nothing(timeout=SOON)
    await tab.leave()


async def test_an_announcement_leaves_with_its_transaction(session):
    tab = await listening(session, "lamps")

    def verb(fails: bool) -> None:
        with transaction.atomic():
            live.announce("lamps")
            if fails:
                raise RuntimeError("taken back")

    with pytest.raises(RuntimeError):
        await sync_to_async(verb)(fails=True)
    assert await tab.receive_nothing(timeout=SOON)
    await sync_to_async(verb)(fails=False)
    assert await tab.told() == {"topic": "lamps"}
    await tab.leave()


@pytest.mark.parametrize("topic", ["lamps:secret", "nothing", "nothing:1"])
async def test_a_topic_that_is_not_open_stays_silent(session, topic):
    tab = await listening(session, "lamps", topic)

    await live.publish(topic)

    assert await tab.receive_nothing(timeout=SOON)
    await tab.leave()


async def test_another_page_of_the_tab_replaces_the_topics(session):
    tab = await listening(session, "lamps:hall")
    await tab.ask_for("lamps:attic")

    await live.publish("lamps:hall", "lamps:attic")

    assert await tab.told() == {"topic": "lamps:attic"}
    assert await tab.receive_nothing(timeout=SOON)
    await tab.leave()


@pytest.mark.parametrize("origin", [b"http://evil.example", None])
async def test_a_page_of_another_site_cannot_connect(session, origin):
    assert not await Tab(session, origin).connect()


@pytest.mark.parametrize("kind", ["", "unknown"])
async def test_a_stranger_is_closed(kind):
    tab = Tab(kind)
    await tab.connect()

    assert await tab.receive_output(PATIENCE_S) == {"type": "websocket.close", "code": consumers.SESSION_ENDED}


@pytest.mark.parametrize(
    "message",
    [
        "not json",
        "[]",
        '{"topics": "lamps"}',
        '{"topics": [1]}',
        '{"topics": ["Lamps; DROP"]}',
        '{"topics": [' + ",".join(f'"lamps:{n}"' for n in range(consumers.MOST_TOPICS + 1)) + "]}",
        '{"topics": ["lamps"], "pad": "' + "x" * consumers.LONGEST_MESSAGE + '"}',
    ],
)
async def test_a_message_that_makes_no_sense_closes_the_socket(session, message):
    tab = Tab(session)
    await tab.connect()

    await tab.ask(message)

    assert await tab.receive_output(PATIENCE_S) == {"type": "websocket.close", "code": consumers.BAD_REQUEST}


async def test_signing_out_closes_the_sockets_of_the_session(session, client, auditor):
    tab = await listening(session, "lamps")
    client.cookies[settings.SESSION_COOKIE_NAME] = session

    await sync_to_async(client.post)("/accounts/logout/")

    assert await tab.receive_output(PATIENCE_S) == {"type": "websocket.close", "code": consumers.SESSION_ENDED}


async def test_a_right_that_was_taken_away_is_noticed_without_being_told(session, auditor, monkeypatch):
    monkeypatch.setattr(consumers.LiveConsumer, "recheck_s", 0.05)
    tab = await listening(session, "lamps")

    heard, left = consumers.LiveConsumer._hear, asyncio.Event()

    async def hears(socket: consumers.LiveConsumer, names: set[str]) -> None:
        await heard(socket, names)
        left.set()

    monkeypatch.setattr(consumers.LiveConsumer, "_hear", hears)
    await sync_to_async(RoleGrant.objects.filter(user=auditor).update)(role=Role.SUPPORT)
    await asyncio.wait_for(left.wait(), PATIENCE_S)
    await live.publish("lamps")

    assert await tab.receive_nothing(timeout=SOON)
    await tab.leave()


@pytest.mark.parametrize(
    "end",
    [
        lambda user: type(user).objects.filter(pk=user.pk).update(is_active=False),
        lambda user: (user.set_password("another long password"), user.save()),
        lambda user: import_module(settings.SESSION_ENGINE).SessionStore.get_model_class().objects.all().delete(),
    ],
    ids=["closed account", "changed password", "session gone"],
)
async def test_a_session_that_ended_closes_its_socket(session, auditor, monkeypatch, end):
    monkeypatch.setattr(consumers.LiveConsumer, "recheck_s", 0.05)
    tab = await listening(session, "lamps")

    await sync_to_async(end)(auditor)

    assert await tab.receive_output(PATIENCE_S) == {"type": "websocket.close", "code": consumers.SESSION_ENDED}


async def test_a_socket_ends_after_its_longest_life(session, monkeypatch):
    monkeypatch.setattr(consumers.LiveConsumer, "recheck_s", 0.05)
    tab = await listening(session, "lamps")
    monkeypatch.setattr(consumers, "LONGEST_S", 0)

    assert await tab.receive_output(PATIENCE_S) == {"type": "websocket.close", "code": consumers.SESSION_ENDED}


async def test_nobody_listening_is_no_trouble():
    await live.publish("lamps")


def test_a_lost_notice_does_not_undo_the_work(monkeypatch, caplog):
    async def lost(*topics: str) -> None:
        raise ConnectionError("redis is away")

    monkeypatch.setattr(live, "publish", lost)

    with transaction.atomic():
        live.announce("lamps")
    live.settle()

    assert "They catch up by polling" in caplog.text


def test_a_burst_of_notices_loses_none():
    """As when a worker parks hundreds of runs at once: each of them is on somebody's page."""
    burst = 400
    with Redis.from_url(settings.REDIS_URL) as redis, redis.pubsub() as heard:
        heard.psubscribe("*__group__live.lamps.burst-*")
        assert heard.get_message(timeout=PATIENCE_S) is not None  # subscribed

        for number in range(burst):
            live.send(f"lamps:burst-{number}")

        told = [heard.get_message(timeout=PATIENCE_S) for _ in range(burst)]
        assert None not in told
    assert len({message["channel"] for message in told}) == burst
