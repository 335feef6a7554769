"""What the fold reads of a run's steps: as they have just been written, or as they are stored."""

from __future__ import annotations

from typing import Any

from runtime.journal import Finished, NewStep
from runtime.models import Step
from runtime.policies.folding import Entry
from runtime.states import StepKind, StepStatus


def written(step: NewStep, seq: int) -> Entry:
    """The entry that `read` would give for a step just written at `seq`."""
    return Entry(
        seq=seq,
        kind=step.kind,
        name=step.name,
        status=step.status,
        id=str(step.id),
        verdict=step.verdict,
        rule=step.rule,
        error=step.error,
        summary=step.summary,
        call_id=step.call_id,
        idempotency_key=step.idempotency_key,
        attempt=step.attempt,
        tokens=step.input_tokens + step.output_tokens,
        cost_usd=step.cost_usd,
        input=step.given.value,
        output=step.result.value,
    )


def finished(started: Entry, done: Finished) -> Entry:
    """The entry that `read` would give for a started step once its result is written."""
    changed = object.__new__(Entry)  # `dataclasses.replace` would go through all fields
    changed.__dict__.update(
        started.__dict__,
        status=done.status,
        verdict=done.verdict or started.verdict,
        summary=done.summary or started.summary,
        error=done.error,
        output=done.result.value,
    )
    return changed


def read(row: tuple[Any, ...]) -> Entry:
    """A row of `journal_sql.LOAD`, without its run."""
    seq, kind, name, status, key, verdict, rule, error, summary, call_id, idempotency, attempt, tokens, cost, *data = (
        row
    )
    return Entry(
        seq, StepKind(kind), name, StepStatus(status), str(key), verdict, rule, error, summary, call_id, idempotency,
        attempt, tokens, cost, data[0], data[1],
    )  # fmt: skip


def stored(step: Step) -> Entry:
    """The entry that `read` would give for a stored step, as far as messages and lineage need it."""
    return Entry(
        seq=step.seq,
        kind=StepKind(step.kind),
        name=step.name,
        status=StepStatus(step.status),
        id=str(step.pk),
        verdict=step.verdict,
        rule=step.rule,
        error=step.error,
        call_id=step.call_id,
        input=step.payload.input,
        output=step.payload.output,
    )
