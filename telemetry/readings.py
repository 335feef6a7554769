"""Sums over metric points: by slot for tiles and charts, by release and tool for the breakdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection

from telemetry.models import Dimension
from telemetry.policies.periods import Period


@dataclass
class Counted:
    """What was counted in some stretch of time: runs, what they used, and their tool calls."""

    runs: int = 0
    succeeded: int = 0
    refused: int = 0
    escalated: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    steps: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    estimated_runs: int = 0
    unpriced_runs: int = 0
    parked_runs: int = 0
    helpful: int = 0
    unhelpful: int = 0
    working: dict[int, int] = field(default_factory=dict)
    parked: dict[int, int] = field(default_factory=dict)

    @property
    def judged(self) -> int:
        """Runs whose end says something about the agent: somebody stopped the others."""
        return self.runs - self.cancelled

    @property
    def rated(self) -> int:
        return self.helpful + self.unhelpful

    def add(self, other: Counted) -> None:
        for name in NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.working, other.working), (self.parked, other.parked)):
            for bucket, count in theirs.items():
                mine[bucket] = mine.get(bucket, 0) + count


NUMBERS = [one.name for one in fields(Counted) if one.name not in {"working", "parked"}]
TOOL_NUMBERS = ["tool_calls", "tool_errors"]
RUN_NUMBERS = [name for name in NUMBERS if name not in TOOL_NUMBERS]
BEFORE = -1


@dataclass(frozen=True)
class Scope:
    """Which points count: those of these agents, and of these releases unless None."""

    agents: list[UUID]
    releases: list[UUID] | None = None

    def parameters(self, period: Period) -> dict[str, Any]:
        return {
            "start": period.start, "end": period.end, "before": period.before, "before_end": period.before_end,
            "slot": period.slot.total_seconds(), "agents": self.agents, "releases": self.releases,
            "tool": Dimension.TOOL, "run": Dimension.RUN,
        }  # fmt: skip


SUMS = ", ".join(f"sum({name})" for name in NUMBERS)
SLOT = "CASE WHEN hour < %(start)s THEN -1 ELSE floor(extract(epoch FROM hour - %(start)s) / %(slot)s)::int END"
SCOPE = "agent_id = ANY(%(agents)s) AND (%(releases)s::uuid[] IS NULL OR release_id = ANY(%(releases)s))"
BOTH = "(hour >= %(start)s AND hour < %(end)s OR hour >= %(before)s AND hour < %(before_end)s)"
NOW = "hour >= %(start)s AND hour < %(end)s"
POINTS = "FROM telemetry_metricpoint WHERE"
BUCKETS = """
CROSS JOIN LATERAL (
    SELECT 'working' AS which, * FROM jsonb_each_text(working_histogram)
    UNION ALL SELECT 'parked', * FROM jsonb_each_text(parked_histogram)
) AS bucket
"""

SLOTS_SQL = f"SELECT dimension, {SLOT}, {SUMS} {POINTS} {SCOPE} AND {BOTH} GROUP BY 1, 2"
SLOT_BUCKETS_SQL = f"""
SELECT {SLOT}, which, key::int, sum(value::int) FROM telemetry_metricpoint {BUCKETS}
WHERE dimension = %(run)s AND {SCOPE} AND {BOTH} GROUP BY 1, 2, 3
"""  # noqa: S608  # only constants of this module
GROUPS_SQL = f"SELECT dimension, agent_id, release_id, name, {SUMS} {POINTS} {SCOPE} AND {NOW} GROUP BY 1, 2, 3, 4"
GROUP_BUCKETS_SQL = f"""
SELECT dimension, agent_id, release_id, name, key::int, sum(value::int) FROM telemetry_metricpoint {BUCKETS}
WHERE which = 'working' AND {SCOPE} AND {NOW} GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608


def by_slot(period: Period, scope: Scope) -> tuple[list[Counted], Counted]:
    """One reading for each slot of the period, and one for the whole stretch before it."""
    found = {number: Counted() for number in range(BEFORE, len(period.slots))}
    for dimension, slot, *sums in _rows(SLOTS_SQL, scope.parameters(period)):
        wanted = TOOL_NUMBERS if dimension == Dimension.TOOL else RUN_NUMBERS
        _take(found[slot], dict(zip(NUMBERS, sums, strict=True)), wanted)
    for slot, which, bucket, count in _rows(SLOT_BUCKETS_SQL, scope.parameters(period)):
        getattr(found[slot], which)[bucket] = int(count)
    before = found.pop(BEFORE)
    return [found[number] for number in sorted(found)], before


Key = tuple[str, UUID, UUID, str]  # dimension, agent, release, tool


def by_group(period: Period, scope: Scope) -> dict[Key, Counted]:
    """One reading for each release, and for each tool of each release."""
    found: dict[Key, Counted] = {}
    for dimension, agent, release, name, *sums in _rows(GROUPS_SQL, scope.parameters(period)):
        counted = found[dimension, agent, release, name] = Counted()
        _take(counted, dict(zip(NUMBERS, sums, strict=True)), NUMBERS)
    for dimension, agent, release, name, bucket, count in _rows(GROUP_BUCKETS_SQL, scope.parameters(period)):
        found[dimension, agent, release, name].working[bucket] = int(count)
    return found


def total(counted: Iterable[Counted]) -> Counted:
    whole = Counted()
    for one in counted:
        whole.add(one)
    return whole


def _take(counted: Counted, sums: Mapping[str, Any], names: Iterable[str]) -> None:
    for name in names:
        value = sums[name] or 0
        setattr(counted, name, Decimal(value) if name == "cost_usd" else int(value))


def _rows(statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows
