"""Memory: what an agent keeps about one principal, from run to run.

    @memories.migration(from_version=1, to_version=2, agent="shop-support")
    def split_name(key: str, value: Any) -> Any: ...

A run reaches only the memory of its own agent and principal. A release reads entries of its own schema version, and
older ones that registered migrations lead to; anything else it is told of, and does not see.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, QuerySet, Sum
from django.utils.timezone import now

from console import audit, problems, redact
from console.actors import Actor
from releases.bundles import canonical
from releases.models import Agent
from runtime import interventions
from runtime.models import Memory, Run
from runtime.policies import remembering
from runtime.policies.remembering import Found, Room

log = logging.getLogger(__name__)

MOST_ENTRIES = 200
MOST_BYTES = 200_000
LARGEST_VALUE = 10_000  # bytes of canonical JSON
LONGEST_KEY = 120

Migrate = Callable[[str, Any], Any]
_migrations: dict[tuple[str, int, int], Migrate] = {}


class CannotRemember(Exception):
    """The value is not kept. `code` is full or changed; the sentence is for the model and for people."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def migration(*, from_version: int, to_version: int, agent: str = "") -> Callable[[Migrate], Migrate]:
    """Register a pure function (key, value) -> value between two schema versions, for one agent or for all."""
    if not 0 < from_version < to_version:
        raise ValueError(f"A migration goes to a higher version, not from {from_version} to {to_version}.")

    def register(function: Migrate) -> Migrate:
        _migrations[agent, from_version, to_version] = function
        return function

    return register


@dataclass(frozen=True)
class Owner:
    """Whose memory: one principal with one agent."""

    agent: Agent
    principal_id: str

    def audit_subject(self) -> tuple[str, str, str, str]:
        label = f"Memory of {self.principal_id} with {self.agent.name}"
        return "memory", f"{self.agent.slug}:{self.principal_id}"[:64], label, ""


@dataclass(frozen=True)
class Entry:
    """A remembered value as a release of `schema_version` reads it."""

    id: UUID
    key: str
    value: Any
    version: int
    schema_version: int  # in which it is stored
    tainted: bool
    written_by_run: UUID | None
    updated_at: datetime
    is_migrated: bool = False
    unreadable: str = ""  # why its value is not shown to the release


@dataclass(frozen=True)
class Recalled:
    entries: list[Entry] = field(default_factory=list)
    ignored: list[Entry] = field(default_factory=list)

    @property
    def tainted(self) -> bool:
        return any(entry.tainted for entry in self.entries)


def remember(run: Run, key: str, value: Any, *, expected_version: int | None = None) -> Memory:
    """Keep a value for the run's principal, inside the caller's transaction.

    `expected_version` is the version that was read (0: nothing was there); without it the last writer wins.

    Raises:
        CannotRemember: no room for it, or the entry has another version by now.
    """
    owner, schema = _owner(run), _schema(run)
    kept, size = _storable(value)
    _lock(owner)
    entries = Memory.objects.filter(agent=owner.agent, principal_id=owner.principal_id)
    entry = entries.filter(key=key, schema_version=schema).first()
    if expected_version is not None and expected_version != (entry.version if entry else 0):
        there = f"has version {entry.version}" if entry else "does not exist"
        raise CannotRemember(f"{key} {there}, not {expected_version}. Recall it and decide again.", "changed")
    others = entries.exclude(pk=entry.pk) if entry else entries
    counted = others.aggregate(entries=Count("pk"), bytes=Sum("size_bytes"))
    room = Room(counted["entries"], counted["bytes"] or 0)
    why = remembering.decide_write(room, size, most_entries=MOST_ENTRIES, most_bytes=MOST_BYTES, largest=LARGEST_VALUE)
    if why:
        raise CannotRemember(why, "full")
    entry = entry or Memory(agent=owner.agent, principal_id=owner.principal_id, key=key, version=0)
    entry.schema_version, entry.value, entry.size_bytes = schema, kept, size
    entry.version += 1
    entry.tainted, entry.written_by_run, entry.updated_at = run.tainted, run, now()
    entry.save()
    return entry


def recall(run: Run, key: str = "") -> Recalled:
    """What the run's release can read of its principal's memory, and what it cannot."""
    owner = _owner(run)
    rows = Memory.objects.filter(agent=owner.agent, principal_id=owner.principal_id)
    return read(rows.filter(key=key) if key else rows, owner.agent.slug, _schema(run))


def read(rows: QuerySet[Memory], agent: str, schema_version: int) -> Recalled:
    """The rows as a release of this agent and schema version sees them."""
    stored = {(row.key, row.schema_version): row for row in rows}
    steps = remembering.chosen(_migrations, agent)
    found = Recalled()
    for reading in remembering.decide_readings([Found(*place) for place in stored], schema_version, steps):
        row = stored[reading.entry.key, reading.entry.schema_version]
        entry = _entry(row, reading.path, steps, schema_version)
        (found.ignored if entry.unreadable else found.entries).append(entry)
    return found


def forget(run: Run, key: str) -> int:
    """Delete what is remembered under the key, in every schema version. Returns how many entries that were."""
    owner = _owner(run)
    _lock(owner)
    rows = Memory.objects.filter(agent=owner.agent, principal_id=owner.principal_id, key=key)
    return rows.delete()[0]


@transaction.atomic
def delete(memory_id: UUID, *, by: Actor, reason: str) -> Memory:
    """Take one entry away.

    Raises:
        Memory.DoesNotExist: no such entry, or not on an agent whose memory this actor may erase.
        problems.Invalid: the reason is missing.
    """
    entry = visible_to(by, "memory.erase").select_for_update(of=("self",)).get(pk=memory_id)
    reason = interventions.checked_reason(reason)
    Memory.objects.filter(pk=entry.pk).delete()
    before = {"schema_version": [entry.schema_version, None], "version": [entry.version, None]}
    audit.record(by, "memory.delete", entry, reason=reason, changes=before)
    return entry


@transaction.atomic
def erase(principal_id: str, *, by: Actor, reason: str, agent: str = "") -> int:
    """Delete everything remembered about a person, with one agent or with all that the actor may erase.

    Returns how many entries that were; none is no error. Traces of runs are not touched.

    Raises:
        problems.Invalid: the reason is missing.
        problems.Missing: no such agent, or not one whose memory this actor may erase.
    """
    reason = interventions.checked_reason(reason)
    if agent and not (by.may("memory.erase", agent=agent) and Agent.objects.filter(slug=agent).exists()):
        raise problems.Missing(f"There is no agent {agent[:60]!r}.")
    rows = visible_to(by, "memory.erase").filter(principal_id=principal_id)
    agents = Agent.objects.filter(pk__in=rows.values("agent")).order_by("pk")
    erased = 0
    for one in agents.filter(slug=agent) if agent else agents:
        owner = Owner(one, principal_id)
        _lock(owner)
        count = Memory.objects.filter(agent=one, principal_id=principal_id).delete()[0]
        audit.record(by, "memory.erase", owner, reason=reason, changes={"entries": [count, 0]})
        erased += count
    return erased


def visible_to(actor: Actor, right: str = "memory.read") -> QuerySet[Memory]:
    allowed = actor.agents(right)
    rows = Memory.objects.select_related("agent")
    return rows if allowed is None else rows.filter(agent__slug__in=allowed)


def _entry(row: Memory, path: tuple[int, ...] | None, steps: dict[remembering.Step, Migrate], wanted: int) -> Entry:
    value, why = row.value, ""
    if path is None:
        value, why = None, f"written in schema version {row.schema_version}; nothing leads from there to {wanted}"
    else:
        for step in itertools.pairwise(path):
            try:
                value = steps[step](row.key, value)
            except Exception as broken:
                log.exception("The memory migration %s of %s broke on a value.", step, row.key)
                value, why = None, f"its migration from {step[0]} to {step[1]} failed ({type(broken).__name__})"
                break
    return Entry(
        id=row.pk,
        key=row.key,
        value=value,
        version=row.version if row.schema_version == wanted else 0,
        schema_version=row.schema_version,
        tainted=row.tainted,
        written_by_run=row.written_by_run_id,
        updated_at=row.updated_at,
        is_migrated=row.schema_version != wanted and not why,
        unreadable=why,
    )


def _storable(value: Any) -> tuple[Any, int]:
    """The value as PostgreSQL can hold it, with secrets masked, and its size."""
    text = canonical(redact.value(value)).replace("\\u0000", "\ufffd").encode("utf-8", "replace")
    return json.loads(text), len(text)


def _owner(run: Run) -> Owner:
    return Owner(run.agent, run.principal_id)


def _schema(run: Run) -> int:
    return int(run.release.content.get("memory_schema_version", 1))


def _lock(owner: Owner) -> None:
    """One writer at a time per owner, so that caps and versions are exact."""
    with connection.cursor() as cursor:
        key = f"memory:{owner.agent.pk}:{owner.principal_id}"
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [key])
