"""The door to open pages: says that something changed, never what it is now (see UI: notify, then fetch)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.db import transaction

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


def announce(*topics: str) -> None:
    """After the transaction commits, tell every page that shows one of the topics. Losing it is harmless."""
    transaction.on_commit(lambda: _send(topics), robust=True)


def _send(topics: tuple[str, ...]) -> None:
    try:
        async_to_sync(publish)(*topics)
    except Exception as lost:
        log.warning("Pages were not told of %s: %s. They catch up by polling.", ", ".join(topics), lost)


async def publish(*topics: str) -> None:
    """The same from asynchronous code that has committed already."""
    layer = get_channel_layer()
    for name in topics:
        await layer.group_send(group(name), {"type": "topic.changed", "topic": name})
