"""The journal of a run: what its worker writes, as one fenced statement per durable operation.

Every write about a run by its worker is one UPDATE of the run, conditional on the fence it was claimed with,
together with the steps, payloads and events that belong to it. No row updated means that the lease is lost. The
statement takes the writes of many runs at once, so that runs in flight share commits; see `runtime.committing`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.types.json import Jsonb
from pydantic_core import PydanticSerializationError, to_json

from console import ids, redact
from runtime import journal_sql
from runtime.states import FINAL, RunStatus, StepKind, StepStatus


class LeaseLost(Exception):
    """Another worker, a decision or a restart has taken the run over. Nothing was written; stop working on it."""


class SwitchedOff(Exception):
    """A kill switch was engaged before the call's intent could be committed. Nothing was written."""

    def __init__(self, switch_id: UUID) -> None:
        super().__init__(f"kill switch {switch_id}")
        self.switch_id = switch_id


class CancelRequested(Exception):
    """Somebody cancelled or paused the run before the call's intent could be committed; what was held is written."""


class Lease(NamedTuple):
    run_id: UUID
    fence: int


class Payload:
    """What goes into a step or comes out, with secrets masked: as a value, and as the JSON to be stored."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.value: dict[str, Any] = dict(given)
        self.json = _plain_json(self.value)
        if redact.may_hold_secret(self.json):
            self.value = redact.value(self.value)
            self.json = _plain_json(self.value)


@dataclass
class NewStep:
    """A step to insert. Finished steps carry `finished_at`; a started one is finished later by `Finished`."""

    kind: StepKind
    name: str
    status: StepStatus
    started_at: datetime
    finished_at: datetime | None = None
    id: UUID = field(default_factory=ids.new)
    verdict: str = ""
    rule: str = ""
    summary: str = ""
    error: str = ""
    attempt: int = 1
    call_id: str = ""
    idempotency_key: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    cost_basis: str = ""
    input: Mapping[str, Any] = field(default_factory=dict)
    output: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.summary = redact.text(self.summary)[:300]
        self.error = self.error[:60]

    @cached_property
    def given(self) -> Payload:
        """The input as it is kept; complete when first asked for."""
        return Payload(self.input)

    @cached_property
    def result(self) -> Payload:
        return Payload(self.output)


@dataclass
class Finished:
    """The result of a step that was committed as started."""

    id: UUID
    status: StepStatus
    finished_at: datetime | None  # None: unknown still, a person settles it
    verdict: str = ""
    summary: str = ""
    error: str = ""
    output: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.summary = redact.text(self.summary)[:300]
        self.error = self.error[:60]

    @cached_property
    def result(self) -> Payload:
        return Payload(self.output)


class Guard(NamedTuple):
    """What the committing statement asks the kill switches about: an engaged one over it stops the write."""

    agent: str
    tool: str
    is_write: bool
    is_reviewed: bool


@dataclass
class Write:
    """One durable operation: new steps, finished steps, events, and what they change on the run."""

    steps: Sequence[NewStep] = ()
    finished: Sequence[Finished] = ()
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()
    model_calls: int = 0
    tool_calls: int = 0
    tool_errors: int = 0
    approvals_asked: int = 0
    tool: str = ""
    risk: str = ""
    tainted: bool = False
    status: str | None = None
    cause: str = ""
    cause_detail: str = ""
    answer: str = ""
    wake_at: datetime | None = None
    wait_reason: str = ""  # why it waits, of a run that is given back until `wake_at`
    guard: Guard | None = None

    @property
    def size(self) -> int:
        """How many numbers of the run's `seq` it takes."""
        return len(self.steps) + len(self.finished) + len(self.events)


def yielded(why: str, *, until: datetime | None = None, reason: str = "", write: Write | None = None) -> Write:
    """Give the run back to the queue, to be claimed again at once or at `until`; `write` goes with it.

    `reason` says what it waits for until then, where that is more than its time: see `policies.waiting`.
    """
    write = write or Write()
    about = {"why": why, "until": until.isoformat()} if until else {"why": why}
    events = [*write.events, ("run.yielded", about)]
    return replace(write, status=RunStatus.QUEUED, wake_at=until, wait_reason=reason, events=events)


@dataclass(frozen=True)
class Written:
    seq: int
    cancel_requested: bool
    is_awaited: bool = False  # a later run of the thread waits for the end of this one
    pause_requested: bool = False


@dataclass(frozen=True)
class Operation:
    """The writes of one run that are committed together, in the shape that `journal_sql.write` takes."""

    lease: Lease
    parts: frozenset[journal_sql.Part]
    row: dict[str, Any]
    steps: list[dict[str, Any]]
    payloads: list[str]  # of new steps, JSON
    finished: list[str]  # with their results, JSON
    events: list[dict[str, Any]]


def operation(lease: Lease, writes: Sequence[Write], *, drafted: bool = True) -> Operation:
    """Lay the writes out in their order; at most the last one changes the status or carries a guard."""
    steps: list[dict[str, Any]] = []
    payloads: list[str] = []
    finished: list[str] = []
    events: list[dict[str, Any]] = []
    run_id = str(lease.run_id)
    place = 0
    for write in writes:
        for step in write.steps:
            place += 1
            steps.append(_step_row(run_id, lease.fence, place, step))
            payloads.append(f'{{"id":"{step.id}","input":{step.given.json},"output":{step.result.json}}}')
        for done in write.finished:
            place += 1
            finished.append(f'{_plain_json(_finished_row(run_id, place, done))[:-1]},"output":{done.result.json}}}')
        for kind, data in write.events:
            place += 1
            events.append({"run_id": run_id, "seq": place, "kind": kind, "data": redact.value(dict(data))})
    last, sums = writes[-1], _sums(writes)
    there: dict[journal_sql.Part, bool] = {
        "counts": sums != _NO_SUMS,
        "end": last.status is not None,
        "guard": last.guard is not None,
        "steps": bool(steps),
        "finished": bool(finished),
        "events": bool(events),
        "drafts": drafted and bool(steps),
    }
    return Operation(
        lease,
        frozenset(part for part, is_there in there.items() if is_there),
        {
            "run_id": run_id,
            "fence": lease.fence,
            "count": place,
            "drafted": there["drafts"],
            **sums,
            **_end(last),
        },
        steps,
        payloads,
        finished,
        events,
    )


def statement(operations: Sequence[Operation]) -> tuple[str, dict[str, Any]]:
    """What to execute for these operations, each of another run, and its parameters."""
    parts = frozenset[journal_sql.Part]().union(*(each.parts for each in operations))
    given: dict[str, Any] = {"ops": Jsonb([each.row for each in operations], dumps=_plain_json)}
    if "steps" in parts:
        given["steps"] = Jsonb([row for each in operations for row in each.steps], dumps=_plain_json)
        given["payloads"] = Jsonb([payload for each in operations for payload in each.payloads], dumps=_array)
    if "finished" in parts:
        given["finished"] = Jsonb([row for each in operations for row in each.finished], dumps=_array)
    if "events" in parts:
        given["events"] = Jsonb([row for each in operations for row in each.events], dumps=_plain_json)
    return journal_sql.write(parts), given


def _array(items: list[str]) -> str:
    return f"[{','.join(items)}]"


Answer = Written | LeaseLost | SwitchedOff


def answers(rows: Sequence[tuple[Any, ...]]) -> dict[Lease, Answer]:
    """What the statement answered, by lease. An exception among them says that nothing of that run was written."""
    found: dict[Lease, Answer] = {}
    for run_id, fence, seq, cancelled_at, paused_at, is_awaited, block in rows:
        if block is not None:
            found[Lease(run_id, fence)] = SwitchedOff(block)
        elif seq is None:
            found[Lease(run_id, fence)] = LeaseLost()
        else:
            lease = Lease(run_id, fence)
            found[lease] = Written(seq, cancelled_at is not None, is_awaited, paused_at is not None)
    return found


def commit_within(cursor: Any, lease: Lease, *writes: Write) -> Written:
    """Write within the caller's Django transaction, for what commits together with something else.

    Raises:
        SwitchedOff, LeaseLost: nothing was written.
    """
    cursor.execute(*statement([operation(lease, writes)]))
    answer = answers(cursor.fetchall())[lease]
    if isinstance(answer, Written):
        return answer
    raise answer


def _sums(writes: Sequence[Write]) -> dict[str, Any]:
    """What the writes add to the run's counters, and the worst of their prices and risks."""
    count = model_calls = tool_calls = tool_errors = asked = tokens_in = cached = tokens_out = 0
    usd, tainted = Decimal(0), False
    bases, risks, tools = set(), set(), set()
    for write in writes:
        model_calls += write.model_calls
        tool_calls += write.tool_calls
        tool_errors += write.tool_errors
        asked += write.approvals_asked
        tainted = tainted or write.tainted
        risks.add(write.risk)
        if write.tool:
            tools.add(write.tool)
        for step in write.steps:
            count += 1
            tokens_in += step.input_tokens
            cached += step.cached_tokens
            tokens_out += step.output_tokens
            usd += step.cost_usd
            bases.add(step.cost_basis)
    return {
        "steps": count,
        "model_calls": model_calls,
        "tool_calls": tool_calls,
        "tool_errors": tool_errors,
        "asked": asked,
        "tokens_in": tokens_in,
        "cached": cached,
        "tokens_out": tokens_out,
        "usd": str(usd),
        "basis": next((basis for basis in ("unpriced", "estimated") if basis in bases), "exact"),
        "tools": sorted(tools),
        "risk": next((risk for risk in ("high", "medium") if risk in risks), ""),
        "tainted": tainted,
    }


_NO_SUMS = _sums(())


def _end(last: Write) -> dict[str, Any]:
    """The status that the last write sets, and the kill switches it asks."""
    row: dict[str, Any] = {"status": last.status, "wake_at": last.wake_at and last.wake_at.isoformat()}
    if last.status is not None:
        row |= {
            "cause": last.cause,
            "wait": last.wait_reason,
            "detail": plain(last.cause_detail),
            "answer": plain(last.answer),
            "is_final": last.status in FINAL,
        }
    if last.guard is not None:
        row |= {
            "agent": last.guard.agent,
            "guarded": last.guard.tool,
            "is_write": last.guard.is_write,
            "is_reviewed": last.guard.is_reviewed,
        }
    return row


def _step_row(run_id: str, fence: int, place: int, step: NewStep) -> dict[str, Any]:
    return {
        "id": str(step.id),
        "run_id": run_id,
        "fence": fence,
        "seq": place,
        "done_seq": place if step.finished_at else None,
        "kind": step.kind,
        "name": step.name[:120],
        "status": step.status,
        "verdict": step.verdict,
        "rule": step.rule[:120],
        "summary": step.summary,
        "error": step.error,
        "attempt": step.attempt,
        "call_id": step.call_id[:120],
        "idempotency_key": step.idempotency_key,
        "started_at": step.started_at.isoformat(),
        "finished_at": step.finished_at.isoformat() if step.finished_at else None,
        "input_tokens": step.input_tokens,
        "cached_tokens": step.cached_tokens,
        "output_tokens": step.output_tokens,
        "cost_usd": str(step.cost_usd),
        "cost_basis": step.cost_basis,
    }


def _finished_row(run_id: str, place: int, step: Finished) -> dict[str, Any]:
    return {
        "id": str(step.id),
        "run_id": run_id,
        "done_seq": place,
        "status": step.status,
        "verdict": step.verdict or None,
        "summary": step.summary or None,
        "error": step.error,
        "finished_at": step.finished_at.isoformat() if step.finished_at else None,
    }


ENCODER = json.JSONEncoder(default=str, ensure_ascii=False, separators=(",", ":"))
NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def _plain_json(value: Any) -> str:
    """JSON that PostgreSQL takes: no NaN, no infinity, neither NUL nor lone surrogates, which jsonb cannot hold."""
    try:
        text = to_json(value, inf_nan_mode="strings", fallback=str).decode()
    except (PydanticSerializationError, UnicodeEncodeError):  # half of a surrogate pair somewhere
        plain = json.loads(ENCODER.encode(value).encode("utf-8", "replace"))
        text = to_json(plain, inf_nan_mode="strings").decode()
    return NUL.sub(lambda found: found[1] + "\ufffd", text) if "\\u0000" in text else text


def plain(text: str) -> str:
    """Text that a PostgreSQL column can hold, with secrets masked."""
    return redact.text(text).replace("\0", "\ufffd").encode("utf-8", "replace").decode()
