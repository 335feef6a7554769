from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from console import ids


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
