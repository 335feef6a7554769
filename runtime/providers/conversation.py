"""Our neutral messages and those of pydantic-ai, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from pydantic import TypeAdapter
from pydantic_ai import messages as theirs
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition

from console import ids
from releases.bundles import ToolManifest
from runtime.messages import Call, Message, ModelReply, Notice, ToolResult, UserText
from runtime.policies import marking
from runtime.providers import arguments
from runtime.providers.base import ModelRequest, ProviderError

UNANSWERED = "No result: the run ended before this call was answered."
LONGEST_CALL_ID = 64
_thinking: TypeAdapter[theirs.ThinkingPart] = TypeAdapter(theirs.ThinkingPart)


def parameters(request: ModelRequest) -> ModelRequestParameters:
    """The tools and instructions of the call. Strict schemas stay off: not every endpoint knows the word."""
    instructions = _instructions(request)
    return ModelRequestParameters(
        function_tools=[_tool(manifest) for manifest in request.tools],
        instruction_parts=[theirs.InstructionPart(content=instructions)] if instructions else [],
    )


def outgoing(request: ModelRequest) -> list[theirs.ModelMessage]:
    """The history as the vendor expects it: answers directly after the calls they belong to, none left out.

    What a tool returned that nobody vouches for is marked as data. A call that was never answered (its run was
    cancelled) is answered here, because vendors refuse such a history.

    Raises:
        ProviderError: a result belongs to no call of the reply before it.
    """
    trusted = _trusted(request)
    found: list[theirs.ModelMessage] = []
    parts: list[theirs.ModelRequestPart] = []
    open_calls: dict[str, Call] = {}
    for message in request.messages:
        if isinstance(message, ToolResult):
            parts.append(_result(message, open_calls, _content(message, trusted, request)))
            continue
        if open_calls:
            parts += [_unanswered(call) for call in open_calls.values()]
        if isinstance(message, UserText | Notice):
            parts.append(theirs.UserPromptPart(message.text if isinstance(message, UserText) else _noticed(message)))
            open_calls = {}
            continue
        if parts:
            found.append(theirs.ModelRequest(parts=parts))
            parts = []
        found.append(_reply(message))
        open_calls = {call.id: call for call in message.calls}
    parts += [_unanswered(call) for call in open_calls.values()]
    return [*found, theirs.ModelRequest(parts=parts)] if parts else found


def characters(request: ModelRequest) -> int:
    """How much text goes out, for judging the vendor's count of tokens."""
    tools = sum(len(json.dumps(tool.parameters)) + len(tool.description) + len(tool.name) for tool in request.tools)
    return len(_instructions(request)) + tools + sum(_length(message) for message in request.messages)


def text_of(response: theirs.ModelResponse) -> str:
    """What the model says to people; its reasoning is not part of it. A vendor's refusal is what it says."""
    said = "".join(part.content for part in response.parts if isinstance(part, theirs.TextPart))
    if not said and response.finish_reason == "content_filter":
        said = str((response.provider_details or {}).get("refusal", ""))
    return arguments.writable(said)


def calls_of(response: theirs.ModelResponse, before: Iterable[Message]) -> tuple[Call, ...]:
    """The proposed calls, in order. Ids are made unique: some servers count from zero in every reply."""
    taken = {call.id for message in before if isinstance(message, ModelReply) for call in message.calls}
    found = []
    for part in response.parts:
        if isinstance(part, theirs.ToolCallPart):
            call_id = _unused(part.tool_call_id, taken)
            taken.add(call_id)
            raw = cast("str | dict[str, Any] | None", part.args)
            found.append(Call(call_id, arguments.writable(part.tool_name), arguments.parse(raw)))
    return tuple(found)


def opaque_of(response: theirs.ModelResponse) -> tuple[dict[str, Any], ...]:
    """Signed reasoning, which Anthropic wants back together with the calls it led to."""
    signed = [part for part in response.parts if isinstance(part, theirs.ThinkingPart) and part.signature]
    return tuple(_thinking.dump_python(part, mode="json", exclude_none=True) for part in signed)


def _tool(manifest: ToolManifest) -> ToolDefinition:
    schema = manifest.parameters or {"type": "object", "properties": {}}
    return ToolDefinition(
        name=manifest.name, description=manifest.description, parameters_json_schema=schema, strict=False
    )


def _reply(message: ModelReply) -> theirs.ModelResponse:
    parts: list[theirs.ModelResponsePart] = [_thinking.validate_python(part) for part in message.opaque]
    if message.text:
        parts.append(theirs.TextPart(message.text))
    parts += [theirs.ToolCallPart(call.name, _as_text(call.arguments), call.id) for call in message.calls]
    provider = message.opaque[0].get("provider_name") if message.opaque else None
    return theirs.ModelResponse(parts=parts, provider_name=provider)


def _as_text(given: dict[str, Any] | str) -> str:
    """Arguments go back as JSON. What never was an object is shown to the model as the text it wrote."""
    if isinstance(given, dict):
        return json.dumps(given, ensure_ascii=False)
    return json.dumps({"unreadable_arguments": given[:2000]}, ensure_ascii=False)


def _instructions(request: ModelRequest) -> str:
    """The release's own, and what the marks of data mean where results may carry them."""
    trusted = _trusted(request)
    is_marked = len(trusted) < len(request.tools) or any(
        isinstance(message, ToolResult) and _is_data(message, trusted) for message in request.messages
    )
    return f"{request.instructions}\n\n{marking.EXPLAINED}".strip() if is_marked else request.instructions


def _trusted(request: ModelRequest) -> frozenset[str]:
    """The tools whose results no outsider can write."""
    return frozenset(tool.name for tool in request.tools if tool.output_trust == "trusted" and tool.labelled)


def _is_data(message: ToolResult, trusted: frozenset[str]) -> bool:
    return not message.is_ours and (message.is_tainted or message.name not in trusted)


def _content(message: ToolResult, trusted: frozenset[str], request: ModelRequest) -> str:
    if not _is_data(message, trusted):
        return message.content
    return marking.marked(message.content, source=message.name, salt=f"{request.run_id}{message.call_id}")


def _noticed(notice: Notice) -> str:
    return f"[From the system that runs you, not from the user] {notice.text}"


def _result(message: ToolResult, open_calls: dict[str, Call], content: str) -> theirs.ToolReturnPart:
    if open_calls.pop(message.call_id, None) is None:
        raise ProviderError(
            "bad_request",
            f"The result of {message.name} answers the call {message.call_id[:80]!r}, which the reply before it did "
            "not make. The history was cut in the middle of a turn.",
            retry=False,
        )
    outcome: Any = "failed" if message.is_error else "success"
    return theirs.ToolReturnPart(message.name, content, message.call_id, outcome=outcome)


def _unanswered(call: Call) -> theirs.ToolReturnPart:
    return theirs.ToolReturnPart(call.name, UNANSWERED, call.id, outcome="interrupted")


def _length(message: Message) -> int:
    if isinstance(message, UserText | Notice):
        return len(message.text)
    if isinstance(message, ToolResult):
        return len(message.content)
    return len(message.text) + sum(len(call.name) + len(_as_text(call.arguments)) for call in message.calls)


def _unused(call_id: str, taken: set[str]) -> str:
    plain = call_id.isascii() and call_id.isprintable() and 0 < len(call_id) <= LONGEST_CALL_ID
    return call_id if plain and call_id not in taken else f"call_{ids.new().hex}"
