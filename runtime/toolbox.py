"""From a tool's manifest to something that can be called, and from its result to what is kept and told."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from pydantic_core import to_jsonable_python

from console import redact
from releases.bundles import Bundle, ToolManifest, canonical
from runtime import tools
from runtime.policies import looping, nesting
from runtime.states import RunStatus
from runtime.tools import ToolContext, Verify

LONGEST_ARGUMENTS = 100_000  # characters of canonical JSON
NOT_KEPT = "The tool has ended. What it returned cannot be kept: it is no JSON, or nested too deeply."
NOT_FINITE = re.compile("NaN|Infinity")  # numbers that no JSON holds


@dataclass(frozen=True)
class Barred:
    """Why a call is refused though the gate lets it pass: something outside is not as it was reviewed."""

    rule: str
    reason: str


class Executable(Protocol):
    """A registered tool, or a recorded one behind a declared schema."""

    @property
    def is_async(self) -> bool: ...

    def canonical(self, raw: Mapping[str, Any]) -> dict[str, Any]: ...

    def call(self, context: ToolContext, canonical: Mapping[str, Any]) -> Any: ...


Source = Callable[[ToolManifest, UUID, str], Executable]

_sources: dict[str, Source] = {}


_servers: list[Callable[[ToolManifest], Executable]] = []
_closings: list[Callable[[], Awaitable[None]]] = []


def register_servers(source: Callable[[ToolManifest], Executable], closing: Callable[[], Awaitable[None]]) -> None:
    """Say who executes the tools of MCP servers, and how their connections are closed, in `apps.ready()`."""
    _servers[:], _closings[:] = [source], [closing]


async def why_not(executable: Executable | None) -> Barred | None:
    """Ask a tool that lives elsewhere whether it still is what the release names. Others are always."""
    ask: Callable[[], Awaitable[Barred | None]] | None = getattr(executable, "why_not", None)
    return await ask() if ask else None


async def ready(executable: Executable) -> Executable:
    """What makes the call now. A tool that lives elsewhere is reached first: while that goes wrong, nothing happens."""
    reach: Callable[[], Awaitable[Executable]] | None = getattr(executable, "ready", None)
    return await reach() if reach else executable


async def aclose_all() -> None:
    """Close what tools have open on the running event loop."""
    for closing in _closings:
        await closing()


def register(provider: str, source: Source) -> None:
    """Say who executes the tools of releases with this provider, given manifest, thread and call id."""
    _sources[provider] = source


def resolve(bundle: Bundle, manifest: ToolManifest, thread_id: UUID, call_id: str) -> Executable | None:
    """What executes this call: the installed tool of this name, unless the release's provider brings its own.

    A tool of an MCP server is never looked for among the installed ones, and the other way round. None when the release
    names a tool that nobody offers.
    """
    source = _sources.get(bundle.model.provider)
    if source:
        return source(manifest, thread_id, call_id)
    if manifest.server:
        return _servers[0](manifest) if _servers else None
    return tools.find(manifest.name)


def is_recorded(bundle: Bundle) -> bool:
    """Whether the release's provider brings its tools along; what they do says nothing about the installed ones."""
    return bundle.model.provider in _sources


def verifier(bundle: Bundle, manifest: ToolManifest) -> Verify | None:
    """What can be asked whether a call happened: only where the release says so and the installed tool can."""
    if not manifest.verifies or manifest.server or is_recorded(bundle):
        return None
    installed = tools.find(manifest.name)
    return installed.verify if installed else None


@dataclass(frozen=True)
class Prepared:
    """The arguments of a proposed call, validated; or why they cannot be used. `text` is their canonical JSON."""

    arguments: dict[str, Any] | None
    errors: Mapping[str, str]
    text: str = ""

    @property
    def has_secret(self) -> bool:
        return redact.may_hold_secret(self.text) and redact.has_secret(self.arguments)


def prepare(executable: Executable | None, raw: Mapping[str, Any] | str) -> Prepared:
    """Validate what the model proposed. Text is what did not parse as one JSON object."""
    if executable is None:
        return Prepared(None, {"tool": "No installed package offers this tool."})
    if isinstance(raw, str):
        return Prepared(None, {"arguments": "Not one JSON object with unique keys and finite numbers."})
    try:
        arguments = executable.canonical(raw)
        text = canonical(arguments)
    except tools.BadArguments as wrong:
        return Prepared(None, wrong.errors)
    except (ValueError, TypeError, RecursionError) as wrong:
        return Prepared(None, {"arguments": str(wrong)[:300]})
    if len(text) > LONGEST_ARGUMENTS:
        return Prepared(None, {"arguments": f"{len(text):,} characters; at most {LONGEST_ARGUMENTS:,} are accepted."})
    return Prepared(arguments, {}, text)


def fingerprint(tool: str, arguments: Mapping[str, Any] | None) -> str:
    """The same for the same call, whatever the order of its arguments."""
    return hashlib.sha256(canonical([tool, arguments]).encode()).hexdigest()[:16]


def likeness(tool: str, arguments: Mapping[str, Any] | None) -> str:
    """The same for calls that differ only in case, spaces or punctuation of their texts."""
    return fingerprint(tool, looping.alike(arguments))


def digest(tool: str, arguments: Mapping[str, Any], release_digest: str) -> str:
    """What an approval is bound to: tool, exact arguments and release. SHA-256, hexadecimal."""
    return hashlib.sha256(canonical([tool, arguments, release_digest]).encode()).hexdigest()


def output(manifest: ToolManifest, value: Any, reason: str = "") -> dict[str, Any]:
    """The payload of a finished call: the JSON result, and how it ends the run, if it does.

    The text for the model is made from it when it is read (`folding.told`): it is kept once.

    `reason` is what the agent gave for handing off or declining. `tainted` is in it when the tool itself says that
    nobody vouches for this result.
    """
    said_tainted = isinstance(value, tools.Tainted)
    value = value.value if isinstance(value, tools.Tainted) else value
    if isinstance(value, Iterator):
        raise TypeError(f"A tool returns a finished value, not a {type(value).__name__} that may never end.")
    try:
        plain = to_jsonable_python(value, serialize_unknown=True)
    except ValueError:  # no text, nested in itself or beyond any measure: the call is over all the same
        plain = NOT_KEPT
    content = plain if isinstance(plain, str) else canonical(plain)
    if content.count("[") + content.count("{") > nesting.DEEPEST and nesting.is_too_deep(plain):
        plain = content = NOT_KEPT
    if not isinstance(plain, str) and NOT_FINITE.search(content):
        plain = _finite(plain)
        content = canonical(plain)
    kept: dict[str, Any] = {"result": plain}
    whole = content.encode("utf-8", "replace")
    if len(whole) > manifest.output_cap_bytes:
        content = whole[: manifest.output_cap_bytes].decode("utf-8", "ignore") + " … (cut)"
        kept = {"cut": {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}, "result": content}
    if said_tainted:
        kept["tainted"] = True
    if manifest.hands_off:
        kept["ends"], kept["detail"] = RunStatus.ESCALATED, reason or "Handed off to a person."
    if manifest.declines:
        kept["ends"], kept["detail"] = RunStatus.REFUSED, reason or "The agent declined."
    return kept


def _finite(plain: Any) -> Any:
    """The value with NaN and infinities as words: no JSON holds them, and PostgreSQL takes none."""
    if isinstance(plain, float):
        return plain if math.isfinite(plain) else canonical(plain)
    if isinstance(plain, dict):
        return {key: _finite(part) for key, part in plain.items()}
    return [_finite(part) for part in plain] if isinstance(plain, list) else plain


def phrase(manifest: ToolManifest, kept: Mapping[str, Any]) -> str:
    """One phrase for the timeline."""
    result = kept.get("result")
    if isinstance(result, dict) and isinstance(result.get("passages"), list):
        count = len(result["passages"])
        return f"{count} passage{'' if count == 1 else 's'}"
    if isinstance(result, dict) and isinstance(result.get("summary"), str):
        return str(result["summary"])[:120]
    return ""
