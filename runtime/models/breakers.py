from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from console import ids
from runtime.states import BreakerKind, BreakerState


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
