"""Identifiers: UUIDv7 inside, so that ids sort by time; prefixed Crockford base 32 outside (`run_01k…`)."""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

import uuid_utils

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
VALUES = {letter: value for value, letter in enumerate(ALPHABET)}
LENGTH = 26


def new() -> UUID:
    """A fresh UUIDv7 (RFC 9562)."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


def public(prefix: str, key: UUID) -> str:
    """The id as people and programs see it: `run_` and 26 letters."""
    number, letters = key.int, []
    for _ in range(LENGTH):
        number, rest = divmod(number, 32)
        letters.append(ALPHABET[rest])
    return f"{prefix}_{''.join(reversed(letters))}"


def parse(prefix: str, text: str) -> UUID:
    """The key behind a public id.

    Raises:
        ValueError: the text is not an id of this prefix.
    """
    head, _, body = text.partition("_")
    number = 0
    if head == prefix and len(body) == LENGTH and all(letter in VALUES for letter in body):
        for letter in body:
            number = number * 32 + VALUES[letter]
        if number < 1 << 128:
            return UUID(int=number)
    raise ValueError(f"{text[:60]!r} is not an id of the form {prefix}_ and {LENGTH} letters or digits")


class PublicIdConverter:
    """A path converter: `<run:run_id>` gives the view a UUID; a malformed id is a 404."""

    prefix: ClassVar[str] = ""
    regex = rf"[a-z]+_[{ALPHABET}]{{{LENGTH}}}"

    def to_python(self, value: str) -> UUID:
        return parse(self.prefix, value)

    def to_url(self, value: UUID) -> str:
        return public(self.prefix, value)


def converter(prefix: str) -> type[PublicIdConverter]:
    return type(f"{prefix.title()}Id", (PublicIdConverter,), {"prefix": prefix})
