"""Tools that are declared in a file and answered by a recording: schema and labels are real, results are recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
from jsonschema.validators import validator_for
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from console import redact
from releases import bundles
from releases.bundles import ArgumentClass, Effect, Rule, ToolManifest
from runtime import schemas
from runtime.replay import jsonlines, recordings, scripts
from runtime.tools import BadArguments, ToolContext, ToolError

LARGEST_FILE_BYTES = 8_000_000
LONGEST_ARGUMENTS = 100_000
READING_TYPES = frozenset({"read", "generic", "think"})
CLASSES: dict[str, ArgumentClass] = {
    "dest": "destination",
    "destination": "destination",
    "commit": "commitment",
    "commitment": "commitment",
    "amount": "amount",
    "target": "target",
    "label": "label",
    "content": "content",
    "free": "free",
}
DAY_MINUTES = 24 * 60
RULE_ID = "replay-writes"


class BadTools(Exception):
    """The file of tools cannot be used; the sentence names the tool and the rule."""


class Schema(BaseModel):
    model_config = ConfigDict(extra="ignore")

    description: str = ""
    parameters: dict[str, Any] = {}


class Declared(BaseModel):
    """One tool of the file. `write` and `type` say what it does; one of them must be there."""

    model_config = ConfigDict(extra="ignore")

    shape: Schema = Field(alias="schema")
    type: str = ""
    write: bool | None = None
    destructive: bool = False
    moves_money: bool = False
    handoff: bool = False
    sensitive_args: dict[str, str] = {}


File = TypeAdapter(dict[str, dict[str, Declared]])


def load(path: Path) -> dict[str, list[ToolManifest]]:
    """The manifests of every domain in the file.

    Raises:
        BadTools: the file cannot be read or a tool in it cannot be used.
    """
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise BadTools(f"{path} is larger than {LARGEST_FILE_BYTES:,} bytes.")
        found = File.validate_python(jsonlines.parse(path.read_bytes().removeprefix(jsonlines.BOM)))
        return {domain: [manifest(name, tool) for name, tool in tools.items()] for domain, tools in found.items()}
    except OSError as wrong:
        raise BadTools(f"{path} cannot be read: {wrong.strerror}.") from wrong
    except jsonlines.BadJson as wrong:
        raise BadTools(f"{path} {wrong}.") from wrong
    except ValidationError as wrong:
        raise BadTools(f"{path}: {recordings.sentences(wrong)}") from wrong


def manifest(name: str, tool: Declared) -> ToolManifest:
    """The labels of one tool. Where `type` and the flags disagree, the riskier one counts.

    Raises:
        BadTools: its labels are missing or its schema is no JSON schema.
    """
    if tool.write is None and tool.type not in READING_TYPES | {"write"}:
        raise BadTools(f"Tool {name[:80]!r} says neither `write` nor a known `type` (read, generic, think, write).")
    effect = _effect(tool)
    parameters = _closed(tool.shape.parameters)
    try:
        validator_for(parameters, default=jsonschema.Draft202012Validator).check_schema(parameters)
        return ToolManifest.model_validate(
            {
                "name": name,
                "description": tool.shape.description[:4000],
                "parameters": parameters,
                "effect": effect,
                # Answering from a recording changes nothing, so repeating it after a crash is harmless.
                "retry": "read" if effect == "read" else "idempotent",
                "arguments": {arg: CLASSES[kind] for arg, kind in tool.sensitive_args.items() if kind in CLASSES},
                "hands_off": tool.handoff,
                "moves_money": tool.moves_money,
                "title": name.replace("_", " ").capitalize()[:200],
            }
        )
    except jsonschema.SchemaError as wrong:
        raise BadTools(f"The schema of tool {name[:80]!r} is no JSON schema: {wrong.message[:200]}") from wrong
    except ValidationError as wrong:
        raise BadTools(f"Tool {name[:80]!r} cannot be used: {recordings.sentences(wrong)}") from wrong


def _effect(tool: Declared) -> Effect:
    if tool.destructive:
        return "destructive"
    return "write" if tool.write or tool.type == "write" or tool.moves_money else "read"


def _closed(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object that accepts no argument it does not name, unless it says otherwise itself."""
    return {"type": "object", "additionalProperties": False, **parameters}


def rules(tools: list[ToolManifest]) -> list[Rule]:
    """Every call that writes asks a person."""
    return [
        Rule.model_validate(
            {
                "id": RULE_ID,
                "tool": tool.name,
                "then": "ask",
                "reason": "A recorded conversation wants to change something.",
                "risk": "high" if tool.effect == "destructive" or tool.moves_money else "medium",
                "due_minutes": DAY_MINUTES,
            }
        )
        for tool in tools
        if tool.is_write
    ]


@dataclass(frozen=True)
class RecordedTool:
    """Executes one call by giving its recorded result. Satisfies toolbox.Executable."""

    manifest: ToolManifest
    thread_id: UUID
    call_id: str

    @property
    def is_async(self) -> bool:
        return True

    def canonical(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as they are, once they satisfy the declared schema.

        Raises:
            BadArguments: names each place and rule.
        """
        arguments = dict(raw)
        size = len(bundles.canonical(arguments))
        if size > LONGEST_ARGUMENTS:
            raise BadArguments({"arguments": f"{size:,} characters; at most {LONGEST_ARGUMENTS:,} are accepted."})
        if errors := schemas.errors(bundles.canonical(self.manifest.parameters), arguments):
            raise BadArguments(errors)
        return arguments

    async def call(self, context: ToolContext, canonical: Mapping[str, Any]) -> str:
        """The recorded result.

        Raises:
            ToolError: the call failed in the recording, has no result there, or was made with other arguments.
        """
        recorded = (await scripts.of(self.thread_id)).call(self.call_id)
        if recorded is None or recorded.outcome is None:
            raise ToolError("The recording has no result for this call.", code="no_recorded_result")
        if redact.value(recorded.arguments) != redact.value(dict(canonical)):
            raise ToolError(
                "The recording has a result for other arguments only; for these nobody knows it.",
                code="recording_diverged",
            )
        if recorded.outcome.is_error:
            raise ToolError(recorded.outcome.content or "Failed without a word.", code="recorded_error")
        return recorded.outcome.content


def recorded_tool(manifest: ToolManifest, thread_id: UUID, call_id: str) -> RecordedTool:
    return RecordedTool(manifest, UUID(str(thread_id)), call_id)
