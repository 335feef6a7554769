"""From what a tool of an MCP server answers to what is kept of it: text and structure whole, binary content named."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)

from runtime.mcp.sieve import CUT


def value(result: CallToolResult) -> Any:
    """The JSON value of a result: one text, the structure, or both with everything else that came."""
    blocks = [_block(block) for block in result.content]
    left_out = (result.meta or {}).get(CUT)
    if left_out is not None:
        return {"summary": text(result), "left_out": left_out}
    structure = result.structured_content
    if structure is None:
        is_text = len(blocks) == 1 and blocks[0]["type"] == "text"
        return blocks[0]["text"] if is_text else {"content": blocks}
    rest = [block for block in blocks if not _repeats(block, structure)]
    return {"structured": structure, "content": rest} if rest else structure


def text(result: CallToolResult) -> str:
    """What a result says in words."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def _block(block: Any) -> dict[str, Any]:
    match block:
        case TextContent():
            return {"type": "text", "text": block.text}
        case ImageContent() | AudioContent():
            return {"type": block.type, **_named(block.data, block.mime_type)}
        case EmbeddedResource(resource=BlobResourceContents() as blob):
            return {"type": "resource", "uri": str(blob.uri), **_named(blob.blob, blob.mime_type)}
        case EmbeddedResource(resource=TextResourceContents() as found):
            return {"type": "resource", "uri": str(found.uri), "mime": found.mime_type or "", "text": found.text}
        case ResourceLink():
            return {"type": "resource_link", "uri": str(block.uri), "name": block.name}
    return {"type": "unknown"}


def _named(data: str, mime: str | None) -> dict[str, Any]:
    """What is kept of binary content: enough to recognise it, nothing that could be opened."""
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        content = data.encode("utf-8", "replace")
    return {"mime": (mime or "")[:100], "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _repeats(block: dict[str, Any], structure: Any) -> bool:
    """Whether a text says only what the structure says, for readers who know no structure."""
    if block["type"] != "text":
        return False
    if structure == {"result": block["text"]}:
        return True
    try:
        found = json.loads(block["text"])
    except (ValueError, RecursionError):
        return False
    return bool(structure in (found, {"result": found}))
