"""The file format of recorded conversations: one JSON object per line. See docs/how-to/replay-conversations.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from runtime.replay import jsonlines

MOST_MESSAGES = 5_000
MOST_CALLS = 100
MOST_TOKENS = 1_000_000_000
MOST_ERRORS_NAMED = 3


def _text(value: Any) -> Any:
    """Plain text, nothing, or a list of text parts as some programs write it; another value is kept as its JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and value and all(isinstance(part, dict) and "text" in part for part in value):
        return "\n".join(str(part["text"]) for part in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


Text = Annotated[str, BeforeValidator(_text)]
Key = Annotated[str, BeforeValidator(lambda value: str(value) if isinstance(value, int) else value)]


class Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class RecordedUsage(Part):
    """Tokens of one model call. What is not said is None, not zero."""

    input_tokens: int | None = Field(
        None, ge=0, le=MOST_TOKENS, validation_alias=AliasChoices("prompt_tokens", "input_tokens")
    )
    output_tokens: int | None = Field(
        None, ge=0, le=MOST_TOKENS, validation_alias=AliasChoices("completion_tokens", "output_tokens")
    )
    cached_tokens: int = Field(0, ge=0, le=MOST_TOKENS)

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, raw: Any) -> Any:
        """Cached tokens may stand in `prompt_tokens_details`."""
        details = raw.get("prompt_tokens_details") if isinstance(raw, dict) else None
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        return raw if cached is None else {"cached_tokens": cached, **raw}


class ToolCall(Part):
    """A call as the model proposed it: an object of arguments, or JSON text that may not parse."""

    id: Key = Field("", max_length=500)
    name: str = Field(max_length=500)
    arguments: dict[str, Any] | str = {}

    @model_validator(mode="before")
    @classmethod
    def _flatten(cls, raw: Any) -> Any:
        """Some programs nest name and arguments in `function`; no arguments at all are an empty object."""
        if not isinstance(raw, dict):
            return raw
        nested = raw.get("function")
        flat = {**raw, **nested} if isinstance(nested, dict) else dict(raw)
        return {
            **flat,
            "id": flat.get("id") or "",
            "arguments": {} if flat.get("arguments") is None else flat["arguments"],
        }


class Message(Part):
    role: Literal["user", "assistant", "tool", "system", "developer"]
    content: Text = ""
    tool_calls: list[ToolCall] = Field([], max_length=MOST_CALLS)
    tool_call_id: Key = Field("", max_length=500)
    name: str = Field("", max_length=500)
    error: bool | None = None
    requestor: str = Field("", description="Who made the call that a tool message answers; `user` is not the agent")
    usage: RecordedUsage | None = None
    cost_usd: Decimal | None = Field(None, ge=0, le=1_000_000)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, raw: Any) -> Any:
        return {key: value for key, value in raw.items() if value is not None} if isinstance(raw, dict) else raw


class Conversation(Part):
    """One line of the file. What the evaluator knows (rewards, expected actions) is not read at all."""

    id: Key = Field(min_length=1, max_length=200)
    domain: str = Field("", max_length=100)
    model: str = Field("", max_length=200)
    policy: str = Field("", max_length=200, description="Key of the instructions in policies.json")
    messages: list[Message] = Field(min_length=1, max_length=MOST_MESSAGES)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, raw: Any) -> Any:
        return {key: value for key, value in raw.items() if value is not None} if isinstance(raw, dict) else raw


@dataclass(frozen=True)
class Entry:
    """A usable line of a file, and where it stands."""

    line: int
    offset: int
    conversation: Conversation


@dataclass(frozen=True)
class Unusable:
    """A line that cannot be replayed; `reason` names the place and the rule."""

    line: int
    id: str
    reason: str


def read(path: Path) -> Iterator[Entry | Unusable]:
    """Every line of the file in order, one at a time; what cannot be used is named and passed over.

    Raises:
        OSError: the file cannot be read.
    """
    seen: dict[str, int] = {}
    for line in jsonlines.lines(path):
        found = _read(line)
        if isinstance(found, Entry):
            first = seen.setdefault(found.conversation.id, line.number)
            if first != line.number:
                found = Unusable(line.number, found.conversation.id, f"The id was used in line {first} already.")
        yield found


def read_at(path: Path, offset: int) -> Conversation:
    """The conversation that `read` found at `offset`.

    Raises:
        jsonlines.BadJson, ValidationError: the file changed meanwhile.
    """
    return Conversation.model_validate(jsonlines.parse(jsonlines.line_at(path, offset)))


def _read(line: jsonlines.Line) -> Entry | Unusable:
    if line.data is None:
        return Unusable(line.number, "", f"The line is longer than {jsonlines.LONGEST_LINE_BYTES:,} bytes.")
    raw: Any = None
    try:
        raw = jsonlines.parse(line.data)
        return Entry(line.number, line.offset, Conversation.model_validate(raw))
    except jsonlines.BadJson as wrong:
        return Unusable(line.number, "", f"The line {wrong}.")
    except ValidationError as wrong:
        name = raw.get("id") if isinstance(raw, dict) else None
        return Unusable(line.number, name[:200] if isinstance(name, str) else "", sentences(wrong))


def sentences(wrong: ValidationError) -> str:
    """The first broken rules, each with its place: `messages.3.role: Input should be ...`."""
    errors = wrong.errors(include_url=False, include_input=False, include_context=False)
    named = [f"{'.'.join(map(str, e['loc'])) or 'the line'}: {e['msg']}"[:300] for e in errors[:MOST_ERRORS_NAMED]]
    more = len(errors) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more > 0 else "")
