"""A turn: from the claim of a run until it finishes, parks or yields. Claiming and loading."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from console import ids
from console.principals import Principal
from releases import switches
from releases.bundles import Budgets, Bundle
from releases.policies.switching import Engaged
from runtime import admission, entries, journal, journal_sql, threads
from runtime.circuits import Circuits
from runtime.flights import Flight
from runtime.journal import Write, Written
from runtime.messages import Message, ModelReply, UserText
from runtime.policies import folding, recalling, ruling
from runtime.policies.budgeting import Spent
from runtime.policies.commands import Finish
from runtime.policies.folding import Entry, State
from runtime.policies.provenance import Knowledge, Labels
from runtime.tools import ToolContext

log = logging.getLogger(__name__)

GIVE_BACK_S = 5.0
LONGEST_HISTORY = 40  # earlier runs of the thread that the model is told of
MOST_TOGETHER = 200  # runs claimed by one statement
STANDSTILL_S = 300.0  # beyond the longest step that the release allows: waiting for rooms, places and the database

CLAIM_SQL = f"""
WITH run AS (
    UPDATE runtime_run AS run SET status = 'running', fence = run.fence + 1, worker_id = %(worker)s, seq = run.seq + 1,
        started_at = COALESCE(run.started_at, clock_timestamp()), turn_started_at = clock_timestamp(), wake_at = NULL,
        wait_reason = '', held_for = {admission.HOLD_WHEN_QUEUED_AGAIN_SQL}
    FROM releases_agent AS agent
    WHERE run.id = ANY(%(run_ids)s::uuid[]) AND run.status = 'queued' AND agent.id = run.agent_id
        AND {admission.CLAIMABLE_SQL}
        AND (run.wake_at IS NULL OR run.wake_at <= clock_timestamp())
        AND EXISTS (SELECT 1 FROM runtime_worker AS worker
                    WHERE worker.id = %(worker)s AND worker.ended_at IS NULL AND worker.lease_until > clock_timestamp())
        AND (run.started_at IS NOT NULL OR NOT EXISTS ({switches.pausing_sql("agent.slug")}))
    RETURNING run.*, agent.slug AS agent_slug, agent.name AS agent_name
),
event AS (
    INSERT INTO runtime_runevent (run_id, seq, kind, at, by_label, data)
    SELECT id, seq, CASE WHEN fence = 1 THEN 'run.started' ELSE 'run.resumed' END, clock_timestamp(), '',
        jsonb_build_object('fence', fence, 'worker', %(worker)s::text)
    FROM run
)
SELECT run.id, run.seq, run.fence, run.steps_used, run.thread_id, run.kind, run.input_text, run.principal_id,
    run.principal_label, run.principal_attributes, run.scopes, run.agent_id, run.budgets, run.working_ms,
    run.cancel_requested_at IS NOT NULL AS cancel_requested, run.cancelled_by_label, run.cancel_reason, run.slots,
    run.started_by_id, run.started_by_kind, run.started_by_label, run.callback_url, run.created_at,
    run.pause_requested_at IS NOT NULL AS pause_requested, run.forked_at_step, run.history_before, run.agent_slug,
    run.agent_name, run.title, run.tainted, run.release_id, release.version, release.digest,
    release.created_by_id AS authored_by,
    EXISTS (SELECT 1 FROM runtime_run AS earlier
            WHERE earlier.thread_id = run.thread_id
                AND earlier.created_at < COALESCE(run.history_before, run.created_at)) AS has_history
FROM run JOIN releases_release AS release ON release.id = run.release_id
"""  # noqa: S608 (constants of ours only)

GIVE_BACK_SQL = """
WITH run AS (
    UPDATE runtime_run SET status = 'queued', worker_id = NULL, queued_at = clock_timestamp(), seq = seq + 1,
        working_ms = working_ms
            + GREATEST(0, EXTRACT(EPOCH FROM clock_timestamp() - turn_started_at) * 1000)::bigint
    WHERE id = ANY(%(run_ids)s::uuid[]) AND status = 'running' AND worker_id = %(worker)s
    RETURNING id, seq
)
INSERT INTO runtime_runevent (run_id, seq, kind, at, by_label, data)
SELECT id, seq, 'run.yielded', clock_timestamp(), '', '{"why": "database"}' FROM run
"""
CONTENT_SQL = "SELECT content FROM releases_release WHERE id = %s"

# A run that was retried is not told beside its fork.
HISTORY_SQL = """
    SELECT input_text, answer, count(*) OVER () FROM runtime_run AS run
    WHERE thread_id = %(thread)s AND created_at < %(before)s AND NOT EXISTS (
        SELECT 1 FROM runtime_run AS fork
        WHERE fork.forked_from_id = run.id AND fork.thread_id = run.thread_id AND fork.created_at < %(before)s)
    ORDER BY created_at DESC LIMIT %(most)s
"""


@dataclass
class Turn:
    """What a worker knows of the run it holds. `state` grows with every entry it writes or holds.

    `held` has been folded but not committed: it goes with the next write. What may be held is what is done again
    without harm after a crash: checks of texts, results of reads; and what the very next write completes.
    """

    row: Mapping[str, Any]
    bundle: Bundle
    budgets: Budgets
    state: State
    history: int
    turns_before: int
    cancel_requested: bool
    seq: int
    known: Knowledge
    labels: Mapping[str, Labels]  # of the release's tools
    is_awaited: bool = False  # a later run of the thread waits for the end of this one
    clock: float = field(default_factory=time.monotonic)
    not_before: float = 0.0  # monotonic time before which the next model attempt makes no sense
    why_not_before: str = ""
    waits_for: str = ""  # what that time was set for, as `policies.waiting` names it
    held: list[Write] = field(default_factory=list)
    must_flush: bool = False  # something held must be durable before the next call leaves
    flushing: asyncio.Task[None] | None = None  # held writes on their way while a model call is in flight
    pause_requested: bool = False
    flight: Flight | None = None  # the call under way, while somebody may let go of it
    has_draft: bool = False  # text of the model call in flight was put aside for the live trace
    moved_at: float = field(default_factory=time.monotonic)  # when it last wrote or held anything
    task: asyncio.Task[Any] | None = None  # that executes it

    @cached_property
    def run_id(self) -> UUID:
        return UUID(str(self.row["id"]))

    @cached_property
    def public_id(self) -> str:
        return ids.public("run", self.run_id)

    @cached_property
    def public_thread_id(self) -> str:
        return ids.public("thr", UUID(str(self.row["thread_id"])))

    @property
    def agent(self) -> str:
        return str(self.row["agent_slug"])

    @cached_property
    def principal(self) -> Principal:
        row = self.row
        return Principal(str(row["principal_id"]), str(row["principal_label"]), dict(row["principal_attributes"]))

    @cached_property
    def lease(self) -> journal.Lease:
        return journal.Lease(self.run_id, int(self.row["fence"]))

    @property
    def working(self) -> timedelta:
        """Working time so far: earlier stretches and this one. Parked time is not in it."""
        return timedelta(milliseconds=int(self.row["working_ms"])) + timedelta(seconds=time.monotonic() - self.clock)

    def spent(self) -> Spent:
        state = self.state
        return Spent(
            state.steps,
            state.tool_calls,
            state.tokens,
            state.cost_usd,
            self.working,
            model_calls=state.model_calls,
            elapsed=datetime.now(UTC) - self.row["created_at"],
        )

    @property
    def stands_still(self) -> bool:
        """Whether it has not moved for longer than anything that it may do takes. Then it waits for nobody."""
        return time.monotonic() - self.moved_at > self.bundle.longest_step_s + STANDSTILL_S

    @property
    def waits_at(self) -> str:
        """Where its task waits, from the engine inwards: for whoever has to find out why it stands still."""
        places = []
        awaited: Any = self.task and self.task.get_coro()
        while (frame := getattr(awaited, "cr_frame", None)) is not None:
            places.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            awaited = awaited.cr_await
        return " > ".join(places[-4:])

    def next_key(self) -> str:
        """The idempotency key of the next step: the run and the step's place among its steps."""
        return f"{self.public_id}:{self.state.steps + 1}"

    def hold(self, write: Write, *, must_flush: bool = False) -> None:
        """Fold the write now and let it go with the next commit."""
        self.fold(write, self.seq + sum(each.size for each in self.held))
        self.held.append(write)
        self.must_flush = self.must_flush or must_flush

    def take(self) -> list[Write]:
        """What is held, to be written now. `seq` is behind until the answer is settled."""
        taken, self.held, self.must_flush = self.held, [], False
        return taken

    def settle(self, answer: Written) -> None:
        self.seq = answer.seq
        self.moved_at = time.monotonic()
        self.cancel_requested = self.cancel_requested or answer.cancel_requested
        self.pause_requested = self.pause_requested or answer.pause_requested
        self.is_awaited = answer.is_awaited

    def fold(self, write: Write, before: int) -> None:
        """Fold steps and results of a write whose first number is `before` + 1."""
        new = [entries.written(step, before + place) for place, step in enumerate(write.steps, start=1)]
        for done in write.finished:
            started = self.state.entry
            if started is not None and started.id == str(done.id):
                new.append(entries.finished(started, done))
        self.state = folding.fold(self.state, new)
        self.moved_at = time.monotonic()
        for entry in new:
            recalling.recall(self.known, self.labels, entry)

    def context(self, idempotency_key: str) -> ToolContext:
        return ToolContext(
            run_id=self.public_id,
            thread_id=self.public_thread_id,
            agent=self.agent,
            release=str(self.row["version"]),
            principal=self.principal,
            scopes=frozenset(self.row["scopes"]),
            idempotency_key=idempotency_key,
        )


class Shell(Protocol):
    """What the parts of a turn may ask of the engine that executes it."""

    pool: AsyncConnectionPool[Any]
    tool_room: asyncio.Semaphore
    circuits: Circuits
    is_draining: Callable[[], bool]
    is_trusted: Callable[[], bool]

    async def commit(self, turn: Turn, write: Write) -> Written: ...

    async def finish(self, turn: Turn, end: Finish) -> None: ...

    async def switches(self, *, fresh: bool = False) -> tuple[Engaged, ...]: ...

    def announce(self, turn: Turn, *, ended: bool = False) -> None: ...


class Unusable(Exception):
    """A run was claimed, but what it needs to go on cannot be read: it has to be failed, not tried for ever."""

    def __init__(self, lease: journal.Lease, why: Exception) -> None:
        super().__init__(f"{type(why).__name__}: {why}"[:500])
        self.lease = lease


Claimed = tuple[dict[str, Any], list[Entry]]


class Claimer:
    """Claims runs for one worker life; claims that are asked for at the same time share statements."""

    def __init__(self, pool: AsyncConnectionPool[Any], worker_id: UUID) -> None:
        self.pool = pool
        self.worker_id = worker_id
        self.asked: dict[UUID, asyncio.Future[Claimed | None]] = {}
        self.claiming: asyncio.Task[None] | None = None
        # Releases never change, so a bundle read once stays true.
        self._bundles: dict[UUID, tuple[Bundle, Mapping[str, Labels]]] = {}

    async def claim(self, run_id: UUID) -> Turn | None:
        """Take the run for this worker and load its journal. None when it is not runnable (any more).

        Raises:
            Unusable: it is claimed, and cannot be gone on with.
            psycopg.Error, PoolTimeout: the database went away; what was claimed is given back.
        """
        if run_id in self.asked:
            return None  # the same turn was delivered twice; the first of them has it
        future = self.asked[run_id] = asyncio.get_running_loop().create_future()
        if self.claiming is None or self.claiming.done():
            self.claiming = asyncio.create_task(self._claim())
        claimed = await future
        if claimed is None:
            return None
        row, entries = claimed
        try:
            return await self._turn(row, entries)
        except (ValueError, KeyError, TypeError, AttributeError) as wrong:
            raise Unusable(journal.Lease(row["id"], row["fence"]), wrong) from wrong
        except BaseException:
            await give_back(self.pool, self.worker_id, [run_id])
            raise

    async def _claim(self) -> None:
        while self.asked:
            await asyncio.sleep(0)
            asked = dict(list(self.asked.items())[:MOST_TOGETHER])
            try:
                found = await self._together(sorted(asked))
            except Exception as broken:
                await give_back(self.pool, self.worker_id, list(asked))
                _answer(asked, broken)
            else:
                _answer(asked, found)
            for run_id in asked:
                del self.asked[run_id]

    async def _together(self, run_ids: list[UUID]) -> dict[UUID, Claimed]:
        rows = await self._claimable(run_ids)
        if len(rows) < len(run_ids):
            missed = set(run_ids) - {row["id"] for row in rows}
            if admitted := await threads.run(admission.knock, missed):
                rows += await self._claimable(admitted)
        journals = await load(self.pool, [row["id"] for row in rows if row["steps_used"] or row["forked_at_step"]])
        return {row["id"]: (row, journals.get(row["id"], [])) for row in rows}

    async def _claimable(self, run_ids: Sequence[UUID]) -> list[dict[str, Any]]:
        async with self.pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(CLAIM_SQL, {"run_ids": run_ids, "worker": self.worker_id})
            rows: list[dict[str, Any]] = await cursor.fetchall()
        return rows

    async def _turn(self, row: dict[str, Any], entries: list[Entry]) -> Turn:
        past, turns_before = await _history(self.pool, row) if row["has_history"] else ((), 0)
        bundle, labels = await self._bundle(row["release_id"])
        return Turn(
            row=row,
            bundle=bundle,
            known=_known(row, past, labels, entries),
            labels=labels,
            budgets=Budgets.model_validate(row["budgets"]),
            state=folding.fold(folding.begin(past), entries),
            history=len(past),
            turns_before=turns_before,
            cancel_requested=bool(row["cancel_requested"]),
            pause_requested=bool(row["pause_requested"]),
            seq=int(row["seq"]),
        )

    async def _bundle(self, release_id: UUID) -> tuple[Bundle, Mapping[str, Labels]]:
        if release_id not in self._bundles:
            async with self.pool.connection() as connection:
                cursor = await connection.execute(CONTENT_SQL, [release_id])
                row = await cursor.fetchone()
            assert row is not None
            bundle = Bundle.model_validate(row[0])
            labels = {tool.name: recalling.labels(tool) for tool in bundle.tools}
            if any(rule.condition for rule in bundle.rules):
                await threads.run(ruling.prepare, bundle.rules)
            self._bundles[release_id] = bundle, labels
        return self._bundles[release_id]


async def give_back(pool: AsyncConnectionPool[Any], worker_id: UUID, run_ids: Sequence[UUID]) -> None:
    """Return runs that this life claimed and will not execute. Without a database the end of the life frees them."""
    try:
        async with pool.connection(timeout=GIVE_BACK_S) as connection:
            await connection.execute(GIVE_BACK_SQL, {"run_ids": list(run_ids), "worker": worker_id})
    except (psycopg.Error, PoolTimeout) as away:
        log.warning("%d runs could not be given back: %s", len(run_ids), away)


async def load(pool: AsyncConnectionPool[Any], run_ids: Sequence[UUID]) -> dict[UUID, list[Entry]]:
    """The journals in order, as the fold reads them."""
    found: dict[UUID, list[Entry]] = {run_id: [] for run_id in run_ids}
    if found:
        async with pool.connection() as connection:
            cursor = await connection.execute(journal_sql.LOAD, [list(found)])
            for run_id, *row in await cursor.fetchall():
                found[run_id].append(entries.read(tuple(row)))
    return found


async def reload(pool: AsyncConnectionPool[Any], turn: Turn) -> None:
    """Fold the journal again, after somebody else has written a result under this turn's fence."""
    past = turn.state.messages[: turn.history]
    journals = await load(pool, [turn.run_id])
    turn.state = folding.fold(folding.begin(past), journals[turn.run_id])
    turn.known = _known(turn.row, past, turn.labels, journals[turn.run_id])
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT seq FROM runtime_run WHERE id = %s", [turn.run_id])
        row = await cursor.fetchone()
    turn.seq = int(row[0]) if row else turn.seq


def _known(
    row: Mapping[str, Any], past: Sequence[Message], labels: Mapping[str, Labels], entries: Sequence[Entry]
) -> Knowledge:
    """What the run knows of the origin of values. A tainted one counts as tainted from its start: threads may be."""
    known = recalling.begin(past, own=str(row["principal_id"]), is_tainted=bool(row["tainted"]))
    for entry in entries:
        recalling.recall(known, labels, entry)
    return known


async def _history(pool: AsyncConnectionPool[Any], row: Mapping[str, Any]) -> tuple[tuple[Message, ...], int]:
    """What the last runs of the thread said, and how many there were in all."""
    async with pool.connection() as connection:
        before = row["history_before"] or row["created_at"]
        asked = {"thread": row["thread_id"], "before": before, "most": LONGEST_HISTORY}
        cursor = await connection.execute(HISTORY_SQL, asked)
        rows = await cursor.fetchall()
    told: list[Message] = []
    for text, answer, _ in reversed(rows):
        told.append(UserText(text))
        if answer:
            told.append(ModelReply(answer))
    return tuple(told), rows[0][2] if rows else 0


def _answer(asked: Mapping[UUID, asyncio.Future[Claimed | None]], found: Mapping[UUID, Claimed] | Exception) -> None:
    for run_id, future in asked.items():
        if future.done():
            continue
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found.get(run_id))
