"""Every tool that a release or the installed code offers: its labels, who has it, and whether the labels agree."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.urls import reverse

from console.actors import Actor
from releases import labels
from releases.bundles import ToolManifest
from releases.models import KillSwitch
from releases.policies import label_words, labelling, sentences
from releases.policies.label_words import ChangedLabel
from releases.states import SERVER_MARK, Scope
from runtime import breakers
from runtime.labels import Badge
from runtime.mcp import boards
from runtime.models import Breaker
from runtime.states import BreakerKind, BreakerState

MOST_RELEASES = 500  # looked into, newest first; active ones are always
MOST_NAMED = 50  # releases named for one set of labels

# One row for each agent and set of labels, with the newest tool that has them. Words are no labels.
TOOLS_SQL = """
WITH newest AS (
    SELECT r.id, coalesce(a.active_release_id = r.id, false) AS active,
        row_number() OVER (ORDER BY r.created_at DESC, r.id DESC) AS place
    FROM releases_release r JOIN releases_agent a ON a.id = r.agent_id
    WHERE %(agents)s::text[] IS NULL OR a.slug = ANY(%(agents)s)
), chosen AS (
    SELECT r.id, r.agent_id, r.version, r.created_at, n.active, r.content->'tools' AS tools
    FROM newest n JOIN releases_release r USING (id) WHERE n.place <= %(most)s OR n.active
), offered AS (
    SELECT c.*, tool, tool->>'name' AS name, tool - %(words)s::text[] AS labels
    FROM chosen c, jsonb_array_elements(c.tools) AS tool WHERE %(name)s = '' OR tool->>'name' = %(name)s
)
SELECT o.name, a.slug, a.name, bool_or(active), count(*), max(o.created_at),
    (array_agg(o.id ORDER BY active DESC, o.created_at DESC))[1:%(named)s],
    (array_agg(o.version ORDER BY active DESC, o.created_at DESC))[1:%(named)s],
    (array_agg(tool - %(left_out)s::text[] ORDER BY active DESC, o.created_at DESC))[1]
FROM offered o JOIN releases_agent a ON a.id = o.agent_id
GROUP BY o.name, a.slug, a.name, labels
ORDER BY o.name, bool_or(active) DESC, max(o.created_at) DESC
"""
COUNT_SQL = """
SELECT count(*) FROM releases_release r JOIN releases_agent a ON a.id = r.agent_id
WHERE %(agents)s::text[] IS NULL OR a.slug = ANY(%(agents)s)
"""


@dataclass(frozen=True)
class Named:
    """A release that has a tool."""

    key: UUID
    version: str
    is_active: bool

    @property
    def url(self) -> str:
        return reverse("releases:release-detail", args=[self.key])


@dataclass(frozen=True)
class Offer:
    """One set of labels of a tool in the releases of one agent, the active or newest of them first.

    `named` are the first of its `releases`: one in a list of tools, more on the page of one.
    """

    agent: str
    slug: str
    is_active: bool
    releases: int
    newest_at: datetime
    named: list[Named]
    manifest: ToolManifest

    @property
    def more(self) -> int:
        return self.releases - len(self.named)


@dataclass(frozen=True)
class Line:
    """A tool. Its `manifest` is that of an active release, else of the newest one, else the code's."""

    name: str
    offers: list[Offer]
    installed: ToolManifest | None
    breaker: BreakerState = BreakerState.CLOSED
    switches: list[KillSwitch] = field(default_factory=list)
    refused: Badge | None = None  # of a tool of an MCP server: why its calls are refused, whatever it says

    @property
    def server_url(self) -> str:
        """Where a tool of an MCP server is reviewed; empty for others."""
        server, mark, tool = self.name.partition(SERVER_MARK)
        return reverse("mcp:tool-detail", args=[server, tool]) if mark and self.manifest.server == server else ""

    @property
    def url(self) -> str:
        return reverse("telemetry:tool-detail", args=[self.name])

    @property
    def manifest(self) -> ToolManifest:
        found = self.offers[0].manifest if self.offers else self.installed
        assert found is not None
        return found

    @property
    def words(self) -> str:
        return sentences.tool(self.manifest)

    @property
    def is_active(self) -> bool:
        return any(offer.is_active for offer in self.offers)

    @property
    def named(self) -> list[tuple[Offer, Named]]:
        """Active releases, else the newest one."""
        active = [(offer, offer.named[0]) for offer in self.offers if offer.is_active]
        return active or [(offer, offer.named[0]) for offer in self.offers[:1]]

    @property
    def releases(self) -> int:
        return sum(offer.releases for offer in self.offers)

    @property
    def breaker_badge(self) -> tuple[str, str, str] | None:
        return None if self.breaker == BreakerState.CLOSED else breakers.BADGES[self.breaker]

    @property
    def differs_between_releases(self) -> bool:
        first = labelling.labels(self.manifest)
        return any(labelling.labels(offer.manifest) != first for offer in self.offers)

    @property
    def differs_from_code(self) -> bool:
        if self.installed is None:
            return False
        return any(labelling.compare(self.installed, offer.manifest) for offer in self.offers if offer.is_active)


def lines(by: Actor) -> list[Line]:
    """Every tool that this actor may see, those of active releases first. Four statements, whatever their number."""
    agents = by.agents("releases.read")
    offers = _offers(agents)
    # What no release of theirs has is nobody's in particular: only who looks after every agent sees it.
    code = {name: tool for name, tool in labels.installed().items() if agents is None or name in offers}
    broken = _broken()
    switches = list(KillSwitch.objects.engaged())
    found = [_line(name, offers.get(name, []), code.get(name), broken, switches) for name in {*offers, *code}]
    return sorted(_with_pins(found), key=lambda line: (not line.is_active, not line.offers, line.name))


def line(name: str, by: Actor) -> Line | None:
    """One tool, or None when it is not there or not open to this actor."""
    agents = by.agents("releases.read")
    offers = _offers(agents, name=name).get(name, [])
    code = labels.installed().get(name) if agents is None or offers else None
    if not offers and code is None:
        return None
    return _with_pins([_line(name, offers, code, _broken(), list(KillSwitch.objects.engaged()))])[0]


def left_out(by: Actor) -> int:
    """How many releases were not looked into."""
    agents = by.agents("releases.read")
    with connection.cursor() as cursor:
        cursor.execute(COUNT_SQL, {"agents": None if agents is None else sorted(agents)})
        return max(0, int(cursor.fetchone()[0]) - MOST_RELEASES)


@dataclass(frozen=True)
class Variant:
    """Labels that differ from those shown, in words, and where they are."""

    where: str
    changes: list[ChangedLabel]
    named: list[Named]
    more: int = 0


def variants(found: Line) -> list[Variant]:
    """What other releases and the installed code say of the tool; places that agree with what is shown are left out."""
    places = [Variant(offer.agent, _changes(found, offer.manifest), offer.named, offer.more) for offer in found.offers]
    if found.installed:
        places.append(Variant("The installed code", _changes(found, found.installed), []))
    return [place for place in places if place.changes]


def _changes(found: Line, other: ToolManifest) -> list[ChangedLabel]:
    return label_words.differences(labelling.compare(found.manifest, other))


@dataclass(frozen=True)
class Argument:
    name: str
    kind: str
    is_required: bool
    label: str
    meaning: str


def arguments(manifest: ToolManifest) -> list[Argument]:
    """The arguments of the JSON schema, and classes of arguments that it does not name."""
    schema = manifest.parameters
    given, required = schema.get("properties") or {}, set(schema.get("required") or ())
    names = [*given, *(name for name in manifest.arguments if name not in given)]
    return [
        Argument(
            name,
            _kind(given.get(name)),
            name in required,
            label_words.argument_class(manifest.arguments.get(name, "")),
            label_words.ARGUMENTS[manifest.arguments.get(name, "")],
        )
        for name in names
    ]


def _kind(part: Any) -> str:
    """The type of a part of a JSON schema, in a few words."""
    if not isinstance(part, Mapping):
        return "not in the schema"
    if isinstance(part.get("type"), str):
        items = part.get("items")
        of = f" of {_kind(items)}" if part["type"] == "array" and isinstance(items, Mapping) else ""
        return f"{part['type']}{of}"
    if isinstance(part.get("type"), list):
        return " or ".join(map(str, part["type"]))
    choices = part.get("anyOf") or part.get("oneOf")
    if isinstance(choices, list):
        return " or ".join(dict.fromkeys(map(_kind, choices)))
    return "one of a list" if "enum" in part else "any"


def _offers(agents: frozenset[str] | None, *, name: str = "") -> dict[str, list[Offer]]:
    """Offers of every tool, or of one with its schema and all the releases that have it."""
    values = {
        "agents": None if agents is None else sorted(agents), "most": MOST_RELEASES, "name": name,
        "named": MOST_NAMED if name else 1, "left_out": [] if name else ["parameters"],
        "words": sorted(labelling.WORDS),
    }  # fmt: skip
    with connection.cursor() as cursor:
        cursor.execute(TOOLS_SQL, values)
        rows = cursor.fetchall()
    found: dict[str, list[Offer]] = {}
    for tool, slug, agent, is_active, releases, newest_at, keys, versions, manifest in rows:
        named = list(_named(keys, versions, is_active=is_active))
        offer = Offer(agent, slug, is_active, releases, newest_at, named, _manifest(manifest))
        found.setdefault(tool, []).append(offer)
    return {tool: sorted(offers, key=lambda one: not one.is_active) for tool, offers in found.items()}


def _named(keys: Iterable[UUID], versions: Iterable[str], *, is_active: bool) -> Iterable[Named]:
    for place, (key, version) in enumerate(zip(keys, versions, strict=True)):
        yield Named(key, version, is_active and place == 0)


def _manifest(stored: Any) -> ToolManifest:
    return ToolManifest.model_validate(json.loads(stored) if isinstance(stored, str) else stored)


def _broken() -> dict[str, BreakerState]:
    rows = Breaker.objects.filter(kind=BreakerKind.TOOL).exclude(state=BreakerState.CLOSED)
    return {name: BreakerState(state) for name, state in rows.values_list("name", "state")}


def _with_pins(found: Sequence[Line]) -> list[Line]:
    refused = boards.refused(line.manifest for line in found)
    return [replace(line, refused=refused.get(line.name)) for line in found]


def _line(
    name: str,
    offers: list[Offer],
    code: ToolManifest | None,
    broken: Mapping[str, BreakerState],
    switches: Iterable[KillSwitch],
) -> Line:
    found = Line(name, offers, code, broken.get(name, BreakerState.CLOSED))
    targets = {(Scope.TOOL.value, name), (Scope.SERVER.value, found.manifest.server)}
    return replace(found, switches=[one for one in switches if (one.scope, one.target) in targets])
