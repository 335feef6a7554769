"""What a replay will do, known before it starts: which conversations run with which release, and which cannot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from releases.bundles import Bundle, ToolManifest
from runtime.replay import agents, recordings, turns
from runtime.replay.recordings import Entry, Unusable


@dataclass(frozen=True)
class Job:
    """One conversation, by the place of its line; the file is read again when its turn comes."""

    id: str
    offset: int
    turns: int


@dataclass
class Group:
    """Conversations that share an agent and a release."""

    domain: str
    bundle: Bundle
    jobs: list[Job] = field(default_factory=list)


@dataclass
class Plan:
    groups: list[Group] = field(default_factory=list)
    unusable: list[Unusable] = field(default_factory=list)

    @property
    def conversations(self) -> int:
        return sum(len(group.jobs) for group in self.groups)


def plan(
    path: Path,
    tools: Mapping[str, list[ToolManifest]],
    policies: Mapping[str, str],
    *,
    domain: str = "",
    limit: int | None = None,
) -> Plan:
    """Read the file once. `limit` counts usable conversations of the domain; lines after them are not looked at.

    Raises:
        OSError: the file cannot be read.
    """
    made = Plan()
    groups: dict[tuple[str, str], Group] = {}
    for found in recordings.read(path):
        if limit is not None and made.conversations >= limit:
            break
        if isinstance(found, Unusable):
            made.unusable.append(found)
            continue
        wanted = _domain(found, tools)
        if domain and wanted != domain:
            continue
        if wanted not in tools:
            made.unusable.append(_undeclared(found, wanted, tools))
            continue
        key = (wanted, found.conversation.policy)
        if key not in groups:
            try:
                content = agents.bundle(tools[wanted], policies.get(found.conversation.policy, ""))
            except ValidationError as wrong:
                made.unusable.append(Unusable(found.line, found.conversation.id, recordings.sentences(wrong)))
                continue
            groups[key] = Group(wanted, content)
            made.groups.append(groups[key])
        count = len(turns.split(found.conversation).turns)
        groups[key].jobs.append(Job(found.conversation.id, found.offset, count))
    return made


def _domain(entry: Entry, tools: Mapping[str, list[ToolManifest]]) -> str:
    """What the conversation says; when it says nothing, the only domain there is."""
    return entry.conversation.domain or (next(iter(tools)) if len(tools) == 1 else "")


def _undeclared(entry: Entry, domain: str, tools: Mapping[str, list[ToolManifest]]) -> Unusable:
    known = ", ".join(sorted(tools)[:20]) or "none"
    what = f"The tools file has no domain {domain!r}" if domain else "The conversation names no domain"
    return Unusable(entry.line, entry.conversation.id, f"{what}. Domains it declares: {known}.")
