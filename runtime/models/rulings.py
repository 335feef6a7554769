from __future__ import annotations

from typing import ClassVar

from django.db import models

from releases.models import Release


class RuleCount(models.Model):
    """What one rule of a release has come to in one day: calls on which it held, and the verdict with it in force."""

    id = models.BigAutoField(primary_key=True)
    release = models.ForeignKey(Release, on_delete=models.CASCADE, related_name="rule_counts")
    rule = models.CharField(max_length=80)
    day = models.DateField(help_text="UTC")
    allowed = models.BigIntegerField(default=0, db_default=0)
    asked = models.BigIntegerField(default=0, db_default=0)
    refused = models.BigIntegerField(default=0, db_default=0)
    changed = models.BigIntegerField(
        default=0, db_default=0, help_text="Verdicts that the rule only logged, and would change"
    )
    failed = models.BigIntegerField(default=0, db_default=0, help_text="Times its condition could not be evaluated")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["release", "rule", "day"], name="rule_count_one_per_day"),
        ]

    def __str__(self) -> str:
        return f"{self.rule} {self.day}"
