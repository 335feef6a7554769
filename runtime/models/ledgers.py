"""Daily budgets: what is used of them, and what calls in flight hold."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from releases.models import Agent
from runtime.models.runs import Run


class Ledger(models.Model):
    """What one agent, or one principal of an agent, has used of its daily budgets.

    The limits stand in the agent's release, so a principal has a budget of its own with each agent. `settled` is
    used, `reserved` is held for calls in flight.
    """

    id = models.BigAutoField(primary_key=True)
    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="ledgers")
    day = models.DateField(help_text="UTC")
    principal_id = models.CharField(max_length=120, blank=True, help_text="Empty: the agent as a whole")
    settled_usd = models.DecimalField(max_digits=16, decimal_places=8, default=Decimal(0), db_default=Decimal(0))
    reserved_usd = models.DecimalField(max_digits=16, decimal_places=8, default=Decimal(0), db_default=Decimal(0))
    settled_tokens = models.BigIntegerField(default=0, db_default=0)
    reserved_tokens = models.BigIntegerField(default=0, db_default=0)
    settled_model_calls = models.BigIntegerField(default=0, db_default=0)
    reserved_model_calls = models.BigIntegerField(default=0, db_default=0)
    settled_tool_calls = models.BigIntegerField(default=0, db_default=0)
    reserved_tool_calls = models.BigIntegerField(default=0, db_default=0)
    settled_runs = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["agent", "day", "principal_id"], name="ledger_one_per_day"),
            models.CheckConstraint(
                condition=models.Q(
                    settled_usd__gte=0,
                    reserved_usd__gte=0,
                    settled_tokens__gte=0,
                    reserved_tokens__gte=0,
                    settled_model_calls__gte=0,
                    reserved_model_calls__gte=0,
                    settled_tool_calls__gte=0,
                    reserved_tool_calls__gte=0,
                    settled_runs__gte=0,
                ),
                name="ledger_never_negative",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.agent_id} {self.principal_id} {self.day}"


class Reservation(models.Model):
    """What one call in flight holds of the daily budgets. Its id is the id of the step that the call becomes.

    Whoever deletes the row settles it: the worker with what was used, or a sweep once the worker is gone.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="reservations")
    fence = models.PositiveIntegerField()
    ledgers = ArrayField(models.BigIntegerField())
    usd = models.DecimalField(max_digits=16, decimal_places=8)
    tokens = models.BigIntegerField()
    model_calls = models.BigIntegerField()
    tool_calls = models.BigIntegerField()
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.pk)
