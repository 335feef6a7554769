"""The rules of `console.fetch` for packages that bring their own HTTP client: a transport for `httpx2.AsyncClient`.

Every connection goes to an address that was checked just now, whatever redirect or name led to it; TLS still verifies
the certificate for the name. Proxies of the environment are not asked: they would connect to what nobody has checked.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any

import httpcore2
import httpx2

from console import fetch

KEEP_S = 30.0  # an idle connection is not used longer: its address was checked when it was made
MOST_CONNECTIONS = 50


class Transport(httpx2.AsyncBaseTransport):
    """Sends requests to checked addresses only.

    Raises:
        fetch.Refused: the address may not be reached from here; nothing was sent.
    """

    def __init__(self) -> None:
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=MOST_CONNECTIONS,
            keepalive_expiry=KEEP_S,
            network_backend=_Checked(),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        fetch.check(str(request.url))
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        sent = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        try:
            answer = await self._pool.handle_async_request(sent)
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as lost:
            raise _as_client_error(lost, request) from lost
        assert isinstance(answer.stream, AsyncIterable)
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream, request), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes], request: httpx2.Request) -> None:
        self._stream, self._request = stream, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as lost:
            raise _as_client_error(lost, self._request) from lost

    async def aclose(self) -> None:
        close = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()


def _as_client_error(lost: Exception, request: httpx2.Request) -> httpx2.TransportError:
    """The client's own name for what went wrong below it."""
    kind = getattr(httpx2, type(lost).__name__, httpx2.TransportError)
    return kind(str(lost) or type(lost).__name__, request=request)


class _Checked(httpcore2.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._plain = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface of the pool
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        addresses = await asyncio.to_thread(fetch.resolve, host.strip("[]"), port)
        for place, address in enumerate(addresses):
            try:
                return await self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if place == len(addresses) - 1:
                    raise
        raise httpcore2.ConnectError(f"{host} has no address")

    async def connect_unix_socket(self, path: str, *args: Any, **kwargs: Any) -> httpcore2.AsyncNetworkStream:
        raise fetch.Refused("Sockets of this machine are not fetched.")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
