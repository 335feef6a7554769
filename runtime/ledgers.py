"""The daily ledgers of agents and their principals: reserve before a call, settle after, sweep what a crash left.

One conditional statement raises the agent's and the principal's ledger together or neither. Ledgers are locked in
one order (the agent's first), so reserving, settling and sweeping cannot deadlock. What is reserved today is settled
on today's ledger, also when the call ends tomorrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from psycopg_pool import AsyncConnectionPool

from releases.bundles import Daily
from runtime.policies import daily
from runtime.policies.budgeting import Exhausted
from runtime.policies.daily import Amounts, Line

AT_ONCE = 500  # reservations that one sweep settles

# `wanted`: the ledgers with their limits; a missing one has to be opened first (OPEN_SQL). `held` locks them in their
# order and reads them as they are after the wait, so that nobody raises a ledger between the look and the raise.
_JUDGE = """
WITH wanted AS (
    SELECT * FROM unnest(%(principals)s::varchar[], %(max_usd)s::numeric[], %(max_tokens)s::bigint[],
        %(max_model_calls)s::bigint[], %(max_tool_calls)s::bigint[], %(max_runs)s::bigint[])
    AS w (principal_id, max_usd, max_tokens, max_model_calls, max_tool_calls, max_runs)
),
held AS (
    SELECT l.* FROM runtime_ledger AS l
    WHERE l.agent_id = %(agent)s AND l.principal_id = ANY (%(principals)s::varchar[])
        AND l.day = COALESCE(%(day)s::date, (statement_timestamp() AT TIME ZONE 'UTC')::date)
    ORDER BY l.principal_id FOR UPDATE
),
line AS (
    SELECT w.principal_id, h.id, h.settled_usd + h.reserved_usd AS usd, h.settled_tokens + h.reserved_tokens AS tokens,
        h.settled_model_calls + h.reserved_model_calls AS model_calls,
        h.settled_tool_calls + h.reserved_tool_calls AS tool_calls, h.settled_runs AS runs,
        h.settled_usd + h.reserved_usd + %(usd)s <= COALESCE(w.max_usd, 'Infinity')
        AND (w.max_tokens IS NULL OR h.settled_tokens + h.reserved_tokens + %(tokens)s <= w.max_tokens)
        AND (w.max_model_calls IS NULL
             OR h.settled_model_calls + h.reserved_model_calls + %(model_calls)s <= w.max_model_calls)
        AND (w.max_tool_calls IS NULL
             OR h.settled_tool_calls + h.reserved_tool_calls + %(tool_calls)s <= w.max_tool_calls)
        AND (w.max_runs IS NULL OR h.settled_runs + %(runs)s <= w.max_runs) AS fits
    FROM wanted AS w LEFT JOIN held AS h USING (principal_id)
),
verdict AS (SELECT bool_and(COALESCE(fits, false)) AS fits FROM line),
"""
_ANSWER = """
SELECT line.principal_id, line.id, line.usd, line.tokens, line.model_calls, line.tool_calls, line.runs, verdict.fits
FROM line, verdict ORDER BY line.principal_id
"""
RESERVE_SQL = f"""{_JUDGE}
raised AS (
    UPDATE runtime_ledger AS l SET reserved_usd = l.reserved_usd + %(usd)s,
        reserved_tokens = l.reserved_tokens + %(tokens)s,
        reserved_model_calls = l.reserved_model_calls + %(model_calls)s,
        reserved_tool_calls = l.reserved_tool_calls + %(tool_calls)s
    FROM held, verdict WHERE l.id = held.id AND verdict.fits
),
kept AS (
    INSERT INTO runtime_reservation (id, run_id, fence, ledgers, usd, tokens, model_calls, tool_calls)
    SELECT %(step)s, %(run)s, %(fence)s, ARRAY(SELECT id FROM held), %(usd)s, %(tokens)s, %(model_calls)s,
        %(tool_calls)s
    FROM verdict WHERE verdict.fits
)
{_ANSWER}"""  # noqa: S608 (constants of ours only)
COUNT_RUN_SQL = f"""{_JUDGE}
raised AS (
    UPDATE runtime_ledger AS l SET settled_runs = l.settled_runs + %(runs)s
    FROM held, verdict WHERE l.id = held.id AND verdict.fits
)
{_ANSWER}"""  # noqa: S608 (constants of ours only)
OPEN_SQL = """
INSERT INTO runtime_ledger (agent_id, principal_id, day)
SELECT %(agent)s, principal_id, COALESCE(%(day)s::date, (statement_timestamp() AT TIME ZONE 'UTC')::date)
FROM unnest(%(principals)s::varchar[]) AS p (principal_id) ORDER BY principal_id
ON CONFLICT DO NOTHING
"""
# Whoever deletes the reservation settles it; the other one of two finds no row and changes nothing.
SETTLE_SQL = """
WITH freed AS (
    DELETE FROM runtime_reservation WHERE id = %(step)s RETURNING ledgers, usd, tokens, model_calls, tool_calls
),
held AS (
    SELECT l.id FROM runtime_ledger AS l, freed WHERE l.id = ANY (freed.ledgers) ORDER BY l.principal_id FOR UPDATE OF l
)
UPDATE runtime_ledger AS l SET reserved_usd = l.reserved_usd - freed.usd, settled_usd = l.settled_usd + %(usd)s,
    reserved_tokens = l.reserved_tokens - freed.tokens, settled_tokens = l.settled_tokens + %(tokens)s,
    reserved_model_calls = l.reserved_model_calls - freed.model_calls,
    settled_model_calls = l.settled_model_calls + %(model_calls)s,
    reserved_tool_calls = l.reserved_tool_calls - freed.tool_calls,
    settled_tool_calls = l.settled_tool_calls + %(tool_calls)s
FROM held, freed WHERE l.id = held.id RETURNING l.id
"""
# Held by nobody any more: the run was claimed again, is over, or waits. Its journal knows whether the call was made:
# a step under the old fence was committed before the fence moved, so it is seen here.
LEFT_SQL = """
SELECT v.id, COALESCE(s.cost_usd, 0), COALESCE(s.input_tokens + s.output_tokens, 0),
    CASE WHEN s.id IS NULL THEN 0 ELSE v.model_calls END, CASE WHEN s.id IS NULL THEN 0 ELSE v.tool_calls END
FROM runtime_reservation AS v JOIN runtime_run AS run ON run.id = v.run_id LEFT JOIN runtime_step AS s ON s.id = v.id
WHERE run.fence <> v.fence OR run.status <> 'running'
ORDER BY v.id LIMIT %s
"""


@dataclass(frozen=True)
class Holder:
    """The call that reserves: its run under this fence, and the id of the step that it becomes."""

    run_id: UUID
    fence: int
    step_id: UUID
    agent_id: UUID
    principal_id: str


async def reserve(
    pool: AsyncConnectionPool[Any], holder: Holder, limits: Daily, wanted: Amounts, *, day: date | None = None
) -> Exhausted | None:
    """Hold `wanted` of the day (None: today in UTC, by the database's clock). Returns why not, if it does not fit.

    Nothing is held when any ledger refuses. Settle it in any case: a reservation lasts until then, or until a sweep.
    """
    values = {
        **_values(limits, holder.agent_id, holder.principal_id, wanted, day),
        "step": holder.step_id,
        "run": holder.run_id,
        "fence": holder.fence,
    }
    while True:
        async with pool.connection() as held:
            cursor = await held.execute(RESERVE_SQL, values)
            lines = await cursor.fetchall()
            if all(line[1] is not None for line in lines):
                return _refusal(lines, limits, wanted)
            await held.execute(OPEN_SQL, values)


async def settle(pool: AsyncConnectionPool[Any], step_id: UUID, used: Amounts) -> bool:
    """Replace what was held by what was used. False: it is settled already, by an earlier call or a sweep."""
    async with pool.connection() as held:
        cursor = await held.execute(SETTLE_SQL, {"step": step_id, **_amounts(used)})
        return bool(await cursor.fetchall())


def count_run(limits: Daily | None, *, agent_id: UUID, principal_id: str, day: date | None = None) -> Exhausted | None:
    """Count a new run in the caller's transaction. Returns why the day has no room for it; then nothing is counted."""
    if limits is None or not daily.is_limited(limits, daily.OF_A_RUN):
        return None
    wanted = Amounts(runs=1)
    values = _values(limits, agent_id, principal_id, wanted, day)
    with connection.cursor() as cursor:
        while True:
            cursor.execute(COUNT_RUN_SQL, values)
            lines = cursor.fetchall()
            if all(line[1] is not None for line in lines):
                return _refusal(lines, limits, wanted)
            cursor.execute(OPEN_SQL, values)


def sweep() -> int:
    """Settle what calls hold that nobody makes any more: with what their step says, or with nothing where none is."""
    with connection.cursor() as cursor:
        cursor.execute(LEFT_SQL, [AT_ONCE])
        left = cursor.fetchall()
    settled = 0
    for step_id, usd, tokens, model_calls, tool_calls in left:
        used = Amounts(usd=usd, tokens=tokens, model_calls=model_calls, tool_calls=tool_calls)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(SETTLE_SQL, {"step": step_id, **_amounts(used)})
            settled += bool(cursor.fetchall())
    return settled


def _values(limits: Daily, agent_id: UUID, principal_id: str, wanted: Amounts, day: date | None) -> dict[str, Any]:
    standing = daily.scopes(limits)
    return {
        "agent": agent_id,
        "day": day,
        "principals": ["" if scope == "per_agent" else principal_id for scope in standing],
        **{name: [getattr(part, name) for part in standing.values()] for name in daily.NAMES},
        **_amounts(wanted),
        "runs": wanted.runs,
    }


def _amounts(of: Amounts) -> dict[str, Any]:
    return {"usd": of.usd, "tokens": of.tokens, "model_calls": of.model_calls, "tool_calls": of.tool_calls}


def _refusal(lines: Sequence[tuple[Any, ...]], limits: Daily, wanted: Amounts) -> Exhausted | None:
    if lines[0][-1]:
        return None
    found = [Line("per_principal" if line[0] else "per_agent", Amounts(*line[2:7])) for line in lines]
    refused = daily.why_refused(limits, found, wanted)
    assert refused is not None, f"The database refused {wanted}, the policy does not: {found}"
    return refused
