"""Cutting a stream of a stranger into messages, none of them larger than a cap.

A message that is too large is not kept: it is counted and hashed while it passes, so that what was left out has a name.
Beyond HARDEST times the cap the stream itself is given up.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

HARDEST = 100
END_BYTES = 300  # at either end of a message that is not read, in which its id is looked for
# Of the message itself and of nothing in it: at the beginning, or at the end, where some packages write it.
VERSION = rb'"jsonrpc"\s*:\s*"2\.0"'
NAMED = rb'"id"\s*:\s*(\d{1,18}|"[\w-]{1,60}")'
FIRST = re.compile(rb"[^{]{0,200}\{\s*(?:" + VERSION + rb"\s*,\s*)?" + NAMED)
LAST = re.compile(NAMED + rb"\s*(?:,\s*" + VERSION + rb"\s*)?\}\s*\Z")
PARSE_ERROR = -32700  # of JSON-RPC
CUT = "steadyhand/cut"  # in `_meta` of a result that stands for one that was too large


class StreamTooLong(Exception):
    """More came in one piece than is worth reading to the end."""


@dataclass(frozen=True)
class TooLarge:
    """A message that was not kept: how many bytes, their SHA-256, and the id of the request it answers, if it says."""

    size: int
    sha256: str
    request_id: int | str | None


class Sieve:
    """`separators` end a message; without any, the whole stream is one."""

    def __init__(self, cap_bytes: int, separators: tuple[bytes, ...] = ()) -> None:
        self.cap = cap_bytes
        self.separators = separators
        self._kept = bytearray()
        self._tail = b""  # the last bytes of this message: a separator may have begun in them
        self._hash: Any = None  # of a message that is too large
        self._passed = 0
        self._head = self._end = b""

    def feed(self, chunk: bytes) -> Iterator[bytes | TooLarge]:
        """The messages that end in this chunk, each with its separator.

        Raises:
            StreamTooLong: give the stream up.
        """
        while chunk:
            joined = self._tail + chunk
            ends = [place + len(mark) for mark in self.separators if (place := joined.find(mark)) >= 0]
            piece = chunk[: min(ends) - len(self._tail)] if ends else chunk
            chunk = chunk[len(piece) :]
            self._take(piece)
            if ends:
                yield self._done()
            else:
                self._tail = joined[-3:]

    def finish(self) -> Iterator[bytes | TooLarge]:
        """What is left when the stream ends."""
        if self._kept or self._hash is not None:
            yield self._done()

    def _take(self, piece: bytes) -> None:
        if self._hash is None and len(self._kept) + len(piece) <= self.cap:
            self._kept += piece
            return
        if self._hash is None:
            self._hash = hashlib.sha256(self._kept)
            self._passed = len(self._kept)
            self._head, self._end = bytes(self._kept[:END_BYTES]) + piece[:END_BYTES], bytes(self._kept[-END_BYTES:])
            self._kept.clear()
        self._hash.update(piece)
        self._end = (self._end + piece)[-END_BYTES:]
        self._passed += len(piece)
        if self._passed > self.cap * HARDEST:
            raise StreamTooLong(f"more than {self.cap * HARDEST:,} bytes in one message")

    def _done(self) -> bytes | TooLarge:
        self._tail = b""
        if self._hash is None:
            whole = bytes(self._kept)
            self._kept.clear()
            return whole
        found = TooLarge(self._passed, self._hash.hexdigest(), _id_in(self._head, self._end))
        self._hash = None
        return found


def stand_in(found: TooLarge, request_id: int | str) -> bytes:
    """The JSON of a result that says what was left out, in place of the one that was too large."""
    text = f"The answer has {found.size:,} bytes and was not kept (SHA-256 {found.sha256})."
    result = {
        "content": [{"type": "text", "text": text}],
        "resultType": "complete",
        "_meta": {CUT: {"bytes": found.size, "sha256": found.sha256}},
    }
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}).encode()


def unreadable(request_id: int | str, why: str) -> bytes:
    """The JSON of an error in place of an answer that is none, so that whoever waits for it need not wait."""
    error = {"code": PARSE_ERROR, "message": f"The answer cannot be read: {why}"}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode()


def answered(message: bytes) -> int | str | None:
    """The id of the request that a message answers which is no message of the protocol; None if it answers none."""
    try:
        found = json.loads(message)
    except (ValueError, RecursionError):
        head, end = message[:END_BYTES], message[-END_BYTES:]
        return _id_in(head, end) if b'"jsonrpc"' in head + end else None
    if not isinstance(found, dict) or "method" in found or not ("jsonrpc" in found or "result" in found):
        return None
    key = found.get("id")
    return key if isinstance(key, int | str) and not isinstance(key, bool) else None


def _id_in(head: bytes, end: bytes) -> int | str | None:
    found = FIRST.match(head) or LAST.search(end)
    return json.loads(found[1]) if found else None
