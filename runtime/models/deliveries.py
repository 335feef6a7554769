"""What callers are told of their runs: the wish, the messages, each attempt, and the keys that sign them."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.expressions import RawSQL
from django.utils import timezone

from console import ids
from runtime.models.runs import Run
from runtime.states import CallbackEvent, DeliveryStatus


def _end_only() -> list[str]:
    return [CallbackEvent.FINISHED]


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
