from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone

from console import ids
from console.actors import EVERY_SCOPE
from console.models import every_scope
from console.principals import Principal
from releases.models import Agent


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
