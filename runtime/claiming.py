"""Claiming runs and loading their journals: how a worker comes by its turns.

Claims that are asked for at the same time share statements.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Container, Mapping, Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

import psycopg
from psycopg.errors import LockNotAvailable
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from releases import switches
from releases.bundles import Budgets, Bundle
from runtime import admission, entries, journal, journal_sql, threads
from runtime.messages import Message, ModelReply, UserText
from runtime.policies import folding, recalling, ruling
from runtime.policies.folding import Entry
from runtime.policies.provenance import Knowledge, Labels
from runtime.turns import Turn

log = logging.getLogger(__name__)

GIVE_BACK_S = 5.0
LONGEST_HISTORY = 40  # earlier runs of the thread that the model is told of
MOST_TOGETHER = 200  # runs claimed by one statement

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


class Unusable(Exception):
    """A run was claimed, but what it needs to go on cannot be read: it has to be failed, not tried for ever."""

    def __init__(self, lease: journal.Lease, why: Exception) -> None:
        super().__init__(f"{type(why).__name__}: {why}"[:500])
        self.lease = lease


Claimed = tuple[dict[str, Any], list[Entry]]


class Claimer:
    """Claims runs for one worker life; claims that are asked for at the same time share statements."""

    def __init__(
        self, pool: AsyncConnectionPool[Any], worker_id: UUID, under_way: Container[UUID] = frozenset()
    ) -> None:
        """`under_way` says which runs have a turn of this life at the moment."""
        self.pool = pool
        self.worker_id = worker_id
        self.under_way = under_way
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
        try:
            claimed = await future
        except asyncio.CancelledError:
            if _is_claimed(future):  # between the answer and this step
                await give_back(self.pool, self.worker_id, [run_id])
            raise
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
                # A turn may be delivered once more while it is under way: its run is not for others because of that.
                await give_back(self.pool, self.worker_id, [key for key in asked if key not in self.under_way])
                _answer(asked, broken)
            else:
                _answer(asked, found)
                if left := [key for key in found if asked[key].cancelled()]:
                    await give_back(self.pool, self.worker_id, left)
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
        """Claim those that may be. One that somebody has locked and does not go on with is left to a later claim."""
        try:
            async with self.pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
                await cursor.execute(CLAIM_SQL, {"run_ids": run_ids, "worker": self.worker_id})
                rows: list[dict[str, Any]] = await cursor.fetchall()
        except LockNotAvailable:
            alone = [await self._claimable([run_id]) for run_id in run_ids] if len(run_ids) > 1 else []
            return [row for found in alone for row in found]
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
    today = (row["history_before"] or row["created_at"]).astimezone(UTC).date()
    known = recalling.begin(past, own=str(row["principal_id"]), is_tainted=bool(row["tainted"]), today=today)
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


def _is_claimed(future: asyncio.Future[Claimed | None]) -> bool:
    is_answered = future.done() and not future.cancelled() and future.exception() is None
    return is_answered and future.result() is not None


def _answer(asked: Mapping[UUID, asyncio.Future[Claimed | None]], found: Mapping[UUID, Claimed] | Exception) -> None:
    for run_id, future in asked.items():
        if future.done():
            continue
        if isinstance(found, Exception):
            future.set_exception(found)
        else:
            future.set_result(found.get(run_id))
