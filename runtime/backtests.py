"""The calls of a tool that were judged before, for trying a rule on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db import connection

from console import ids
from releases.bundles import Rule, ToolManifest
from releases.models import Agent
from releases.policies.variables import Circumstances
from runtime import tallies
from runtime.models import Run
from runtime.policies import backtesting
from runtime.policies.backtesting import Past, Report
from runtime.states import StepStatus, StepVerdict

MOST_CALLS = 2000
USUAL_CALLS = 500
MOST_RUNS = 10_000  # newest runs that are looked through for them
# Refusals that say nothing about the call itself: it was judged before, or could not be read.
NOT_JUDGED = ("approval-void", "schema", "release-tools")
OF_THE_RUN = ("principal_id", "principal_label", "principal_attributes", "scopes", "thread_id", "tainted")
PAST_SQL = """
WITH run AS (
    SELECT id, created_at FROM runtime_run WHERE agent_id = %(agent)s ORDER BY created_at DESC, id DESC LIMIT %(runs)s
)
SELECT step.id, step.run_id, step.kind, step.status, step.rule, step.verdict, step.error, step.attempt,
    step.started_at, payload.input, payload.output ? 'provenance' OR payload.input ? 'provenance',
    (SELECT count(*) FROM runtime_step AS s WHERE s.run_id = step.run_id AND s.seq < step.seq AND s.kind = 'approval'),
    (SELECT count(*) FROM runtime_step AS s WHERE s.run_id = step.run_id AND s.seq < step.seq
        AND s.kind IN ('tool', 'retrieval') AND s.attempt = 1)
FROM run JOIN runtime_step AS step ON step.run_id = run.id
    JOIN runtime_steppayload AS payload ON payload.step_id = step.id
WHERE (step.kind IN ('tool', 'retrieval') AND step.name = %(tool)s
       OR step.kind = 'guardrail' AND step.call_id <> '' AND step.verdict IN ('asked', 'refused')
          AND payload.input -> 'call' ->> 'name' = %(tool)s)
    AND NOT payload.input ? 'forked_from'
ORDER BY run.created_at DESC, run.id DESC, step.seq DESC LIMIT %(most)s
"""


@dataclass(frozen=True)
class Tried:
    """What came of trying a rule. `runs` are those of its matches, by id; `since` the time of the oldest call."""

    report: Report
    runs: Mapping[UUID, Run]
    since: datetime | None
    is_cut: bool  # there are older calls that were not looked at


@dataclass(frozen=True)
class Place:
    """Where a past call stands."""

    run_id: UUID
    step_id: UUID

    @property
    def url(self) -> str:
        return f"{Run(pk=self.run_id).get_absolute_url()}?step={ids.public('stp', self.step_id)}"


def attempt(rule: Rule, tool: ToolManifest, agent: Agent, *, most: int = USUAL_CALLS) -> Tried:
    """Try the rule on the newest stored calls of its tool, whatever release they were made under. Two queries."""
    most = min(most, MOST_CALLS)
    with connection.cursor() as cursor:
        cursor.execute(PAST_SQL, {"agent": agent.pk, "runs": MOST_RUNS, "tool": tool.name, "most": most + 1})
        rows = cursor.fetchall()
    runs = Run.objects.only(*OF_THE_RUN).in_bulk({row[1] for row in rows})
    calls = [past for row in rows[:most] if (past := _past(row, runs, tool, agent)) is not None]
    report = backtesting.judge(rule, tool, calls)
    return Tried(report, runs, min((past.at for past in calls), default=None), len(rows) > most)


def _past(row: Sequence[Any], runs: Mapping[UUID, Run], tool: ToolManifest, agent: Agent) -> Past | None:
    step_id, run_id, kind, status, rule, verdict, error, number, at, given, has_origins, approvals, calls = row
    run, given = runs.get(run_id), json.loads(given)
    is_call = kind != "guardrail"
    arguments = given.get("arguments") if is_call else given.get("call", {}).get("arguments")
    if run is None or not isinstance(arguments, dict) or rule in NOT_JUDGED:
        return None
    judged = "allow" if is_call else {StepVerdict.ASKED: "ask", StepVerdict.REFUSED: "refuse"}[StepVerdict(verdict)]
    is_later = is_call and (rule == "approved" or number > 1)  # its first judgement is another row
    at = at.astimezone(UTC)
    around = Circumstances(
        agent=agent.slug,
        principal=run.principal,
        scopes=frozenset(run.scopes),
        thread_id=ids.public("thr", run.thread_id),
        tainted=bool(has_origins) or run.tainted,
        approvals=approvals,
        tool_calls=calls,
        now=at,
    )
    return Past(
        key=Place(run_id, step_id),
        at=at,
        arguments=arguments,
        verdict="" if is_later else judged,
        around=around,
        counts=is_call and _counts(status, error, tool),
    )


def _counts(status: str, error: str, tool: ToolManifest) -> bool:
    """Whether totals of the day have a call that ended so."""
    if status in (StepStatus.STARTED, StepStatus.DONE, StepStatus.UNKNOWN):
        return True
    return error in tallies.MAY_HAVE_HAPPENED and tool.retry not in ("transactional", "read")
