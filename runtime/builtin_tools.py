"""Tools that every agent may have in its release."""

from __future__ import annotations

from runtime.tools import ToolContext, tool


@tool(effect="read", declines=True, output_trust="trusted", arguments={"reason": "free"}, title="Decline: {reason}")
def refuse(ctx: ToolContext, reason: str) -> str:
    """Decline the request for good. Say why in one or two sentences; then tell the user in your answer."""
    return "Declined. Now tell the user why, and what they can do instead."
