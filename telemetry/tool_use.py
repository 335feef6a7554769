"""How tools were used lately: calls, refusals, questions, failures and durations, from the rollups of seven days."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection

from telemetry.models import Dimension
from telemetry.policies import figures, latency

DAY = timedelta(days=1)
DAYS = 7

# The unique index begins with the hour, so that only the points of the window are read.
POINTS = """
WITH points AS (
    SELECT p.name, {slot} AS slot, p.tool_calls, p.tool_errors, p.tool_refused, p.tool_asked, p.working_histogram
    FROM telemetry_metricpoint p JOIN releases_agent a ON a.id = p.agent_id
    WHERE p.hour >= %(since)s AND p.hour < %(end)s AND p.dimension = %(tool)s
        AND (%(agents)s::text[] IS NULL OR a.slug = ANY(%(agents)s))
        AND (%(name)s = '' OR p.name = %(name)s)
), buckets AS (
    SELECT name, slot, key, sum(value::int) AS n FROM points, jsonb_each_text(working_histogram) GROUP BY 1, 2, 3
), took AS (
    SELECT name, slot, jsonb_object_agg(key, n) AS histogram FROM buckets GROUP BY 1, 2
), sums AS (
    SELECT name, slot, sum(tool_calls) AS calls, sum(tool_errors) AS failed, sum(tool_refused) AS refused,
        sum(tool_asked) AS asked
    FROM points GROUP BY 1, 2
)
SELECT name, slot, calls, failed, refused, asked, coalesce(histogram, '{{}}')
FROM sums LEFT JOIN took USING (name, slot)
"""
WHOLE_SQL = POINTS.format(slot="0")
DAILY_SQL = POINTS.format(slot="floor(extract(epoch FROM p.hour - %(since)s) / 86400)::int")


@dataclass(frozen=True)
class Use:
    """Calls of live runs that ended in the window. Refused calls were never made; durations are of those made."""

    calls: int = 0
    failed: int = 0
    refused: int = 0
    asked: int = 0
    took: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_any(self) -> bool:
        return bool(self.calls or self.refused or self.asked)

    @property
    def p50_ms(self) -> float | None:
        return latency.percentile_ms(self.took, 0.5, at_least=figures.ENOUGH_FOR_MEDIAN)

    @property
    def p95_ms(self) -> float | None:
        return latency.percentile_ms(self.took, 0.95, at_least=figures.ENOUGH_FOR_P95)


def of_all(agents: frozenset[str] | None, now: datetime) -> dict[str, Use]:
    """Use of every tool by name, in runs of these agents; None means all. One statement."""
    return {name: use for (name, _), use in _read(WHOLE_SQL, agents, now).items()}


def of_days(name: str, agents: frozenset[str] | None, now: datetime) -> list[tuple[datetime, Use]]:
    """Use of one tool day by day (UTC), oldest first, the present one included. One statement."""
    found = _read(DAILY_SQL, agents, now, name=name)
    return [(_since(now) + number * DAY, found.get((name, number), Use())) for number in range(DAYS)]


def _since(now: datetime) -> datetime:
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return today - (DAYS - 1) * DAY


def _read(sql: str, agents: frozenset[str] | None, now: datetime, *, name: str = "") -> dict[tuple[str, int], Use]:
    values: dict[str, Any] = {
        "since": _since(now), "end": _since(now) + DAYS * DAY, "tool": Dimension.TOOL, "name": name,
        "agents": None if agents is None else sorted(agents),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return {
            (tool, slot): Use(int(calls), int(failed), int(refused), int(asked), _histogram(took))
            for tool, slot, calls, failed, refused, asked, took in cursor.fetchall()
        }


def _histogram(stored: Any) -> dict[int, int]:
    found: dict[str, int] = json.loads(stored) if isinstance(stored, str) else stored
    return {int(bucket): int(count) for bucket, count in found.items()}
