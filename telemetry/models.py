"""Rollups that the overview is drawn from, and what people think of runs."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import models
from django.utils import timezone

from console import ids
from releases.models import Agent, Release
from runtime.models import Run


class Dimension(models.TextChoices):
    RUN = "run"  # all runs of the agent and release
    TOOL = "tool"  # calls of one tool in those runs


class MetricPointQuerySet(models.QuerySet["MetricPoint"]):
    def on_agents(self, agents: frozenset[str] | None) -> MetricPointQuerySet:
        return self if agents is None else self.filter(agent__slug__in=agents)


class MetricPoint(models.Model):
    """One hour of one agent and release, about the live runs that ended in it.

    Written by `rollups.roll_up` only, always whole, so that rolling an hour up again changes nothing. The histograms
    hold `{bucket: count}`, see telemetry.policies.latency. Only the dimension `tool` fills `tool_*`; besides these it
    has `working_histogram` (how long calls took) and `runs` (how many runs made one; none when all were refused).
    """

    hour = models.DateTimeField()
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="+")
    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="+")
    dimension = models.CharField(max_length=10, default=Dimension.RUN)
    name = models.CharField(max_length=120, blank=True, help_text="Name of the tool")

    runs = models.PositiveIntegerField(default=0)
    succeeded = models.PositiveIntegerField(default=0)
    refused = models.PositiveIntegerField(default=0)
    escalated = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    cancelled = models.PositiveIntegerField(default=0)
    expired = models.PositiveIntegerField(default=0)
    steps = models.PositiveBigIntegerField(default=0)
    tool_calls = models.PositiveBigIntegerField(default=0)
    tool_errors = models.PositiveBigIntegerField(default=0)
    tool_refused = models.PositiveBigIntegerField(default=0, db_default=0, help_text="Calls that the gate refused")
    tool_asked = models.PositiveBigIntegerField(
        default=0, db_default=0, help_text="Calls that a person was asked about"
    )
    input_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    output_tokens = models.PositiveBigIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=18, decimal_places=8, default=Decimal(0))
    estimated_runs = models.PositiveIntegerField(default=0)
    unpriced_runs = models.PositiveIntegerField(default=0)
    parked_runs = models.PositiveIntegerField(default=0)
    working_histogram = models.JSONField(default=dict)
    parked_histogram = models.JSONField(default=dict)
    helpful = models.PositiveIntegerField(default=0)
    unhelpful = models.PositiveIntegerField(default=0)
    rolled_up_at = models.DateTimeField(default=timezone.now)

    objects = MetricPointQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["hour", "agent", "release", "dimension", "name"], name="metric_point_unique"
            ),
            models.CheckConstraint(
                condition=models.Q(dimension__in=[one.value for one in Dimension]), name="metric_point_dimension_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} {self.dimension} {self.name}".strip()


class LastRollUp(models.Model):
    """One row: until when the points are up to date."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=models.Q(id=1), name="last_roll_up_single")]

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M}"


class Feedback(models.Model):
    """What one person or program thinks of one run. They may change their mind; the last word counts."""

    HELPFUL = 1
    UNHELPFUL = -1

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="feedback")
    score = models.SmallIntegerField()
    comment = models.TextField(blank=True)
    by_kind = models.CharField(max_length=20)
    by_id = models.CharField(max_length=64)
    by_label = models.CharField(max_length=300)
    created_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["run", "by_kind", "by_id"], name="feedback_one_per_actor"),
            models.CheckConstraint(condition=models.Q(score__in=[1, -1]), name="feedback_score_known"),
        ]

    def __str__(self) -> str:
        return f"{self.by_label}: {'helpful' if self.score == self.HELPFUL else 'not helpful'}"

    @property
    def is_helpful(self) -> bool:
        return self.score == self.HELPFUL

    def audit_subject(self) -> tuple[str, str, str, str]:
        return (
            "feedback",
            ids.public("fbk", self.pk),
            f"Feedback on {self.run.title}"[:300],
            f"/runs/{self.run.public_id}/",
        )
