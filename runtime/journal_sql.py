"""The one statement that writes operations of many runs: fenced, guarded, and no larger than what it has to write.

Rows come as JSON in the shape of their tables; `seq` and `done_seq` in them are places within the write of their run.

What is true of a row beside its key is asked with IS NOT DISTINCT FROM, which no index answers: planned while the
tables were small, the statement would go through all running runs, or all steps of a run, for each row that it writes.
`block IS NULL` is asked even where nothing is guarded, because it makes the planner expect few operations.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Literal, get_args

from releases import switches

Part = Literal["counts", "end", "guard", "steps", "finished", "events", "drafts"]

# What an operation says of its run, and what of the run it changes: always, and for each part that some operation has.
_SAID: dict[Part | None, str] = {
    None: "run_id uuid, fence int, count int",
    "counts": "steps int, model_calls int, tool_calls int, tool_errors int, asked int, tokens_in bigint, cached bigint,"
    " tokens_out bigint, usd numeric, basis text, tools varchar[], risk text, tainted bool",
    "end": "status text, cause text, detail text, answer text, wake_at timestamptz, wait text, is_final bool",
    "guard": "agent text, guarded text, is_write bool, is_reviewed bool",
    "drafts": "drafted bool",
}
_CHANGED: dict[Part | None, str] = {
    None: "seq = seq + op.count",
    "counts": """
        steps_used = steps_used + op.steps,
        model_calls = r.model_calls + op.model_calls,
        tool_calls = r.tool_calls + op.tool_calls,
        tool_errors = r.tool_errors + op.tool_errors,
        approvals_asked = approvals_asked + asked,
        input_tokens = input_tokens + tokens_in,
        cached_tokens = cached_tokens + cached,
        output_tokens = output_tokens + tokens_out,
        cost_usd = cost_usd + usd,
        cost_basis = CASE WHEN 'unpriced' IN (cost_basis, basis) THEN 'unpriced'
            WHEN 'estimated' IN (cost_basis, basis) THEN 'estimated' ELSE cost_basis END,
        tools_called = CASE WHEN tools <@ tools_called THEN tools_called ELSE tools_called || tools END,
        risk_level = CASE WHEN 'high' IN (risk_level, risk) THEN 'high'
            WHEN 'medium' IN (risk_level, risk) THEN 'medium' ELSE risk_level END,
        tainted = r.tainted OR op.tainted""",
    "end": """
        status = COALESCE(op.status, r.status),
        cause = COALESCE(op.cause, r.cause),
        cause_detail = COALESCE(detail, cause_detail),
        answer = COALESCE(op.answer, r.answer),
        worker_id = CASE WHEN op.status IS NULL THEN worker_id END,
        working_ms = working_ms + CASE WHEN op.status IS NULL THEN 0
            ELSE GREATEST(0, EXTRACT(EPOCH FROM clock_timestamp() - turn_started_at) * 1000)::bigint END,
        finished_at = CASE WHEN is_final THEN clock_timestamp() END,
        waiting_since = CASE WHEN op.status IN ('waiting', 'paused') THEN clock_timestamp() END,
        queued_at = CASE op.status WHEN 'queued' THEN clock_timestamp() ELSE queued_at END,
        wake_at = op.wake_at,
        wait_reason = COALESCE(wait, '')""",
}
_BLOCK = switches.blocking_sql("o.agent", "o.guarded", "o.is_write", "o.is_reviewed")


def _operations(parts: Collection[Part]) -> str:
    said = ", ".join(columns for part, columns in _SAID.items() if part is None or part in parts)
    block = f"CASE WHEN o.guarded IS NOT NULL THEN {_BLOCK} END" if "guard" in parts else "NULL::uuid"
    return f"op AS (SELECT o.*, {block} AS block FROM jsonb_to_recordset(%(ops)s) AS o ({said}))"  # noqa: S608


def _runs(parts: Collection[Part]) -> str:
    changed = ", ".join(changes for part, changes in _CHANGED.items() if part is None or part in parts)
    asked = "AND (guarded IS NULL OR cancel_requested_at IS NULL AND pause_requested_at IS NULL)"
    return f"""
run AS (
    UPDATE runtime_run AS r SET {changed} FROM op
    WHERE id = op.run_id AND r.fence = op.fence AND r.status IS NOT DISTINCT FROM 'running' AND block IS NULL
        {asked if "guard" in parts else ""}
    RETURNING run_id, seq, seq - op.count AS base, cancel_requested_at AS c, pause_requested_at AS p, is_awaited
        {", drafted" if "drafts" in parts else ""}
)"""  # noqa: S608 (constants of ours only)


_WRITTEN: dict[Part, str] = {
    "steps": """
new AS (
    INSERT INTO runtime_step SELECT placed.*
    FROM jsonb_populate_recordset(NULL::runtime_step, %(steps)s) AS s
        JOIN run USING (run_id),
        jsonb_populate_record(s, jsonb_build_object('seq', base + s.seq, 'done_seq', base + s.done_seq)) AS placed
    RETURNING id
),
payloads AS (
    INSERT INTO runtime_steppayload (step_id, input, output)
    SELECT id, input, output
    FROM jsonb_to_recordset(%(payloads)s) AS p (id uuid, input jsonb, output jsonb) JOIN new USING (id)
)""",
    "finished": """
done AS (
    UPDATE runtime_step AS step SET status = f.status, verdict = COALESCE(f.verdict, step.verdict),
        summary = COALESCE(f.summary, step.summary), error = f.error, finished_at = f.finished_at,
        done_seq = base + f.done_seq
    FROM jsonb_to_recordset(%(finished)s) AS f (id uuid, run_id uuid, done_seq int, status text, verdict text,
        summary text, error text, finished_at timestamptz, output jsonb) JOIN run USING (run_id)
    WHERE step.id = f.id AND step.run_id IS NOT DISTINCT FROM run.run_id AND step.finished_at IS NULL
    RETURNING f.id, f.output
),
results AS (UPDATE runtime_steppayload AS payload SET output = done.output FROM done WHERE step_id = done.id)""",
    "events": """
events AS (
    INSERT INTO runtime_runevent (run_id, seq, kind, at, by_label, data)
    SELECT run_id, base + e.seq, e.kind, clock_timestamp(), '', e.data
    FROM jsonb_to_recordset(%(events)s) AS e (run_id uuid, seq int, kind text, data jsonb) JOIN run USING (run_id)
)""",
    "drafts": """
draft AS (DELETE FROM runtime_draft AS d USING run WHERE drafted AND d.run_id = run.run_id)""",
}

_ANSWER = "SELECT run_id, fence, seq, c, p, is_awaited, block FROM op LEFT JOIN run USING (run_id)"

LOAD = """
    SELECT s.run_id, s.seq, s.kind, s.name, s.status, s.id, s.verdict, s.rule, s.error, s.summary, s.call_id,
        s.idempotency_key, s.attempt, s.input_tokens + s.output_tokens, s.cost_usd, p.input, p.output
    FROM runtime_step s JOIN runtime_steppayload p ON p.step_id = s.id
    WHERE s.run_id = ANY(%s::uuid[]) ORDER BY s.run_id, s.seq
"""


def write(parts: Collection[Part]) -> str:
    """The statement for operations that have these parts. What it has not, PostgreSQL need not set up."""
    return _write(tuple(part for part in get_args(Part) if part in parts))


@cache
def _write(parts: tuple[Part, ...]) -> str:
    """psycopg keeps parsed statements of up to 4,096 characters, so blanks are left out (a test holds it)."""
    chosen = [_operations(parts), _runs(parts), *(_WRITTEN[part] for part in parts if part in _WRITTEN)]
    return " ".join(f"WITH {','.join(chosen)} {_ANSWER}".split())
