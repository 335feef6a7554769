"""Retrying a run from one of its steps: a new run that begins with what the other one had already done.

The steps before are copied with their results and are never done again. They cost the new run nothing: their tokens
and prices stay with the run that paid for them, and its budgets begin afresh. A copy has fence 0 and names the step
it was copied from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

from django.db import transaction
from django.utils.timezone import now

from console import audit, ids, live, problems
from console.actors import Actor
from console.principals import narrowed
from releases.bundles import Budgets, canonical
from releases.models import Release
from runtime import (
    acting,
    admission,
    backpressure,
    beginnings,
    conversations,
    entries,
    events,
    interventions,
    queueing,
    runs,
)
from runtime.models import Run, Step, StepPayload
from runtime.policies import folding, forking
from runtime.states import Hold, OnBusy, RunKind, RunStatus, StepKind, StepStatus

BATCH = 500


class Which(StrEnum):
    """The release that a fork is executed with."""

    SAME = "same"
    ACTIVE = "active"


class Again(NamedTuple):
    """A call that changes something, which the other run made after the step and the fork may make again."""

    tool: str
    summary: str
    is_certain: bool


def fork(
    run_id: UUID,
    *,
    by: Actor,
    reason: str,
    step_id: UUID | None = None,
    release: Which = Which.SAME,
    idempotency_key: str = "",
) -> tuple[Run, bool]:
    """Start a new run from a step of one that has ended or is paused. Returns it and whether it is new.

    Without a step it starts again from the beginning. Only runs that have ended are forked, because two runs of one
    conversation would do the same work twice; a paused one is cancelled by it. Whoever forks is the one who started
    the new run. A question to a person is asked again. The same `idempotency_key` returns the first fork.

    Raises:
        Run.DoesNotExist: no such run, or not one that this actor may read.
        problems.Missing: it has no such step.
        problems.Forbidden: this actor may not start runs of the agent, not act for the run's principal, or not cancel
            the paused run.
        problems.Invalid: the reason is missing.
        problems.Conflict: the run goes on, its thread has another one, or the key was used for another request.
        problems.TooMany: the queue is full.
        problems.Problem: (503) the agent has no active release.
    """
    source = runs.visible_to(by).select_related("agent").get(pk=run_id)
    if not by.may("runs.create", agent=source.agent.slug):
        raise problems.Forbidden(f"You may see this run, but not start one of {source.agent.name}.")
    if source.status == RunStatus.PAUSED and not by.may("runs.cancel", agent=source.agent.slug):
        raise problems.Forbidden("Retrying a paused run cancels it, and you may not cancel runs of this agent.")
    acting.guard_kept(by, source.principal)
    reason = interventions.checked_reason(reason)
    digest = hashlib.sha256(canonical(["fork", str(run_id), str(step_id), release]).encode()).hexdigest()

    def begin() -> Run:
        # The thread is locked before its runs, as for a new message in it.
        conversations.locked(source.thread_id, source.agent, source.principal)
        if source.status == RunStatus.PAUSED:
            runs.cancel(run_id, by=by, reason=f"Retried from one of its steps. {reason}"[:2000])
        return _fork(run_id, step_id, release, by, reason, (idempotency_key, digest))

    return beginnings.once(by, idempotency_key, digest, begin)


def why_not(run: Run) -> str:
    """Why a run cannot be forked now; empty when it can."""
    if run.kind == RunKind.REPLAY:
        return "A replay repeats a recording. Replay the conversation again instead of retrying one of its runs."
    if not run.is_final and run.status != RunStatus.PAUSED:
        return (
            f"The run is still {run.status}: two runs of one conversation would do the same work twice. "
            "Pause or cancel it first."
        )
    return ""


def done_after(run: Run, seq: int) -> list[Again]:
    """The changing calls that the run made at or after a place, newest last: what a fork from there may repeat."""
    writes = [tool.name for tool in run.release.bundle.tools if tool.is_write]
    made = run.steps.filter(kind=StepKind.TOOL, name__in=writes, seq__gte=seq)
    made = made.filter(status__in=[StepStatus.DONE, StepStatus.UNKNOWN, StepStatus.STARTED]).order_by("seq")
    return [Again(step.name, step.summary, step.status == StepStatus.DONE) for step in made]


def _fork(run_id: UUID, step_id: UUID | None, which: Which, by: Actor, reason: str, key: tuple[str, str]) -> Run:
    locked = Run.objects.select_for_update(of=("self",)).select_related("agent__active_release", "release", "thread")
    source = locked.get(pk=run_id)
    if refused := why_not(source):
        raise problems.Conflict(refused)
    release = _release(source, which)
    steps = list(source.steps.select_related("payload").order_by("seq"))
    first = _first(steps, step_id)
    kept = _kept(source, steps, first, release)
    run = _insert(source, release, first, by, key)
    about = {"forked_from": source.public_id, "step": first, "release": release.version}
    events.append(run, "run.created", by=by.label, reason=reason, release_digest=release.digest, **about)
    _copy(run, kept, now())
    audit.record(by, "run.fork", source, reason=reason, changes={"fork": ["", run.public_id], "step": ["", first]})
    if run.slots:
        transaction.on_commit(lambda: admission.fill(run.slots), robust=True)
    else:
        queueing.enqueue_run(run.pk, run.fence, run.priority)
    live.announce(f"run:{source.public_id}", "runs")
    return run


def _release(source: Run, which: Which) -> Release:
    release = source.release if which == Which.SAME else source.agent.active_release
    if release is None:
        raise problems.Problem(
            f"{source.agent.name} has no active release. Retry with the same release, or activate one first.",
            status=503,
            title="No active release",
        )
    return release


def _first(steps: Sequence[Step], step_id: UUID | None) -> int:
    """`seq` of the step to begin with; 0 when the run has no steps yet."""
    if step_id is None:
        return steps[0].seq if steps else 0
    found = next((step.seq for step in steps if step.pk == step_id), None)
    if found is None:
        raise problems.Missing(f"This run has no step {ids.public('stp', step_id)}.")
    return found


def _kept(source: Run, steps: Sequence[Step], first: int, release: Release) -> list[Step]:
    if not steps:
        return []
    retries = {tool.name: tool.retry for tool in source.release.bundle.tools}
    past = [entries.stored(step) for step in steps]
    kept = forking.decide_kept(past, first, retries=retries, is_same_release=release.pk == source.release_id)
    places = {entry.seq for entry in kept}
    return [step for step in steps if step.seq in places]


def _insert(source: Run, release: Release, first: int, by: Actor, key: tuple[str, str]) -> Run:
    backpressure.guard(source.agent, source.priority)
    conversations.join(source.thread, OnBusy.REJECT)
    limits = _budgets(source, release)
    slots = admission.slots_of(release.bundle, agent=source.agent.slug, principal_id=source.principal_id)
    beginnings.guard_day(release, source.principal_id)
    return Run.objects.create(
        agent=source.agent,
        release=release,
        thread=source.thread,
        kind=source.kind,
        priority=source.priority,
        title=source.title,
        input_text=source.input_text,
        tainted=source.tainted or source.thread.tainted,
        principal_id=source.principal_id,
        principal_label=source.principal_label,
        principal_attributes=source.principal_attributes,
        scopes=narrowed(source.scopes, by.tool_scopes),
        forked_from=source,
        forked_at_step=first,
        history_before=source.history_before or source.created_at,
        **beginnings.columns(by, *key, limits=limits, slots=slots, hold=Hold.SLOT if slots else None),
    )


def _budgets(source: Run, release: Release) -> Budgets:
    """The limits of the release, and below them those that the other run's caller had lowered."""
    limits = release.bundle.budgets
    before = source.release.bundle.budgets.model_dump(mode="json")
    lowered = {name: limit for name, limit in source.budgets.items() if limit != before.get(name)}
    least = {name: _lower(getattr(limits, name, None), limit) for name, limit in lowered.items()}
    known = {name: limit for name, limit in least.items() if name in Budgets.model_fields}
    return Budgets.model_validate({**limits.model_dump(), **known})


def _lower(limit: Any, other: Any) -> Any:
    if limit is None or other is None:
        return other if limit is None else limit
    return min(Decimal(str(limit)), Decimal(str(other)))


def _copy(run: Run, kept: Sequence[Step], moment: datetime) -> None:
    """Write the kept steps as the first ones of the run, in order and with their keys."""
    names = {step.public_id: ids.new() for step in kept}
    by_key = {str(step.pk): str(names[step.public_id]) for step in kept}
    run.refresh_from_db(fields=["seq"])
    copies = [_step(run, step, names[step.public_id], run.seq + place, moment) for place, step in enumerate(kept, 1)]
    Step.objects.bulk_create(copies, batch_size=BATCH)
    StepPayload.objects.bulk_create(
        [
            StepPayload(step=copy, input=_input(step, by_key), output=step.payload.output)
            for copy, step in zip(copies, kept, strict=True)
        ],
        batch_size=BATCH,
    )
    run.seq += len(copies)
    run.save(update_fields=["seq"])


def _step(run: Run, step: Step, key: UUID, seq: int, moment: datetime) -> Step:
    is_known = step.status not in (StepStatus.STARTED, StepStatus.UNKNOWN)
    return Step(
        id=key,
        run=run,
        seq=seq,
        done_seq=seq if is_known else None,
        kind=step.kind,
        name=step.name,
        # Nobody works on it any more: whether it happened is for a person to say.
        status=step.status if is_known else StepStatus.UNKNOWN,
        verdict=step.verdict,
        rule=step.rule,
        summary=step.summary,
        error=step.error,
        attempt=step.attempt,
        call_id=step.call_id,
        idempotency_key=step.idempotency_key,
        started_at=moment,
        finished_at=moment if is_known else None,
    )


def _input(step: Step, by_key: Mapping[str, str]) -> dict[str, Any]:
    found = {**step.payload.input, folding.COPIED: step.public_id}
    if "settles" in found:
        found["settles"] = by_key.get(str(found["settles"]), found["settles"])
    return found
