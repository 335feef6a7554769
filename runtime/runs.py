"""The verbs of a run: create, cancel. Executing is the engine's; resuming after a decision is in `calls`."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.timezone import now
from pydantic import ValidationError

from approvals import requests
from approvals.models import ApprovalRequest
from console import audit, ids, live, problems
from console.actors import EVERY_SCOPE, Actor
from console.principals import Principal, narrowed
from console.states import IllegalMove, move
from releases import routing
from releases.bundles import Budgets, canonical
from releases.models import Agent, Release
from runtime import (
    acting,
    admission,
    backpressure,
    beginnings,
    calls,
    conversations,
    endings,
    events,
    interventions,
    journal,
    queueing,
    verdicts,
)
from runtime.models import Callback, Run, Thread
from runtime.policies import budgeting, placing
from runtime.states import RUN_MOVES, CallbackEvent, Hold, OnBusy, RunKind, RunPriority, RunStatus

LONGEST_INPUT = 50_000
LONGEST_DELAY = timedelta(days=366)


def create(
    *,
    agent: str,
    text: str,
    by: Actor,
    principal_id: str,
    principal_label: str = "",
    attributes: Mapping[str, str] | None = None,
    is_kept: bool = False,
    thread_id: UUID | None = None,
    scopes: Iterable[str] | None = None,
    idempotency_key: str = "",
    callback_url: str = "",
    callback_events: Iterable[str] = (),
    budgets: Mapping[str, Any] | None = None,
    kind: RunKind = RunKind.LIVE,
    priority: RunPriority | None = None,
    on_busy: OnBusy = OnBusy.REJECT,
    start_at: datetime | None = None,
    delay: timedelta | None = None,
    slots: Mapping[str, int] | None = None,
    enqueue: bool = True,
) -> tuple[Run, bool]:
    """Accept a piece of work and queue it. Returns the run and whether it is new.

    `start_at` or `delay` says when it may start at the earliest. While an earlier run of the thread has not ended,
    `on_busy` decides: refuse this one, let it wait for its turn, or interrupt the one at work. Without a `priority`,
    live runs are interactive and the others wait behind them.

    The principal is a claim, checked against what the actor was granted; `attributes` is what they say of them.
    `is_kept`: it is the principal of earlier work that goes on, see `acting.claimed`. A thread stays with the principal
    and at most the scopes that it began with.

    `slots` are limits that it counts against beside those of its release: {key: most at once}.

    The same `idempotency_key` from the same actor returns the first run. `scopes` and `budgets` can only narrow
    what the actor and the release allow. `enqueue=False`: the caller executes the run itself; should it die, the
    reconciler finds the run.

    Raises:
        problems.Missing: no such agent, or not on it.
        problems.Invalid: the text, the scopes or the budgets cannot be used.
        problems.Conflict: the key was used for another request, or the thread has an unfinished run.
        problems.Forbidden: the actor may not act for this principal, or not interrupt a run of this agent.
        problems.TooMany: the queue is full.
        problems.Problem: (503) no release is active.
    """
    if not by.may("runs.create", agent=agent):
        raise problems.Missing(f"There is no agent {agent[:60]!r}.")
    principal = acting.claimed(by, principal_id, principal_label, attributes or {}, is_kept=is_kept)
    wanted = _Wanted(agent, text, principal, thread_id, scopes, callback_url, callback_events, budgets, kind)
    wanted.at(on_busy, start_at, delay)
    wanted.slots = dict(slots or {})
    wanted.after(priority)
    return beginnings.once(
        by, idempotency_key, wanted.digest, lambda: _begin(wanted, by, idempotency_key, enqueue=enqueue)
    )


@transaction.atomic
def cancel(run_id: UUID, *, by: Actor, reason: str, cause: str = "cancelled") -> Run:
    """Stop a run for good; no further step starts. Pausing and resuming are in `interventions`.

    A run that no worker holds ends at once. A running one lets go of the call in flight: a model call or a read is
    broken off, of any other call the trace then says that it may have happened. Repeating it is harmless.

    Raises:
        Run.DoesNotExist: no such run, or not on an agent this actor may stop.
        IllegalMove: the run already ended otherwise.
        problems.Invalid: the reason is missing.
    """
    key = _waiting_request(run_id)
    if key is not None:  # approvals are locked before runs, as a deciding person does
        ApprovalRequest.objects.select_for_update().get(pk=key)
    locked = Run.objects.select_for_update(of=("self",)).select_related("agent")
    run = locked.on_agents(by.agents("runs.cancel")).get(pk=run_id)
    if run.status == RunStatus.CANCELLED or run.cancel_requested_at is not None:
        return run
    reason = interventions.checked_reason(reason)
    move(RUN_MOVES, RunStatus(run.status), RunStatus.CANCELLED)

    run.cancel_requested_at = now()
    run.cancelled_by_label = by.label
    run.cancel_reason = reason
    run.cancel_cause = cause
    run.save(update_fields=["cancel_requested_at", "cancelled_by_label", "cancel_reason", "cancel_cause"])
    events.append(run, "run.cancel_requested", by=by.label, reason=reason)
    before = run.status
    if run.status == RunStatus.RUNNING:
        live.announce(interventions.TOPIC)
    else:
        _end_cancelled(run, by)
    audit.record(by, "run.cancel", run, reason=reason, changes={"status": [before, RunStatus.CANCELLED]})
    live.announce(f"run:{run.public_id}", "runs")
    return run


def may_listen(actor: Actor, topic: str) -> bool:
    """Whether the actor may be told of changes of `run:<public id>`."""
    try:
        key = ids.parse("run", topic.partition(":")[2])
    except ValueError:
        return False
    return Run.objects.on_agents(actor.agents("runs.read")).filter(pk=key).exists()


def visible_to(actor: Actor) -> Any:
    """The runs this actor may see."""
    return Run.objects.on_agents(actor.agents("runs.read"))


class _Wanted:
    """A request for a run, checked as far as that goes without the database."""

    def __init__(
        self,
        agent: str,
        text: str,
        principal: Principal,
        thread_id: UUID | None,
        scopes: Iterable[str] | None,
        callback_url: str,
        callback_events: Iterable[str],
        budgets: Mapping[str, Any] | None,
        kind: RunKind,
    ) -> None:
        self.agent = agent
        self.said = text  # as it came: guardrails look at it before anything is stored
        self.text = journal.plain(text).strip()
        self.principal = principal
        self.thread_id = thread_id
        self.scopes = None if scopes is None else sorted(set(scopes))
        self.callback_url = callback_url
        self.callback_events = sorted(set(callback_events)) or [CallbackEvent.FINISHED.value]
        self.budgets = dict(budgets or {})
        self.kind = kind
        self.priority = placing.priority_of(kind)
        self._check()
        parts: list[object] = [
            agent,
            self.text,
            principal.id,
            str(thread_id),
            self.scopes,
            callback_url,
            self.budgets,
            kind,
        ]
        if self.callback_events != [CallbackEvent.FINISHED]:
            parts.append(self.callback_events)
        if principal.attributes:
            parts.append(canonical(dict(principal.attributes)))
        self.digest = hashlib.sha256(canonical([*map(str, parts)]).encode()).hexdigest()

    slots: Mapping[str, int] = MappingProxyType({})

    def at(self, on_busy: OnBusy, start_at: datetime | None, delay: timedelta | None) -> None:
        """When it may start; part of the request only where somebody chose it."""
        self.on_busy = on_busy
        self.start_at = now() + delay if delay else start_at
        if start_at is not None and delay is not None:
            raise problems.Invalid("Give start_at or a delay, not both.", errors={"start_at": "One of the two."})
        if self.start_at is not None and self.start_at > now() + LONGEST_DELAY:
            sentence = f"At most {LONGEST_DELAY.days} days ahead."
            raise problems.Invalid(f"The run would start too late. {sentence}", errors={"start_at": sentence})
        if on_busy != OnBusy.REJECT or start_at or delay:
            asked = canonical([self.digest, on_busy, str(start_at), str(delay)])
            self.digest = hashlib.sha256(asked.encode()).hexdigest()

    def after(self, priority: RunPriority | None) -> None:
        """Which queue it waits in; part of the request only where somebody chose it."""
        if priority is not None:
            self.priority = priority
            self.digest = hashlib.sha256(canonical([self.digest, priority]).encode()).hexdigest()

    def _check(self) -> None:
        errors = {}
        if not self.text:
            errors["input"] = "The input is empty. Say what the agent should do."
        if len(self.text) > LONGEST_INPUT:
            errors["input"] = f"The input has {len(self.text):,} characters; at most {LONGEST_INPUT:,} are accepted."
        if errors:
            raise problems.Invalid(" ".join(errors.values()), errors=errors)


def _begin(wanted: _Wanted, by: Actor, idempotency_key: str, *, enqueue: bool) -> Run:
    run = _insert(wanted, by, idempotency_key)
    if run.held_for == Hold.SLOT:
        transaction.on_commit(lambda: admission.fill(run.slots), robust=True)
    elif enqueue and not run.held_for:
        queueing.enqueue_run(run.pk, 0, run.priority)
    return run


def _insert(wanted: _Wanted, by: Actor, idempotency_key: str) -> Run:
    agent, release = routing.pick(wanted.agent)
    limits = _budgets(release, wanted.budgets)
    is_delayed = wanted.start_at is not None and wanted.start_at > now()
    backpressure.guard_delayed() if is_delayed else backpressure.guard(agent, wanted.priority)
    scopes = _scopes(wanted.scopes, by)
    thread, is_behind = _place(wanted, agent, by, scopes, is_delayed)
    principal = wanted.principal
    of_release = admission.slots_of(release.bundle, agent=agent.slug, principal_id=principal.id)
    slots = {**of_release, **wanted.slots}
    hold = Hold.TIMER if is_delayed else Hold.THREAD if is_behind else Hold.SLOT if slots else None
    beginnings.guard_day(release, principal.id)
    text, found = _looked_at(release, wanted)
    run = Run.objects.create(
        agent=agent,
        release=release,
        thread=thread,
        kind=wanted.kind,
        priority=wanted.priority,
        title=_title(text),
        input_text=text,
        tainted=thread.tainted,
        principal_id=principal.id,
        principal_label=principal.label or thread.principal_label,
        principal_attributes=thread.principal_attributes,
        scopes=narrowed(scopes, thread.scopes),
        callback_url=wanted.callback_url,
        wake_at=wanted.start_at if is_delayed else None,
        # Still under the thread's lock, so that its runs are created in the order of their turns.
        **beginnings.columns(by, idempotency_key, wanted.digest, limits=limits, slots=slots, hold=hold),
    )
    if wanted.callback_url:
        Callback.objects.create(run=run, events=wanted.callback_events)
    whom = {"principal": principal.id, "principal_kind": principal.kind, **({"guardrails": found} if found else {})}
    events.append(run, "run.created", by=by.label, release=release.version, release_digest=release.digest, **whom)
    if hold in (Hold.TIMER, Hold.THREAD):
        until = {"until": run.wake_at.isoformat()} if run.wake_at else {}
        events.append(run, "run.held", why=run.wait_reason, **until)
    live.announce("runs")
    return run


def _looked_at(release: Release, wanted: _Wanted) -> tuple[str, list[dict[str, Any]]]:
    """The message as it may be stored, and what guardrails found in it; without such guardrails, as it came."""
    text, found = verdicts.first_look(release.bundle, wanted.said)
    return (journal.plain(text).strip() or verdicts.NOTHING_LEFT, found) if found else (wanted.text, found)


def _place(wanted: _Wanted, agent: Agent, by: Actor, scopes: list[str], is_delayed: bool) -> tuple[Thread, bool]:
    """The thread of the new run, and whether it has to wait there for the end of an earlier one."""
    if wanted.thread_id is None:
        return conversations.begin(agent, wanted.principal, scopes), False
    thread = conversations.locked(wanted.thread_id, agent, wanted.principal)
    if is_delayed:  # it joins the line when its time comes
        return thread, False
    if wanted.on_busy == OnBusy.INTERRUPT:
        _interrupt(thread, agent, by)
    return thread, conversations.join(thread, wanted.on_busy)


def _interrupt(thread: Thread, agent: Agent, by: Actor) -> None:
    active = conversations.active(thread)
    if active is None:
        return
    if not by.may("runs.cancel", agent=agent.slug):
        raise problems.Forbidden(
            f"{active.public_id} of this thread has not ended, and you may not cancel runs of {agent.name}. "
            "Send the message with on_busy queue."
        )
    with contextlib.suppress(IllegalMove):  # it has ended by itself in the meantime
        cancel(active.pk, by=by, reason="A new message in its thread interrupted it.", cause="interrupted")


def _scopes(wanted: list[str] | None, by: Actor) -> list[str]:
    """What the run's principal may do: never more than who starts it."""
    if wanted is None:
        return sorted(by.tool_scopes)
    beyond = [] if EVERY_SCOPE in by.tool_scopes else sorted(set(wanted) - by.tool_scopes)
    if beyond:
        raise problems.Invalid(
            f"You do not hold the scopes {', '.join(beyond)}. Ask for fewer.", errors={"scopes": ", ".join(beyond)}
        )
    return wanted


def _budgets(release: Release, wanted: Mapping[str, Any]) -> Budgets:
    limits = release.bundle.budgets
    if not wanted:
        return limits
    try:
        return budgeting.lowered(limits, dict(wanted))
    except ValidationError as wrong:
        errors = {f"budgets.{e['loc'][0]}": e["msg"] for e in wrong.errors()}
        raise problems.Invalid("The budgets cannot be used.", errors=errors) from wrong
    except budgeting.NotLower as wrong:
        errors = {f"budgets.{name}": text for name, text in wrong.errors.items()}
        raise problems.Invalid(str(wrong), errors=errors) from wrong


def _title(text: str) -> str:
    first = " ".join(text.split())
    return first if len(first) <= 120 else first[:117] + "…"


def _waiting_request(run_id: UUID) -> UUID | None:
    prefix = ids.public("run", run_id) + ":"
    found = ApprovalRequest.objects.open().filter(subject_kind__in=calls.ABOUT_RUNS, subject_id__startswith=prefix)
    return found.values_list("pk", flat=True).first()


def _end_cancelled(run: Run, by: Actor) -> None:
    """End a run that no worker holds now, and withdraw what a person was asked about it."""
    counted = interventions.parked(run)
    run.status = move(RUN_MOVES, RunStatus(run.status), RunStatus.CANCELLED)
    run.finished_at = now()
    run.cause = run.cancel_cause or "cancelled"
    run.cause_detail = f"{by.label}: {run.cancel_reason}"
    run.save(update_fields=["status", "finished_at", "cause", "cause_detail"])
    Run.objects.filter(pk=run.pk).update(**counted)
    run.refresh_from_db(fields=[*counted])
    for request in ApprovalRequest.objects.open().filter(subject_id__startswith=run.public_id + ":"):
        requests.void(
            request.subject_kind, request.subject_id, by=by, reason=f"The run was cancelled: {run.cancel_reason}"
        )
    endings.close_steps(run, error="cancelled")
    events.append(run, "run.finished", by=by.label, status=run.status, cause=run.cause)
    queueing.callback_due(run.pk)
    admission.after_end(run)
