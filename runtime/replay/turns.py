"""A recorded conversation cut into turns: what the user said, and what the agent answered until the user spoke again.

A turn becomes a run. Pure: messages in, turns out, and the JSON form that the thread's Recording keeps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any

from runtime.providers import arguments
from runtime.replay.recordings import Conversation, Message, RecordedUsage, ToolCall

LONGEST_CALL_ID = 100
NOTHING_SAID = "(empty message)"


@dataclass(frozen=True)
class Outcome:
    """The recorded result of a call."""

    content: str
    is_error: bool


@dataclass(frozen=True)
class RecordedCall:
    """`id` is unique in the conversation, also where the recording used one twice."""

    id: str
    name: str
    arguments: dict[str, Any] | str
    outcome: Outcome | None  # None: no result was recorded


@dataclass(frozen=True)
class RecordedReply:
    """One model answer. None as a count or a cost: the recording does not say."""

    text: str
    calls: tuple[RecordedCall, ...] = ()
    input_tokens: int | None = None
    cached_tokens: int = 0
    output_tokens: int | None = None
    cost_usd: Decimal | None = None


@dataclass(frozen=True)
class Turn:
    text: str
    replies: tuple[RecordedReply, ...]


@dataclass(frozen=True)
class Script:
    """The whole conversation. What is no turn of the agent is counted, so that nothing gets lost silently."""

    model: str = ""
    turns: tuple[Turn, ...] = ()
    greetings: int = 0  # answers before the user said anything: no run can give them
    unanswered: int = 0  # the user's last words, when the recording has no answer to them: 0 or 1
    user_calls: int = 0  # calls that the user made on his own devices
    stray_results: int = 0  # results of calls that nobody made

    def call(self, call_id: str) -> RecordedCall | None:
        return self._calls.get(call_id)

    @cached_property
    def _calls(self) -> dict[str, RecordedCall]:
        return {call.id: call for turn in self.turns for reply in turn.replies for call in reply.calls}


@dataclass
class _Open:
    """A turn that is still being read."""

    said: list[str] = field(default_factory=list)
    replies: list[RecordedReply] = field(default_factory=list)


def split(conversation: Conversation) -> Script:
    """Cut the conversation. Messages of the user in a row are one turn; an answer in pieces is one answer."""
    messages = conversation.messages
    bound, stray = _bind(messages)
    turns: list[_Open] = []
    greetings = user_calls = 0
    for place, message in enumerate(messages):
        if message.role == "user":
            user_calls += len(message.tool_calls)
            if message.content.strip() or not message.tool_calls:
                _hear(turns, message.content)
        elif message.role == "assistant":
            if turns:
                _answer(turns[-1].replies, _reply(message, bound[place]))
            else:
                greetings += 1
    unanswered = 1 if turns and not turns[-1].replies else 0
    answered = turns[:-1] if unanswered else turns
    closed = tuple(Turn("\n\n".join(turn.said) or NOTHING_SAID, tuple(turn.replies)) for turn in answered)
    return Script(conversation.model, closed, greetings, unanswered, user_calls, stray)


def _hear(turns: list[_Open], text: str) -> None:
    if not turns or turns[-1].replies:
        turns.append(_Open())
    if text.strip():
        turns[-1].said.append(text)


def _answer(replies: list[RecordedReply], reply: RecordedReply) -> None:
    """Append the reply. Text without a call would have ended the turn: what follows it belongs to the same answer."""
    if not replies or replies[-1].calls:
        replies.append(reply)
        return
    first = replies.pop()
    replies.append(
        RecordedReply(
            "\n\n".join(filter(None, (first.text, reply.text))),
            reply.calls,
            _sum(first.input_tokens, reply.input_tokens),
            first.cached_tokens + reply.cached_tokens,
            _sum(first.output_tokens, reply.output_tokens),
            _sum(first.cost_usd, reply.cost_usd),
        )
    )


def _sum(first: Any, second: Any) -> Any:
    return first if second is None else second if first is None else first + second


def _reply(message: Message, calls: Sequence[RecordedCall]) -> RecordedReply:
    usage = message.usage or RecordedUsage.model_validate({})
    cached = min(usage.cached_tokens, usage.input_tokens or 0)
    return RecordedReply(
        message.content, tuple(calls), usage.input_tokens, cached, usage.output_tokens, message.cost_usd
    )


def _bind(messages: Sequence[Message]) -> tuple[dict[int, list[RecordedCall]], int]:
    """The calls of each assistant message with their results, and how many results belong to no call."""
    results = _results_for_the_agent(messages)
    known = {call.id for message in messages if message.role == "assistant" for call in message.tool_calls}
    used: set[str] = set()
    bound: dict[int, list[RecordedCall]] = {}
    for place, message in enumerate(messages):
        if message.role == "assistant":
            found = _claim(place, messages, results, known)
            bound[place] = [
                _recorded(call, _unique(call.id or f"call-{place}", used), found.get(index))
                for index, call in enumerate(message.tool_calls)
            ]
    return bound, len(results)


def _results_for_the_agent(messages: Sequence[Message]) -> dict[int, Message]:
    """The tool messages by place, without those that answer a call of the user."""
    results: dict[int, Message] = {}
    speaker = messages[0]
    for place, message in enumerate(messages):
        if message.role != "tool":
            speaker = message
            continue
        by_user = message.requestor == "user" or (
            not message.requestor and speaker.role == "user" and bool(speaker.tool_calls)
        )
        if not by_user:
            results[place] = message
    return results


def _claim(place: int, messages: Sequence[Message], results: dict[int, Message], known: set[str]) -> dict[int, Message]:
    """Take the results of the calls made at `place` out of `results`, by the index of the call.

    Recordings use one id for several calls, so the nearest result counts: first by id before the agent speaks again,
    then by order and name where ids are missing or unknown, then by id later on.
    """
    calls = messages[place].tool_calls
    end = next((at for at in range(place + 1, len(messages)) if messages[at].role == "assistant"), len(messages))
    near = [at for at in range(place + 1, end) if at in results]
    found: dict[int, Message] = {}
    for index, call in enumerate(calls):
        at = next((at for at in near if at in results and call.id and results[at].tool_call_id == call.id), None)
        if at is not None:
            found[index] = results.pop(at)
    for index, call in enumerate(calls):
        if index not in found:
            at = next((at for at in near if at in results and _fits(results[at], call.name, known)), None)
            at = _later(call.id, end, messages, results) if at is None else at
            if at is not None:
                found[index] = results.pop(at)
    return found


def _fits(result: Message, name: str, known: set[str]) -> bool:
    return (not result.tool_call_id or result.tool_call_id not in known) and result.name in ("", name)


def _later(call_id: str, start: int, messages: Sequence[Message], results: Mapping[int, Message]) -> int | None:
    """Where a late result of the call stands, unless the id was used again before it."""
    for at in range(start, len(messages)):
        if not call_id or any(call.id == call_id for call in messages[at].tool_calls):
            return None
        if at in results and results[at].tool_call_id == call_id:
            return at
    return None


def _unique(call_id: str, used: set[str]) -> str:
    base = call_id[:LONGEST_CALL_ID]
    name, number = base, 1
    while name in used:
        number += 1
        name = f"{base}#{number}"
    used.add(name)
    return name


def _recorded(call: ToolCall, unique_id: str, result: Message | None) -> RecordedCall:
    given = arguments.parse(call.arguments) if isinstance(call.arguments, str) else call.arguments
    outcome = None if result is None else Outcome(result.content, _is_error(result))
    return RecordedCall(unique_id, call.name, given, outcome)


def _is_error(result: Message) -> bool:
    """What the recording says; where it says nothing, its tools begin their refusals with `Error:`."""
    return result.content.startswith("Error:") if result.error is None else result.error


def to_json(script: Script) -> dict[str, Any]:
    """The form that the thread's Recording keeps."""
    return json.loads(json.dumps(asdict(script), default=str))  # type: ignore[no-any-return]


def from_json(stored: Mapping[str, Any]) -> Script:
    turns = tuple(
        Turn(turn["text"], tuple(_reply_from_json(reply) for reply in turn["replies"])) for turn in stored["turns"]
    )
    return Script(**{**stored, "turns": turns})


def _reply_from_json(stored: Mapping[str, Any]) -> RecordedReply:
    calls = tuple(
        RecordedCall(
            call["id"], call["name"], call["arguments"], Outcome(**call["outcome"]) if call["outcome"] else None
        )
        for call in stored["calls"]
    )
    cost_usd = None if stored["cost_usd"] is None else Decimal(stored["cost_usd"])
    return RecordedReply(**{**stored, "calls": calls, "cost_usd": cost_usd})
