from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.urls import reverse
from django.utils import timezone

from console import ids
from console.principals import Principal
from releases.models import Agent, Release
from runtime.models.domains import BigCountField, CountField, SmallCountField, WordField
from runtime.models.threads import Thread
from runtime.models.workers import Worker
from runtime.states import FINAL, Hold, RunKind, RunPriority, RunStatus


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
    kind = WordField(max_length=10, default=RunKind.LIVE)
    status = WordField(max_length=12, default=RunStatus.QUEUED)
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
    steps_used = CountField(default=0)
    model_calls = CountField(default=0)
    tool_calls = CountField(default=0)
    tool_errors = CountField(default=0)
    approvals_asked = CountField(default=0)
    tools_called = ArrayField(models.CharField(max_length=80), default=list)
    input_tokens = BigCountField(default=0)
    cached_tokens = BigCountField(default=0)
    output_tokens = BigCountField(default=0)
    cost_usd = models.DecimalField(max_digits=14, decimal_places=8, default=Decimal(0))
    cost_basis = models.CharField(max_length=10, default="exact", help_text="exact, estimated or unpriced")
    working_ms = BigCountField(default=0)
    parked_ms = BigCountField(default=0)
    paused_ms = BigCountField(default=0, db_default=0, help_text="The part of parked_ms in a pause")

    seq = CountField(default=0)
    fence = CountField(default=0)
    worker = models.ForeignKey(
        Worker, null=True, blank=True, db_index=False, on_delete=models.SET_NULL, related_name="runs"
    )
    wake_at = models.DateTimeField(null=True, blank=True)
    priority = WordField(
        max_length=12,
        default=RunPriority.INTERACTIVE,
        db_default=RunPriority.INTERACTIVE,
        help_text="Names its queue",
    )
    recoveries = SmallCountField(default=0, db_default=0, help_text="Workers that died over it since it last got on")
    recovered_steps = CountField(
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
    forked_at_step = CountField(
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
    held_for = WordField(
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
            models.UniqueConstraint(
                fields=["started_by_id", "idempotency_key"],
                condition=~models.Q(idempotency_key=""),
                name="run_idempotency_key_unique",
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
