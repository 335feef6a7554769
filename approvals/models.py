"""A question about some subject, who answered it and how it went."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.urls import reverse
from django.utils import timezone

from approvals.states import OPEN, ApprovalStatus, Verdict
from console import ids
from console.models import User

RISKS = [("low", "Low"), ("medium", "Medium"), ("high", "High")]


class ApprovalQuerySet(models.QuerySet["ApprovalRequest"]):
    def open(self) -> ApprovalQuerySet:
        return self.filter(status__in=OPEN)

    def on_agents(self, agents: frozenset[str] | None) -> ApprovalQuerySet:
        """Only those of the given agents; None means all."""
        return self if agents is None else self.filter(agent__in=agents)


class ApprovalRequest(models.Model):
    """What a person is asked. Everything the page shows is stored here as it was when the question arose.

    `fields` is a list of {name, label, value, editable, type, origin, is_doubted, note}; `evidence` a list of
    {kind: quote | passage | fact | model, title, text, note, url, is_doubted}; `side` a list of
    {title, rows: [[label, value]]}; `history` a list of {icon, text, at_ms}. `digest` binds the decision to tool,
    exact arguments and release.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    subject_kind = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=80)
    subject_url = models.CharField(max_length=300, blank=True)
    digest = models.CharField(max_length=64)
    status = models.CharField(max_length=20, default=ApprovalStatus.PENDING)
    version = models.PositiveIntegerField(default=1)

    title = models.CharField(max_length=300)
    action = models.CharField(max_length=120, help_text="The tool that would be called")
    agent = models.SlugField()
    agent_name = models.CharField(max_length=120)
    release = models.CharField(max_length=80)
    requested_for = models.CharField(max_length=200, blank=True)
    requested_by = models.CharField(max_length=64, blank=True, help_text="Actor id that started the work")
    authored_by = models.CharField(
        max_length=64, blank=True, db_default="", help_text="Actor id that wrote what asks: the release"
    )
    risk = models.CharField(max_length=10, choices=RISKS, default="medium")
    amount_usd = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    arguments = models.JSONField(default=dict)
    fields = models.JSONField(default=list)
    rule = models.CharField(max_length=120)
    rule_version = models.CharField(max_length=20, blank=True)
    why = models.TextField()
    if_nobody_decides = models.TextField(blank=True)
    reversible = models.BooleanField(default=False)
    evidence = models.JSONField(default=list)
    side = models.JSONField(default=list)
    history = models.JSONField(default=list)
    labels = models.JSONField(default=dict, help_text="Words on the two buttons: {approve, reject}")
    four_eyes = models.BooleanField(default=False)
    approvals_needed = models.PositiveSmallIntegerField(
        default=1, db_default=1, help_text="How many different people must approve"
    )
    roles = models.JSONField(
        default=list,
        db_default=models.Value([], models.JSONField()),
        help_text="Only people with one of these roles on the agent decide; empty: whoever may decide at all",
    )

    created_at = models.DateTimeField(default=timezone.now)
    due_at = models.DateTimeField()
    left_when_frozen = models.DurationField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    claimed_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    claimed_until = models.DateTimeField(null=True, blank=True)

    objects = ApprovalQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(status__in=[status.value for status in ApprovalStatus]),
                name="approval_status_known",
            ),
            models.UniqueConstraint(
                fields=["subject_kind", "subject_id"],
                condition=models.Q(status__in=["pending", "frozen"]),
                name="approval_one_open_per_subject",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["due_at", "id"], condition=models.Q(status="pending"), name="approval_due"),
            models.Index(fields=["-decided_at", "-id"], name="approval_decided"),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def public_id(self) -> str:
        return ids.public("apr", self.pk)

    @property
    def editable(self) -> list[str]:
        """The arguments that an approval may change: none where several people decide, on one and the same call."""
        return [field["name"] for field in self.fields if field.get("editable") and self.approvals_needed == 1]

    def get_absolute_url(self) -> str:
        return reverse("approvals:detail", args=[self.pk])

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "approval", self.public_id, self.title, f"/approvals/{self.public_id}/"


class Decision(models.Model):
    """One person's answer. `edits` maps an argument to [proposed, decided].

    Where several must approve, each of them has one; a rejection is the last of a request.
    """

    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="decisions")
    verdict = models.CharField(max_length=10, choices=[(verdict.value, verdict.value.title()) for verdict in Verdict])
    arguments = models.JSONField(default=dict, help_text="The arguments as decided")
    edits = models.JSONField(default=dict)
    reason = models.TextField(blank=True)
    by_kind = models.CharField(max_length=20)
    by_id = models.CharField(max_length=64)
    by_label = models.CharField(max_length=300)
    person_id = models.CharField(
        max_length=64,
        blank=True,
        default="",
        db_default="",
        help_text="The person behind it, also when a token answers",
    )
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["request", "person_id", "verdict"], name="decision_one_per_person"),
        ]

    def __str__(self) -> str:
        return f"{self.by_label}: {self.verdict}"


class ApprovalEvent(models.Model):
    """created, opened, claimed, released, decided, frozen, thawed, expired, voided."""

    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="events")
    kind = models.CharField(max_length=40)
    at = models.DateTimeField(default=timezone.now)
    by_label = models.CharField(max_length=300, blank=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering: ClassVar = ["id"]

    def __str__(self) -> str:
        return self.kind
