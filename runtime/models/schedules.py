from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from console import ids
from console.principals import Principal
from releases.models import Agent
from runtime.models.runs import Run
from runtime.states import DueOutcome, Overlap


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
