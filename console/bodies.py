"""Stops a request body that grows too large while it arrives.

Django looks at Content-Length, which a chunked request does not have, and stores the whole body before anything of
ours is asked. So bytes are counted at the door.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class _TooLarge(Exception):
    pass


class LimitedBodies:
    """An ASGI application whose requests have at most `largest_bytes`; others are answered with 413."""

    def __init__(self, application: Application, largest_bytes: int) -> None:
        self.application = application
        self.largest_bytes = largest_bytes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        got = 0

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self.largest_bytes:
                raise _TooLarge
            return message

        try:
            await self.application(scope, counted, send)
        except _TooLarge:
            # The body is read before anything is answered, so the answer is still ours to give.
            await self._refuse(send)

    async def _refuse(self, send: Send) -> None:
        detail = f"A request may have at most {self.largest_bytes:,} bytes. Send less."
        body = {"type": "about:blank", "title": "Too large", "status": 413, "detail": detail}
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"cache-control", b"no-store"),
            (b"x-content-type-options", b"nosniff"),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})
