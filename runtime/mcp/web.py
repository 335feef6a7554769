"""An MCP server over streamable HTTP: checked addresses only, and answers that are cut to a cap."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client

from console import checked, fetch
from runtime.mcp.sieve import Sieve, TooLarge, stand_in

EVENTS = (b"\n\n", b"\r\n\r\n", b"\r\r")
EVENT_STREAM = "text/event-stream"


@asynccontextmanager
async def streams(
    way: Capped, url: str, headers: Mapping[str, str], *, connect_s: float, read_s: float
) -> AsyncIterator[TransportStreams]:
    """The two streams of a session with the server at this address."""
    client = httpx2.AsyncClient(
        transport=way,
        headers={"Accept-Encoding": "identity", **headers},
        timeout=httpx2.Timeout(connect_s, read=read_s),
        trust_env=False,
        follow_redirects=False,
    )
    most = way.cap_bytes + 1000
    async with client, streamable_http_client(url, http_client=client, max_sse_event_size=most) as found:
        yield found


class Capped(httpx2.AsyncBaseTransport):
    """Replaces each message of an answer that is larger than the cap by one that says so.

    `trouble` is why the last request could not be sent or answered: the session above only says that it was closed.
    """

    def __init__(self, cap_bytes: int, below: httpx2.AsyncBaseTransport | None = None) -> None:
        self.cap_bytes = cap_bytes
        self.below = below or checked.Transport()
        self.trouble = ""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            answer = await self.below.handle_async_request(request)
        except (fetch.Refused, fetch.Failed, httpx2.TransportError) as wrong:
            self.trouble = f"{str(wrong)[:300] or type(wrong).__name__}"
            raise
        if answer.status_code >= 400:
            self.trouble = f"It answered with status {answer.status_code}."
        if answer.headers.get("content-encoding", "identity").lower() != "identity":
            await answer.aclose()
            self.trouble = "It answers compressed, though it was asked not to."
            raise httpx2.RemoteProtocolError(self.trouble, request=request)
        assert isinstance(answer.stream, httpx2.AsyncByteStream)
        answer.headers.pop("content-length", None)
        is_stream = answer.headers.get("content-type", "").lower().startswith(EVENT_STREAM)
        request_id = await _request_id(request)
        stream = _Sieved(answer.stream, self.cap_bytes, request_id, is_stream=is_stream)
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=stream, extensions=answer.extensions)

    async def aclose(self) -> None:
        await self.below.aclose()


class _Sieved(httpx2.AsyncByteStream):
    def __init__(
        self, below: httpx2.AsyncByteStream, cap_bytes: int, request_id: int | str | None, *, is_stream: bool
    ) -> None:
        self.below, self.request_id, self.is_stream = below, request_id, is_stream
        self.sieve = Sieve(cap_bytes, EVENTS if is_stream else ())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.below:
            for message in self.sieve.feed(chunk):
                yield self._shown(message)
        for message in self.sieve.finish():
            yield self._shown(message)

    async def aclose(self) -> None:
        await self.below.aclose()

    def _shown(self, message: bytes | TooLarge) -> bytes:
        if isinstance(message, bytes):
            return message
        if self.request_id is None:  # a notice that nobody asked for
            return b""
        whole = stand_in(message, self.request_id)
        return b"event: message\ndata: " + whole + b"\n\n" if self.is_stream else whole


async def _request_id(request: httpx2.Request) -> int | str | None:
    if request.method != "POST":
        return None
    try:
        found = json.loads(await request.aread()).get("id")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, int | str) else None
