"""MCP servers and their tools as the pages show them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db.models import F, Prefetch
from django.utils.text import Truncator

from releases.bundles import ToolManifest
from releases.models import KillSwitch, Release
from releases.states import Scope
from runtime.labels import Badge
from runtime.mcp import configuring, reviews
from runtime.mcp.models import McpReview, McpServer, McpTool
from runtime.mcp.states import Transport
from runtime.policies import offering
from runtime.policies.offering import Standing

BADGES = {
    Standing.NEW: Badge("wait", "circle-dashed", "Not reviewed"),
    Standing.REVIEWED: Badge("ok", "check", "Reviewed"),
    Standing.CHANGED: Badge("bad", "triangle-alert", "Changed"),
    Standing.UNUSABLE: Badge("warn", "ban", "Cannot be used"),
    Standing.GONE: Badge("mute", "circle-off", "Not offered any more"),
}
PARTS = (
    ("description", "Description"),
    ("input_schema", "Schema of the arguments"),
    ("output_schema", "Schema of the result"),
    ("annotations", "What it says of itself"),
)


@dataclass(frozen=True)
class ToolLine:
    tool: McpTool
    standing: Standing

    @property
    def badge(self) -> Badge:
        return BADGES[self.standing]

    @property
    def full_name(self) -> str:
        return offering.full_name(self.tool.server.name, self.tool.name)

    @property
    def description(self) -> str:
        """Its beginning, on one line."""
        return Truncator(re.sub(r"[ \t\n]+", " ", str(self.tool.offer.get("description", "")))).chars(200)


@dataclass(frozen=True)
class ServerLine:
    server: McpServer
    tools: list[ToolLine]
    switches: list[KillSwitch] = field(default_factory=list)

    @property
    def badge(self) -> Badge:
        """The state of the server in one word; what stops more comes first."""
        if self.server.disabled_at is not None:
            return Badge("mute", "circle-pause", "Off")
        if self.server.error:
            return Badge("bad", "unplug", "Cannot be asked")
        if self.server.seen_at is None:
            return Badge("wait", "hourglass", "Not asked yet")
        return Badge("ok", "plug", "Answers")

    @cached_property
    def counts(self) -> list[tuple[Badge, int]]:
        """How many tools stand how, the ones that need a person first."""
        found = Counter(line.standing for line in self.tools)
        order = (Standing.CHANGED, Standing.NEW, Standing.UNUSABLE, Standing.REVIEWED)
        return [(BADGES[standing], found[standing]) for standing in order if found[standing]]

    @property
    def place(self) -> str:
        if self.server.transport == Transport.STDIO:
            return shlex.join(self.server.command)
        return configuring.shown_url(self.server.url)

    @property
    def how(self) -> str:
        return "Program" if self.server.transport == Transport.STDIO else "HTTP"


@dataclass(frozen=True)
class Part:
    """One part of an offer: as reviewed (None: never) and as it is now."""

    label: str
    before: Any
    now: Any


@dataclass(frozen=True)
class ToolPage:
    line: ToolLine
    reviews: list[McpReview]
    parts: list[Part]
    manifest: dict[str, Any] | None
    pinned: list[tuple[Release, bool]]  # active releases with it, and whether they pin what is offered now

    @property
    def reviewed(self) -> McpReview | None:
        """The review that a change is compared with: of what is offered now, else the latest."""
        return _matching(self.line.tool, self.reviews)


def servers() -> list[ServerLine]:
    """Every server, in four queries."""
    found = list(_servers())
    standing = list(KillSwitch.objects.engaged().filter(scope=Scope.SERVER))
    return [
        ServerLine(server, _tool_lines(server), [each for each in standing if each.target == server.name])
        for server in found
    ]


def server(name: str) -> ServerLine:
    """One server with its tools, in three queries.

    Raises:
        McpServer.DoesNotExist: no such server.
    """
    found = _servers().get(name=name)
    return ServerLine(found, _tool_lines(found))


def tool(server_name: str, name: str) -> ToolPage:
    """One tool with its reviews and the releases that pin it.

    Raises:
        McpTool.DoesNotExist: no such tool.
    """
    found = McpTool.objects.select_related("server").get(server__name=server_name, name=name)
    kept = list(found.reviews.all())
    line = ToolLine(found, reviews.standing(found, kept))
    shown = _matching(found, kept)
    before = shown.offer if shown else {}
    parts = [Part(label, before.get(key), found.offer.get(key)) for key, label in PARTS]
    parts = [part for part in parts if part.before is not None or part.now is not None]
    manifest = reviews.manifest_json(found, shown) if line.standing == Standing.REVIEWED and shown else None
    return ToolPage(line, kept, parts, manifest, _pinned(line))


def refused(manifests: Iterable[ToolManifest]) -> dict[str, Badge]:
    """Of these pinned tools those whose calls are refused now, each with the word for why. One query, or none."""
    pinned = {manifest.name: manifest for manifest in manifests if manifest.server}
    if not pinned:
        return {}
    rows = McpTool.objects.filter(server__name__in={manifest.server for manifest in pinned.values()})
    known = {
        offering.full_name(server, name): (digest, off_since is not None)
        for server, name, digest, off_since in rows.values_list("server__name", "name", "digest", "server__disabled_at")
    }
    found = {name: _refused(manifest.schema_digest, *known.get(name, ("", False))) for name, manifest in pinned.items()}
    return {name: badge for name, badge in found.items() if badge}


def _refused(pin: str, offered: str, is_off: bool) -> Badge | None:
    if is_off:
        return Badge("mute", "circle-pause", "Server off")
    if not offered:
        return BADGES[Standing.GONE]
    return BADGES[Standing.CHANGED] if offered != pin else None


def _servers() -> Any:
    kept = Prefetch("reviews", McpReview.objects.defer("offer"))
    return McpServer.objects.prefetch_related(Prefetch("tools", McpTool.objects.prefetch_related(kept)))


def _tool_lines(found: McpServer) -> list[ToolLine]:
    lines = []
    for each in found.tools.all():
        each.server = found
        lines.append(ToolLine(each, reviews.standing(each, list(each.reviews.all()))))
    return lines


def _matching(found: McpTool, kept: list[McpReview]) -> McpReview | None:
    now = next((review for review in kept if review.digest == found.digest), None)
    return now or (kept[0] if kept else None)


def _pinned(line: ToolLine) -> list[tuple[Release, bool]]:
    """Active releases that name the tool."""
    holding = Release.objects.filter(
        agent__active_release=F("pk"), content__tools__contains=[{"name": line.full_name}]
    ).select_related("agent")
    found = []
    for release in holding:
        pins = {each.get("schema_digest") for each in release.content["tools"] if each.get("name") == line.full_name}
        found.append((release, line.tool.digest in pins))
    return found
