"""Runs, their steps, and the workers that execute them."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from console import ids
from console.actors import EVERY_SCOPE
from console.models import every_scope
from console.principals import Principal
from releases.models import Agent, Release
from runtime.states import (
    FINAL,
    BreakerKind,
    BreakerState,
    CallbackEvent,
    DeliveryStatus,
    DueOutcome,
    Hold,
    Overlap,
    RunKind,
    RunPriority,
    RunStatus,
    StepKind,
    StepStatus,
)


def _end_only() -> list[str]:
    return [CallbackEvent.FINISHED]


class Thread(models.Model):
    """A conversation: runs in order, one at a time. Once tainted by untrusted content it stays so."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="threads")
    principal_id = models.CharField(max_length=120)
    principal_label = models.CharField(max_length=200, blank=True)
    principal_attributes = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()))
    scopes = ArrayField(
        models.CharField(max_length=80),
        default=every_scope,
        db_default=[EVERY_SCOPE],
        help_text="What its first run was allowed; no later one is allowed more",
    )
    tainted = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.public_id

    @property
    def principal(self) -> Principal:
        return Principal(self.principal_id, self.principal_label, self.principal_attributes)

    @property
    def public_id(self) -> str:
        return ids.public("thr", self.pk)


class Recording(models.Model):
    """A recorded conversation that the replay provider speaks in this thread. See runtime/replay."""

    thread = models.OneToOneField(Thread, primary_key=True, on_delete=models.CASCADE, related_name="recording")
    source_id = models.CharField(max_length=200)
    messages = models.JSONField()

    def __str__(self) -> str:
        return self.source_id


class Worker(models.Model):
    """One life of a worker process. Its lease is the lease of every run it holds."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    slot = models.CharField(max_length=80)
    host = models.CharField(max_length=120)
    pid = models.PositiveIntegerField()
    started_at = models.DateTimeField(default=timezone.now)
    lease_until = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    seen_switch_epoch = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField(null=True, blank=True)
    version = models.CharField(
        max_length=60, blank=True, default="", db_default="", help_text="Of the code that it runs"
    )
    capacity = models.PositiveIntegerField(default=0, db_default=0, help_text="Turns at once; 0: it did not say")
    process = models.CharField(
        max_length=120, blank=True, default="", db_default="", help_text="Which process of its machine: see aliveness"
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["slot"], condition=models.Q(ended_at__isnull=True), name="worker_one_life_per_slot"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.slot} ({self.host}, pid {self.pid})"


class RunQuerySet(models.QuerySet["Run"]):
    def on_agents(self, agents: frozenset[str] | None) -> RunQuerySet:
        """Only runs of the given agents (by slug); None means all."""
        return self if agents is None else self.filter(agent__slug__in=agents)

    def unfinished(self) -> RunQuerySet:
        return self.exclude(status__in=FINAL)


class Run(models.Model):
    """One piece of work of an agent, with its release and budgets frozen.

    `seq` grows with every write about the run, so that readers follow it by cursor. `fence` grows with every
    claim: a worker writes only under the fence it claimed with.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    # The indexes below begin with these, or serve what is asked about them; every further one costs each claim and end.
    agent = models.ForeignKey(Agent, db_index=False, on_delete=models.PROTECT, related_name="runs")
    release = models.ForeignKey(Release, db_index=False, on_delete=models.PROTECT, related_name="runs")
    thread = models.ForeignKey(Thread, db_index=False, on_delete=models.PROTECT, related_name="runs")
    kind = models.CharField(max_length=10, default=RunKind.LIVE)
    status = models.CharField(max_length=12, default=RunStatus.QUEUED)
    cause = models.CharField(max_length=60, blank=True, help_text="Code of why it ended: answered, kill_switch, ...")
    cause_detail = models.TextField(blank=True)
    title = models.CharField(max_length=200)
    input_text = models.TextField()
    answer = models.TextField(blank=True)
    risk_level = models.CharField(max_length=10, default="low")
    tainted = models.BooleanField(default=False)

    principal_id = models.CharField(max_length=120)
    principal_label = models.CharField(max_length=200, blank=True)
    principal_attributes = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        help_text="What was asserted of the principal, frozen: {name: text}",
    )
    scopes = ArrayField(models.CharField(max_length=80), default=list)
    started_by_kind = models.CharField(max_length=20)
    started_by_id = models.CharField(max_length=64, blank=True)
    started_by_label = models.CharField(max_length=300, blank=True)
    idempotency_key = models.CharField(max_length=200, blank=True)
    request_digest = models.CharField(max_length=64, blank=True)
    callback_url = models.CharField(max_length=2000, blank=True)

    budgets = models.JSONField(default=dict, help_text="The limits this run has, frozen: see releases.bundles.Budgets")
    steps_used = models.PositiveIntegerField(default=0)
    model_calls = models.PositiveIntegerField(default=0)
    tool_calls = models.PositiveIntegerField(default=0)
    tool_errors = models.PositiveIntegerField(default=0)
    approvals_asked = models.PositiveIntegerField(default=0)
    tools_called = ArrayField(models.CharField(max_length=80), default=list)
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=14, decimal_places=8, default=Decimal(0))
    cost_basis = models.CharField(max_length=10, default="exact", help_text="exact, estimated or unpriced")
    working_ms = models.PositiveBigIntegerField(default=0)
    parked_ms = models.PositiveBigIntegerField(default=0)
    paused_ms = models.PositiveBigIntegerField(default=0, db_default=0, help_text="The part of parked_ms in a pause")

    seq = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    worker = models.ForeignKey(
        Worker, null=True, blank=True, db_index=False, on_delete=models.SET_NULL, related_name="runs"
    )
    wake_at = models.DateTimeField(null=True, blank=True)
    priority = models.CharField(
        max_length=12, default=RunPriority.INTERACTIVE, db_default=RunPriority.INTERACTIVE, help_text="Names its queue"
    )
    recoveries = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text="Workers that died over it since it last got on"
    )
    recovered_steps = models.PositiveIntegerField(
        default=0, db_default=0, help_text="Steps it had at the last recovery; more of them are progress"
    )
    deadline_at = models.DateTimeField(null=True, blank=True, help_text="Past it the run ends, also while it waits")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    cancelled_by_label = models.CharField(max_length=300, blank=True)
    cancel_reason = models.TextField(blank=True)
    pause_requested_at = models.DateTimeField(null=True, blank=True, help_text="Set until somebody resumes it")
    paused_by_label = models.CharField(max_length=300, blank=True, default="", db_default="")
    pause_reason = models.TextField(blank=True, default="", db_default="")
    forked_from = models.ForeignKey(
        "self", null=True, blank=True, db_index=False, on_delete=models.SET_NULL, related_name="forks"
    )
    forked_at_step = models.PositiveIntegerField(
        null=True, blank=True, help_text="`seq` of the first step of the other run that this one does again"
    )
    history_before = models.DateTimeField(
        null=True, blank=True, help_text="Runs of the thread from then on are not told to this one: a fork's past"
    )
    created_at = models.DateTimeField(default=timezone.now)
    queued_at = models.DateTimeField(default=timezone.now, help_text="When it last became runnable or was enqueued")
    started_at = models.DateTimeField(null=True, blank=True)
    turn_started_at = models.DateTimeField(null=True, blank=True, help_text="Start of the present stretch of work")
    waiting_since = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    wait_reason = models.CharField(
        max_length=20,
        blank=True,
        default="",
        db_default="",
        help_text="Why nobody works on it, where known: person, rate_limit, budget, switch, timer, thread, worker",
    )
    held_for = models.CharField(
        max_length=10,
        blank=True,
        default="",
        db_default="",
        help_text="What a queued run needs before a worker may claim it: see runtime.states.Hold",
    )
    slots = models.JSONField(
        default=dict,
        db_default=models.Value({}, models.JSONField()),
        help_text="Limits it counts against, frozen: {key: most at once}; see runtime.admission",
    )
    is_awaited = models.BooleanField(
        default=False, db_default=False, help_text="A later run of its thread waits for its end"
    )
    cancel_cause = models.CharField(
        max_length=60, blank=True, default="", db_default="", help_text="Cause it ends with instead of cancelled"
    )

    objects = RunQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(status__in=[status.value for status in RunStatus]), name="run_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(kind__in=[kind.value for kind in RunKind]), name="run_kind_known"
            ),
            models.CheckConstraint(
                condition=models.Q(priority__in=[priority.value for priority in RunPriority]), name="run_priority_known"
            ),
            models.UniqueConstraint(
                fields=["started_by_id", "idempotency_key"],
                condition=~models.Q(idempotency_key=""),
                name="run_idempotency_key_unique",
            ),
            models.CheckConstraint(
                condition=models.Q(held_for__in=["", *[hold.value for hold in Hold]]), name="run_hold_known"
            ),
            # Whatever the verbs do wrong, a thread never has two runs that a worker may hold.
            models.UniqueConstraint(
                fields=["thread"],
                condition=~models.Q(status__in=sorted(end.value for end in FINAL))
                & ~models.Q(held_for__in=[Hold.THREAD.value, Hold.TIMER.value]),
                name="run_one_active_per_thread",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["-created_at", "-id"], name="run_newest"),
            models.Index(fields=["status", "-created_at", "-id"], name="run_by_status"),
            models.Index(fields=["agent", "-created_at", "-id"], name="run_by_agent"),
            models.Index(fields=["release", "-created_at", "-id"], name="run_by_release"),
            models.Index(fields=["thread", "created_at"], name="run_by_thread"),
            models.Index(fields=["principal_id", "-id"], name="run_by_principal"),
            models.Index(
                fields=["priority", "queued_at"],
                include=["agent"],
                condition=models.Q(status="queued", held_for=""),
                name="run_claimable",
            ),
            models.Index(
                fields=["held_for", "wake_at"],
                include=["agent"],
                condition=models.Q(status="queued") & ~models.Q(held_for=""),
                name="run_on_hold",
            ),
            models.Index(
                fields=["status", "held_for", "queued_at"],
                condition=models.Q(status__in=["queued", "running"]) & ~models.Q(slots={}),
                name="run_limited",
            ),
            models.Index(fields=["worker"], condition=models.Q(status="running"), name="run_held"),
            models.Index(
                fields=["deadline_at"],
                condition=models.Q(deadline_at__isnull=False, finished_at__isnull=True),
                name="run_overdue",
            ),
            models.Index(fields=["-finished_at"], condition=models.Q(finished_at__isnull=False), name="run_finished"),
            models.Index(fields=["forked_from"], condition=models.Q(forked_from__isnull=False), name="run_forks"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def public_id(self) -> str:
        return ids.public("run", self.pk)

    @property
    def principal(self) -> Principal:
        return Principal(self.principal_id, self.principal_label, self.principal_attributes)

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    def get_absolute_url(self) -> str:
        return reverse("runtime:run-detail", args=[self.pk])

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "run", self.public_id, self.title, f"/runs/{self.public_id}/"


class Step(models.Model):
    """One durable operation of a run. `seq` is its place; `done_seq` the place at which its result came.

    Rows stay narrow: what went in and came out is in the step's payload.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    # The only statement that inserts takes the run's id from the run's own row: a foreign key would check it again, and
    # lock that row, at every step. Deleting goes through Django, which knows what belongs to a run.
    run = models.ForeignKey(Run, db_index=False, db_constraint=False, on_delete=models.CASCADE, related_name="steps")
    seq = models.PositiveIntegerField()
    done_seq = models.PositiveIntegerField(null=True, blank=True)
    fence = models.PositiveIntegerField(default=0)
    kind = models.CharField(max_length=12)
    name = models.CharField(max_length=120)
    status = models.CharField(max_length=10)
    verdict = models.CharField(max_length=10, blank=True)
    rule = models.CharField(max_length=120, blank=True)
    summary = models.CharField(max_length=300, blank=True, help_text="One phrase for people")
    error = models.CharField(max_length=60, blank=True, help_text="Code of what went wrong")
    attempt = models.PositiveSmallIntegerField(default=1)
    call_id = models.CharField(max_length=120, blank=True)
    idempotency_key = models.CharField(max_length=120, blank=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    input_tokens = models.PositiveIntegerField(default=0)
    cached_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=14, decimal_places=8, default=Decimal(0))
    cost_basis = models.CharField(max_length=10, blank=True)

    class Meta:
        ordering: ClassVar = ["seq"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "seq"], name="step_seq_unique"),
            models.CheckConstraint(
                condition=models.Q(kind__in=[kind.value for kind in StepKind]), name="step_kind_known"
            ),
            models.CheckConstraint(
                condition=models.Q(status__in=[status.value for status in StepStatus]), name="step_status_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.seq} {self.kind} {self.name}"

    @property
    def public_id(self) -> str:
        return ids.public("stp", self.pk)


class StepPayload(models.Model):
    """What went into a step and what came out. Secrets are masked before they are written."""

    step = models.OneToOneField(
        Step, primary_key=True, db_constraint=False, on_delete=models.CASCADE, related_name="payload"
    )
    input = models.JSONField(default=dict)
    output = models.JSONField(default=dict)

    def __str__(self) -> str:
        return str(self.step_id)


class RunEvent(models.Model):
    """What happened to a run beside its steps: run.created, run.started, run.waiting, run.cancelled, ..."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(Run, db_index=False, db_constraint=False, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveIntegerField()
    kind = models.CharField(max_length=40)
    at = models.DateTimeField(default=timezone.now)
    by_label = models.CharField(max_length=300, blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["seq"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "seq"], name="run_event_seq_unique")]
        indexes: ClassVar = [
            models.Index(fields=["-at"], condition=models.Q(kind="lease.lost"), name="run_event_lease_lost"),
        ]

    def __str__(self) -> str:
        return self.kind


class Draft(models.Model):
    """The text of the model call in flight, for the live trace. Written without waiting for the disk; may vanish."""

    run = models.OneToOneField(Run, primary_key=True, on_delete=models.CASCADE, related_name="draft")
    text = models.TextField()
    updated_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.text[:40]


class Callback(models.Model):
    """A caller's wish to be told of a run, and the place in its journal up to which that has been looked after.

    `attempts` to `last_error` belong to workers of an earlier version, which told of the end only; see Delivery.
    """

    run = models.OneToOneField(Run, primary_key=True, on_delete=models.CASCADE, related_name="callback")
    events = ArrayField(
        models.CharField(max_length=40),
        default=_end_only,
        db_default=RawSQL("ARRAY['run.finished']::varchar(40)[]", []),
        help_text="Kinds of events that are told",
    )
    seen_seq = models.PositiveIntegerField(default=0, db_default=0)
    is_open = models.BooleanField(default=True, db_default=True, help_text="More may happen that is to be told")
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True, blank=True)
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)

    class Meta:
        indexes: ClassVar = [
            models.Index(fields=["next_at"], condition=models.Q(next_at__isnull=False), name="callback_due"),
            models.Index(fields=["run"], condition=models.Q(attempts=0, next_at__isnull=True), name="callback_untried"),
            models.Index(fields=["run"], condition=models.Q(is_open=True), name="callback_open"),
        ]

    def __str__(self) -> str:
        return str(self.run_id)


class Delivery(models.Model):
    """One event of a run on its way to the caller's URL (Standard Webhooks).

    What is sent is made from the event and from what never changes of the run, so it is stored nowhere else.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="deliveries")
    seq = models.PositiveIntegerField(help_text="Place of the event in the run's journal")
    kind = models.CharField(max_length=40)
    happened_at = models.DateTimeField()
    status = models.CharField(max_length=10, default=DeliveryStatus.PENDING)
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(null=True, blank=True, default=timezone.now)
    delivered_at = models.DateTimeField(null=True, blank=True)
    last_error = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "seq"], name="delivery_once_per_event"),
            models.CheckConstraint(
                condition=models.Q(status__in=[status.value for status in DeliveryStatus]),
                name="delivery_status_known",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["next_at"], condition=models.Q(status="pending"), name="delivery_due"),
            models.Index(fields=["status", "-id"], name="delivery_by_status"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.run_id}"

    @property
    def public_id(self) -> str:
        return ids.public("dlv", self.pk)

    @property
    def webhook_id(self) -> str:
        """The same over all attempts, so that a receiver knows what it has already. A run ends once."""
        run = ids.public("msg", self.run_id)
        return run if self.kind == CallbackEvent.FINISHED else f"{run}_{self.seq}"

    def audit_subject(self) -> tuple[str, str, str, str]:
        run = ids.public("run", self.run_id)
        return "delivery", self.public_id, f"{self.kind} of {run}", f"/runs/{run}/?tab=deliveries"


class DeliveryAttempt(models.Model):
    """One time that a delivery was sent. Written before; without an outcome, whoever sent it died over it."""

    id = models.BigAutoField(primary_key=True)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="tries")
    number = models.PositiveIntegerField()
    at = models.DateTimeField(default=timezone.now)
    took_ms = models.PositiveIntegerField(null=True, blank=True)
    answer = models.PositiveSmallIntegerField(null=True, blank=True, help_text="HTTP status, if there was one")
    error = models.TextField(blank=True)

    class Meta:
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["delivery", "number"], name="delivery_attempt_number_unique"),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}"


class CallbackKey(models.Model):
    """How often a client has asked for a new signing key. Keys are derived from it and stored nowhere."""

    client_id = models.CharField(primary_key=True, max_length=64)
    generation = models.PositiveIntegerField(default=0)
    rotated_at = models.DateTimeField(default=timezone.now)
    previous_until = models.DateTimeField(help_text="Until then messages are signed with the key before, too")

    def __str__(self) -> str:
        return f"{self.client_id} {self.generation}"

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "callback_key", self.client_id, f"Key {self.generation + 1} of {self.client_id}", ""


class Breaker(models.Model):
    """The circuit breaker of one tool or one model, shared by all workers. Without a row it is closed.

    `openings` counts how often it opened in a row; each time it stays open for longer.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    kind = models.CharField(max_length=10)
    name = models.CharField(max_length=200)
    state = models.CharField(max_length=10, default=BreakerState.CLOSED)
    failures = models.PositiveIntegerField(default=0, help_text="Failed calls that opened it")
    calls = models.PositiveIntegerField(default=0, help_text="Calls among which these were")
    openings = models.PositiveIntegerField(default=0)
    opened_at = models.DateTimeField(null=True, blank=True, help_text="Since when calls are refused")
    open_until = models.DateTimeField(null=True, blank=True, help_text="From then on a probe may go through")
    probe_by = models.CharField(max_length=80, blank=True, help_text="Which probe is under way")
    probe_until = models.DateTimeField(null=True, blank=True, help_text="After that another probe may be made")
    last_error = models.CharField(max_length=300, blank=True)
    reason = models.TextField(blank=True, help_text="Why an operator holds it open or has closed it")
    changed_by_label = models.CharField(max_length=300, blank=True)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["kind", "name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "name"], name="breaker_one_per_name"),
            models.CheckConstraint(
                condition=models.Q(kind__in=[kind.value for kind in BreakerKind]), name="breaker_kind_known"
            ),
            models.CheckConstraint(
                condition=models.Q(state__in=[state.value for state in BreakerState]), name="breaker_state_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["kind", "name"], condition=~models.Q(state="closed"), name="breaker_not_closed"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    @property
    def public_id(self) -> str:
        return ids.public("brk", self.pk)

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "breaker", self.public_id, f"Circuit breaker of {self.kind} {self.name}", "/breakers/"


class Ledger(models.Model):
    """What one agent, or one principal of an agent, has used of its daily budgets.

    The limits stand in the agent's release, so a principal has a budget of its own with each agent. `settled` is
    used, `reserved` is held for calls in flight.
    """

    id = models.BigAutoField(primary_key=True)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="ledgers")
    day = models.DateField(help_text="UTC")
    principal_id = models.CharField(max_length=120, blank=True, help_text="Empty: the agent as a whole")
    settled_usd = models.DecimalField(max_digits=16, decimal_places=8, default=Decimal(0), db_default=Decimal(0))
    reserved_usd = models.DecimalField(max_digits=16, decimal_places=8, default=Decimal(0), db_default=Decimal(0))
    settled_tokens = models.BigIntegerField(default=0, db_default=0)
    reserved_tokens = models.BigIntegerField(default=0, db_default=0)
    settled_model_calls = models.BigIntegerField(default=0, db_default=0)
    reserved_model_calls = models.BigIntegerField(default=0, db_default=0)
    settled_tool_calls = models.BigIntegerField(default=0, db_default=0)
    reserved_tool_calls = models.BigIntegerField(default=0, db_default=0)
    settled_runs = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["agent", "day", "principal_id"], name="ledger_one_per_day"),
            models.CheckConstraint(
                condition=models.Q(
                    settled_usd__gte=0,
                    reserved_usd__gte=0,
                    settled_tokens__gte=0,
                    reserved_tokens__gte=0,
                    settled_model_calls__gte=0,
                    reserved_model_calls__gte=0,
                    settled_tool_calls__gte=0,
                    reserved_tool_calls__gte=0,
                    settled_runs__gte=0,
                ),
                name="ledger_never_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent_id} {self.principal_id} {self.day}"


class Reservation(models.Model):
    """What one call in flight holds of the daily budgets. Its id is the id of the step that the call becomes.

    Whoever deletes the row settles it: the worker with what was used, or a sweep once the worker is gone.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="reservations")
    fence = models.PositiveIntegerField()
    ledgers = ArrayField(models.BigIntegerField())
    usd = models.DecimalField(max_digits=16, decimal_places=8)
    tokens = models.BigIntegerField()
    model_calls = models.BigIntegerField()
    tool_calls = models.BigIntegerField()
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.pk)


class Tally(models.Model):
    """How often a tool of an agent was called today, and the sums of its amounts: for everybody, and per principal.

    Kept only where a rule asks for totals; opened from the day's journal. `version` grows with every change, so that
    a call starts only while the totals that its verdict was made with still stand.
    """

    id = models.BigAutoField(primary_key=True)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="tallies")
    tool = models.CharField(max_length=80)
    day = models.DateField(help_text="UTC")
    principal_id = models.CharField(max_length=120, blank=True, help_text="Empty: the agent as a whole")
    calls = models.BigIntegerField(default=0, db_default=0)
    sums = models.JSONField(default=dict, help_text="{argument: sum}, of arguments of class amount")
    version = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        verbose_name_plural = "tallies"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["agent", "tool", "day", "principal_id"], name="tally_one_per_day"),
        ]

    def __str__(self) -> str:
        return f"{self.tool} {self.principal_id} {self.day}"


class TalliedCall(models.Model):
    """A call that tallies count and whose end they do not know yet. Its id is the id of its step.

    Whoever deletes the row settles it: it stays counted if it happened, else it is taken off.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tallied_calls")
    fence = models.PositiveIntegerField()
    tallies = ArrayField(models.BigIntegerField())
    amounts = models.JSONField(default=dict, help_text="{argument: amount}")
    is_certain = models.BooleanField(default=False, help_text="Once it has failed, it is known not to have happened")
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.pk)


class RuleCount(models.Model):
    """What one rule of a release has come to in one day: calls on which it held, and the verdict with it in force."""

    id = models.BigAutoField(primary_key=True)
    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="rule_counts")
    rule = models.CharField(max_length=80)
    day = models.DateField(help_text="UTC")
    allowed = models.BigIntegerField(default=0, db_default=0)
    asked = models.BigIntegerField(default=0, db_default=0)
    refused = models.BigIntegerField(default=0, db_default=0)
    changed = models.BigIntegerField(
        default=0, db_default=0, help_text="Verdicts that the rule only logged, and would change"
    )
    failed = models.BigIntegerField(default=0, db_default=0, help_text="Times its condition could not be evaluated")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["release", "rule", "day"], name="rule_count_one_per_day"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.day}"


class Memory(models.Model):
    """What an agent keeps about one principal from run to run: a value under a key, in one version of its schema.

    Entries of several schema versions stand side by side, so that a rollback finds what the older release wrote.
    Once a tainted run has written a value, whoever reads it is tainted.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="memories")
    principal_id = models.CharField(max_length=120)
    key = models.CharField(max_length=120)
    value = models.JSONField()
    size_bytes = models.PositiveIntegerField()
    schema_version = models.PositiveIntegerField()
    version = models.PositiveIntegerField(default=1, help_text="Grows with every write: compare and set")
    tainted = models.BooleanField(default=False)
    written_by_run = models.ForeignKey(
        Run, null=True, blank=True, on_delete=models.SET_NULL, related_name="memories_written"
    )
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name_plural = "memories"
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["agent", "principal_id", "key", "schema_version"], name="memory_one_per_key_and_schema"
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["principal_id", "agent"], name="memory_by_principal")]

    def __str__(self) -> str:
        return self.key

    @property
    def public_id(self) -> str:
        return ids.public("mem", self.pk)

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "memory", self.public_id, f"Memory {self.key} of {self.principal_id}", ""


class Schedule(models.Model):
    """A piece of work that comes again: what to ask an agent, for whom, and when.

    `next_at` is the time that starts it next; None while it is off.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=120)
    input_text = models.TextField()
    principal_id = models.CharField(max_length=120)
    principal_label = models.CharField(max_length=200, blank=True)
    principal_attributes = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()))
    scopes = ArrayField(models.CharField(max_length=80), default=list)
    expression = models.CharField(max_length=120, help_text="Five cron fields, or: every 15 minutes")
    time_zone = models.CharField(max_length=60, default="UTC")
    overlap = models.CharField(max_length=10, default=Overlap.SKIP)
    next_at = models.DateTimeField(null=True, blank=True)
    stopped_reason = models.TextField(blank=True, help_text="Why it is off")
    created_by_kind = models.CharField(max_length=20)
    created_by_id = models.CharField(max_length=64)
    created_by_label = models.CharField(max_length=300)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(overlap__in=[overlap.value for overlap in Overlap]), name="schedule_overlap_known"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["next_at"], condition=models.Q(next_at__isnull=False), name="schedule_due"),
            models.Index(fields=["agent", "name"], name="schedule_by_agent"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        return ids.public("sch", self.pk)

    @property
    def principal(self) -> Principal:
        return Principal(self.principal_id, self.principal_label, self.principal_attributes)

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "schedule", self.public_id, self.name, f"/schedules/{self.public_id}/"


class Occurrence(models.Model):
    """One due time of a schedule and what came of it. There is one per time, however many processes look."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="occurrences")
    due_at = models.DateTimeField()
    outcome = models.CharField(max_length=10)
    detail = models.TextField(blank=True)
    run = models.OneToOneField(Run, null=True, blank=True, on_delete=models.SET_NULL, related_name="occurrence")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-due_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["schedule", "due_at"], name="occurrence_once_per_time"),
            models.CheckConstraint(
                condition=models.Q(outcome__in=[outcome.value for outcome in DueOutcome]),
                name="occurrence_outcome_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.due_at}"
