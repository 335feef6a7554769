"""The journal of a run: one fenced statement per durable operation.

Every write about a run by its worker is one UPDATE of the run, conditional on the fence it was claimed with,
together with the steps, payloads and events that belong to it. No row updated means that the lease is lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from console import ids, redact
from releases import switches
from runtime.policies.folding import Entry
from runtime.states import StepKind, StepStatus


class LeaseLost(Exception):
    """Another worker, a decision or a restart has taken the run over. Nothing was written; stop working on it."""


class SwitchedOff(Exception):
    """A kill switch was engaged before the call's intent could be committed. Nothing was written."""

    def __init__(self, switch_id: UUID) -> None:
        super().__init__(f"kill switch {switch_id}")
        self.switch_id = switch_id


class Lease(NamedTuple):
    run_id: UUID
    fence: int


@dataclass
class NewStep:
    """A step to insert. Finished steps carry `finished_at`; a started one is finished later by `Finished`."""

    kind: StepKind
    name: str
    status: StepStatus
    started_at: datetime
    finished_at: datetime | None = None
    id: UUID = field(default_factory=ids.new)
    verdict: str = ""
    rule: str = ""
    summary: str = ""
    error: str = ""
    attempt: int = 1
    call_id: str = ""
    idempotency_key: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    cost_basis: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Finished:
    """The result of a step that was committed as started."""

    id: UUID
    status: StepStatus
    finished_at: datetime | None  # None: unknown still, a person settles it
    verdict: str = ""
    summary: str = ""
    error: str = ""
    output: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Write:
    """One durable operation: new steps, finished steps, events, and what they change on the run."""

    steps: Sequence[NewStep] = ()
    finished: Sequence[Finished] = ()
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()
    model_calls: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    approvals_asked: int = 0
    tool: str = ""
    risk: str = ""
    tainted: bool = False
    status: str | None = None
    cause: str = ""
    cause_detail: str = ""
    answer: str = ""
    wake_at: datetime | None = None
    guard: Mapping[str, Any] | None = None  # agent, tool, is_write, is_reviewed: a switch over these stops it


@dataclass(frozen=True)
class Written:
    seq: int
    cancel_requested: bool


# Rows come as JSON in the shape of their tables; `seq` and `done_seq` in them are places within this write. psycopg
# keeps parsed statements of up to 4,096 characters, so this one stays below (a test holds it).
WRITE_SQL = " ".join(
    f"""
WITH given AS (SELECT %(status)s::varchar AS status, %(count)s::int AS count),
blocking AS (SELECT id FROM ({switches.BLOCKING_SQL}) AS switch WHERE %(guarded)s),
run AS (
    UPDATE runtime_run AS r SET
        seq = seq + given.count,
        steps_used = steps_used + %(new_steps)s,
        model_calls = model_calls + %(model_calls)s,
        tool_calls = tool_calls + %(tool_calls)s,
        tool_errors = tool_errors + %(tool_errors)s,
        approvals_asked = approvals_asked + %(approvals_asked)s,
        input_tokens = input_tokens + %(input_tokens)s,
        cached_tokens = cached_tokens + %(cached_tokens)s,
        output_tokens = output_tokens + %(output_tokens)s,
        cost_usd = cost_usd + %(cost_usd)s,
        cost_basis = CASE WHEN 'unpriced' IN (cost_basis, %(cost_basis)s) THEN 'unpriced'
            WHEN 'estimated' IN (cost_basis, %(cost_basis)s) THEN 'estimated' ELSE cost_basis END,
        tools_called = CASE WHEN %(tool)s = '' OR %(tool)s = ANY (tools_called) THEN tools_called
            ELSE array_append(tools_called, %(tool)s::varchar) END,
        risk_level = CASE WHEN 'high' IN (risk_level, %(risk)s) THEN 'high'
            WHEN 'medium' IN (risk_level, %(risk)s) THEN 'medium' ELSE risk_level END,
        tainted = tainted OR %(tainted)s,
        status = COALESCE(given.status, r.status),
        cause = CASE WHEN given.status IS NULL THEN cause ELSE %(cause)s END,
        cause_detail = CASE WHEN given.status IS NULL THEN cause_detail ELSE %(cause_detail)s END,
        answer = CASE WHEN given.status IS NULL THEN answer ELSE %(answer)s END,
        worker_id = CASE WHEN given.status IS NULL THEN worker_id END,
        working_ms = working_ms + CASE WHEN given.status IS NULL THEN 0
            ELSE GREATEST(0, EXTRACT(EPOCH FROM clock_timestamp() - turn_started_at) * 1000)::bigint END,
        finished_at = CASE WHEN %(is_final)s THEN clock_timestamp() END,
        waiting_since = CASE WHEN given.status = 'waiting' THEN clock_timestamp() END,
        queued_at = CASE WHEN given.status = 'queued' THEN clock_timestamp() ELSE queued_at END,
        wake_at = %(wake_at)s
    FROM given
    WHERE id = %(run_id)s AND fence = %(fence)s AND r.status = 'running' AND NOT EXISTS (SELECT 1 FROM blocking)
    RETURNING id, seq, seq - given.count AS base, cancel_requested_at
),
inserted AS (
    INSERT INTO runtime_step SELECT placed.*
    FROM run, jsonb_populate_recordset(NULL::runtime_step, %(steps)s::jsonb) AS s,
        jsonb_populate_record(s, jsonb_build_object('seq', base + s.seq, 'done_seq', base + s.done_seq,
            'idempotency_key', CASE s.idempotency_key WHEN '' THEN '' ELSE s.idempotency_key || (base + s.seq) END)
        ) AS placed
),
payloads AS (
    INSERT INTO runtime_steppayload (step_id, input, output)
    SELECT p.step_id, p.input, p.output
    FROM run, jsonb_populate_recordset(NULL::runtime_steppayload, %(payloads)s::jsonb) AS p
),
finished AS (
    UPDATE runtime_step AS step SET status = f.status, verdict = COALESCE(NULLIF(f.verdict, ''), step.verdict),
        summary = COALESCE(NULLIF(f.summary, ''), step.summary), error = f.error, finished_at = f.finished_at,
        done_seq = base + f.done_seq
    FROM run, jsonb_populate_recordset(NULL::runtime_step, %(finished)s::jsonb) AS f
    WHERE step.id = f.id AND step.run_id = run.id AND step.finished_at IS NULL
    RETURNING step.id
),
outputs AS (
    UPDATE runtime_steppayload AS payload SET output = o.output
    FROM finished, jsonb_populate_recordset(NULL::runtime_steppayload, %(outputs)s::jsonb) AS o
    WHERE payload.step_id = finished.id AND o.step_id = finished.id
),
events AS (
    INSERT INTO runtime_runevent (run_id, seq, kind, at, by_label, data)
    SELECT run.id, base + e.seq, e.kind, clock_timestamp(), '', e.data
    FROM run, jsonb_populate_recordset(NULL::runtime_runevent, %(events)s::jsonb) AS e
),
draft AS (DELETE FROM runtime_draft USING run WHERE runtime_draft.run_id = run.id AND %(new_steps)s > 0)
SELECT run.seq, run.cancel_requested_at IS NOT NULL, (SELECT id FROM blocking)
FROM (VALUES (1)) AS always LEFT JOIN run ON true
""".split()  # noqa: S608 (constants of ours only)
)

LOAD_SQL = """
    SELECT s.seq, s.kind, s.name, s.status, s.id, s.verdict, s.rule, s.error, s.summary, s.call_id, s.idempotency_key,
           s.attempt, s.input_tokens + s.output_tokens, s.cost_usd, p.input, p.output
    FROM runtime_step s JOIN runtime_steppayload p ON p.step_id = s.id
    WHERE s.run_id = %s ORDER BY s.seq
"""


def parameters(lease: Lease, write: Write, final: bool) -> dict[str, Any]:
    """What WRITE_SQL needs. Places number the writes of this operation: steps, then finished ones, then events."""
    new, done = len(write.steps), len(write.finished)
    steps = [_step_row(lease, place, step) for place, step in enumerate(write.steps, start=1)]
    finished = [_finished_row(place, step) for place, step in enumerate(write.finished, start=new + 1)]
    events = [
        {"seq": place, "kind": kind, "data": dict(data)}
        for place, (kind, data) in enumerate(write.events, start=new + done + 1)
    ]
    guard = write.guard or {"agent": "", "tool": "", "is_write": False, "is_reviewed": False}
    bases = {step.cost_basis for step in write.steps}
    return {
        "run_id": lease.run_id,
        "fence": lease.fence,
        "guarded": write.guard is not None,
        **guard,
        "count": new + done + len(events),
        "new_steps": new,
        "model_calls": write.model_calls,
        "tool_calls": write.tool_calls,
        "tool_errors": write.tool_errors,
        "approvals_asked": write.approvals_asked,
        "input_tokens": sum(step.input_tokens for step in write.steps),
        "cached_tokens": sum(step.cached_tokens for step in write.steps),
        "output_tokens": sum(step.output_tokens for step in write.steps),
        "cost_usd": sum((step.cost_usd for step in write.steps), Decimal(0)),
        "cost_basis": next((basis for basis in ("unpriced", "estimated") if basis in bases), "exact"),
        "tool": write.tool or guard["tool"],
        "risk": write.risk,
        "tainted": write.tainted,
        "status": write.status,
        "is_final": final,
        "cause": write.cause,
        "cause_detail": plain(write.cause_detail),
        "answer": plain(write.answer),
        "wake_at": write.wake_at,
        "steps": _json(steps),
        "payloads": _json([{"step_id": s.id, "input": s.input, "output": s.output} for s in write.steps]),
        "finished": _json(finished),
        "outputs": _json([{"step_id": step.id, "output": step.output} for step in write.finished]),
        "events": _json(events),
    }


def result(row: tuple[Any, ...] | None) -> Written:
    """What the statement answered.

    Raises:
        SwitchedOff, LeaseLost: nothing was written.
    """
    seq, cancel_requested, switch_id = row if row is not None else (None, False, None)
    if switch_id is not None:
        raise SwitchedOff(switch_id)
    if seq is None:
        raise LeaseLost
    return Written(seq, bool(cancel_requested))


async def commit(pool: AsyncConnectionPool[Any], lease: Lease, write: Write, *, final: bool = False) -> Written:
    """Write durably. A guarded write holds the shared side of the switch lock until it has committed."""
    values = parameters(lease, write, final)
    async with pool.connection() as connection:
        if write.guard is None:
            cursor = await connection.execute(WRITE_SQL, values)
            return result(await cursor.fetchone())
        return await _guarded(connection, values)


async def _guarded(connection: AsyncConnection[Any], values: dict[str, Any]) -> Written:
    async with connection.pipeline(), connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", [switches.SWITCH_LOCK])
        cursor = await connection.execute(WRITE_SQL, values)
        row = await cursor.fetchone()
    return result(row)


def commit_within(cursor: Any, lease: Lease, write: Write, *, final: bool = False) -> Written:
    """The same inside the caller's Django transaction, for effects that commit together with their step."""
    cursor.execute(WRITE_SQL, parameters(lease, write, final))
    return result(cursor.fetchone())


async def load(pool: AsyncConnectionPool[Any], run_id: UUID) -> list[Entry]:
    """The journal in order, as the fold reads it."""
    async with pool.connection() as connection:
        cursor = await connection.execute(LOAD_SQL, [run_id])
        return [_entry(row) for row in await cursor.fetchall()]


def entry(step: NewStep, seq: int) -> Entry:
    """The entry that `load` would read for a step just written at `seq`."""
    key = f"{step.idempotency_key}{seq}" if step.idempotency_key else ""
    return Entry(
        seq=seq,
        kind=step.kind,
        name=step.name,
        status=step.status,
        id=str(step.id),
        verdict=step.verdict,
        rule=step.rule,
        error=step.error,
        summary=step.summary,
        call_id=step.call_id,
        idempotency_key=key,
        attempt=step.attempt,
        tokens=step.input_tokens + step.output_tokens,
        cost_usd=step.cost_usd,
        input=redact.value(dict(step.input)),
        output=redact.value(dict(step.output)),
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    (
        seq,
        kind,
        name,
        status,
        key,
        verdict,
        rule,
        error,
        summary,
        call_id,
        idempotency,
        attempt,
        tokens,
        cost,
        *data,
    ) = row
    return Entry(
        seq, StepKind(kind), name, StepStatus(status), str(key), verdict, rule, error, summary, call_id, idempotency,
        attempt, tokens, cost, data[0], data[1],
    )  # fmt: skip


def _step_row(lease: Lease, place: int, step: NewStep) -> dict[str, Any]:
    return {
        "id": step.id,
        "run_id": lease.run_id,
        "fence": lease.fence,
        "seq": place,
        "done_seq": place if step.finished_at else None,
        "kind": step.kind,
        "name": step.name[:120],
        "status": step.status,
        "verdict": step.verdict,
        "rule": step.rule[:120],
        "summary": redact.text(step.summary)[:300],
        "error": step.error[:60],
        "attempt": step.attempt,
        "call_id": step.call_id[:120],
        "idempotency_key": step.idempotency_key,
        "started_at": step.started_at.isoformat(),
        "finished_at": step.finished_at.isoformat() if step.finished_at else None,
        "input_tokens": step.input_tokens,
        "cached_tokens": step.cached_tokens,
        "output_tokens": step.output_tokens,
        "cost_usd": str(step.cost_usd),
        "cost_basis": step.cost_basis,
    }


def _finished_row(place: int, step: Finished) -> dict[str, Any]:
    return {
        "id": step.id,
        "done_seq": place,
        "status": step.status,
        "verdict": step.verdict,
        "summary": redact.text(step.summary)[:300],
        "error": step.error[:60],
        "finished_at": step.finished_at.isoformat() if step.finished_at else None,
    }


def _json(rows: list[dict[str, Any]]) -> str:
    """JSON for PostgreSQL: secrets masked, and neither NUL nor lone surrogates, which jsonb cannot hold."""
    text = json.dumps(redact.value(rows), default=str, ensure_ascii=False, allow_nan=False)
    return text.replace("\\u0000", "\ufffd").encode("utf-8", "replace").decode()


def plain(text: str) -> str:
    """Text that a PostgreSQL column can hold, with secrets masked."""
    return redact.text(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
