"""The conversation as the loop sees it: neutral to any provider, plain enough to store as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True)
class Call:
    """A tool call as the model proposed it. `arguments` is untrusted: a parsed object, or text that did not parse.

    `is_masked`: they held a credential, which was not kept, so they are not what was proposed.
    """

    id: str
    name: str
    arguments: dict[str, Any] | str
    is_masked: bool = False


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
    """What the model is told of a call: its result, or why there is none.

    `is_ours`: the runtime or a person says it, not the tool. `is_tainted`: the tool itself vouches for none of it.
    """

    call_id: str
    name: str
    content: str
    is_error: bool = False
    is_ours: bool = False
    is_tainted: bool = False


@dataclass(frozen=True)
class Notice:
    """What the runtime tells the model between two of its replies. Nobody outside has written it."""

    text: str


Message = UserText | ModelReply | ToolResult | Notice


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
    if isinstance(message, Notice):
        return {"role": "notice", "text": message.text}
    if isinstance(message, ToolResult):
        stored = {"role": "tool", "call_id": message.call_id, "name": message.name, "content": message.content}
        return {**stored, "is_error": message.is_error, **_marks(message)}
    calls = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.calls]
    said = {"role": "model", "text": message.text, "calls": calls}
    return {**said, "opaque": list(message.opaque)} if message.opaque else said


def _marks(message: ToolResult) -> dict[str, bool]:
    return {name: True for name in ("is_ours", "is_tainted") if getattr(message, name)}


def from_json(stored: dict[str, Any]) -> Message:
    if stored["role"] == "user":
        return UserText(stored["text"])
    if stored["role"] == "notice":
        return Notice(stored["text"])
    if stored["role"] == "tool":
        marks = {name: bool(stored.get(name)) for name in ("is_error", "is_ours", "is_tainted")}
        return ToolResult(stored["call_id"], stored["name"], stored["content"], **marks)
    calls = tuple(Call(c["id"], c["name"], c["arguments"]) for c in stored.get("calls", []))
    return ModelReply(stored["text"], calls, tuple(stored.get("opaque", ())))
