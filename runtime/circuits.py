"""The circuit breakers as one worker sees them: asked before each call, told after it. No query while all is well.

Breakers are rows that all workers share (runtime.models.Breaker). A worker keeps a small view of those that are not
closed, at most a second old while it works, and counts calls by itself. It writes only what matters: an opening, and
the probe. Each is one conditional UPDATE, so that of all workers exactly one becomes the probe.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from console import ids, live
from releases.bundles import ModelSpec
from runtime.policies import breaking
from runtime.policies.breaking import Limits, Pass, Seen, Tally, Wait
from runtime.states import BreakerKind, BreakerState

log = logging.getLogger(__name__)

TOPIC = "breakers"
FRESH_S = 1.0  # age from which the view is read again, beside the call
STALE_S = 3.0  # age from which a call waits for that
PROBE_GRACE_S = 5.0  # beyond its time-out, a probe whose worker died is given up on

Key = tuple[BreakerKind, str]

VIEW_SQL = """
    SELECT kind, name, state, opened_at, last_error, reason, failures,
        EXTRACT(EPOCH FROM open_until - clock_timestamp())::float8,
        EXTRACT(EPOCH FROM probe_until - clock_timestamp())::float8
    FROM runtime_breaker WHERE state <> 'closed'
"""
# A process that was frozen finds all its calls late when it thaws; what it saw says nothing about the other side.
# Opening again soon after the last time counts on, so that what comes and goes stays open for longer each time.
OPEN_SQL = """
    INSERT INTO runtime_breaker AS b (id, kind, name, state, failures, calls, openings, opened_at, open_until, probe_by,
        last_error, reason, changed_by_label, changed_at)
    SELECT %(id)s, %(kind)s, %(name)s, 'open', %(failures)s, %(calls)s, 1, clock_timestamp(),
        clock_timestamp() + %(open_for)s, '', %(error)s, '', '', clock_timestamp()
    WHERE %(life)s::uuid IS NULL OR EXISTS (SELECT 1 FROM runtime_worker
        WHERE id = %(life)s AND ended_at IS NULL AND lease_until > clock_timestamp())
    ON CONFLICT (kind, name) DO UPDATE SET state = 'open', failures = EXCLUDED.failures, calls = EXCLUDED.calls,
        openings = CASE WHEN b.changed_at > clock_timestamp() - %(longest)s THEN b.openings + 1 ELSE 1 END,
        opened_at = clock_timestamp(), last_error = EXCLUDED.last_error, reason = '', changed_by_label = '',
        open_until = clock_timestamp() + CASE WHEN b.changed_at > clock_timestamp() - %(longest)s
            THEN LEAST(%(longest)s, %(open_for)s * power(2, LEAST(b.openings, 30))) ELSE %(open_for)s END,
        changed_at = clock_timestamp()
    WHERE b.state = 'closed'
    RETURNING id
"""
PROBE_SQL = """
    UPDATE runtime_breaker SET state = 'half_open', probe_by = %(probe)s, changed_at = clock_timestamp(),
        probe_until = clock_timestamp() + %(probe_for)s
    WHERE kind = %(kind)s AND name = %(name)s AND ((state = 'open' AND open_until <= clock_timestamp())
        OR (state = 'half_open' AND probe_until <= clock_timestamp()))
    RETURNING id
"""
CLOSE_SQL = """
    UPDATE runtime_breaker SET state = 'closed', probe_by = '', probe_until = NULL, changed_at = clock_timestamp()
    WHERE kind = %(kind)s AND name = %(name)s AND state = 'half_open' AND probe_by = %(probe)s RETURNING id
"""
REOPEN_SQL = """
    UPDATE runtime_breaker SET state = 'open', probe_by = '', probe_until = NULL, openings = openings + 1,
        last_error = %(error)s, changed_at = clock_timestamp(),
        open_until = clock_timestamp() + LEAST(%(longest)s, %(open_for)s * power(2, LEAST(openings, 30)))
    WHERE kind = %(kind)s AND name = %(name)s AND state = 'half_open' AND probe_by = %(probe)s RETURNING id
"""
GIVE_BACK_SQL = """
    UPDATE runtime_breaker SET state = 'open', probe_by = '', probe_until = NULL, changed_at = clock_timestamp()
    WHERE kind = %(kind)s AND name = %(name)s AND state = 'half_open' AND probe_by = %(probe)s RETURNING id
"""


@dataclass(frozen=True)
class Ticket:
    """Leave to make one call. Whoever holds it says afterwards what came of it: `after` or `drop`."""

    key: Key
    epoch: int = 0  # of the view; a call that began before a change says nothing about what follows it
    probe: str = ""


@dataclass(frozen=True)
class Open:
    """The call is not made. `until` is None when only a person can end it."""

    kind: BreakerKind
    name: str
    since: datetime | None
    until: datetime | None
    why: str
    is_probing: bool = False  # somebody finds out at this moment

    @property
    def sentence(self) -> str:
        since = f" since {self.since:%H:%M} UTC" if self.since else ""
        return f"The {self.kind} {self.name} is out of order{since}: {self.why}"


@dataclass
class Outcome:
    """What came of a call. Until something is said, it has no outcome."""

    is_known: bool = False
    error_class: str | None = None
    error: str = ""

    def say(self, error_class: str | None = None, error: str = "") -> None:
        """`error_class` is None when the other side answered, whatever it said."""
        self.is_known, self.error_class, self.error = True, error_class, error


@dataclass(frozen=True)
class _Known:
    """A row of the view. `read_at` is the monotonic time that its waits count from."""

    seen: Seen
    read_at: float
    since: datetime | None
    why: str

    def now(self, moment: float) -> Seen:
        gone = moment - self.read_at
        return replace(self.seen, open_s=self.seen.open_s - gone, probe_s=self.seen.probe_s - gone)


def model_name(spec: ModelSpec) -> str:
    """What a model's breaker is called: vendor and model, and where it is when that is not the vendor's own place."""
    return f"{spec.provider} {spec.name}{f' at {spec.base_url}' if spec.base_url else ''}"[:200]


def watches(spec: ModelSpec) -> bool:
    """Whether calls of this model and of its release's tools say anything about the world; a recording does not."""
    return spec.provider != "replay"


class Circuits:
    """The view and the counts of one worker. `life` is the worker's; without one, what is seen is always believed."""

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        life: UUID | None,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pool = pool
        self.life = life
        self.limits = limits or Limits()
        self.clock = clock
        self.queries = 0  # asked so far, for tests and for whoever wonders
        self._known: dict[Key, _Known] = {}
        self._tallies: dict[Key, Tally] = {}
        self._epochs: dict[Key, int] = {}
        self._read_at = float("-inf")
        self._asked = self._answered = 0  # numbers of the last reading that was begun, and of the one that counts
        self._reading: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()

    async def before(self, kind: BreakerKind, name: str, *, limit_s: float) -> Ticket | Open:
        """Ask whether a call that takes at most `limit_s` seconds may start."""
        key = (kind, name)
        await self._look()
        decision = self._decide(key)
        if isinstance(decision, Pass):
            return Ticket(key, self._epochs.get(key, 0))
        if not isinstance(decision, Wait):
            probe = f"{self.life or 'somebody'}:{ids.new()}"
            values = {"probe": probe, "probe_for": timedelta(seconds=limit_s + PROBE_GRACE_S)}
            if await self._change(PROBE_SQL, key, values):
                return Ticket(key, self._epochs.get(key, 0), probe)
            decision = self._decide(key)  # somebody else was faster, and the view knows it by now
            if isinstance(decision, Pass):
                return Ticket(key, self._epochs.get(key, 0))
        return self._open(key, decision if isinstance(decision, Wait) else Wait(0.0, is_probing=True))

    @asynccontextmanager
    async def using(self, ticket: Ticket | None) -> AsyncIterator[Outcome]:
        """Make the call within; say its outcome, or it was not made. A database that is away changes nothing here."""
        outcome = Outcome()
        try:
            yield outcome
        finally:
            if ticket is not None:
                try:
                    if outcome.is_known:
                        await self.after(ticket, outcome.error_class, outcome.error)
                    else:
                        await self.drop(ticket)
                except (psycopg.Error, PoolTimeout) as away:
                    log.warning("The circuit breaker of %s %s was not told: %s", *ticket.key, away)

    async def after(self, ticket: Ticket, error_class: str | None, error: str = "") -> None:
        """Say what came of the call. `error_class` is None when the other side answered, whatever it said."""
        failed = breaking.is_failure(error_class)
        told = {"error": f"{error_class}: {error}"[:300] if error else str(error_class or "")}
        if ticket.probe:
            await self._change(REOPEN_SQL if failed else CLOSE_SQL, ticket.key, {"probe": ticket.probe, **told})
            return
        if ticket.epoch != self._epochs.get(ticket.key, 0) or ticket.key in self._known:
            return
        moment = self.clock()
        tally = self._tallies.get(ticket.key)
        if tally is None and not failed and len(self._tallies) > 10_000:
            return  # names come from releases; nobody has so many, and nothing may grow without end
        tally = breaking.count(tally or Tally(), failed=failed, at=moment, limits=self.limits)
        self._tallies[ticket.key] = tally
        opens = breaking.decide_opening(tally, at=moment, limits=self.limits) if failed else None
        if opens:
            values = {"id": ids.new(), "failures": opens.failures, "calls": opens.calls, "life": self.life, **told}
            await self._change(OPEN_SQL, ticket.key, values)

    async def drop(self, ticket: Ticket) -> None:
        """The call was not made, or was given up without an outcome: another one may be the probe at once."""
        if ticket.probe:
            await self._change(GIVE_BACK_SQL, ticket.key, {"probe": ticket.probe})

    async def settle(self) -> None:
        """Wait for what runs beside the calls; before the pool closes."""
        waiting = [*self._background, *([self._reading] if self._reading else [])]
        await asyncio.gather(*waiting, return_exceptions=True)

    def _decide(self, key: Key) -> breaking.Pass | breaking.Probe | Wait:
        known = self._known.get(key)
        return breaking.decide_call(known.now(self.clock()) if known else None)

    def _open(self, key: Key, wait: Wait) -> Open:
        known = self._known.get(key)
        until = datetime.now(UTC) + timedelta(seconds=wait.seconds) if wait.seconds is not None else None
        return Open(*key, known.since if known else None, until, known.why if known else "", wait.is_probing)

    async def _look(self) -> None:
        """Have a view that is fresh enough: read beside the call, or before it when nothing was asked for long."""
        age = self.clock() - self._read_at
        if age < FRESH_S:
            return
        if self._reading is None or self._reading.done():
            self._reading = asyncio.ensure_future(self._read())
            self._reading.add_done_callback(_heard)
        if age > STALE_S:
            await asyncio.shield(self._reading)

    async def _read(self) -> None:
        """Read the view. An answer that comes after that of a later question says what was true before."""
        self.queries += 1
        async with self.pool.connection() as connection:
            self._asked += 1
            number = self._asked
            cursor = await connection.execute(VIEW_SQL)
            rows = await cursor.fetchall()
        if number < self._answered:
            return
        self._answered = number
        moment = self.clock()
        before, self._known = self._known, dict(_known(row, moment) for row in rows)
        self._read_at = moment
        for key in before.keys() ^ self._known.keys():
            self._epochs[key] = self._epochs.get(key, 0) + 1
            self._tallies.pop(key, None)

    async def _change(self, statement: str, key: Key, values: dict[str, Any]) -> bool:
        """One conditional change. True when this worker made it; the view is read again either way."""
        common = {"kind": key[0], "name": key[1], "open_for": self.limits.open_for, "longest": self.limits.longest}
        self.queries += 1
        async with self.pool.connection() as connection:
            cursor = await connection.execute(statement, {**common, **values})
            changed = await cursor.fetchone() is not None
        try:
            await self._read()
        except (psycopg.Error, PoolTimeout):
            if not changed:
                raise  # otherwise what was changed is ours to go on with: nobody else makes a probe that we hold
        if changed:
            log.warning("Circuit breaker of %s %s: %s", *key, self._said(key))
            task = asyncio.ensure_future(_tell())
            self._background.add(task)
            task.add_done_callback(self._background.discard)
        return changed

    def _said(self, key: Key) -> str:
        known = self._known.get(key)
        return f"{known.seen.state}. {known.why}" if known else "closed."


def _known(row: tuple[Any, ...], moment: float) -> tuple[Key, _Known]:
    kind, name, state, since, error, reason, failures, open_s, probe_s = row
    if state == BreakerState.HELD:
        why = f"an operator has stopped its use. {reason}".strip()
    else:
        why = f"{failures} calls failed, the last with {error or 'an error'}."
    seen = Seen(BreakerState(state), open_s or 0.0, probe_s or 0.0)
    return (BreakerKind(kind), name), _Known(seen, moment, since, why)


def _heard(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.debug("The breakers could not be read: %s", task.exception())


async def _tell() -> None:
    try:
        await live.publish(TOPIC)
    except Exception as lost:
        log.debug("Pages were not told: %s", lost)
