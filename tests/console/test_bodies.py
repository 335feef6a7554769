from __future__ import annotations

import json

from console.bodies import LimitedBodies


class Caller:
    """Sends a body in pieces, as an HTTP server hands them on, and keeps what is answered."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.sent = []

    async def receive(self):
        piece = self.pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(self.pieces)}

    async def send(self, message):
        self.sent.append(message)


class Application:
    """Reads the whole body, then answers."""

    def __init__(self) -> None:
        self.read = b""

    async def __call__(self, scope, receive, send):
        more = True
        while more:
            message = await receive()
            self.read += message["body"]
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.read})


async def test_a_body_within_the_limit_passes():
    caller = Caller(b"12345", b"67890")

    await LimitedBodies(Application(), 10)({"type": "http"}, caller.receive, caller.send)

    assert caller.sent[1]["body"] == b"1234567890"


async def test_a_body_that_says_no_length_is_stopped_while_it_arrives():
    caller, application = Caller(*[b"12345"] * 1000), Application()

    await LimitedBodies(application, 10)({"type": "http"}, caller.receive, caller.send)

    assert caller.sent[0]["status"] == 413
    assert "at most 10 bytes" in json.loads(caller.sent[1]["body"])["detail"]
    assert len(application.read) <= 10
    assert len(caller.pieces) == 997
