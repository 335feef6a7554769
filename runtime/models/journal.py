"""What a run did, in order: steps, what went into them and came out, what else happened, and the text under way."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.utils import timezone

from console import ids
from runtime.models.domains import CountField, SmallCountField, WordField
from runtime.models.runs import Run


class Step(models.Model):
    """One durable operation of a run. `seq` is its place; `done_seq` the place at which its result came.

    Rows stay narrow: what went in and came out is in the step's payload.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    # The only statement that inserts takes the run's id from the run's own row: a foreign key would check it again, and
    # lock that row, at every step. Deleting goes through Django, which knows what belongs to a run.
    run = models.ForeignKey(Run, db_index=False, db_constraint=False, on_delete=models.CASCADE, related_name="steps")
    seq = CountField()
    done_seq = CountField(null=True, blank=True)
    fence = CountField(default=0)
    kind = WordField(max_length=12)
    name = models.CharField(max_length=120)
    status = WordField(max_length=10)
    verdict = models.CharField(max_length=10, blank=True)
    rule = models.CharField(max_length=120, blank=True)
    summary = models.CharField(max_length=300, blank=True, help_text="One phrase for people")
    error = models.CharField(max_length=60, blank=True, help_text="Code of what went wrong")
    attempt = SmallCountField(default=1)
    call_id = models.CharField(max_length=120, blank=True)
    idempotency_key = models.CharField(max_length=120, blank=True)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    input_tokens = CountField(default=0)
    cached_tokens = CountField(default=0)
    output_tokens = CountField(default=0)
    cost_usd = models.DecimalField(max_digits=14, decimal_places=8, default=Decimal(0))
    cost_basis = models.CharField(max_length=10, blank=True)

    class Meta:
        ordering: ClassVar = ["seq"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["run", "seq"], name="step_seq_unique")]

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
    seq = CountField()
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
