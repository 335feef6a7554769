"""What must be true after chaos, asked of the journal and of the tables of effects by SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection

from approvals.models import ApprovalRequest
from console import ids
from releases.models import Agent
from runtime.models import Run
from runtime.states import FINAL, PARKED

# Each statement yields one row for each fault, with its place. Parameters: agent, final, accepted.
LOST = {
    "accepted run is in no row": """
        SELECT id::text FROM unnest(%(accepted)s::uuid[]) AS id
        WHERE NOT EXISTS (SELECT 1 FROM runtime_run WHERE runtime_run.id = id.id)""",
}
# Everybody was answered and every delay has passed, so a run that a worker could go on with is stuck.
STUCK = {
    "still running": "SELECT id::text FROM runtime_run WHERE agent_id = %(agent)s AND status = 'running'",
    "still queued": "SELECT id::text FROM runtime_run WHERE agent_id = %(agent)s AND status = 'queued'",
}
DUPLICATED = {
    "effect that may happen once happened again": """
        SELECT tool || ' ' || mark || ' x' || count(*) FROM chaos_effect GROUP BY tool, mark HAVING count(*) > 1""",
    "key used for two effects": """
        SELECT key || ' x' || count(*) FROM chaos_effect GROUP BY key HAVING count(*) > 1""",
    "one call noted under two keys": """
        SELECT mark || ' x' || count(*) FROM chaos_note GROUP BY mark HAVING count(*) > 1""",
    "key with another result than its first": """
        SELECT step.idempotency_key FROM runtime_step AS step
            JOIN runtime_steppayload AS payload ON payload.step_id = step.id
            JOIN chaos_note AS note ON note.key = step.idempotency_key
        WHERE step.status = 'done' AND payload.output ->> 'result' <> note.result""",
}
JOURNAL = {
    "effect without a committed intent": """
        SELECT effect.mark FROM (SELECT key, mark FROM chaos_effect UNION SELECT key, mark FROM chaos_note) AS effect
        WHERE NOT EXISTS (SELECT 1 FROM runtime_step WHERE idempotency_key = effect.key)""",
    "payment whose step does not say so": """
        SELECT effect.mark FROM chaos_effect AS effect JOIN runtime_step AS step ON step.idempotency_key = effect.key
        WHERE tool = 'chaos_pay' AND step.status <> 'done'""",
    "call that is done and had no effect": """
        SELECT step.idempotency_key FROM runtime_step AS step JOIN runtime_run AS run ON run.id = step.run_id
        WHERE run.agent_id = %(agent)s AND step.name IN ('chaos_pay', 'chaos_send') AND step.status = 'done'
            AND NOT EXISTS (SELECT 1 FROM chaos_effect WHERE key = step.idempotency_key)""",
    "payment over the limit that no person approved": """
        SELECT step.idempotency_key FROM runtime_step AS step
            JOIN runtime_steppayload AS payload ON payload.step_id = step.id
            JOIN chaos_effect AS effect ON effect.key = step.idempotency_key
        WHERE tool = 'chaos_pay' AND (payload.input -> 'arguments' ->> 'amount')::numeric > 100 AND NOT EXISTS (
            SELECT 1 FROM runtime_step AS asked WHERE asked.run_id = step.run_id AND asked.kind = 'approval'
                AND asked.call_id = step.call_id AND asked.seq < step.seq
                AND asked.verdict IN ('approved', 'edited'))""",
    "number of seq used twice, or beyond the run's": """
        SELECT run.id::text FROM runtime_run AS run JOIN LATERAL (
            SELECT seq FROM runtime_step WHERE run_id = run.id
            UNION ALL SELECT done_seq FROM runtime_step WHERE run_id = run.id AND done_seq <> seq
            UNION ALL SELECT seq FROM runtime_runevent WHERE run_id = run.id) AS used ON true
        WHERE run.agent_id = %(agent)s
        GROUP BY run.id HAVING count(*) <> count(DISTINCT used.seq) OR max(used.seq) > run.seq OR min(used.seq) < 1""",
    # A result that replaces another one (unknown, then settled) or comes second takes a number that is in no row.
    "number of seq that nothing explains the lack of": """
        SELECT run.id::text || ': ' || run.seq - used.numbers || ' missing' FROM runtime_run AS run JOIN LATERAL (
            SELECT count(DISTINCT seq) AS numbers FROM (
                SELECT seq FROM runtime_step WHERE run_id = run.id
                UNION ALL SELECT done_seq FROM runtime_step WHERE run_id = run.id
                UNION ALL SELECT seq FROM runtime_runevent WHERE run_id = run.id) AS each
            ) AS used ON true JOIN LATERAL (
            SELECT count(*) AS replaced FROM runtime_step WHERE run_id = run.id AND kind IN ('approval', 'tool')
            ) AS calls ON true
        WHERE run.agent_id = %(agent)s AND run.seq - used.numbers > calls.replaced""",
    "step under a lower fence than the one before it": """
        SELECT DISTINCT run_id::text FROM (
            SELECT run_id, fence, lag(fence) OVER (PARTITION BY run_id ORDER BY seq) AS before
            FROM runtime_step WHERE run_id IN (SELECT id FROM runtime_run WHERE agent_id = %(agent)s)
        ) AS step WHERE fence < before""",
    "call with more than one result": """
        SELECT run_id::text || ' ' || call_id FROM runtime_step
        WHERE kind IN ('tool', 'retrieval') AND status = 'done'
            AND run_id IN (SELECT id FROM runtime_run WHERE agent_id = %(agent)s)
        GROUP BY run_id, call_id HAVING count(*) > 1""",
    "ended run without a cause, or without exactly one event of its end": """
        SELECT run.id::text FROM runtime_run AS run WHERE agent_id = %(agent)s AND status = ANY (%(final)s)
            AND (cause = '' OR finished_at IS NULL OR (
                SELECT count(*) FROM runtime_runevent WHERE run_id = run.id AND kind = 'run.finished') <> 1)""",
    "ended run without a last step, although a worker ended it": """
        SELECT run.id::text FROM runtime_run AS run WHERE agent_id = %(agent)s AND status = ANY (%(final)s)
            AND status NOT IN ('cancelled', 'expired')
            AND NOT EXISTS (SELECT 1 FROM runtime_step WHERE run_id = run.id AND kind = 'answer')""",
    "run that an error of ours ended": """
        SELECT id::text || ': ' || cause_detail FROM runtime_run
        WHERE agent_id = %(agent)s AND cause = 'internal_error'""",
    "ended run with an open step": """
        SELECT run.id::text || ' ' || step.kind || ' ' || step.name FROM runtime_run AS run
            JOIN runtime_step AS step ON step.run_id = run.id
        WHERE agent_id = %(agent)s AND run.status = ANY (%(final)s) AND step.status = 'started'""",
}
COUNTS_SQL = "SELECT status, cause, count(*) FROM runtime_run WHERE agent_id = %s GROUP BY status, cause"


@dataclass(frozen=True)
class Judgement:
    """Faults by their words, each with the places where they were found."""

    lost: dict[str, list[str]]
    stuck: dict[str, list[str]]
    duplicated: dict[str, list[str]]
    journal: dict[str, list[str]]

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.stuck or self.duplicated or self.journal)


def judge(agent: Agent, accepted: Sequence[UUID]) -> Judgement:
    """Look at everything that the load left behind."""
    given = {"agent": agent.pk, "final": [str(status) for status in FINAL], "accepted": list(accepted)}
    lost, stuck, duplicated, journal = (_found(rules, given) for rules in (LOST, STUCK, DUPLICATED, JOURNAL))
    if unasked := _parked_for_nothing(agent):
        lost["parked run that nobody is asked about"] = unasked
    return Judgement(lost, stuck, duplicated, journal)


def count(faults: dict[str, list[str]]) -> int:
    return sum(len(places) for places in faults.values())


def ends(agent: Agent) -> dict[str, int]:
    """How the runs ended: `status: cause`, counted."""
    with connection.cursor() as cursor:
        cursor.execute(COUNTS_SQL, [agent.pk])
        return {f"{status}: {cause or '-'}": number for status, cause, number in cursor.fetchall()}


def number(sql: str, *values: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return int(cursor.fetchone()[0])


def _parked_for_nothing(agent: Agent) -> list[str]:
    parked = Run.objects.filter(agent=agent, status__in=PARKED).values_list("pk", flat=True)
    asked = ApprovalRequest.objects.open().filter(agent=agent.slug).values_list("subject_id", flat=True)
    subjects = {subject.partition(":")[0] for subject in asked}
    return [str(key) for key in parked if ids.public("run", key) not in subjects]


def _found(rules: dict[str, str], given: dict[str, Any]) -> dict[str, list[str]]:
    found = {}
    with connection.cursor() as cursor:
        for words, sql in rules.items():
            cursor.execute(sql, given)
            if rows := [row[0] for row in cursor.fetchall()]:
                found[words] = rows
    return found
