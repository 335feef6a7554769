"""What the queue may call."""

from __future__ import annotations

from console import ids


def discover(server: str) -> None:
    from runtime.mcp import discoveries

    discoveries.look(ids.parse("mcp", server))


ENTRY_POINTS = (discover,)
CRON = ()
