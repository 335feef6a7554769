"""Limits per token: requests in a window, and streams held open at once.

Counts live in Redis, so that every web process sees the same ones. While Redis is away each process counts for
itself: the limit then holds per process, and nobody is locked out because a wake-up server is down.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any, Protocol

import redis
from django.conf import settings
from redis.exceptions import RedisError

from console import problems

log = logging.getLogger(__name__)

ANSWER_WITHIN_S = 0.5
LEAVE_REDIS_ALONE_S = 5.0
SPACE = "steadyhand:limits:"


@dataclass(frozen=True)
class Rate:
    """What is left of a limit after one more use."""

    limit: int
    remaining: int
    reset_s: int  # until the window has emptied enough for the full limit


class Counters(Protocol):
    def add(self, key: str, window: int, *, width_s: int, by: int = 1) -> tuple[int, int]:
        """Add to the count of this window; return the counts of the window before and of this one."""
        ...

    def hold(self, key: str, member: str, *, limit: int, now: float, until: float) -> bool: ...

    def let_go(self, key: str, member: str) -> None: ...


def spend(key: str, *, limit: int, window_s: int = 60, now: float | None = None) -> Rate:
    """Use one of `limit` requests in any `window_s` seconds.

    The window slides: the count of the window before weighs as much as it still overlaps. A refused request is
    not counted, so a caller that waits for `retry_after` gets through.

    Raises:
        problems.TooMany: with the seconds to wait.
    """
    moment = time.time() if now is None else now
    window, into = divmod(moment, window_s)
    before, present = _ask("add", f"rate:{key}", int(window), width_s=window_s)
    used = before * (1 - into / window_s) + present
    if used > limit:
        _ask("add", f"rate:{key}", int(window), width_s=window_s, by=-1)
        raise problems.TooMany(
            f"More than {limit} requests in {window_s} seconds. Wait, then go on more slowly.",
            retry_after=_wait_s(before, present - 1, into, limit, window_s),
        )
    return Rate(limit, int(limit - used), ceil(window_s - into) + (window_s if present else 0))


def give_back(key: str, *, window_s: int = 60) -> None:
    """Take back one use of just now that turned out not to count."""
    _ask("add", f"rate:{key}", int(time.time() // window_s), width_s=window_s, by=-1)


def _wait_s(before: int, present: int, into: float, limit: int, window_s: int) -> int:
    """Whole seconds until one more request fits, if nothing else is sent meanwhile."""
    if present < limit and before:
        return max(1, ceil(window_s * (1 - (limit - present - 1) / before) - into))
    # This window alone is full: it must slide far enough out of the next one.
    return max(1, ceil(window_s - into + window_s * (1 - (limit - 1) / max(present, 1))))


def hold(key: str, member: str, *, limit: int, for_s: float, now: float | None = None) -> None:
    """Take one of `limit` places, or renew the one this member has. It falls free after `for_s` seconds.

    Raises:
        problems.TooMany: every place is taken.
    """
    moment = time.time() if now is None else now
    if not _ask("hold", f"held:{key}", member, limit=limit, now=moment, until=moment + for_s):
        raise problems.TooMany(
            f"This token already holds {limit} streams open. Close one of them first.", retry_after=ceil(for_s)
        )


def let_go(key: str, member: str) -> None:
    _ask("let_go", f"held:{key}", member)


class RedisCounters:
    # Drop places that fell free, then renew or take one; a single step, so that two callers cannot share the last.
    HOLD = """
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ARGV[2])
    if not redis.call('ZSCORE', KEYS[1], ARGV[1]) and redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[4]) then
        return 0
    end
    redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
    redis.call('EXPIREAT', KEYS[1], math.ceil(ARGV[3]) + 1)
    return 1
    """

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.script = client.register_script(self.HOLD)

    def add(self, key: str, window: int, *, width_s: int, by: int = 1) -> tuple[int, int]:
        name = f"{SPACE}{key}:{width_s}"
        with self.client.pipeline(transaction=True) as pipe:
            pipe.get(f"{name}:{window - 1}")
            pipe.incrby(f"{name}:{window}", by)
            pipe.expire(f"{name}:{window}", 2 * width_s)
            before, present, _ = pipe.execute()
        return int(before or 0), int(present)

    def hold(self, key: str, member: str, *, limit: int, now: float, until: float) -> bool:
        return bool(self.script(keys=[SPACE + key], args=[member, now, until, limit]))

    def let_go(self, key: str, member: str) -> None:
        self.client.zrem(SPACE + key, member)


class LocalCounters:
    """The same in this process's memory."""

    MOST_KEYS = 10_000

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.windows: dict[tuple[str, int], int] = {}
        self.places: dict[str, dict[str, float]] = {}

    def add(self, key: str, window: int, *, width_s: int, by: int = 1) -> tuple[int, int]:
        with self.lock:
            if len(self.windows) > self.MOST_KEYS:
                self.windows = {known: n for known, n in self.windows.items() if known[1] >= window - 1}
            self.windows[key, window] = self.windows.get((key, window), 0) + by
            return self.windows.get((key, window - 1), 0), self.windows[key, window]

    def hold(self, key: str, member: str, *, limit: int, now: float, until: float) -> bool:
        with self.lock:
            places = {name: end for name, end in self.places.get(key, {}).items() if end > now}
            if member not in places and len(places) >= limit:
                return False
            self.places[key] = {**places, member: until}
            return True

    def let_go(self, key: str, member: str) -> None:
        with self.lock:
            self.places.get(key, {}).pop(member, None)


_local = LocalCounters()
_redis_away_until = 0.0


@lru_cache(maxsize=1)
def _shared(url: str) -> RedisCounters:
    return RedisCounters(
        redis.Redis.from_url(url, socket_timeout=ANSWER_WITHIN_S, socket_connect_timeout=ANSWER_WITHIN_S)
    )


def _ask(question: str, *arguments: Any, **named: Any) -> Any:
    """Ask Redis; when it does not answer, this process's own counters, for a few seconds without asking again."""
    global _redis_away_until
    if time.monotonic() >= _redis_away_until:
        try:
            return getattr(_shared(settings.REDIS_URL), question)(*arguments, **named)
        except RedisError as away:
            _redis_away_until = time.monotonic() + LEAVE_REDIS_ALONE_S
            log.warning("Redis does not count requests: %s. Each web process counts for itself.", away)
    return getattr(_local, question)(*arguments, **named)
