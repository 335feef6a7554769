"""The rows of the simulated database: those of runtime.models and approvals.models, as far as the core reads them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from approvals.states import ApprovalStatus, Verdict
from releases.policies.switching import Engaged
from runtime.policies.folding import Entry
from runtime.states import RunStatus, StepKind, StepStatus

Arguments = dict[str, Any]


@dataclass
class StepRow:
    """A step; `entry` is what the fold reads of it."""

    entry: Entry
    fence: int
    is_open: bool
    results: list[int] = field(default_factory=list)  # the seq of each result: unknown first, perhaps, then settled


@dataclass(frozen=True)
class EventRow:
    seq: int
    kind: str


@dataclass
class RunRow:
    id: int
    release: str
    scopes: frozenset[str]
    replies: int  # in how many replies the model proposes calls before it answers
    status: RunStatus = RunStatus.QUEUED
    cause: str = ""
    seq: int = 0
    fence: int = 0
    life: int | None = None
    wake_at: float | None = None
    cancel_requested: bool = False
    pause_requested: bool = False
    queued_at: float = 0.0
    started: bool = False
    turn_started_at: float = 0.0
    waiting_since: float | None = None
    working: float = 0.0
    parked: float = 0.0
    steps: list[StepRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    discarded: list[int] = field(default_factory=list)  # the seq of results that came second and were not kept

    def step(self, step_id: str) -> StepRow:
        return next(row for row in self.steps if row.entry.id == step_id)


@dataclass
class ApprovalRow:
    id: str
    is_settlement: bool  # asks whether a call happened, not whether to make it
    run: int
    call: str
    tool: str
    arguments: Arguments
    digest: str
    step: str = ""
    due_at: float = 0.0
    status: ApprovalStatus = ApprovalStatus.PENDING
    verdict: Verdict | None = None
    decided: Arguments | None = None
    left_when_frozen: float = 0.0


@dataclass
class SwitchRow:
    engaged: Engaged
    is_lifted: bool = False


@dataclass
class LifeRow:
    """One life of a worker process."""

    id: int
    slot: str
    lease_until: float
    is_ended: bool = False


@dataclass(frozen=True)
class Lease:
    run: int
    fence: int


@dataclass
class NewStep:
    kind: StepKind
    name: str
    status: StepStatus
    verdict: str = ""
    rule: str = ""
    error: str = ""
    call_id: str = ""
    key: str = ""
    attempt: int = 1
    id: str = ""
    tokens: int = 0
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return self.status in (StepStatus.STARTED, StepStatus.UNKNOWN)

    def entry(self, seq: int) -> Entry:
        """As entries.written."""
        return Entry(
            seq=seq,
            kind=self.kind,
            name=self.name,
            status=self.status,
            id=self.id,
            verdict=self.verdict,
            rule=self.rule,
            error=self.error,
            call_id=self.call_id,
            idempotency_key=self.key,
            attempt=self.attempt,
            tokens=self.tokens,
            input=self.input,
            output=self.output,
        )


@dataclass
class Finished:
    id: str
    status: StepStatus
    error: str = ""
    output: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Guard:
    """What the committing statement asks the kill switches about."""

    tool: str
    is_write: bool
    is_reviewed: bool


@dataclass
class Write:
    """One durable operation, as journal.Write."""

    steps: list[NewStep] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    status: RunStatus | None = None
    cause: str = ""
    wake_at: float | None = None
    guard: Guard | None = None

    @property
    def size(self) -> int:
        return len(self.steps) + len(self.finished) + len(self.events)
