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
HEAD_BYTES = 300  # of a message that is too large, in which its id is looked for
REQUEST_ID = re.compile(rb'"id"\s*:\s*(\d{1,18}|"[\w-]{1,60}")')
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
        self._request_id: int | str | None = None

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
            self._request_id = _id_in(bytes(self._kept[:HEAD_BYTES]) + piece[:HEAD_BYTES])
            self._kept.clear()
        self._hash.update(piece)
        self._passed += len(piece)
        if self._passed > self.cap * HARDEST:
            raise StreamTooLong(f"more than {self.cap * HARDEST:,} bytes in one message")

    def _done(self) -> bytes | TooLarge:
        self._tail = b""
        if self._hash is None:
            whole = bytes(self._kept)
            self._kept.clear()
            return whole
        found = TooLarge(self._passed, self._hash.hexdigest(), self._request_id)
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


def _id_in(head: bytes) -> int | str | None:
    found = REQUEST_ID.search(head)
    return json.loads(found[1]) if found else None
