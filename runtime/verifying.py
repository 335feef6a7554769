"""Finding out what became of an unsafe call whose result was lost: asking the tool itself, and when to believe a no."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from releases.bundles import ToolManifest
from runtime import aliveness, flights, threads, toolbox
from runtime.policies import recovering
from runtime.policies.folding import Entry
from runtime.policies.recovering import Answer, Facts, Fate, Holder, Park, Repeat, Settle, Verify, Wait
from runtime.tools import DidNotHappen, Finding, Happened, Unknown
from runtime.tools import Verify as Hook
from runtime.turns import Shell, Turn

LONGEST_EVIDENCE = 500
# Who may have made the call: the claim that wrote its intent, and every claim that wrote down to make it again.
HOLDERS_SQL = """
WITH made AS (
    SELECT fence FROM runtime_step WHERE id = %(step)s
    UNION SELECT (data->>'fence')::int FROM runtime_runevent
    WHERE run_id = %(run)s AND kind = 'call.repeated' AND data->>'step' = %(step)s::text
)
SELECT worker.host, worker.pid, worker.process, GREATEST(worker.lease_until, worker.ended_at), clock_timestamp()
FROM made
LEFT JOIN runtime_runevent AS claim ON claim.run_id = %(run)s AND claim.kind IN ('run.started', 'run.resumed')
    AND (claim.data->>'fence')::int = made.fence
LEFT JOIN runtime_worker AS worker ON worker.id = (claim.data->>'worker')::uuid
"""


@dataclass(frozen=True)
class Found:
    """What to do about the call, and what the tool said when it was asked; nothing when it was not."""

    decision: Repeat | Wait | Settle | Park
    finding: Finding | None = None

    @property
    def evidence(self) -> str:
        return self.finding.evidence[:LONGEST_EVIDENCE] if self.finding else ""

    @property
    def answer(self) -> str:
        return _answer(self.finding) if self.finding else ""


async def find_out(engine: Shell, turn: Turn, manifest: ToolManifest, entry: Entry) -> Found:
    """Ask the tool whether the call happened, and decide what may follow from its answer."""
    hook = toolbox.verifier(turn.bundle, manifest)
    facts = Facts(manifest.retry, hook is not None, (), datetime.now(UTC))
    if hook is not None and manifest.retry == "unsafe":
        facts = replace(facts, **await _made_by(engine, turn, manifest, entry))
    step = recovering.decide_recovery(facts)
    if not isinstance(step, Verify):
        return Found(step)
    assert hook is not None
    finding = await _ask(engine, turn, manifest, entry, hook)
    return Found(recovering.decide_finding(_answer(finding), step, now=facts.now), finding)


async def _made_by(engine: Shell, turn: Turn, manifest: ToolManifest, entry: Entry) -> dict[str, Any]:
    """Every life that may have made the call, and the time by the clock that their leases go by."""
    async with engine.pool.connection() as connection:
        cursor = await connection.execute(HOLDERS_SQL, {"step": UUID(entry.id), "run": turn.run_id})
        rows = await cursor.fetchall()
    limit = timedelta(seconds=manifest.timeout_s)
    is_known = all(row[1] is not None for row in rows)
    holders = tuple(_holder(row, limit) for row in rows) if is_known else ()
    return {"holders": holders, "now": rows[0][4]} if rows else {}


def _holder(row: tuple[Any, ...], limit: timedelta) -> Holder:
    host, pid, process, lease_over, _ = row
    return Holder(Fate(aliveness.fate(process, host, pid)), lease_over + limit)


async def _ask(engine: Shell, turn: Turn, manifest: ToolManifest, entry: Entry, hook: Hook) -> Finding:
    """The tool's answer. Whatever goes wrong on the way is no answer."""
    context, arguments = turn.context(entry.idempotency_key), entry.input["arguments"]
    try:
        async with asyncio.timeout(manifest.timeout_s):
            if inspect.iscoroutinefunction(hook):
                found = await flights.apart(hook(context, arguments))
            else:
                name = f"verify-{manifest.name}"
                found = await threads.run_tool(engine.tool_room, name, hook, context, arguments)
    except TimeoutError:
        return Unknown(f"The other system did not answer within {manifest.timeout_s:g} s.")
    except Exception as broken:
        return Unknown(f"Asking the other system failed ({type(broken).__name__}: {broken})."[:LONGEST_EVIDENCE])
    if isinstance(found, Happened | DidNotHappen | Unknown):
        return found
    return Unknown(f"The look-up of {manifest.name} answered {type(found).__name__}, which is no finding.")


def _answer(finding: Finding) -> Answer:
    match finding:
        case Happened():
            return Answer.HAPPENED
        case DidNotHappen():
            return Answer.DID_NOT
        case Unknown():
            return Answer.UNKNOWN
