"""Counting the runs that ended in an hour into metric points, in one statement and always from scratch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from django.db import connection, transaction
from django.utils import timezone

from console import live
from telemetry.models import LastRollUp, MetricPoint
from telemetry.policies import latency

HOUR = timedelta(hours=1)
# How far back the periodic job looks for hours it missed; `manage.py roll_up` goes further.
CATCH_UP = timedelta(days=31)
TOPIC = "metrics"
# Two workers may roll up at the same time: the second waits and then finds the same rows.
LOCK = 0x6D657472

BUCKET = "floor(ln(greatest({ms}, 1)::float8) / %(ln_growth)s)::int"

RUNS_SQL = f"""
WITH ended AS (
    SELECT r.*, r.status <> 'cancelled' AS counts
    FROM runtime_run r
    WHERE r.finished_at >= %(hour)s AND r.finished_at < %(end)s AND r.kind = 'live'
), working AS (
    SELECT agent_id, release_id, jsonb_object_agg(bucket, n) AS histogram FROM (
        SELECT agent_id, release_id, {BUCKET.format(ms="working_ms")} AS bucket, count(*) AS n
        FROM ended WHERE counts GROUP BY 1, 2, 3
    ) AS buckets GROUP BY 1, 2
), parked AS (
    SELECT agent_id, release_id, jsonb_object_agg(bucket, n) AS histogram FROM (
        SELECT agent_id, release_id, {BUCKET.format(ms="parked_ms")} AS bucket, count(*) AS n
        FROM ended WHERE parked_ms > 0 GROUP BY 1, 2, 3
    ) AS buckets GROUP BY 1, 2
), said AS (
    SELECT run_id, count(*) FILTER (WHERE score = 1) AS helpful, count(*) FILTER (WHERE score = -1) AS unhelpful
    FROM telemetry_feedback WHERE run_id IN (SELECT id FROM ended) GROUP BY 1
)
INSERT INTO telemetry_metricpoint (
    hour, agent_id, release_id, dimension, name,
    runs, succeeded, refused, escalated, failed, cancelled, expired, steps, tool_calls, tool_errors,
    input_tokens, cached_tokens, output_tokens, cost_usd, estimated_runs, unpriced_runs, parked_runs,
    working_histogram, parked_histogram, helpful, unhelpful, rolled_up_at
)
SELECT
    %(hour)s, e.agent_id, e.release_id, 'run', '',
    count(*),
    count(*) FILTER (WHERE status = 'succeeded'),
    count(*) FILTER (WHERE status = 'refused'),
    count(*) FILTER (WHERE status = 'escalated'),
    count(*) FILTER (WHERE status = 'failed'),
    count(*) FILTER (WHERE status = 'cancelled'),
    count(*) FILTER (WHERE status = 'expired'),
    coalesce(sum(e.steps_used), 0), 0, 0,
    coalesce(sum(e.input_tokens), 0), coalesce(sum(e.cached_tokens), 0), coalesce(sum(e.output_tokens), 0),
    coalesce(sum(e.cost_usd), 0),
    count(*) FILTER (WHERE cost_basis = 'estimated'),
    count(*) FILTER (WHERE cost_basis = 'unpriced'),
    count(*) FILTER (WHERE parked_ms > 0),
    coalesce(min(w.histogram::text)::jsonb, '{{}}'), coalesce(min(p.histogram::text)::jsonb, '{{}}'),
    coalesce(sum(s.helpful), 0), coalesce(sum(s.unhelpful), 0), %(now)s
FROM ended e
LEFT JOIN working w USING (agent_id, release_id)
LEFT JOIN parked p USING (agent_id, release_id)
LEFT JOIN said s ON s.run_id = e.id
GROUP BY e.agent_id, e.release_id
"""  # noqa: S608  # only constants of this module

TOOLS_SQL = f"""
WITH calls AS (
    SELECT r.agent_id, r.release_id, r.id AS run_id, s.name, s.status,
        greatest(extract(epoch FROM s.finished_at - s.started_at) * 1000, 0) AS ms
    FROM runtime_run r JOIN runtime_step s ON s.run_id = r.id
    WHERE r.finished_at >= %(hour)s AND r.finished_at < %(end)s AND r.kind = 'live'
        AND s.kind IN ('tool', 'retrieval')
        AND (r.forked_at_step IS NULL OR s.fence > 0)  -- what a fork took over counts for the run that did it
), judged AS (
    -- A refusal of what no release offers names whatever the model made up: it is nobody's tool.
    SELECT r.agent_id, r.release_id, p.input->'call'->>'name' AS name, s.verdict
    FROM runtime_run r JOIN runtime_step s ON s.run_id = r.id JOIN runtime_steppayload p ON p.step_id = s.id
    WHERE r.finished_at >= %(hour)s AND r.finished_at < %(end)s AND r.kind = 'live'
        AND s.kind = 'guardrail' AND s.call_id <> '' AND s.verdict IN ('refused', 'asked') AND s.rule <> 'release-tools'
        AND length(p.input->'call'->>'name') BETWEEN 1 AND 80
        AND (r.forked_at_step IS NULL OR s.fence > 0)
), buckets AS (
    SELECT agent_id, release_id, name, {BUCKET.format(ms="ms")} AS bucket, count(*) AS n
    FROM calls WHERE ms IS NOT NULL GROUP BY 1, 2, 3, 4
), took AS (
    SELECT agent_id, release_id, name, jsonb_object_agg(bucket, n) AS histogram FROM buckets GROUP BY 1, 2, 3
), counted AS (
    SELECT agent_id, release_id, name, count(DISTINCT run_id) AS runs, count(*) AS calls,
        count(*) FILTER (WHERE status IN ('failed', 'unknown')) AS errors, 0 AS refused, 0 AS asked
    FROM calls GROUP BY 1, 2, 3
    UNION ALL
    SELECT agent_id, release_id, name, 0, 0, 0,
        count(*) FILTER (WHERE verdict = 'refused'), count(*) FILTER (WHERE verdict = 'asked')
    FROM judged GROUP BY 1, 2, 3
)
INSERT INTO telemetry_metricpoint (
    hour, agent_id, release_id, dimension, name,
    runs, succeeded, refused, escalated, failed, cancelled, expired, steps, tool_calls, tool_errors,
    tool_refused, tool_asked,
    input_tokens, cached_tokens, output_tokens, cost_usd, estimated_runs, unpriced_runs, parked_runs,
    working_histogram, parked_histogram, helpful, unhelpful, rolled_up_at
)
SELECT
    %(hour)s, c.agent_id, c.release_id, 'tool', c.name,
    sum(c.runs), 0, 0, 0, 0, 0, 0, 0,
    sum(c.calls), sum(c.errors), sum(c.refused), sum(c.asked),
    0, 0, 0, 0, 0, 0, 0,
    coalesce(min(t.histogram::text)::jsonb, '{{}}'), '{{}}', 0, 0, %(now)s
FROM counted c LEFT JOIN took t USING (agent_id, release_id, name)
GROUP BY c.agent_id, c.release_id, c.name
"""  # noqa: S608

HOURS_SQL = """
SELECT DISTINCT date_trunc('hour', finished_at, 'UTC') FROM runtime_run
WHERE finished_at >= %s AND kind = 'live' ORDER BY 1
"""


def hour_of(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


@transaction.atomic
def roll_up(hour: datetime) -> int:
    """Count one hour again, from its runs and their steps. Returns how many points it has now."""
    hour = hour_of(hour)
    values: dict[str, datetime | float] = {
        "hour": hour,
        "end": hour + HOUR,
        "now": timezone.now(),
        "ln_growth": latency.LN_GROWTH,
    }
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s, %s)", [LOCK, int(hour.timestamp()) // 3600])
        MetricPoint.objects.filter(hour=hour).delete()
        points = 0
        for statement in (RUNS_SQL, TOOLS_SQL):
            cursor.execute(statement, values)
            points += cursor.rowcount
        return points


def roll_up_recent(now: datetime) -> int:
    """Count the present and the previous hour, and each hour that was missed while nobody counted.

    Returns how many hours were counted. Open pages are told.
    """
    last = LastRollUp.objects.first()
    previous = hour_of(now) - HOUR
    since = max(min(previous, hour_of(last.at) - HOUR), now - CATCH_UP) if last else now - CATCH_UP
    hours = {*ended_hours(since), hour_of(now), previous}
    for hour in sorted(hours):
        roll_up(hour)
    LastRollUp.objects.update_or_create(pk=1, defaults={"at": now})
    live.announce(TOPIC)
    return len(hours)


def ended_hours(since: datetime) -> list[datetime]:
    """The hours, from `since` on, in which a live run ended."""
    with connection.cursor() as cursor:
        cursor.execute(HOURS_SQL, [hour_of(since)])
        return [row[0] for row in cursor.fetchall()]
