"""A call of a tool that an MCP server offers, as the engine makes it. Satisfies toolbox.Executable."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from releases.bundles import ToolManifest, canonical
from releases.states import SERVER_MARK
from runtime import schemas, threads
from runtime.mcp import configuring, discoveries
from runtime.mcp.configuring import Config, NotUsable
from runtime.policies import offering
from runtime.toolbox import Barred
from runtime.tools import BadArguments, ToolContext, ToolError

if TYPE_CHECKING:
    from runtime.mcp.connections import Connection, Pool
    from runtime.policies.offering import Listing

log = logging.getLogger(__name__)

CHANGED_RULE = "mcp-changed"
OFF_RULE = "mcp-server-off"
LONGEST_ERROR = 4000
# Of JSON-RPC and MCP: no such method, bad parameters; the server did not take the call on.
NOT_TAKEN = frozenset({-32601, -32602})
TIMED_OUT, CLOSED, INTERNAL = -32001, -32000, -32603
# What the client says itself of an answer that no server's code stands behind.
NOT_ASKED = ("Session terminated", "Redirect to ")


class Lost(ConnectionError):
    """The connection ended, or the server failed, while the call was under way: it may have happened."""


class BadReply(Exception):
    """The server answered something that is no result: the call may have happened."""


class Door:
    """What a pool asks the database, in threads."""

    async def load(self, name: str) -> Config:
        found: Config = await threads.run(configuring.load, name)
        return found

    async def store(self, config: Config, listing: Listing, told: str) -> None:
        await threads.run(discoveries.store, config.name, listing, told)

    async def fail(self, config: Config, error: str) -> None:
        await threads.run(discoveries.fail, config.name, error)


@dataclass(frozen=True)
class McpCall:
    """One call. It is compared with the pin before it is judged, and once more before it goes out."""

    manifest: ToolManifest

    @property
    def is_async(self) -> bool:
        return True

    @property
    def tool(self) -> str:
        return self.manifest.name.partition(SERVER_MARK)[2]

    def canonical(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as they are, once they satisfy the schema that was reviewed.

        Raises:
            BadArguments: names each place and rule.
        """
        arguments = dict(raw)
        if wrong := schemas.errors(canonical(self.manifest.parameters), arguments):
            raise BadArguments(wrong)
        return arguments

    async def why_not(self) -> Barred | None:
        """Whether the server offers something else than what was pinned. Nothing when it cannot be asked: then the
        call itself fails, and counts against the breaker."""
        pool = await _pool()
        try:
            config = await pool.door.load(self.manifest.server)
            changed = await self._changed(pool, await pool.get(config))
        except NotUsable as off:
            return Barred(OFF_RULE, str(off))
        except ConnectionError as away:
            log.info("MCP server %s cannot be asked: %s", self.manifest.server, away)
            return None
        return Barred(CHANGED_RULE, changed) if changed else None

    async def ready(self) -> ReadyCall:
        """The call on an open connection, while the server offers what was pinned.

        Raises:
            ToolError: the server is off, could not be reached or has changed the tool.
        """
        pool = await _pool()
        try:
            connection = await pool.get(await pool.door.load(self.manifest.server))
            changed = await self._changed(pool, connection)
        except NotUsable as off:
            raise ToolError(str(off), code="mcp_off") from off
        except ConnectionError as away:
            raise ToolError(f"The MCP server cannot be reached: {away}", code="mcp_away", kind="unavailable") from away
        if changed:
            raise ToolError(changed, code="mcp_changed")
        return ReadyCall(self.manifest, pool, connection)

    async def call(self, context: ToolContext, canonical: Mapping[str, Any]) -> Any:
        return await (await self.ready()).call(context, canonical)

    async def _changed(self, pool: Pool, connection: Connection) -> str:
        offered = await pool.offered(connection, self.tool)
        pin = self.manifest.schema_digest
        seen, is_reviewed = await threads.run(discoveries.known, self.manifest.server, self.tool, pin)
        if seen != (offered or ""):
            offered = await pool.asked_again(connection, self.tool)
        return offering.decide_call(self.manifest.name, pin, offered, is_reviewed=is_reviewed)


@dataclass(frozen=True)
class ReadyCall(McpCall):
    """The same, ready to go out."""

    pool: Pool
    connection: Connection

    async def ready(self) -> ReadyCall:
        return self

    async def call(self, context: ToolContext, canonical: Mapping[str, Any]) -> Any:
        """The result as JSON.

        Raises:
            ToolError: the server refused: nothing happened.
            Lost, BadReply, TimeoutError: it may have happened.
        """
        from mcp.shared.exceptions import MCPError
        from pydantic import ValidationError

        from runtime.mcp import results

        pool, connection = self.pool, self.connection
        timeout_s = min(self.manifest.timeout_s, connection.config.call_timeout_s)
        began = time.monotonic()
        try:
            answer = await connection.call(self.tool, dict(canonical), timeout_s)
        except MCPError as wrong:
            raise _failure(pool, connection, wrong, began) from wrong
        except ValidationError as wrong:
            raise BadReply("The MCP server answered something that is no result.") from wrong
        except asyncio.CancelledError:
            _drop_if_silent(pool, connection, began, timeout_s)
            raise
        if answer.is_error:
            said = results.text(answer)[:LONGEST_ERROR] or "The tool failed without a word."
            raise ToolError(connection.config.redacted(said))
        return connection.config.redacted_value(results.value(answer))


def _failure(pool: Pool, connection: Connection, wrong: Any, began: float) -> Exception:
    """What a protocol error means for the call."""
    said = connection.config.redacted(str(wrong.message)[:300])
    if wrong.code == TIMED_OUT:
        _drop_if_silent(pool, connection, began, 0.0)
        return TimeoutError(f"no result from the MCP server: {said}")
    if wrong.code in NOT_TAKEN:
        return ToolError(f"The MCP server did not take the call: {said}", code="mcp_protocol")
    if said.startswith(NOT_ASKED):
        pool.drop(connection)
        return ToolError(f"The MCP server was not reached: {said}", code="mcp_away", kind="unavailable")
    if wrong.code == CLOSED:
        pool.drop(connection)
        return Lost(f"{said}. {connection.config.redacted(connection.trouble()[-300:])}".removesuffix(". "))
    return Lost(said) if wrong.code == INTERNAL else BadReply(said)


def _drop_if_silent(pool: Pool, connection: Connection, began: float, waited_s: float) -> None:
    """A server that has said nothing all the while is not asked again on the same connection."""
    if connection.heard_at < began and time.monotonic() - began >= waited_s * 0.95:
        pool.drop(connection)


async def _pool() -> Pool:
    """The pool of this loop. The package is imported in a thread: it takes a second, and the loop keeps leases."""
    connections = await asyncio.to_thread(importlib.import_module, "runtime.mcp.connections")
    found: Pool = connections.pool(Door())
    return found
