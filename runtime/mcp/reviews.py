"""Reviewing what a server says of a tool, and the manifest that a release gets from it."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from console import audit, live, problems, redact
from console.actors import Actor
from releases.bundles import ToolManifest
from runtime.mcp import servers
from runtime.mcp.models import McpReview, McpTool
from runtime.policies import offering
from runtime.policies.offering import Standing


@transaction.atomic
def review(server: str, name: str, digest: str, *, by: Actor, reason: str) -> McpReview:
    """Say that a person has read this offer and that releases may pin it. It runs nothing by itself.

    `digest` is that of the offer which was shown: one that has changed since is not reviewed by accident. Reviewing
    what is reviewed changes nothing.

    Raises:
        McpTool.DoesNotExist: no such tool.
        problems.Forbidden: this actor may not review.
        problems.Conflict: the server offers something else by now, or the offer cannot be used.
    """
    servers.guard(by, "mcp.review")
    tool = McpTool.objects.select_for_update(of=("self",)).select_related("server").get(server__name=server, name=name)
    if tool.problem and tool.digest:
        raise problems.Conflict(f"It cannot be used as it is offered. {tool.problem}")
    if not digest or tool.digest != digest:
        raise problems.Conflict("The server describes it differently from what you were shown. Look again.")
    known = tool.reviews.filter(digest=digest).first()
    if known is not None:
        return known
    before = tool.reviews.values_list("digest", flat=True).first()
    found = McpReview.objects.create(
        tool=tool, digest=digest, offer=tool.offer, by_id=by.id, by_label=by.label, reason=redact.text(reason.strip())
    )
    audit.record(by, "mcp_tool.review", tool, reason=reason, changes={"reviewed": [before or "", digest]})
    live.announce(servers.TOPIC)
    return found


def standing(tool: McpTool, reviews: list[McpReview]) -> Standing:
    return offering.decide_standing(tool.digest, {review.digest for review in reviews}, tool.problem)


def manifest(tool: McpTool, reviewed: McpReview) -> ToolManifest:
    """The tool for a release: pinned to what was reviewed, and labelled as the riskiest until a person labels it."""
    return ToolManifest(
        name=offering.full_name(tool.server.name, tool.name),
        description=offering.description(reviewed.offer),
        parameters=offering.parameters(reviewed.offer),
        effect="egress",
        output_trust="untrusted",
        retry="unsafe",
        labelled=False,
        timeout_s=tool.server.call_timeout_s,
        server=tool.server.name,
        schema_digest=reviewed.digest,
    )


def manifest_json(tool: McpTool, reviewed: McpReview) -> dict[str, Any]:
    """What is put into a bundle, without what stands for itself."""
    return manifest(tool, reviewed).model_dump(mode="json", exclude_defaults=True) | {
        "effect": "egress", "output_trust": "untrusted", "retry": "unsafe", "labelled": False,
    }  # fmt: skip
