"""The overview as finished values: what the page and the export show for one address and one person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from console import problems, words
from console.actors import Actor
from releases.models import Agent, Release
from runtime.states import RunStatus
from telemetry import charts, measures, readings
from telemetry.measures import Tile, Unit
from telemetry.models import Dimension, LastRollUp
from telemetry.policies import figures, latency, periods
from telemetry.policies.periods import Period
from telemetry.readings import Counted

MOST_RELEASES = 100
STALE = timedelta(minutes=3)
# The words that the list of runs has for our ranges.
SINCE = {"today": "today", "24h": "day", "7d": "week", "30d": "month"}
STATUSES = {
    "success": RunStatus.SUCCEEDED,
    "refusal": RunStatus.REFUSED,
    "escalation": RunStatus.ESCALATED,
    "failure": RunStatus.FAILED,
}


@dataclass(frozen=True)
class Row:
    """One line of the breakdown: a release, or a tool over all chosen releases."""

    name: str
    detail: str
    counted: Counted
    runs_query: str

    @property
    def runs(self) -> int:
        return self.counted.runs

    @property
    def success(self) -> float | None:
        return figures.share(self.counted.succeeded, self.counted.judged)

    @property
    def refusal(self) -> float | None:
        return figures.share(self.counted.refused, self.counted.judged)

    @property
    def escalation(self) -> float | None:
        return figures.share(self.counted.escalated, self.counted.judged)

    @property
    def failure(self) -> float | None:
        return figures.share(self.counted.failed, self.counted.judged)

    @property
    def steps(self) -> float | None:
        return figures.share(self.counted.steps, self.counted.runs)

    @property
    def p95(self) -> float | None:
        return latency.percentile_ms(self.counted.working, 0.95, at_least=figures.ENOUGH_FOR_P95)

    @property
    def p50(self) -> float | None:
        return latency.percentile_ms(self.counted.working, 0.5, at_least=figures.ENOUGH_FOR_MEDIAN)

    @property
    def cost(self) -> float | None:
        return figures.share(float(self.counted.cost_usd), self.counted.runs)

    @property
    def calls(self) -> int:
        return self.counted.tool_calls

    @property
    def errors(self) -> float | None:
        return figures.share(self.counted.tool_errors, self.counted.tool_calls)

    @property
    def helpful(self) -> float | None:
        return figures.share(self.counted.helpful, self.counted.rated)


@dataclass(frozen=True)
class Column:
    key: str
    label: str
    unit: Unit | None  # None: a count


RELEASE_COLUMNS = (
    Column("runs", "Runs", None),
    Column("success", "Success", Unit.SHARE),
    Column("refusal", "Refused", Unit.SHARE),
    Column("escalation", "Handed off", Unit.SHARE),
    Column("failure", "Failed", Unit.SHARE),
    Column("steps", "Steps", Unit.NUMBER),
    Column("p95", "Working p95", Unit.MS),
    Column("cost", "Cost per run", Unit.USD),
    Column("helpful", "Helpful", Unit.SHARE),
)
TOOL_COLUMNS = (
    Column("runs", "Runs", None),
    Column("calls", "Calls", None),
    Column("errors", "Errors", Unit.SHARE),
    Column("p50", "Median", Unit.MS),
    Column("p95", "p95", Unit.MS),
)


@dataclass(frozen=True)
class Table:
    """Rows in the order asked for; `cells` are finished texts beside each row."""

    columns: tuple[Column, ...]
    rows: list[Row]
    sort: str

    @property
    def lines(self) -> list[tuple[Row, list[tuple[Column, str]]]]:
        return [(row, [(column, text_of(column, row)) for column in self.columns]) for row in self.rows]


@dataclass(frozen=True)
class Choice:
    """What the address asks for."""

    period: Period
    agent: str
    release: str

    @property
    def is_filtered(self) -> bool:
        return bool(self.agent or self.release)


@dataclass(frozen=True)
class Overview:
    choice: Choice
    agents: list[tuple[str, str]]
    releases: list[tuple[str, str]]
    whole: Counted
    tiles: list[Tile]
    figure: dict[str, Any]
    chart: list[charts.Line]
    chart_summary: str
    by_release: Table
    by_tool: Table
    as_of: datetime | None
    is_stale: bool


def build(query: Mapping[str, str], *, by: Actor, now: datetime) -> Overview:
    """Six statements over rollups, whatever the number of runs.

    Raises:
        problems.Missing: the agent or release is unknown, or not open to this person.
    """
    period = periods.period(query.get("range", ""), now.astimezone(UTC))
    choice = Choice(period, query.get("agent", ""), query.get("release", ""))
    agents = _agents(by)
    releases = _releases(agents)
    scope = _scope(choice, agents, releases)
    slots, before = readings.by_slot(period, scope)
    groups = readings.by_group(period, scope)
    whole = readings.total(slots)
    last = LastRollUp.objects.first()
    return Overview(
        choice=choice,
        agents=[(agent.slug, agent.name) for agent in agents.values()],
        releases=_versions(choice, agents, releases),
        whole=whole,
        tiles=[measures.tile(each, slots, whole, before, period.against) for each in measures.MEASURES],
        figure=charts.figure(period, slots),
        chart=charts.table(period, slots),
        chart_summary=charts.summary(period, whole),
        by_release=_table(RELEASE_COLUMNS, _release_rows(choice, groups, agents, releases), query.get("sort", "")),
        by_tool=_table(TOOL_COLUMNS, _tool_rows(choice, groups), query.get("tool_sort", "")),
        as_of=last.at if last else None,
        is_stale=last is None or now - last.at > STALE,
    )


def runs_query(choice: Choice, **more: str) -> str:
    """The query string of the list of runs that shows what a figure counts."""
    chosen = {"agent": choice.agent, "release": choice.release, "since": SINCE[choice.period.key], **more}
    return urlencode({name: value for name, value in chosen.items() if value})


def text_of(column: Column, row: Row) -> str:
    value = getattr(row, column.key)
    if value is None:
        return words.NOTHING
    return words.number(value) if column.unit is None else measures.said(column.unit, value)


def _agents(by: Actor) -> dict[UUID, Agent]:
    allowed = by.agents("metrics.read")
    rows = Agent.objects.all() if allowed is None else Agent.objects.filter(slug__in=allowed)
    return {agent.pk: agent for agent in rows}


def _releases(agents: Mapping[UUID, Agent]) -> dict[UUID, Release]:
    rows = Release.objects.filter(agent_id__in=agents).defer("content").order_by("-created_at")
    return {release.pk: release for release in rows[:MOST_RELEASES]}


def _scope(choice: Choice, agents: Mapping[UUID, Agent], releases: Mapping[UUID, Release]) -> readings.Scope:
    chosen = [key for key, agent in agents.items() if choice.agent in ("", agent.slug)]
    if choice.agent and not chosen:
        raise problems.Missing(f"There is no agent {choice.agent[:60]!r}, or it is not open to you.")
    if not choice.release:
        return readings.Scope(chosen)
    found = [key for key, one in releases.items() if one.version == choice.release and one.agent_id in chosen]
    if not found:
        raise problems.Missing(f"There is no release {choice.release[:60]!r} here, or it is not open to you.")
    return readings.Scope(chosen, found)


def _versions(choice: Choice, agents: Mapping[UUID, Agent], releases: Mapping[UUID, Release]) -> list[tuple[str, str]]:
    shown = [one for one in releases.values() if choice.agent in ("", agents[one.agent_id].slug)]
    return [(version, version) for version in dict.fromkeys(one.version for one in shown)]


def _release_rows(
    choice: Choice,
    groups: Mapping[readings.Key, Counted],
    agents: Mapping[UUID, Agent],
    releases: Mapping[UUID, Release],
) -> Iterable[Row]:
    for (dimension, agent_id, release_id, _), counted in groups.items():
        if dimension == Dimension.RUN and agent_id in agents:
            agent, release = agents[agent_id], releases.get(release_id)
            version = release.version if release else ""
            query = runs_query(choice, agent=agent.slug, release=version)
            yield Row(agent.name, version or "an old release", counted, query)


def _tool_rows(choice: Choice, groups: Mapping[readings.Key, Counted]) -> Iterable[Row]:
    tools: dict[str, Counted] = {}
    for (dimension, _, _, name), counted in groups.items():
        if dimension == Dimension.TOOL and counted.tool_calls:
            tools.setdefault(name, Counted()).add(counted)
    return [Row(name, "", counted, runs_query(choice, tool=name)) for name, counted in tools.items()]


def _table(columns: tuple[Column, ...], rows: Iterable[Row], sort: str) -> Table:
    """Largest first by the asked column; lines without a value stand last."""
    known = {column.key for column in columns}
    key = sort if sort in known else "runs"

    def place(row: Row) -> tuple[bool, float, str, str]:
        value = getattr(row, key)
        return value is None, -(value or 0), row.name, row.detail

    return Table(columns, sorted(rows, key=place), key)
