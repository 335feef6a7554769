"""Runs by the million, made inside the database from one row of each kind that the builders made."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

BATCH = 20_000
DAYS = 30
AGENTS = 5
WAITING = 200

# Moment and id of the n-th run follow from n, so that a step finds its run without looking. Ids sort by time.
FUNCTIONS_SQL = """
CREATE FUNCTION pg_temp.at(n bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT '{newest}'::timestamptz - n * '{apart} microseconds'::interval
$$;
CREATE FUNCTION pg_temp.key(salt text, n bigint, run bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM pg_temp.at(run)) * 1000)::bigint), 12, '0') || '7' || substr(h, 1, 3)
        || '8' || substr(h, 4, 15))::uuid FROM md5(salt || n) AS h
$$
"""
STATUS = """CASE WHEN n % 100 < 86 THEN 'succeeded' WHEN n % 100 < 91 THEN 'failed' WHEN n % 100 < 95 THEN 'escalated'
    WHEN n % 100 < 98 THEN 'refused' ELSE 'cancelled' END"""
CAUSE = """CASE WHEN n % 100 < 86 THEN 'answered' WHEN n % 100 < 91 THEN 'internal_error'
    WHEN n % 100 < 95 THEN 'handed_off' WHEN n % 100 < 98 THEN 'declined' ELSE 'cancelled' END"""
WISH = "(ARRAY['Refund', 'Exchange', 'Address change', 'Complaint', 'Late parcel', 'Invoice', 'Warranty'])[1 + n % 7]"
TITLE = f"{WISH} for order ' || n || CASE WHEN n % 5000 = 0 THEN ', broken lamp' ELSE '' END".replace(
    "] for order '", "] || ' for order '"
)
TOOLS = "CASE WHEN n % 10 = 0 THEN ARRAY['lookup_order', 'issue_refund'] ELSE ARRAY['lookup_order'] END"


@dataclass(frozen=True)
class Made:
    """What the pages are asked for: an ordinary run in the middle, a very long one, and a step of that."""

    run: Any
    long_run: Any
    step: Any


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def fill(runs: int, steps: int, long: int) -> Made:
    """Runs of `steps` steps each over a month, one of `long` steps, some that wait, and the overview's rollups."""
    from django.db import connection
    from django.utils.timezone import now

    from runtime.models import Run, Step
    from runtime.states import RunStatus, StepKind
    from telemetry import rollups
    from tests import builders

    agents = [builders.a_release(builders.an_agent(f"agent-{n}")).agent for n in range(AGENTS)]
    like = builders.a_run(RunStatus.SUCCEEDED, agent=agents[0], model_calls=5, tool_calls=4)
    builders.an_event(like)
    builders.a_step(like, StepKind.TOOL, input={"arguments": {"order_id": "1042"}}, output={"content": "Delivered."})
    long_run = builders.a_run(agent=agents[0], steps_used=long, seq=long + 1)
    for n in range(WAITING):
        builders.an_approval(builders.a_run(RunStatus.WAITING, agent=agents[n % AGENTS]))
    with connection.cursor() as cursor:
        apart = timedelta(days=DAYS) / runs
        newest = (now() - timedelta(minutes=2)).isoformat()
        cursor.execute(FUNCTIONS_SQL.format(newest=newest, apart=round(apart.total_seconds() * 1_000_000)))
        cursor.execute("SET synchronous_commit TO off")
        rows = _Rows(cursor, like, agents, steps)
        for low in range(1, runs + 1, BATCH):
            rows.add(low, min(low + BATCH - 1, runs))
            tell(f"{min(low + BATCH - 1, runs):,} of {runs:,} runs")
        rows.add_steps(f"'{long_run.pk}'", f"generate_series(1, {long}) AS s, (SELECT 0 AS n) AS one", "long", long)
        cursor.execute("SET synchronous_commit TO on")
        cursor.execute("ANALYZE")
    for hour in rollups.ended_hours(now() - timedelta(days=DAYS + 1)):
        rollups.roll_up(hour)
    ended = Run.objects.filter(status=RunStatus.SUCCEEDED, steps_used=steps).order_by("-created_at")
    return Made(ended[runs // 2], long_run, Step.objects.filter(run=long_run).order_by("seq")[long // 2])


class _Rows:
    """Writes rows that are like those of one run, with what differs computed from the run's number."""

    def __init__(self, cursor: Any, like: Any, agents: list[Any], steps: int) -> None:
        self.cursor = cursor
        self.like = like
        self.steps = steps
        self.agent = self._one_of([agent.pk for agent in agents])
        self.release = self._one_of([agent.active_release_id for agent in agents])

    def add(self, low: int, high: int) -> None:
        from runtime.models import Run, RunEvent, Thread

        numbers = f"generate_series({low}::bigint, {high}) AS n"
        thread, run = "pg_temp.key('thread', n, n)", "pg_temp.key('run', n, n)"
        person = {"principal_id": "'cust-' || n % 100000", "principal_label": "'Customer ' || n % 100000"}
        moments = ("created_at", "queued_at", "started_at", "turn_started_at")
        self._insert(
            Thread,
            self.like.thread_id,
            numbers,
            {"id": thread, "agent_id": self.agent, "created_at": "pg_temp.at(n)", **person},
        )
        self._insert(
            Run,
            self.like.pk,
            numbers,
            {
                "id": run,
                "thread_id": thread,
                "agent_id": self.agent,
                "release_id": self.release,
                "status": STATUS,
                "cause": CAUSE,
                "title": TITLE,
                "input_text": "'About order ' || n || '. ' || repeat('It has not come yet. ', (1 + n % 6)::int)",
                "answer": "'Order ' || n || ' is on its way and comes tomorrow.'",
                "tools_called": TOOLS,
                "cost_usd": "(n % 1000) * 0.0001",
                "working_ms": "200 + n % 9000",
                "steps_used": str(self.steps),
                "seq": str(self.steps + 1),
                "finished_at": "pg_temp.at(n) + interval '4 seconds'",
                **person,
                **dict.fromkeys(moments, "pg_temp.at(n)"),
            },
        )
        self._insert(RunEvent, self.like.events.first().pk, numbers, {"run_id": run, "seq": "1", "at": "pg_temp.at(n)"})
        self.add_steps(run, f"{numbers}, generate_series(1, {self.steps}) AS s", "step", self.steps)

    def add_steps(self, run: str, numbers: str, salt: str, last: int) -> None:
        """Input first, then model and tool in turn, the answer last; each with its payload."""
        from runtime.models import Step, StepPayload

        like = self.like.steps.first().pk
        key = f"pg_temp.key('{salt}', n * {last} + s, n)"
        kind = f"CASE WHEN s = 1 THEN 'input' WHEN s = {last} THEN 'answer' WHEN s % 2 = 0 THEN 'model' ELSE 'tool' END"
        began = "pg_temp.at(n) + (s - 1) * interval '300 milliseconds'"
        values = {
            "id": key,
            "run_id": run,
            "seq": "s + 1",
            "done_seq": "s + 1",
            "kind": kind,
            "name": f"CASE {kind} WHEN 'tool' THEN 'lookup_order' WHEN 'model' THEN 'some-model' ELSE 'Message' END",
            "summary": "'Step ' || s",
            "input_tokens": "CASE WHEN s % 2 = 0 THEN 300 ELSE 0 END",
            "started_at": began,
            "finished_at": f"{began} + interval '250 milliseconds'",
        }
        self._insert(Step, like, numbers, values)
        self._insert(StepPayload, like, numbers, {"step_id": key})

    def _insert(self, model: Any, like: Any, numbers: str, values: dict[str, str]) -> None:
        """Copy the row `like` for each of the numbers, with these columns computed. Automatic keys stay automatic."""
        from django.db import connection

        fields = [
            field
            for field in model._meta.concrete_fields
            if field.column in values or field.get_internal_type() != "BigAutoField"
        ]
        taken = [
            f"({values[field.column]})::{field.db_type(connection)}"
            if field.column in values
            else f'l."{field.column}"'
            for field in fields
        ]
        table, key = model._meta.db_table, model._meta.pk.column
        names = ", ".join(f'"{field.column}"' for field in fields)
        source = f"SELECT {', '.join(taken)} FROM {table} AS l, {numbers} WHERE l.{key} = '{like}'"
        self.cursor.execute(f"INSERT INTO {table} ({names}) {source}")

    @staticmethod
    def _one_of(keys: list[Any]) -> str:
        listed = ", ".join(f"'{key}'" for key in keys)
        return f"(ARRAY[{listed}]::uuid[])[1 + n % {len(keys)}]"
