"""What a tool was called for today, where a rule asks for totals: read before the verdict, held before the call.

A call starts only while the totals that its verdict was made with still stand. `hold` raises them in one statement
that compares their versions first; when another call was faster, it says so and the gate judges again. Who is slower
therefore sees the faster one counted, however many runs race. A call that turns out not to have happened is taken off.

Tallies are opened from the journal of the day, and count from then on the calls of releases with such a rule.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from releases.bundles import ToolManifest
from releases.policies import variables
from releases.policies.variables import Total, Totals

AT_ONCE = 500  # calls that one sweep settles
AGENT = ""  # principal id of the tally of the agent as a whole; it comes first in the order of locks
MAY_HAVE_HAPPENED = ("timeout", "exception")  # errors after which only a transactional call is known not to have

_TODAY = "(statement_timestamp() AT TIME ZONE 'UTC')::date"
READ_SQL = f"""
SELECT principal_id, calls, sums::text, version, day FROM runtime_tally
WHERE agent_id = %(agent)s AND tool = %(tool)s AND principal_id = ANY (%(principals)s::varchar[]) AND day = {_TODAY}
"""  # noqa: S608 (constants of ours only)
LOCK_SQL = "SELECT pg_advisory_xact_lock(hashtextextended('tally ' || %(agent)s || ' ' || %(tool)s, 0))"
# Runs of today, by the indexes that there are: those that have ended since midnight, and those that have not ended.
OPEN_SQL = f"""
WITH past AS MATERIALIZED (
    SELECT run.principal_id, payload.input -> 'arguments' AS arguments
    FROM runtime_run AS run JOIN runtime_step AS step ON step.run_id = run.id
        JOIN runtime_steppayload AS payload ON payload.step_id = step.id
    WHERE run.agent_id = %(agent)s AND run.tools_called @> ARRAY[%(tool)s]::varchar[]
        AND ('' = ANY (%(missing)s::varchar[]) OR run.principal_id = ANY (%(missing)s::varchar[]))
        AND (run.finished_at >= {_TODAY}::timestamp AT TIME ZONE 'UTC'
             OR run.status IN ('queued', 'running', 'waiting', 'paused'))
        AND step.kind IN ('tool', 'retrieval') AND step.name = %(tool)s
        AND step.started_at >= {_TODAY}::timestamp AT TIME ZONE 'UTC'
        AND step.status IN ('started', 'done', 'unknown') AND NOT payload.input ? 'forked_from'
)
INSERT INTO runtime_tally (agent_id, tool, principal_id, day, calls, sums, version)
SELECT %(agent)s, %(tool)s, p.id, {_TODAY},
    (SELECT count(*) FROM past WHERE p.id IN ('', past.principal_id)),
    COALESCE((SELECT jsonb_object_agg(name, total) FROM (
        SELECT name, sum((past.arguments ->> name)::numeric) AS total
        FROM past, unnest(%(names)s::varchar[]) AS name
        WHERE p.id IN ('', past.principal_id) AND past.arguments ->> name ~ '^-?[0-9]{{1,30}}([.][0-9]{{1,30}})?$'
        GROUP BY name) AS summed), '{{}}'), 0
FROM unnest(%(missing)s::varchar[]) AS p (id) ORDER BY p.id
ON CONFLICT DO NOTHING
"""  # noqa: S608 (constants of ours only)
# `held` locks the tallies in their order and reads them as they are after the wait.
HOLD_SQL = f"""
WITH held AS (
    SELECT t.id, t.principal_id, t.version, t.day FROM runtime_tally AS t
    WHERE t.agent_id = %(agent)s AND t.tool = %(tool)s AND t.principal_id = ANY (%(principals)s::varchar[])
        AND t.day = %(day)s
    ORDER BY t.principal_id FOR UPDATE
),
verdict AS (
    SELECT count(*) = cardinality(%(principals)s::varchar[]) AND %(day)s = {_TODAY} AND COALESCE(bool_and(
        NOT %(versions)s ? principal_id OR version = (%(versions)s ->> principal_id)::bigint), false) AS fits
    FROM held
),
moved AS (
    UPDATE runtime_talliedcall AS c SET id = %(step)s, fence = %(fence)s FROM verdict
    WHERE c.id = %(again)s AND verdict.fits RETURNING c.id
),
raised AS (
    UPDATE runtime_tally AS t SET calls = t.calls + 1, version = t.version + 1, sums = t.sums || (
        SELECT COALESCE(jsonb_object_agg(key, COALESCE((t.sums ->> key)::numeric, 0) + value::numeric), '{{}}')
        FROM jsonb_each_text(%(amounts)s))
    FROM held, verdict WHERE t.id = held.id AND verdict.fits AND NOT EXISTS (SELECT FROM moved)
),
kept AS (
    INSERT INTO runtime_talliedcall (id, run_id, fence, tallies, amounts, is_certain)
    SELECT %(step)s, %(run)s, %(fence)s, ARRAY(SELECT id FROM held), %(amounts)s, %(is_certain)s
    FROM verdict WHERE verdict.fits AND NOT EXISTS (SELECT FROM moved)
)
SELECT fits FROM verdict
"""  # noqa: S608 (constants of ours only)
# Whoever deletes the row settles it; the other one of two finds none and changes nothing. The journal says whether the
# call happened; one without a step was never made.
SETTLE_SQL = """
WITH gone AS (
    DELETE FROM runtime_talliedcall AS c WHERE c.id = %(step)s RETURNING c.tallies, c.amounts, COALESCE((
        SELECT s.status IN ('started', 'done', 'unknown') OR s.error = ANY (%(may_have)s) AND NOT c.is_certain
        FROM runtime_step AS s WHERE s.id = c.id), false) AS happened
),
held AS (
    SELECT t.id FROM runtime_tally AS t, gone WHERE t.id = ANY (gone.tallies) AND NOT gone.happened
    ORDER BY t.principal_id FOR UPDATE OF t
)
UPDATE runtime_tally AS t SET calls = t.calls - 1, version = t.version + 1, sums = t.sums || (
    SELECT COALESCE(jsonb_object_agg(key, COALESCE((t.sums ->> key)::numeric, 0) - value::numeric), '{}')
    FROM jsonb_each_text(gone.amounts))
FROM held, gone WHERE t.id = held.id
"""
# A call that was done is settled at once; one that failed or was never begun, when its worker has let go of its run.
LEFT_SQL = """
SELECT c.id
FROM runtime_talliedcall AS c JOIN runtime_run AS run ON run.id = c.run_id LEFT JOIN runtime_step AS s ON s.id = c.id
WHERE s.status = 'done'
    OR (run.fence <> c.fence OR run.status <> 'running') AND (s.id IS NULL OR s.status IN ('failed', 'refused'))
ORDER BY c.id LIMIT %s
"""


@dataclass(frozen=True)
class Key:
    """Whose totals of which tool: an agent's, for one principal and for everybody."""

    agent_id: UUID
    tool: ToolManifest
    principal_id: str

    @property
    def principals(self) -> list[str]:
        return sorted({AGENT, self.principal_id})

    @property
    def values(self) -> dict[str, Any]:
        return {"agent": self.agent_id, "tool": self.tool.name, "principals": self.principals}

    def opening(self, rows: Sequence[tuple[Any, ...]]) -> dict[str, Any]:
        missing = sorted(set(self.principals) - {row[0] for row in rows})
        return {**self.values, "missing": missing, "names": variables.summed(self.tool)}

    def totals(self, rows: Sequence[tuple[Any, ...]]) -> Totals | None:
        """What the rows say; None while one is missing."""
        found = {row[0]: Total(row[1], _exact(row[2]), row[3]) for row in rows}
        if len(found) < len(self.principals):
            return None
        return Totals(rows[0][4], {"agent": found[AGENT], "principal": found[self.principal_id]})


@dataclass(frozen=True)
class Holder:
    """The call that is to be counted: its run under this fence, its step, and the failed attempt before it."""

    run_id: UUID
    fence: int
    step_id: UUID
    again: UUID | None = None


async def read(pool: AsyncConnectionPool[Any], key: Key) -> Totals:
    """Today's totals, opened from the journal where nobody has asked for them today."""
    while True:
        async with pool.connection() as held:
            rows = await (await held.execute(READ_SQL, key.values)).fetchall()
            found = key.totals(rows)
            if found is not None:
                return found
            async with held.transaction():
                await held.execute(LOCK_SQL, key.values)
                rows = await (await held.execute(READ_SQL, key.values)).fetchall()
                await held.execute(OPEN_SQL, key.opening(rows))


def read_within(key: Key) -> Totals:
    """The same in the caller's Django transaction."""
    with connection.cursor() as cursor:
        cursor.execute(READ_SQL, key.values)
        found = key.totals(cursor.fetchall())
        if found is None:
            cursor.execute(LOCK_SQL, key.values)
            cursor.execute(READ_SQL, key.values)
            cursor.execute(OPEN_SQL, key.opening(cursor.fetchall()))
            cursor.execute(READ_SQL, key.values)
            found = key.totals(cursor.fetchall())
    return found or Totals(date.min, {"agent": Total(), "principal": Total()})  # midnight has just passed


async def hold(
    pool: AsyncConnectionPool[Any],
    key: Key,
    holder: Holder,
    arguments: Mapping[str, Any],
    seen: Totals,
    scopes: frozenset[str],
) -> bool:
    """Count the call, if the totals of these scopes are still those that were seen. False: nothing was counted."""
    owners = {"agent": AGENT, "principal": key.principal_id}
    amounts = variables.amounts(key.tool, arguments)
    values = {
        **key.values,
        "day": seen.day,
        "versions": Jsonb({owners[scope]: seen.of[scope].version for scope in scopes}),
        "step": holder.step_id,
        "run": holder.run_id,
        "fence": holder.fence,
        "again": holder.again,
        "amounts": Jsonb({name: f"{amount:f}" for name, amount in amounts.items()}),
        "is_certain": key.tool.retry in ("transactional", "read"),
    }
    async with pool.connection() as held:
        row = await (await held.execute(HOLD_SQL, values)).fetchone()
    return bool(row and row[0])


async def settle(pool: AsyncConnectionPool[Any], step_id: UUID) -> None:
    """The end of a counted call stands in the journal: keep it, or take it off. Twice changes nothing."""
    async with pool.connection() as held:
        await held.execute(SETTLE_SQL, _settling(step_id))


def sweep() -> int:
    """Settle counted calls whose end the journal knows, and those whose worker died over them. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(LEFT_SQL, [AT_ONCE])
        left = cursor.fetchall()
    for (step_id,) in left:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(SETTLE_SQL, _settling(step_id))
    return len(left)


def _settling(step_id: UUID) -> dict[str, Any]:
    return {"step": step_id, "may_have": list(MAY_HAVE_HAPPENED)}


def _exact(sums: str) -> dict[str, Decimal]:
    return dict(json.loads(sums, parse_float=Decimal, parse_int=Decimal))
