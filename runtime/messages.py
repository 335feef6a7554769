"""The conversation as the loop sees it: neutral to any provider, plain enough to store as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class Call:
    """A tool call as the model proposed it. `arguments` is untrusted: a parsed object, or text that did not parse."""

    id: str
    name: str
    arguments: dict[str, Any] | str


@dataclass(frozen=True)
class UserText:
    text: str


@dataclass(frozen=True)
class ModelReply:
    """`opaque` is signed reasoning that the same vendor wants back unread; nobody else looks at it."""

    text: str
    calls: tuple[Call, ...] = ()
    opaque: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class ToolResult:
    """What the model is told of a call: its result, or why there is none."""

    call_id: str
    name: str
    content: str
    is_error: bool = False


Message = UserText | ModelReply | ToolResult


@dataclass(frozen=True)
class Usage:
    """Tokens of one model call. `cached_tokens` are part of `input_tokens`.

    `is_estimated`: the provider's report was missing or impossible; these counts come from the length of the texts.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    is_estimated: bool = False


@dataclass(frozen=True)
class Cost:
    """USD of one model call; `basis` is exact (known price), estimated (price of a near relative) or unpriced."""

    usd: Decimal = Decimal(0)
    basis: str = "exact"


@dataclass(frozen=True)
class Reply:
    """One answered model call."""

    text: str
    calls: tuple[Call, ...] = ()
    usage: Usage = field(default_factory=Usage)
    cost: Cost = field(default_factory=Cost)
    model: str = ""
    stop_reason: str = ""
    opaque: tuple[dict[str, Any], ...] = ()


def to_json(message: Message) -> dict[str, Any]:
    if isinstance(message, UserText):
        return {"role": "user", "text": message.text}
    if isinstance(message, ToolResult):
        return {
            "role": "tool",
            "call_id": message.call_id,
            "name": message.name,
            "content": message.content,
            "is_error": message.is_error,
        }
    calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.calls]
    stored = {"role": "model", "text": message.text, "calls": calls}
    return {**stored, "opaque": list(message.opaque)} if message.opaque else stored


def from_json(stored: dict[str, Any]) -> Message:
    if stored["role"] == "user":
        return UserText(stored["text"])
    if stored["role"] == "tool":
        return ToolResult(stored["call_id"], stored["name"], stored["content"], stored.get("is_error", False))
    calls = tuple(Call(c["id"], c["name"], c["arguments"]) for c in stored.get("calls", []))
    return ModelReply(stored["text"], calls, tuple(stored.get("opaque", ())))
