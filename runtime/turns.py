"""A turn: what a worker knows of the run it holds, from its claim until it finishes, parks or yields."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Protocol
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from console import ids
from console.principals import Principal
from releases.bundles import Budgets, Bundle
from releases.policies.switching import Engaged
from runtime import entries, journal
from runtime.circuits import Circuits
from runtime.flights import Flight
from runtime.journal import Write, Written
from runtime.policies import folding, recalling
from runtime.policies.budgeting import Spent
from runtime.policies.commands import Finish
from runtime.policies.folding import State
from runtime.policies.provenance import Knowledge, Labels
from runtime.tools import ToolContext

STANDSTILL_S = 300.0  # beyond the longest step that the release allows: waiting for rooms, places and the database


@dataclass
class Turn:
    """What a worker knows of the run it holds. `state` grows with every entry it writes or holds.

    `held` has been folded but not committed: it goes with the next write. What may be held is what is done again
    without harm after a crash: checks of texts, results of reads; and what the very next write completes.
    """

    row: Mapping[str, Any]
    bundle: Bundle
    budgets: Budgets
    state: State
    history: int
    turns_before: int
    cancel_requested: bool
    seq: int
    known: Knowledge
    labels: Mapping[str, Labels]  # of the release's tools
    is_awaited: bool = False  # a later run of the thread waits for the end of this one
    clock: float = field(default_factory=time.monotonic)
    not_before: float = 0.0  # monotonic time before which the next model attempt makes no sense
    why_not_before: str = ""
    waits_for: str = ""  # what that time was set for, as `policies.waiting` names it
    held: list[Write] = field(default_factory=list)
    must_flush: bool = False  # something held must be durable before the next call leaves
    flushing: asyncio.Task[None] | None = None  # held writes on their way while a model call is in flight
    pause_requested: bool = False
    flight: Flight | None = None  # the call under way, while somebody may let go of it
    has_draft: bool = False  # text of the model call in flight was put aside for the live trace
    moved_at: float = field(default_factory=time.monotonic)  # when it last wrote or held anything
    task: asyncio.Task[Any] | None = None  # that executes it

    @cached_property
    def run_id(self) -> UUID:
        return UUID(str(self.row["id"]))

    @cached_property
    def public_id(self) -> str:
        return ids.public("run", self.run_id)

    @cached_property
    def public_thread_id(self) -> str:
        return ids.public("thr", UUID(str(self.row["thread_id"])))

    @property
    def agent(self) -> str:
        return str(self.row["agent_slug"])

    @cached_property
    def principal(self) -> Principal:
        row = self.row
        return Principal(str(row["principal_id"]), str(row["principal_label"]), dict(row["principal_attributes"]))

    @cached_property
    def lease(self) -> journal.Lease:
        return journal.Lease(self.run_id, int(self.row["fence"]))

    @property
    def working(self) -> timedelta:
        """Working time so far: earlier stretches and this one. Parked time is not in it."""
        return timedelta(milliseconds=int(self.row["working_ms"])) + timedelta(seconds=time.monotonic() - self.clock)

    def spent(self) -> Spent:
        state = self.state
        return Spent(
            state.steps,
            state.tool_calls,
            state.tokens,
            state.cost_usd,
            self.working,
            model_calls=state.model_calls,
            elapsed=datetime.now(UTC) - self.row["created_at"],
        )

    @property
    def stands_still(self) -> bool:
        """Whether it has not moved for longer than anything that it may do takes. Then it waits for nobody."""
        return time.monotonic() - self.moved_at > self.bundle.longest_step_s + STANDSTILL_S

    @property
    def waits_at(self) -> str:
        """Where its task waits, from the engine inwards: for whoever has to find out why it stands still."""
        places = []
        awaited: Any = self.task and self.task.get_coro()
        while (frame := getattr(awaited, "cr_frame", None)) is not None:
            places.append(f"{frame.f_code.co_qualname}:{frame.f_lineno}")
            awaited = awaited.cr_await
        return " > ".join(places[-4:])

    def next_key(self) -> str:
        """The idempotency key of the next step: the run and the step's place among its steps."""
        return f"{self.public_id}:{self.state.steps + 1}"

    def hold(self, write: Write, *, must_flush: bool = False) -> None:
        """Fold the write now and let it go with the next commit."""
        self.fold(write, self.seq + sum(each.size for each in self.held))
        self.held.append(write)
        self.must_flush = self.must_flush or must_flush

    def take(self) -> list[Write]:
        """What is held, to be written now. `seq` is behind until the answer is settled."""
        taken, self.held, self.must_flush = self.held, [], False
        return taken

    def settle(self, answer: Written) -> None:
        self.seq = answer.seq
        self.moved_at = time.monotonic()
        self.cancel_requested = self.cancel_requested or answer.cancel_requested
        self.pause_requested = self.pause_requested or answer.pause_requested
        self.is_awaited = answer.is_awaited

    def fold(self, write: Write, before: int) -> None:
        """Fold steps and results of a write whose first number is `before` + 1."""
        new = [entries.written(step, before + place) for place, step in enumerate(write.steps, start=1)]
        for done in write.finished:
            started = self.state.entry
            if started is not None and started.id == str(done.id):
                new.append(entries.finished(started, done))
        self.state = folding.fold(self.state, new)
        self.moved_at = time.monotonic()
        for entry in new:
            recalling.recall(self.known, self.labels, entry)

    def context(self, idempotency_key: str) -> ToolContext:
        return ToolContext(
            run_id=self.public_id,
            thread_id=self.public_thread_id,
            agent=self.agent,
            release=str(self.row["version"]),
            principal=self.principal,
            scopes=frozenset(self.row["scopes"]),
            idempotency_key=idempotency_key,
        )


class Shell(Protocol):
    """What the parts of a turn may ask of the engine that executes it."""

    pool: AsyncConnectionPool[Any]
    tool_room: asyncio.Semaphore
    circuits: Circuits
    is_draining: Callable[[], bool]
    is_trusted: Callable[[], bool]

    async def commit(self, turn: Turn, write: Write) -> Written: ...

    async def finish(self, turn: Turn, end: Finish) -> None: ...

    async def switches(self, *, fresh: bool = False) -> tuple[Engaged, ...]: ...

    def announce(self, turn: Turn, *, ended: bool = False) -> None: ...
