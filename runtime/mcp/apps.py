from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import AppConfig

from console import live, roles, shell
from console.roles import EVERYONE, Role

if TYPE_CHECKING:
    from releases.bundles import ToolManifest
    from runtime.toolbox import Executable


def _tool(manifest: ToolManifest) -> Executable:
    from runtime.mcp import executing

    return executing.McpCall(manifest)


async def _close() -> None:
    """Nothing is imported for it."""
    import sys

    connections = sys.modules.get("runtime.mcp.connections")
    if connections is not None:
        await connections.aclose_all()


def _is_known(name: str) -> bool:
    from runtime.mcp.models import McpServer

    return McpServer.objects.filter(name=name).exists()


class McpConfig(AppConfig):
    """Tools that other programs offer. Nothing else of the runtime depends on it."""

    name = "runtime.mcp"
    label = "mcp"

    def ready(self) -> None:
        from releases import switches
        from runtime import toolbox

        roles.declare("mcp.read", EVERYONE, "see MCP servers")
        roles.declare("mcp.manage", {Role.ADMIN}, "add and change MCP servers")
        roles.declare("mcp.review", {Role.OPERATOR, Role.ADMIN}, "review tools of MCP servers and turn servers off")
        live.topic("mcp", lambda actor, _: actor.may("mcp.read"))
        toolbox.register_servers(_tool, _close)
        switches.register_servers(_is_known)
        shell.register(
            "Control",
            shell.NavItem(
                key="mcp",
                letter="x",
                label="MCP servers",
                url_name="mcp:server-list",
                icon="plug",
                permission="mcp.read",
                order=60,
            ),
        )
