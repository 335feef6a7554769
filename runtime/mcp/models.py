"""MCP servers, what they offer, and what people have reviewed of it."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.urls import reverse
from django.utils import timezone

from console import ids
from runtime.mcp.states import Transport


class McpServer(models.Model):
    """A server whose tools releases may name as `<name>__<tool>`. Secrets are named by environment variable only."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    name = models.CharField(max_length=40, unique=True)
    transport = models.CharField(max_length=10, choices=[(each.value, each.value) for each in Transport])
    command = models.JSONField(default=list, help_text="The program and its arguments, each a text")
    environment = models.JSONField(default=dict, help_text="Name in the child -> the worker's variable it is read from")
    url = models.CharField(max_length=2000, blank=True)
    header_name = models.CharField(max_length=80, blank=True)
    header_variable = models.CharField(max_length=120, blank=True)
    connect_timeout_s = models.FloatField(default=10)
    call_timeout_s = models.FloatField(default=60)
    output_cap_bytes = models.PositiveIntegerField(default=1_000_000)
    created_at = models.DateTimeField(default=timezone.now)
    created_by_label = models.CharField(max_length=300)
    disabled_at = models.DateTimeField(null=True, blank=True)
    disabled_reason = models.TextField(blank=True)
    asked_at = models.DateTimeField(null=True, blank=True, help_text="When somebody last asked what it offers")
    seen_at = models.DateTimeField(null=True, blank=True, help_text="When it last said what it offers")
    told = models.CharField(max_length=200, blank=True, help_text="What it calls itself, and its protocol version")
    refused = models.JSONField(default=list, help_text="[name, why] of offers that cannot be kept at all")
    error = models.TextField(blank=True)
    error_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(transport__in=[each.value for each in Transport]), name="mcp_transport_known"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def public_id(self) -> str:
        return ids.public("mcp", self.pk)

    def get_absolute_url(self) -> str:
        return reverse("mcp:server-detail", args=[self.name])

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "mcp_server", self.public_id, self.name, f"/mcp/{self.name}/"


class McpTool(models.Model):
    """What a server offers under one name now. `offer` is what the digest is taken over."""

    id = models.UUIDField(primary_key=True, default=ids.new, editable=False)
    server = models.ForeignKey(McpServer, on_delete=models.PROTECT, related_name="tools")
    name = models.CharField(max_length=64)
    offer = models.JSONField(default=dict)
    digest = models.CharField(max_length=64, blank=True, help_text="Empty when it is not offered any more")
    problem = models.TextField(blank=True, help_text="The rule that its offer breaks")
    first_seen_at = models.DateTimeField(default=timezone.now)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["server", "name"], name="mcp_tool_once")]

    def __str__(self) -> str:
        return f"{self.server.name}__{self.name}"

    def get_absolute_url(self) -> str:
        return reverse("mcp:tool-detail", args=[self.server.name, self.name])

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "mcp_tool", ids.public("mct", self.pk), str(self), f"/mcp/{self.server.name}/tools/{self.name}/"


class McpReview(models.Model):
    """A person has read exactly this offer, and let releases pin it."""

    tool = models.ForeignKey(McpTool, on_delete=models.PROTECT, related_name="reviews")
    digest = models.CharField(max_length=64)
    offer = models.JSONField()
    at = models.DateTimeField(default=timezone.now)
    by_id = models.CharField(max_length=64)
    by_label = models.CharField(max_length=300)
    reason = models.TextField(blank=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["tool", "digest"], name="mcp_review_once")]

    def __str__(self) -> str:
        return f"{self.tool} {self.digest[:12]}"
