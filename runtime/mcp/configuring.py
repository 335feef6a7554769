"""What a server is reached with: checked when it is kept, and again whenever a connection is made.

A command runs code on the workers' machine, so whoever runs that machine lists in STEADYHAND_MCP_COMMANDS what may be
started, each by the beginning of its command line. A secret is named, never kept: only variables of the worker that
begin with MCP_ are read, so that nobody who may add a server gets at any other.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

from console import fetch, redact
from runtime.mcp.models import McpServer
from runtime.mcp.states import Transport

PREFIX = "MCP_"
VARIABLE = re.compile(r"MCP_[A-Z0-9_]{1,100}")
CHILD_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
# What decides how a program is loaded is not for a server's configuration.
LOADERS = re.compile(r"(?i)(LD_|DYLD_|PYTHON|NODE_|PERL|RUBY|BASH_|GCONV_|JAVA_TOOL|PATH$|HOME$|IFS$|ENV$|SHELLOPTS$)")
HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,79}")
# Of the protocol, or of HTTP itself.
OWN_HEADERS = frozenset(
    {"host", "content-length", "content-type", "transfer-encoding", "connection", "accept", "accept-encoding"}
)
MOST_ARGUMENTS = 50
LONGEST_ARGUMENT = 1000


class NotUsable(Exception):
    """The server cannot be reached as it is configured. The sentence says why, and the way out."""


@dataclass(frozen=True)
class Config:
    """Everything a connection is made with, secrets included: never shown and never stored."""

    name: str
    command: tuple[str, ...] = ()  # empty: over HTTP
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    directory: Path = field(default_factory=Path)
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    connect_timeout_s: float = 10
    call_timeout_s: float = 60
    output_cap_bytes: int = 1_000_000

    def redacted(self, text: str) -> str:
        """The text without the secrets that this server was given, and without others of known shape."""
        for secret in (*self.environment.values(), *self.headers.values()):
            if len(secret) >= 6:
                text = text.replace(secret, redact.MASK)
        return redact.text(text.replace("\0", ""))

    def redacted_value(self, value: Any) -> Any:
        """The same for a JSON value: a server may say what it was given."""
        if not (self.environment or self.headers):
            return value
        if isinstance(value, str):
            return self.redacted(value)
        if isinstance(value, dict):
            return {self.redacted(key): self.redacted_value(item) for key, item in value.items()}
        return [self.redacted_value(item) for item in value] if isinstance(value, list) else value


def load(name: str) -> Config:
    """The configuration of a server as it is now.

    Raises:
        NotUsable: there is no such server, it was turned off, or its configuration is not allowed (any more).
    """
    server = McpServer.objects.filter(name=name).first()
    if server is None:
        raise NotUsable(f"There is no MCP server {name}.")
    if server.disabled_at is not None:
        raise NotUsable(f"The MCP server {name} is off: {server.disabled_reason or 'no reason was given'}")
    return of(server)


def of(server: McpServer) -> Config:
    """What a connection to this server is made with.

    Raises:
        NotUsable: its configuration is not allowed (any more), or a variable is not set.
    """
    if server.transport == Transport.STDIO:
        problem = command_problem(server.command)
    else:
        problem = url_problem(server.url, has_secret=bool(server.header_name))
    if problem:
        raise NotUsable(problem)
    headers = {server.header_name: _value(server.header_variable)} if server.header_name else {}
    return Config(
        name=server.name,
        command=tuple(server.command),
        environment={child: _value(variable) for child, variable in server.environment.items()},
        directory=settings.MCP_DIR / server.name,
        url=server.url,
        headers=headers,
        connect_timeout_s=server.connect_timeout_s,
        call_timeout_s=server.call_timeout_s,
        output_cap_bytes=server.output_cap_bytes,
    )


def command_problem(command: Sequence[str]) -> str:
    """Why this may not be started, or nothing."""
    if not command or len(command) > MOST_ARGUMENTS or any(len(part) > LONGEST_ARGUMENT for part in command):
        return f"A command has 1 to {MOST_ARGUMENTS} words of at most {LONGEST_ARGUMENT} characters."
    if any("\0" in part for part in command):
        return "A command holds no NUL character."
    allowed = [shlex.split(line) for line in settings.MCP_COMMANDS]
    if not any(words and list(command[: len(words)]) == words for words in allowed):
        return (
            f"{command[0][:100]} with these arguments is not among the commands that may be started."
            " The operator of the workers lists them in STEADYHAND_MCP_COMMANDS."
        )
    if not command[0].startswith("/"):
        return f"{command[0][:100]} is no absolute path. Programs are not searched for."
    return ""


def url_problem(url: str, *, has_secret: bool) -> str:
    """Why this address may not be reached, or nothing. Names are resolved and checked at each connection."""
    try:
        parts = fetch.check(url)
    except fetch.Refused as wrong:
        return str(wrong)
    is_own = (parts.hostname or "") in settings.ALLOW_PRIVATE_HOSTS
    if has_secret and parts.scheme != "https" and not is_own:
        return "A secret is sent over https only."
    return ""


def environment_problem(environment: Mapping[str, str]) -> str:
    for child, variable in environment.items():
        if not CHILD_VARIABLE.fullmatch(child) or LOADERS.match(child):
            return f"{child[:60]!r} is no variable that a server may be given."
        if not VARIABLE.fullmatch(variable):
            return f"{variable[:60]!r} is not read: only variables of the workers that begin with {PREFIX} are."
    return ""


def header_problem(name: str, variable: str) -> str:
    if not name and not variable:
        return ""
    lower = name.lower()
    if not HEADER.fullmatch(name) or lower in OWN_HEADERS or lower.startswith("mcp-"):
        return f"{name[:60]!r} is no header that can be set here."
    if not VARIABLE.fullmatch(variable):
        return f"{variable[:60]!r} is not read: only variables of the workers that begin with {PREFIX} are."
    return ""


def shown_url(url: str) -> str:
    """An address for lists and logs: what follows the path may hold a key."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _value(variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise NotUsable(f"The variable {variable} is not set for the workers.")
    if any(letter in value for letter in "\r\n\0"):
        raise NotUsable(f"The variable {variable} holds a line break.")
    return value
