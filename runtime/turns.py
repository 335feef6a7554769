"""A turn: from the claim of a run until it finishes, parks or yields. Claiming and loading."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from console import ids
from releases import switches
from releases.bundles import Budgets, Bundle
from runtime import journal
from runtime.journal import Write, Written
from runtime.messages import Message, ModelReply, UserText
from runtime.policies import folding
from runtime.policies.budgeting import Spent
from runtime.policies.folding import Entry, Finish, State
from runtime.tools import ToolContext

LONGEST_HISTORY = 40  # earlier runs of the thread that the model is told of

CLAIM_SQL = f"""
WITH run AS (
    UPDATE runtime_run AS run SET status = 'running', fence = run.fence + 1, worker_id = %(worker)s, seq = run.seq + 1,
        started_at = COALESCE(run.started_at, clock_timestamp()), turn_started_at = clock_timestamp(), wake_at = NULL
    FROM releases_agent AS agent
    WHERE run.id = %(run_id)s AND run.status = 'queued' AND agent.id = run.agent_id
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
SELECT run.id, run.fence, run.thread_id, run.kind, run.input_text, run.principal_id, run.principal_label, run.scopes,
    run.budgets, run.working_ms, run.cancel_requested_at IS NOT NULL AS cancel_requested, run.cancelled_by_label,
    run.cancel_reason, run.started_by_id, run.callback_url, run.created_at, run.agent_slug, run.agent_name,
    run.title, release.id AS release_id, release.version, release.digest, release.content,
    release.created_by_id AS authored_by
FROM run JOIN releases_release AS release ON release.id = run.release_id
"""  # noqa: S608 (constants of ours only)

HISTORY_SQL = """
    SELECT input_text, answer, count(*) OVER () FROM runtime_run
    WHERE thread_id = %s AND created_at < %s ORDER BY created_at DESC LIMIT %s
"""


@dataclass
class Turn:
    """What a worker knows of the run it holds. `state` grows with every entry it commits."""

    row: Mapping[str, Any]
    bundle: Bundle
    budgets: Budgets
    state: State
    history: int
    turns_before: int
    cancel_requested: bool
    clock: float = field(default_factory=time.monotonic)
    not_before: float = 0.0  # monotonic time before which the next model attempt makes no sense
    retry_after_s: float | None = None

    @property
    def run_id(self) -> UUID:
        return UUID(str(self.row["id"]))

    @property
    def public_id(self) -> str:
        return ids.public("run", self.run_id)

    @property
    def agent(self) -> str:
        return str(self.row["agent_slug"])

    @property
    def lease(self) -> journal.Lease:
        return journal.Lease(self.run_id, int(self.row["fence"]))

    @property
    def working(self) -> timedelta:
        """Working time so far: earlier stretches and this one. Parked time is not in it."""
        return timedelta(milliseconds=int(self.row["working_ms"])) + timedelta(seconds=time.monotonic() - self.clock)

    def spent(self) -> Spent:
        state = self.state
        return Spent(state.steps, state.tool_calls, state.tokens, state.cost_usd, self.working)

    def fold(self, *entries: Entry) -> None:
        self.state = folding.fold(self.state, entries)

    def context(self, idempotency_key: str) -> ToolContext:
        return ToolContext(
            run_id=self.public_id,
            thread_id=ids.public("thr", UUID(str(self.row["thread_id"]))),
            agent=self.agent,
            release=str(self.row["version"]),
            principal_id=str(self.row["principal_id"]),
            principal_label=str(self.row["principal_label"]),
            scopes=frozenset(self.row["scopes"]),
            idempotency_key=idempotency_key,
        )


class Shell(Protocol):
    """What the parts of a turn may ask of the engine that executes it."""

    pool: AsyncConnectionPool[Any]
    tool_room: asyncio.Semaphore

    async def commit(self, turn: Turn, write: Write) -> Written: ...

    async def finish(self, turn: Turn, end: Finish) -> None: ...

    def announce(self, turn: Turn, *, ended: bool = False) -> None: ...


_bundles: dict[UUID, Bundle] = {}  # releases never change, so a bundle read once stays true


async def claim(pool: AsyncConnectionPool[Any], run_id: UUID, worker_id: UUID) -> Turn | None:
    """Take the run for this worker and load its journal. None when it is not runnable (any more)."""
    async with pool.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(CLAIM_SQL, {"run_id": run_id, "worker": worker_id})
        row = await cursor.fetchone()
    if row is None:
        return None
    past, turns_before = await _history(pool, row["thread_id"], row["created_at"])
    entries = await journal.load(pool, run_id)
    return Turn(
        row=row,
        bundle=_bundle(row["release_id"], row["content"]),
        budgets=Budgets.model_validate(row["budgets"]),
        state=folding.fold(folding.begin(past), entries),
        history=len(past),
        turns_before=turns_before,
        cancel_requested=bool(row["cancel_requested"]),
    )


async def reload(pool: AsyncConnectionPool[Any], turn: Turn) -> None:
    """Fold the journal again, after somebody else may have written a result."""
    past = turn.state.messages[: turn.history]
    turn.state = folding.fold(folding.begin(past), await journal.load(pool, turn.run_id))


async def _history(
    pool: AsyncConnectionPool[Any], thread_id: UUID, before: datetime
) -> tuple[tuple[Message, ...], int]:
    """What the last runs of the thread said, and how many there were in all."""
    async with pool.connection() as connection:
        cursor = await connection.execute(HISTORY_SQL, [thread_id, before, LONGEST_HISTORY])
        rows = await cursor.fetchall()
    told: list[Message] = []
    for text, answer, _ in reversed(rows):
        told.append(UserText(text))
        if answer:
            told.append(ModelReply(answer))
    return tuple(told), rows[0][2] if rows else 0


def _bundle(release_id: UUID, content: Mapping[str, Any]) -> Bundle:
    if release_id not in _bundles:
        _bundles[release_id] = Bundle.model_validate(content)
    return _bundles[release_id]
