from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone

from console import ids
from releases.models import Agent
from runtime.models.runs import Run


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
