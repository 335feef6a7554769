"""Agents, their immutable releases, and kill switches."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from django.db import models
from django.urls import reverse
from django.utils import timezone

from console import ids
from console.models import User
from releases.bundles import Bundle
from releases.policies import ruleoftwo
from releases.states import LabelVerdict, Scope, SwitchEffect


class Agent(models.Model):
    """A product that does work: it has an owner and releases, one of which answers new runs."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    owner = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    active_release = models.ForeignKey("Release", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        return ids.public("agt", self.pk)

    def get_absolute_url(self) -> str:
        return reverse("releases:agent-detail", args=[self.slug])

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "agent", self.slug, self.name, f"/agents/{self.slug}/"


class Release(models.Model):
    """A bundle that never changes. `digest` is the SHA-256 of its canonical JSON."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="releases")
    version = models.CharField(max_length=80)
    digest = models.CharField(max_length=64)
    content = models.JSONField()
    # What was accepted of these tools when the release was made, where no active release says it: see releases.labels.
    declared = models.JSONField(default=dict, db_default=models.Value({}, models.JSONField()))
    declared_seal = models.CharField(max_length=64, blank=True, default="", db_default="")
    note = models.TextField(blank=True)
    created_by_id = models.CharField(max_length=64, blank=True)
    created_by_label = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-created_at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["agent", "version"], name="release_version_unique"),
            models.UniqueConstraint(fields=["agent", "digest"], name="release_digest_unique"),
        ]

    def __str__(self) -> str:
        return f"{self.agent} {self.version}"

    @cached_property
    def bundle(self) -> Bundle:
        return Bundle.model_validate(self.content)

    @cached_property
    def exposure(self) -> ruleoftwo.Exposure:
        return ruleoftwo.judge(self.bundle)

    @property
    def rule_of_two(self) -> ruleoftwo.Badge:
        return ruleoftwo.badge(self.exposure)

    @property
    def public_id(self) -> str:
        return ids.public("rel", self.pk)

    def get_absolute_url(self) -> str:
        return reverse("releases:release-detail", args=[self.pk])

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "release", self.public_id, str(self), f"/releases/{self.public_id}/"


class LabelReview(models.Model):
    """A second person's word on the label changes of a release. `digest` is that of exactly these changes and release.

    `seal` is keyed from outside the database, so that a row written or edited there counts for nothing.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="label_reviews")
    digest = models.CharField(max_length=64)
    verdict = models.CharField(max_length=10, choices=[(verdict.value, verdict.value) for verdict in LabelVerdict])
    changes = models.JSONField(help_text="What was reviewed: tool, whose labels before, before, after")
    reason = models.TextField()
    by_kind = models.CharField(max_length=20)
    by_id = models.CharField(max_length=64)
    by_label = models.CharField(max_length=300)
    at = models.DateTimeField(default=timezone.now)
    seal = models.CharField(max_length=64)

    class Meta:
        ordering: ClassVar = ["-at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["release", "digest"], name="label_review_once"),
            models.CheckConstraint(
                condition=models.Q(verdict__in=[verdict.value for verdict in LabelVerdict]),
                name="label_review_verdict_known",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.verdict} by {self.by_label}"


class Activation(models.Model):
    """One change of the release that answers new runs: the history of an agent."""

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="activations")
    release = models.ForeignKey(Release, on_delete=models.PROTECT, related_name="activations")
    previous = models.ForeignKey(Release, null=True, on_delete=models.PROTECT, related_name="+")
    by_label = models.CharField(max_length=300)
    reason = models.TextField()
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.release} at {self.at:%Y-%m-%d %H:%M}"


class KillSwitchQuerySet(models.QuerySet["KillSwitch"]):
    def engaged(self) -> KillSwitchQuerySet:
        return self.filter(lifted_at__isnull=True)


class KillSwitch(models.Model):
    """One engagement of a switch; lifting it ends the row, engaging again makes a new one.

    `target` is an agent's slug, a tool's name (on every agent that has it) or an MCP server's name (all its tools);
    empty for everything.
    """

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    scope = models.CharField(max_length=20, choices=[(scope.value, scope.value) for scope in Scope])
    effect = models.CharField(max_length=20, choices=[(effect.value, effect.value) for effect in SwitchEffect])
    target = models.CharField(max_length=120, blank=True)
    reason = models.TextField()
    epoch = models.BigIntegerField(help_text="Value of the switch epoch after engaging")
    engaged_at = models.DateTimeField(default=timezone.now)
    engaged_by_id = models.CharField(max_length=64)
    engaged_by_label = models.CharField(max_length=300)
    lifted_at = models.DateTimeField(null=True, blank=True)
    lifted_by_label = models.CharField(max_length=300, blank=True)
    lift_reason = models.TextField(blank=True)
    blocked_calls = models.PositiveIntegerField(default=0)

    objects = KillSwitchQuerySet.as_manager()

    class Meta:
        ordering: ClassVar = ["-engaged_at"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["scope", "effect", "target"],
                condition=models.Q(lifted_at__isnull=True),
                name="kill_switch_engaged_once",
            ),
            models.CheckConstraint(
                condition=models.Q(effect__in=[effect.value for effect in SwitchEffect]),
                name="kill_switch_effect_known",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def public_id(self) -> str:
        return ids.public("ksw", self.pk)

    @property
    def title(self) -> str:
        """A sentence for people: "issue_refund is off"."""
        where = {
            "everything": "Everything",
            "agent": f"Agent {self.target}",
            "tool": self.target,
            "server": f"MCP server {self.target}",
        }[self.scope]
        words = {
            SwitchEffect.PAUSE_RUNS: "new runs are paused",
            SwitchEffect.DISABLE_TOOL: "off",
            SwitchEffect.WRITES_OFF: "write tools are off",
            SwitchEffect.FORCE_REVIEW: "every write needs a person",
        }
        if self.effect == SwitchEffect.DISABLE_TOOL:
            return f"{where} is off"
        return f"{where}: {words[SwitchEffect(self.effect)]}"

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "kill_switch", self.public_id, self.title, "/switches/"


class SwitchEpoch(models.Model):
    """A single row; its number grows with every change of a switch, so that workers can say what they have seen."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    epoch = models.BigIntegerField(default=0)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [models.CheckConstraint(condition=models.Q(id=1), name="switch_epoch_single_row")]

    def __str__(self) -> str:
        return f"epoch {self.epoch}"
