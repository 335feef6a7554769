"""What a worker has open to MCP servers: one connection to each, of one event loop, made when it is first needed.

A connection lives in a task of its own and is shared by all turns. It lists what the server offers when it is made,
when the server says that this has changed, and at the latest every LIST_S seconds when somebody asks; what it lists is
stored. One that fails is made again, later and later while it keeps failing. Configuration is read from the database
each time, so that a server that was turned off or changed is not used as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import mcp_types
from django.db import DatabaseError
from mcp.client.client import Client
from mcp.client.subscriptions import ListenNotSupportedError
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from console import version
from runtime import schemas
from runtime.mcp import stdio, web
from runtime.mcp.configuring import Config, NotUsable
from runtime.mcp.sieve import StreamTooLong
from runtime.policies import offering
from runtime.policies.offering import Listing, Offer

log = logging.getLogger(__name__)

LIST_S = 60.0  # how long a listing is relied on without asking again
MOST_PAGES = 20
LONGEST_TOLD = 200
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LOOK_S = 30.0  # between two looks whether a connection is still wanted, and up to date
QUIET_S = 5.0  # between two looks that the server itself asks for; calls look at once
IDLE_S = 600.0


class Unreachable(ConnectionError):
    """No connection to the server, so nothing was asked of it. The sentence says why."""


@dataclass(eq=False)
class Connection:
    """An open session with what the server offers in it. Use it on the loop that made it."""

    config: Config
    client: Client
    trouble: Callable[[], str]
    listing: Listing = field(default_factory=lambda: Listing({}))
    stored: Listing = field(default_factory=lambda: Listing({}))  # what is known of it outside of this process
    listed_at: float = 0.0
    is_stale: bool = False  # the server has said that its tools have changed
    heard_at: float = 0.0  # when it last answered something
    used_at: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    nudge: asyncio.Event = field(default_factory=asyncio.Event)
    closing: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def told(self) -> str:
        """What the server calls itself, and the version of the protocol that is spoken."""
        info = self.client.server_info
        name = offering.shown_name(f"{info.name} {info.version}".strip()) if info else ""
        return f"{name}, protocol {self.client.protocol_version}".removeprefix(", ")[:LONGEST_TOLD]

    @property
    def is_over(self) -> bool:
        return self.closing.is_set() or time.monotonic() - self.used_at > IDLE_S

    def close(self) -> None:
        self.closing.set()
        self.nudge.set()

    def heard_of_change(self) -> None:
        self.is_stale = True
        self.nudge.set()

    async def list_tools(self) -> Listing:
        """Ask what it offers, all pages of it."""
        self.is_stale = False  # before asking: what changes meanwhile is asked for again
        try:
            offers = await self._offers()
            # In a thread: the loop keeps leases, and what a stranger offers may take a while to look at.
            self.listing = await asyncio.to_thread(offering.judge, self.config.name, offers, schemas.why_unusable)
        except BaseException:
            self.is_stale = True  # also when whoever asked was cancelled: the next one asks again
            raise
        self.listed_at = self.heard_at = time.monotonic()
        return self.listing

    async def _offers(self) -> list[Offer]:
        offers: list[Offer] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await self.client.list_tools(cursor=cursor)
            offers += [_offer(tool) for tool in page.tools]
            cursor = page.next_cursor
            if not cursor or len(offers) > offering.MOST_TOOLS:
                break
        return offers

    async def call(self, name: str, arguments: dict[str, Any], timeout_s: float) -> mcp_types.CallToolResult:
        """Call a tool. A result that asks for anything but reading it is no result here."""
        request = mcp_types.CallToolRequest(params=mcp_types.CallToolRequestParams(name=name, arguments=arguments))
        result = await self.client.session.send_request(
            request, mcp_types.CallToolResult, request_read_timeout_seconds=timeout_s
        )
        self.heard_at = time.monotonic()
        return result


@asynccontextmanager
async def connect(config: Config) -> AsyncIterator[Connection]:
    """A connection whose tools are listed. Enter and leave it in one task.

    Raises:
        Unreachable: with the reason, redacted.
    """
    async with AsyncExitStack() as stack:
        say: Callable[[], str] = str
        try:
            async with asyncio.timeout(config.connect_timeout_s):
                streams, say = await _streams(config)
                connection = await _session(config, streams, say, stack)
                await connection.list_tools()
        except Exception as wrong:
            raise Unreachable(_reason(config, wrong, say())) from wrong
        yield connection


async def _streams(config: Config) -> tuple[Any, Callable[[], str]]:
    if config.command:
        child = await stdio.start(config.command, config.environment, config.directory)
        return stdio.streams(child, config.output_cap_bytes), child.last_words
    way = web.Capped(config.output_cap_bytes)
    read_s = config.call_timeout_s + 5
    streams = web.streams(way, config.url, config.headers, connect_s=config.connect_timeout_s, read_s=read_s)
    return streams, lambda: way.trouble


async def _session(config: Config, streams: Any, say: Callable[[], str], stack: AsyncExitStack) -> Connection:
    made: list[Connection] = []

    async def heard(message: Any) -> None:
        if made and isinstance(message, mcp_types.ToolListChangedNotification):
            made[0].heard_of_change()

    client = Client(
        streams,
        cache=None,  # what a server wants remembered is not: its tools are asked for again
        message_handler=heard,
        read_timeout_seconds=config.connect_timeout_s / 3,
        client_info=mcp_types.Implementation(name="steadyhand", version=version.current()),
    )
    await stack.enter_async_context(client)
    connection = Connection(config, client, say)
    made.append(connection)
    return connection


async def watch(connection: Connection) -> None:
    """Hear of changed tools where the protocol wants that to be asked for (2026-07-28 on), as long as it lasts."""
    with contextlib.suppress(ListenNotSupportedError, MCPError, RuntimeError, TimeoutError):
        async with connection.client.listen(tools_list_changed=True) as subscription:
            async for _ in subscription:
                connection.heard_of_change()


def _offer(tool: mcp_types.Tool) -> Offer:
    notes = tool.annotations.model_dump(mode="json", by_alias=True, exclude_none=True) if tool.annotations else None
    return Offer(tool.name, tool.description or "", tool.input_schema, tool.output_schema, notes)


def _reason(config: Config, wrong: BaseException, said: str) -> str:
    """What people are told of a failed connection, with the server's own last words."""
    if isinstance(wrong, BaseExceptionGroup):
        wrong = wrong.exceptions[0]
    if isinstance(wrong, TimeoutError):
        why = f"no answer within {config.connect_timeout_s:g} s"
    elif isinstance(wrong, OSError | MCPError | ValidationError | StreamTooLong):
        why = str(wrong)[:200] or type(wrong).__name__
    else:
        why = f"{type(wrong).__name__}: {str(wrong)[:200]}"
    return config.redacted(f"{why}. {said[-500:]}".removesuffix(". "))


class Door(Protocol):
    """What a pool asks the database: how a server is reached now; to keep what it offers, or why it cannot say."""

    async def load(self, name: str) -> Config: ...

    async def store(self, config: Config, listing: Listing, told: str) -> None: ...

    async def fail(self, config: Config, error: str) -> None: ...


class _Kept:
    """The place of one server in a pool: its connection, the task it lives in, and when to try again."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.failures = 0
        self.not_before = 0.0
        self.error = ""


class Pool:
    """The connections of one event loop."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._kept: dict[str, _Kept] = {}
        self._pid = os.getpid()

    async def get(self, config: Config) -> Connection:
        """The connection to this server, made if need be.

        Raises:
            Unreachable: it cannot be had now; while the pause after a failure lasts, nothing is tried.
        """
        if os.getpid() != self._pid:
            raise RuntimeError("Connections to MCP servers are not shared with a forked process.")
        kept = self._kept.setdefault(config.name, _Kept())
        async with kept.lock:
            found = kept.connection
            if found is not None and found.config == config:
                found.used_at = time.monotonic()
                return found
            await self._end(kept)
            if time.monotonic() < kept.not_before:
                raise Unreachable(kept.error)
            return await self._begin(kept, config)

    async def offered(self, connection: Connection, name: str) -> str | None:
        """The digest of what the server offers under this name now; None when it does not.

        Raises:
            Unreachable: it cannot say.
        """
        async with connection.lock:
            if connection.is_stale or time.monotonic() - connection.listed_at > LIST_S:
                await self._list_again(connection)
            if connection.stored != connection.listing:
                await self._store(connection)
        return connection.listing.digests.get(name)

    async def asked_again(self, connection: Connection, name: str) -> str | None:
        """The same, asked for at once and kept for all: another worker was told something else than this one.

        Raises:
            Unreachable: it cannot say.
        """
        async with connection.lock:
            await self._list_again(connection)
            await self._store(connection)
        return connection.listing.digests.get(name)

    def drop(self, connection: Connection) -> None:
        """Do not use this connection again; the next call makes a new one."""
        kept = self._kept.get(connection.config.name)
        if kept is not None and kept.connection is connection:
            kept.connection = None
        connection.close()

    async def aclose(self) -> None:
        kept, self._kept = list(self._kept.values()), {}
        await asyncio.gather(*(self._end(each) for each in kept), return_exceptions=True)

    async def _list_again(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(connection.config.connect_timeout_s):
                await connection.list_tools()
        except (MCPError, ValidationError, TimeoutError, RuntimeError) as wrong:
            self.drop(connection)
            raise Unreachable(_reason(connection.config, wrong, connection.trouble())) from wrong

    async def _store(self, connection: Connection) -> None:
        listing = connection.listing
        await self.door.store(connection.config, listing, connection.told)
        connection.stored = listing

    async def _begin(self, kept: _Kept, config: Config) -> Connection:
        made: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        kept.task = asyncio.create_task(self._live(kept, config, made), name=f"mcp {config.name}")
        try:
            connection = await asyncio.shield(made)
        except Unreachable as away:
            kept.failures += 1
            kept.error = str(away)
            kept.not_before = time.monotonic() + min(FIRST_PAUSE_S * 2 ** (kept.failures - 1), LONGEST_PAUSE_S)
            await self.door.fail(config, kept.error)
            raise
        kept.failures = 0
        return connection

    async def _live(self, kept: _Kept, config: Config, made: asyncio.Future[Connection]) -> None:
        """All of a connection's life, in one task: scopes are left where they were entered."""
        connection: Connection | None = None
        try:
            async with connect(config) as connection:
                await self._store(connection)
                kept.connection = connection
                made.set_result(connection)
                watcher = asyncio.create_task(watch(connection))
                try:
                    await self._keep(connection)
                finally:
                    watcher.cancel()
                    await asyncio.gather(watcher, return_exceptions=True)
        except Exception as wrong:
            away = wrong if isinstance(wrong, Unreachable) else Unreachable(_reason(config, wrong, ""))
            if made.done():
                log.warning("The connection to MCP server %s ended: %s", config.name, away)
            else:
                made.set_exception(away)
                made.exception()  # whoever waited for it may have left
        finally:
            made.cancel()
            if connection is not None and kept.connection is connection:
                kept.connection = None

    async def _keep(self, connection: Connection) -> None:
        """Until it is closed, idle for long, or not wanted any more; and look at what the server says has changed."""
        while not connection.is_over:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connection.nudge.wait(), LOOK_S)
            if connection.is_over:
                return
            connection.nudge.clear()  # before the look: what is heard of during it, or in the pause after, is looked at
            try:
                if await self.door.load(connection.config.name) != connection.config:
                    return
                await self.offered(connection, "")
            except NotUsable:
                return
            except DatabaseError as away:  # calls may be under way; it is looked at again when somebody can say
                log.debug("MCP server %s is kept as it is: %s", connection.config.name, away)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connection.closing.wait(), QUIET_S)

    async def _end(self, kept: _Kept) -> None:
        task, kept.task, connection, kept.connection = kept.task, None, kept.connection, None
        if task is None:
            return
        if connection is not None:
            connection.close()
        elif not task.done():
            task.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.wait({task}), stdio.CLOSING_S * 3 + 1)
        task.cancel()


_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()


def pool(door: Door) -> Pool:
    """The pool of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _pools.get(loop)
    if found is None:
        found = _pools[loop] = Pool(door)
    return found


async def aclose_all() -> None:
    """Close what the running event loop has open."""
    found = _pools.pop(asyncio.get_running_loop(), None)
    if found is not None:
        await found.aclose()
