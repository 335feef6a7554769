"""Trouble that a person has to mend, as any process met it: told in the log, by `/readyz` and on the page of queues.

An alarm lives in Redis, because the database may be what is in trouble, and ends by itself when nobody meets it any
more.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import django_rq
import psycopg
from redis.exceptions import RedisError

from console import queue

log = logging.getLogger(__name__)

DISK_FULL = "disk_full"
TEXTS = {
    DISK_FULL: "The disk of the database is full. Nothing that was accepted is lost, but nothing goes on either:"
    " runs wait until there is space again."
}
LASTS_S = 60
QUIET_S = 20  # a process repeats itself in the log at most this often
_raised: dict[str, float] = {}


def look_at(error: BaseException) -> None:
    """Raise the alarm that this error calls for, if any."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, psycopg.errors.DiskFull):
            sound(DISK_FULL, str(seen).strip().splitlines()[0])
            return
        seen = seen.__cause__ or seen.__context__


def look_at_request(**about: Any) -> None:
    """Receives Django's signal that a request has failed."""
    error = sys.exc_info()[1]
    if error is not None:
        look_at(error)


def sound(name: str, detail: str) -> None:
    """Raise an alarm, or keep it alive."""
    moment = time.monotonic()
    if moment - _raised.get(name, -QUIET_S) < QUIET_S:
        return
    _raised[name] = moment
    log.error("ALARM %s: %s (%s)", name, TEXTS[name], detail)
    try:
        django_rq.get_connection(queue.CHORES).set(f"steadyhand:alarm:{name}", detail[:300], ex=LASTS_S)
    except RedisError as away:
        log.warning("The alarm could not be passed on: %s", away)


def current() -> list[str]:
    """The names of the alarms that were raised in the last minute.

    Raises:
        RedisError: nobody can say.
    """
    connection: Any = django_rq.get_connection(queue.CHORES)
    names = list(TEXTS)
    found = connection.mget([f"steadyhand:alarm:{name}" for name in names])
    return [name for name, detail in zip(names, found, strict=True) if detail is not None]
