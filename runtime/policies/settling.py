"""What a model call may use, estimated before it; and what it is charged after, whatever its provider reports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from runtime.messages import Call, Cost, Message, ModelReply, Usage
from runtime.policies import usage

# What a reply is expected to need where the release does not limit it (`max_tokens` of the model's parameters).
USUAL_OUTPUT_TOKENS = 1_024
# No context window takes this many.
MOST_INPUT_TOKENS = 50_000_000
# Numbers that no call can reach, nor any mistake of counting explain: whoever reports them cannot be held to a budget.
BEYOND_TOKENS = 1_000_000_000
BEYOND_USD = Decimal(100_000)


@dataclass(frozen=True)
class Settled:
    """The report is charged as it is."""

    usage: Usage
    cost: Cost


@dataclass(frozen=True)
class Doubted:
    """The report makes no sense and earns no credit: `usage`, our own estimate, is to be priced and charged."""

    usage: Usage
    reason: str


@dataclass(frozen=True)
class Implausible:
    """The report is beyond any plausibility: charge `usage`, and trust this provider with no further call."""

    usage: Usage
    reason: str


def reserve(characters: int, parameters: Mapping[str, Any]) -> Usage:
    """What a call with this many characters may use: four characters a token in, all it is allowed to say out."""
    most = parameters.get("max_tokens")
    if not isinstance(most, int) or isinstance(most, bool) or most <= 0:
        most = USUAL_OUTPUT_TOKENS
    return Usage(
        input_tokens=max(1, -(-characters // usage.CHARACTERS_PER_TOKEN)),
        output_tokens=most,
        is_estimated=True,
    )


def characters(messages: Iterable[Message]) -> int:
    """The length of the conversation as a model reads it; what frames it is left out."""
    return sum(_length(message) for message in messages)


def of_calls(calls: Iterable[Call]) -> int:
    return sum(len(call.name) + len(str(call.arguments)) for call in calls)


def _length(message: Message) -> int:
    if isinstance(message, ModelReply):
        return len(message.text) + of_calls(message.calls)
    return len(message.text) if hasattr(message, "text") else len(message.content)


def decide_settlement(
    reported: Usage, cost: Cost, held: Usage, *, reply_characters: int
) -> Settled | Doubted | Implausible:
    """Say what an answered call is charged. `held` was reserved for it.

    Counts and cost that are missing, negative, not numbers, or more than any model gives are never credited: at least
    what was reserved is charged, and more where the reply itself is longer than that.
    """
    reason = _doubt(reported, cost, reply_characters)
    if not reason:
        return Settled(reported, cost)
    said = -(-reply_characters // usage.CHARACTERS_PER_TOKEN)
    charged = Usage(held.input_tokens, 0, max(held.output_tokens, said), is_estimated=True)
    if _is_beyond(reported, cost):
        return Implausible(charged, reason)
    return Doubted(charged, reason)


def decide_failure(reported: Usage, cost: Cost, held: Usage) -> Settled | Doubted:
    """The same for a call that failed: nothing may have been used, but nothing is ever given back."""
    if reported == Usage() and _doubt_of_cost(cost) == "":
        return Settled(reported, cost)
    reason = _doubt_of_counts(reported) or _doubt_of_cost(cost)
    return Doubted(held, reason) if reason else Settled(reported, cost)


def _doubt(reported: Usage, cost: Cost, reply_characters: int) -> str:
    return _doubt_of_counts(reported) or _doubt_of_sizes(reported, reply_characters) or _doubt_of_cost(cost)


def _doubt_of_counts(reported: Usage) -> str:
    counts: dict[str, Any] = {  # whatever their types promise
        "input": reported.input_tokens,
        "cached": reported.cached_tokens,
        "output": reported.output_tokens,
    }
    for side, count in counts.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            return f"The provider reported {_told(count)} {side} tokens; a whole number from 0 on was expected."
    if reported.cached_tokens > reported.input_tokens:
        return f"The provider reported {reported.cached_tokens:,} cached of {reported.input_tokens:,} input tokens."
    if reported.input_tokens > MOST_INPUT_TOKENS:
        return f"The provider reported {reported.input_tokens:,} input tokens; no model reads that many."
    return ""


def _doubt_of_sizes(reported: Usage, reply_characters: int) -> str:
    if not reported.input_tokens:
        return "The provider reported no input tokens."
    if reply_characters and not reported.output_tokens:
        return f"The provider reported no output tokens for {reply_characters:,} characters."
    most = reply_characters * usage.MOST_BYTES_PER_CHARACTER + usage.MOST_HIDDEN_OUTPUT_TOKENS
    if reported.output_tokens > most:
        return f"The provider reported {reported.output_tokens:,} output tokens; {most:,} is the most any model gives."
    return ""


def _doubt_of_cost(cost: Cost) -> str:
    usd: Any = cost.usd
    if not isinstance(usd, Decimal) or not usd.is_finite() or usd < 0:
        return f"The call was said to cost {_told(usd)} USD; a price from 0 on was expected."
    if usd > BEYOND_USD:
        return f"The call was said to cost ${usd:,}; no call costs that much."
    return ""


def _is_beyond(reported: Usage, cost: Cost) -> bool:
    counts = (reported.input_tokens, reported.cached_tokens, reported.output_tokens)
    return any(_exceeds(count, BEYOND_TOKENS) for count in counts) or _exceeds(cost.usd, BEYOND_USD)


def _exceeds(number: Any, most: int | Decimal) -> bool:
    """Whether it is a number beyond `most`, in either direction; what is no number is nonsense, not beyond."""
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal):
        return False
    exact = Decimal(number)
    return not exact.is_nan() and abs(exact) > most


def _told(thing: Any) -> str:
    return "no" if thing is None else repr(thing)[:40]
