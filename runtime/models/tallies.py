"""Daily totals of a tool's calls, for rules that ask for them."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from releases.models import Agent
from runtime.models.runs import Run


class Tally(models.Model):
    """How often a tool of an agent was called today, and the sums of its amounts: for everybody, and per principal.

    Kept only where a rule asks for totals; opened from the day's journal. `version` grows with every change, so that
    a call starts only while the totals that its verdict was made with still stand.
    """

    id = models.BigAutoField(primary_key=True)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="tallies")
    tool = models.CharField(max_length=80)
    day = models.DateField(help_text="UTC")
    principal_id = models.CharField(max_length=120, blank=True, help_text="Empty: the agent as a whole")
    calls = models.BigIntegerField(default=0, db_default=0)
    sums = models.JSONField(default=dict, help_text="{argument: sum}, of arguments of class amount")
    version = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        verbose_name_plural = "tallies"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["agent", "tool", "day", "principal_id"], name="tally_one_per_day"),
        ]

    def __str__(self) -> str:
        return f"{self.tool} {self.principal_id} {self.day}"


class TalliedCall(models.Model):
    """A call that tallies count and whose end they do not know yet. Its id is the id of its step.

    Whoever deletes the row settles it: it stays counted if it happened, else it is taken off.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="tallied_calls")
    fence = models.PositiveIntegerField()
    tallies = ArrayField(models.BigIntegerField())
    amounts = models.JSONField(default=dict, help_text="{argument: amount}")
    is_certain = models.BooleanField(default=False, help_text="Once it has failed, it is known not to have happened")
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.pk)
