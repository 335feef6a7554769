"""Recorded conversations of our own, in the file format that `manage.py replay` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answered(text: str | None = None, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, **more}
    return {**message, "tool_calls": list(calls)} if calls else message


def call(name: str, call_id: str = "c1", **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "name": name, "arguments": arguments}


def result(content: Any, call_id: str | None = "c1", **more: Any) -> dict[str, Any]:
    message = {"role": "tool", "content": content, **more}
    return message if call_id is None else {**message, "tool_call_id": call_id}


def conversation(*messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": "conv-1", "domain": "library", "model": "gpt-4.1", "messages": list(messages), **fields}


def declared(name: str, kind: str = "read", required: tuple[str, ...] = (), **labels: Any) -> dict[str, Any]:
    properties = {argument: {"type": "string"} for argument in required}
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    schema = {"name": name, "description": f"{name}.", "parameters": parameters}
    return {"schema": schema, "type": kind, "write": kind == "write", **labels}


TOOLS = {
    "library": {
        "find_book": declared("find_book", required=("title",)),
        "extend_loan": declared("extend_loan", "write", ("loan", "weeks"), sensitive_args={"loan": "target"}),
        "delete_account": declared("delete_account", "write", ("user",), destructive=True),
        "to_librarian": declared("to_librarian", "generic", ("summary",), handoff=True),
    }
}

LOOK_UP = (
    said("Do you have Momo?"),
    answered(None, call("find_book", title="Momo")),
    result('{"copies": 2}', name="find_book"),
    answered("Yes, two copies."),
)
EXTEND = (
    said("Extend my loan L7."),
    answered(None, call("extend_loan", "c2", loan="L7", weeks="2")),
    result('{"until": "2031-05-01"}', "c2"),
    answered("Your loan is extended to May 1."),
)


def write_file(path: Path, *rows: dict[str, Any] | str | bytes) -> Path:
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def write_tools(path: Path, tools: Any = TOOLS) -> Path:
    path.write_text(json.dumps(tools))
    return path
