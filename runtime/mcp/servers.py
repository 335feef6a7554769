"""MCP servers as people keep them: add, change, turn off and on, ask what they offer."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.utils.timezone import now

from console import audit, live, problems, queue, redact
from console.access import refusal
from console.actors import Actor
from runtime.mcp import configuring
from runtime.mcp.models import McpServer
from runtime.mcp.states import Transport
from runtime.policies import offering

TOPIC = "mcp"
LONGEST_TIMEOUT_S = 600
LARGEST_OUTPUT = 20_000_000
SETTINGS = (
    "transport", "command", "environment", "url", "header_name", "header_variable", "connect_timeout_s",
    "call_timeout_s", "output_cap_bytes",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """A server as somebody wants it. `environment` maps a name in the child to the worker's variable."""

    transport: Transport
    command_line: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    header_name: str = ""
    header_variable: str = ""
    connect_timeout_s: float = 10
    call_timeout_s: float = 60
    output_cap_bytes: int = 1_000_000

    def values(self) -> dict[str, Any]:
        is_stdio = self.transport == Transport.STDIO
        return {
            "transport": self.transport,
            "command": shlex.split(self.command_line) if is_stdio else [],
            "environment": dict(self.environment) if is_stdio else {},
            "url": "" if is_stdio else self.url,
            "header_name": "" if is_stdio else self.header_name,
            "header_variable": "" if is_stdio else self.header_variable,
            "connect_timeout_s": self.connect_timeout_s,
            "call_timeout_s": self.call_timeout_s,
            "output_cap_bytes": self.output_cap_bytes,
        }


@transaction.atomic
def register(name: str, wanted: Wanted, *, by: Actor, reason: str) -> McpServer:
    """Add a server and ask what it offers. Nothing of it can be called before a person has reviewed it.

    Raises:
        problems.Forbidden: this actor may not add servers.
        problems.Invalid: says which part of the configuration breaks which rule.
        problems.Conflict: there is a server of this name.
    """
    guard(by, "mcp.manage")
    name = name.strip()
    others = list(McpServer.objects.values_list("name", flat=True))
    if name in others:
        raise problems.Conflict(f"There is a server {name} already.")
    problem = offering.server_name_problem(name, others)
    if problem:
        raise problems.Invalid(problem, errors={"name": problem})
    server = McpServer.objects.create(name=name, created_by_label=by.label, **_checked(wanted))
    audit.record(by, "mcp_server.register", server, reason=reason, changes=_changes({}, _settings(server)))
    return discover(name, by=by)


@transaction.atomic
def change(name: str, wanted: Wanted, *, by: Actor, reason: str) -> McpServer:
    """Reach a server in another way. What was reviewed stays reviewed: the digests say whether it offers the same."""
    guard(by, "mcp.manage")
    server = McpServer.objects.select_for_update().get(name=name)
    before = _settings(server)
    for field_name, value in _checked(wanted).items():
        setattr(server, field_name, value)
    changes = _changes(before, _settings(server))
    if not changes:
        return server
    server.save(update_fields=list(SETTINGS))
    audit.record(by, "mcp_server.change", server, reason=reason, changes=changes)
    return discover(name, by=by)


@transaction.atomic
def disable(name: str, *, by: Actor, reason: str) -> McpServer:
    """No worker connects to it any more; calls of its tools are refused. Twice is harmless.

    A call that has begun goes on; to stop everything in one commit there is the kill switch.
    """
    guard(by, "mcp.review")
    if not reason.strip():
        raise problems.Invalid("Say why it is turned off.", errors={"reason": "Say why."})
    server = McpServer.objects.select_for_update().get(name=name)
    if server.disabled_at is None:
        server.disabled_at, server.disabled_reason = now(), redact.text(reason.strip())
        server.save(update_fields=["disabled_at", "disabled_reason"])
        audit.record(by, "mcp_server.disable", server, reason=reason, changes={"state": ["on", "off"]})
        live.announce(TOPIC)
    return server


@transaction.atomic
def enable(name: str, *, by: Actor, reason: str = "") -> McpServer:
    """Let workers connect again. Twice is harmless."""
    guard(by, "mcp.review")
    server = McpServer.objects.select_for_update().get(name=name)
    if server.disabled_at is not None:
        server.disabled_at, server.disabled_reason = None, ""
        server.save(update_fields=["disabled_at", "disabled_reason"])
        audit.record(by, "mcp_server.enable", server, reason=reason, changes={"state": ["off", "on"]})
        live.announce(TOPIC)
    return server


@transaction.atomic
def discover(name: str, *, by: Actor) -> McpServer:
    """Ask a worker to look what it offers now. The page shows the answer when it is there."""
    if not may(by, "mcp.manage"):
        guard(by, "mcp.review")
    server = McpServer.objects.select_for_update().get(name=name)
    server.asked_at = now()
    server.save(update_fields=["asked_at"])
    queue.enqueue("runtime.mcp.jobs.discover", server.public_id)
    live.announce(TOPIC)
    return server


def guard(by: Actor, permission: str) -> None:
    """Raises problems.Forbidden. Servers are not divided by agents: the right is needed on all of them."""
    if not may(by, permission):
        raise problems.Forbidden(refusal(permission))


def may(by: Actor, permission: str) -> bool:
    return by.agents(permission) is None


def _checked(wanted: Wanted) -> dict[str, Any]:
    errors: dict[str, str] = {}
    try:
        values = wanted.values()
    except ValueError as wrong:
        raise problems.Invalid(
            f"The command line cannot be read: {wrong}.", errors={"command_line": str(wrong)}
        ) from wrong
    if wanted.transport == Transport.STDIO:
        errors["command_line"] = configuring.command_problem(values["command"])
        errors["environment"] = configuring.environment_problem(values["environment"])
    else:
        errors["url"] = configuring.url_problem(values["url"], has_secret=bool(values["header_name"]))
        errors["header_name"] = configuring.header_problem(values["header_name"], values["header_variable"])
    for name in ("connect_timeout_s", "call_timeout_s"):
        if not 0.1 <= values[name] <= LONGEST_TIMEOUT_S:
            errors[name] = f"Between 0.1 and {LONGEST_TIMEOUT_S} seconds."
    if not 1_000 <= values["output_cap_bytes"] <= LARGEST_OUTPUT:
        errors["output_cap_bytes"] = f"Between 1,000 and {LARGEST_OUTPUT:,} bytes."
    errors = {name: text for name, text in errors.items() if text}
    if errors:
        raise problems.Invalid(" ".join(errors.values()), errors=errors)
    return values


def _settings(server: McpServer) -> dict[str, Any]:
    return {name: getattr(server, name) for name in SETTINGS}


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [before.get(name), value] for name, value in after.items() if before.get(name) != value}
