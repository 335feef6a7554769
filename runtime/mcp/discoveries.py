"""What a server offers, looked at and kept: one writer, whoever looked."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils.timezone import now

from console import audit, live
from console.actors import system
from runtime.mcp import configuring
from runtime.mcp.models import McpReview, McpServer, McpTool
from runtime.mcp.servers import TOPIC
from runtime.policies.offering import Judged, Listing

log = logging.getLogger(__name__)

FRESH = timedelta(seconds=30)  # how exact `seen_at` is


_looking: dict[UUID, bool] = {}  # servers that this process looks at; True: somebody has asked again meanwhile
_lock = threading.Lock()


def look(server_id: UUID) -> None:
    """Connect to a server, keep what it offers or why it cannot be asked, and let it go. Takes as long as it takes.

    Once at a time: whoever asks meanwhile holds no thread, and is answered by one more look after this one.
    """
    with _lock:
        if server_id in _looking:
            _looking[server_id] = True
            return
        _looking[server_id] = True
    try:
        while _is_asked(server_id):
            _look(server_id)
    except BaseException:
        with _lock:
            del _looking[server_id]
        raise


def _is_asked(server_id: UUID) -> bool:
    """Whether there is a look to take; without one, the next who asks takes it himself."""
    with _lock:
        is_asked = _looking[server_id]
        _looking[server_id] = False
        if not is_asked:
            del _looking[server_id]
        return is_asked


def _look(server_id: UUID) -> None:
    server = McpServer.objects.filter(pk=server_id, disabled_at=None).first()
    if server is None:
        return
    try:
        config = configuring.of(server)
        listing, told = asyncio.run(_listed(config))
    except (configuring.NotUsable, OSError) as wrong:
        fail(server.name, str(wrong))
        return
    store(server.name, listing, told)


async def _listed(config: configuring.Config) -> tuple[Listing, str]:
    from runtime.mcp import connections

    async with connections.connect(config) as connection:
        return connection.listing, connection.told


@transaction.atomic
def fail(name: str, error: str) -> None:
    """Keep why a server cannot be asked; what was known of it stays."""
    server = McpServer.objects.select_for_update().get(name=name)
    server.error, server.error_at = error[:2000], now()
    server.save(update_fields=["error", "error_at"])
    live.announce(TOPIC)


@transaction.atomic
def store(name: str, listing: Listing, told: str) -> None:
    """Keep what a server offers now. Each tool that differs from what was kept is an entry of the audit log.

    What it does not offer any more is kept where a person has reviewed it, and forgotten otherwise: a server that
    offers other names each time does not fill tables and pages.
    """
    server = McpServer.objects.select_for_update().get(name=name)
    known = {tool.name: tool for tool in server.tools.all()}
    is_changed = False
    for tool_name, judged in listing.tools.items():
        is_changed |= _keep(server, known.get(tool_name), tool_name, judged)
    for tool_name, tool in known.items():
        if tool_name not in listing.tools and tool.digest:
            _lose(tool)
            is_changed = True
    refused = [list(each) for each in listing.refused]
    is_changed |= bool(server.error) or server.refused != refused or server.told != told
    moment = now()
    if is_changed or server.seen_at is None or moment - server.seen_at > FRESH:
        server.seen_at, server.refused, server.told, server.error, server.error_at = moment, refused, told, "", None
        server.save(update_fields=["seen_at", "refused", "told", "error", "error_at"])
    if is_changed:
        live.announce(TOPIC)


def known(server: str, tool: str, digest: str) -> tuple[str, bool]:
    """The digest of what anybody was last told of it (empty: nothing); and whether a person has reviewed `digest`.

    One statement: it is asked before each call.
    """
    review = McpReview.objects.filter(tool=OuterRef("pk"), digest=digest)
    found = McpTool.objects.filter(server__name=server, name=tool).annotate(is_reviewed=Exists(review))
    seen, is_reviewed = found.values_list("digest", "is_reviewed").first() or ("", False)
    return seen, is_reviewed


def _keep(server: McpServer, tool: McpTool | None, name: str, judged: Judged) -> bool:
    if tool is None:
        McpTool.objects.create(
            server=server, name=name, offer=judged.offer, digest=judged.digest, problem=judged.problem
        )
        return True
    if (tool.digest, tool.problem) == (judged.digest, judged.problem):
        return False
    before, tool.digest = tool.digest, judged.digest
    tool.offer, tool.problem, tool.changed_at = judged.offer, judged.problem, now()
    tool.save(update_fields=["digest", "offer", "problem", "changed_at"])
    if before != judged.digest:
        log.warning("MCP server %s describes %s differently now; releases that pin it cannot call it.", server, name)
        _tell(tool, "The server describes it differently now.", before)
    return True


def _lose(tool: McpTool) -> None:
    if not tool.reviews.exists():
        tool.delete()
        return
    before, tool.digest, tool.changed_at = tool.digest, "", now()
    tool.save(update_fields=["digest", "changed_at"])
    _tell(tool, "The server does not offer it any more.", before)


def _tell(tool: McpTool, why: str, before: str) -> None:
    audit.record(system("mcp"), "mcp_tool.change", tool, reason=why, changes={"digest": [before, tool.digest]})
