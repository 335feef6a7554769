"""Entry point for programs: the tools with their labels, releases, use and state."""

from __future__ import annotations

from typing import Any

from django.utils import timezone
from ninja import Query, Router, Schema
from pydantic import Field

from console import envelope, ids
from console.access import Request
from console.bearer import Token
from releases.bundles import Effect
from releases.policies import labelling
from runtime.states import BreakerState
from telemetry import inventory, tool_use
from telemetry.inventory import Line
from telemetry.tool_use import Use

router = Router(tags=["Tools"])


class ToolFilters(envelope.Filters):
    q: str = Field("", max_length=200, description="Words of the name or the description")
    effect: Effect | None = Field(None, description="read, write, egress or destructive")
    active: bool | None = Field(None, description="true: only tools of active releases")


class OfferOut(Schema):
    agent: str
    release_id: str = Field(description="The active release of the agent with these labels, else the newest")
    version: str
    is_active: bool
    releases: int = Field(description="How many releases of the agent give the tool these labels")
    labels: dict[str, Any]


class UseOut(Schema):
    days: int
    calls: int
    failed: int
    refused: int = Field(description="Refused by the gate, so never made")
    asked: int = Field(description="A person was asked")
    p50_ms: float | None
    p95_ms: float | None


class ToolOut(Schema):
    name: str
    description: str
    labels: dict[str, Any] = Field(description="Of an active release, else of the newest one, else of the code")
    is_installed: bool = Field(description="Whether the installed code offers it")
    differs_between_releases: bool
    differs_from_code: bool = Field(description="Whether an active release says something else than the code")
    offers: list[OfferOut]
    breaker: BreakerState
    switches: list[str] = Field(description="Engaged kill switches of the tool or its server, in words")
    refused_because: str = Field(description="Of a tool of an MCP server: in a word, why every call is refused now")
    use: UseOut = Field(description="Live runs that ended in the last days")


@router.get("/tools", auth=Token("releases.read"), response=envelope.Page[ToolOut])
def list_tools(request: Request, filters: Query[ToolFilters]) -> Any:
    """Every tool of the releases this token may see, by name; with a right on all agents, installed ones, too."""
    known = sorted(inventory.lines(request.actor), key=lambda line: line.name)
    found = [line for line in known if line.name > filters.cursor and _fits(line, filters)]
    used = tool_use.of_all(request.actor.agents("releases.read"), timezone.now())
    items = found[: filters.limit]
    after = items[-1].name if len(found) > filters.limit else None
    return {"items": [_tool(line, used.get(line.name, Use())) for line in items], "next_cursor": after}


def _fits(line: Line, filters: ToolFilters) -> bool:
    text = f"{line.name} {line.manifest.description}".casefold()
    return (
        all(word in text for word in filters.q.casefold().split())
        and filters.effect in (None, line.manifest.effect)
        and filters.active in (None, line.is_active)
    )


def _tool(line: Line, use: Use) -> dict[str, Any]:
    return {
        "name": line.name,
        "description": line.manifest.description,
        "labels": labelling.labels(line.manifest),
        "is_installed": line.installed is not None,
        "differs_between_releases": line.differs_between_releases,
        "differs_from_code": line.differs_from_code,
        "offers": [
            {
                "agent": offer.slug,
                "release_id": ids.public("rel", offer.named[0].key),
                "version": offer.named[0].version,
                "is_active": offer.is_active,
                "releases": offer.releases,
                "labels": labelling.labels(offer.manifest),
            }
            for offer in line.offers
        ],
        "breaker": line.breaker,
        "switches": [switch.title for switch in line.switches],
        "refused_because": line.refused.label if line.refused else "",
        "use": {
            "days": tool_use.DAYS, "calls": use.calls, "failed": use.failed, "refused": use.refused,
            "asked": use.asked, "p50_ms": use.p50_ms, "p95_ms": use.p95_ms,
        },
    }  # fmt: skip
