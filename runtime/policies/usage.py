"""Whether the token counts that a provider reports can be believed, and what is charged when not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.messages import Usage

CHARACTERS_PER_TOKEN = 4
# A token is at least one byte, so a text never holds more tokens than bytes. Vendors add a prompt for tools.
MOST_BYTES_PER_CHARACTER = 4
MOST_HIDDEN_INPUT_TOKENS = 20_000
# Reasoning is paid for and not shown; no model writes more than this in one reply.
MOST_HIDDEN_OUTPUT_TOKENS = 300_000
# Ordinary text holds one token in about four characters; sixty is far beyond the longest words of any vocabulary.
MOST_CHARACTERS_PER_TOKEN = 60
# Below this many characters a count says nothing about honesty.
TOO_SHORT_TO_JUDGE = 500


@dataclass(frozen=True)
class Reported:
    """What came over the wire, unchecked; None where a count is missing."""

    input_tokens: Any = None
    cached_tokens: Any = None
    output_tokens: Any = None


@dataclass(frozen=True)
class Believed:
    usage: Usage


@dataclass(frozen=True)
class Doubted:
    """The report cannot be true. `usage` is our own estimate, to be charged instead."""

    usage: Usage
    reason: str


def decide_usage(reported: Reported, *, request_characters: int, reply_characters: int) -> Believed | Doubted:
    """Say what one model call is charged.

    A report that is missing, negative, not a whole number, or impossible for texts of this length earns no credit:
    the call is charged by the length of its texts, four characters to a token, rounded up.
    """
    reason = (
        _doubt("input", reported.input_tokens, request_characters, MOST_HIDDEN_INPUT_TOKENS)
        or _doubt("output", reported.output_tokens, reply_characters, MOST_HIDDEN_OUTPUT_TOKENS)
        or _doubt_of_cache(reported)
    )
    if reason:
        return Doubted(estimate(request_characters, reply_characters), reason)
    return Believed(Usage(reported.input_tokens, reported.cached_tokens or 0, reported.output_tokens))


def estimate(request_characters: int, reply_characters: int) -> Usage:
    return Usage(
        input_tokens=max(1, -(-request_characters // CHARACTERS_PER_TOKEN)),
        output_tokens=max(1, -(-reply_characters // CHARACTERS_PER_TOKEN)),
        is_estimated=True,
    )


def _doubt(side: str, tokens: Any, characters: int, hidden: int) -> str:
    if tokens is None:
        return f"The provider reported no {side} tokens."
    if not _is_count(tokens):
        return f"The provider reported {str(tokens)[:40]!r} {side} tokens; a whole number from 0 on was expected."
    most = characters * MOST_BYTES_PER_CHARACTER + hidden
    if tokens > most:
        return f"The provider reported {tokens} {side} tokens for {characters} characters; {most} is the most possible."
    if characters and not tokens:
        return f"The provider reported no {side} tokens for {characters} characters."
    if characters > TOO_SHORT_TO_JUDGE and tokens * MOST_CHARACTERS_PER_TOKEN < characters:
        return f"The provider reported only {tokens} {side} tokens for {characters} characters."
    return ""


def _doubt_of_cache(reported: Reported) -> str:
    cached = reported.cached_tokens
    if cached is None or (_is_count(cached) and cached <= reported.input_tokens):
        return ""
    return f"The provider reported {str(cached)[:40]} cached tokens of {reported.input_tokens} input tokens."


def _is_count(tokens: Any) -> bool:
    return isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0
