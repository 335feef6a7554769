"""A script and a tool that asks a person each time; loaded by the worker as a module with tools."""

from __future__ import annotations

from runtime.messages import Call, ModelReply, Reply
from runtime.providers import scripted
from runtime.providers.base import ModelRequest
from runtime.tools import ToolContext, tool

SCRIPT, TOOL = "benchmark-ask", "benchmark_pay"


def _script(request: ModelRequest) -> Reply:
    said = any(isinstance(message, ModelReply) for message in request.messages[request.history :])
    return Reply("Done.") if said else Reply("", (Call("call-1", TOOL, {"order_id": "10482"}),))


scripted.register(SCRIPT, _script)


@tool(effect="write", retry="idempotent", output_trust="trusted", arguments={"order_id": "target"})
async def benchmark_pay(ctx: ToolContext, order_id: str) -> str:
    """Do what a person has allowed."""
    return "Paid."
