"""What arrives from the pages of MCP servers."""

from __future__ import annotations

import shlex
from typing import Any

from django import forms

from console import problems
from runtime.mcp.models import McpServer
from runtime.mcp.servers import LARGEST_OUTPUT, LONGEST_TIMEOUT_S, Wanted
from runtime.mcp.states import Transport
from runtime.policies.offering import LONGEST_SERVER_NAME

PLAIN = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


class ServerForm(forms.Form):
    """One form for both transports: what belongs to the other one is left alone."""

    name = forms.CharField(
        max_length=LONGEST_SERVER_NAME,
        label="Name",
        help_text="Begins the names of its tools: files gives files__read_file.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    transport = forms.ChoiceField(
        label="How it is reached",
        choices=[(Transport.STDIO, "a program that workers start"), (Transport.HTTP, "an address, streamable HTTP")],
    )
    command_line = forms.CharField(
        max_length=4000,
        required=False,
        label="Command",
        help_text="For a program: absolute path and arguments. STEADYHAND_MCP_COMMANDS says what may be started.",
        widget=forms.TextInput(attrs={**PLAIN, "class": "mono"}),
    )
    environment = forms.CharField(
        max_length=4000,
        required=False,
        label="Variables of the program",
        help_text="One a line: GITHUB_TOKEN=MCP_GITHUB_TOKEN, the name in the program and the worker's variable.",
        widget=forms.Textarea(attrs={**PLAIN, "rows": 3, "class": "mono"}),
    )
    url = forms.CharField(
        max_length=2000,
        required=False,
        label="Address",
        help_text="For HTTP: https://mcp.example.com/mcp",
        widget=forms.TextInput(attrs={**PLAIN, "class": "mono"}),
    )
    header_name = forms.CharField(
        max_length=80,
        required=False,
        label="Header with a secret",
        help_text="For HTTP: Authorization",
        widget=forms.TextInput(attrs=PLAIN),
    )
    header_variable = forms.CharField(
        max_length=120,
        required=False,
        label="The worker's variable with its value",
        help_text="MCP_FILES_TOKEN. The secret itself is never typed here.",
        widget=forms.TextInput(attrs=PLAIN),
    )
    connect_timeout_s = forms.FloatField(
        min_value=0.1, max_value=LONGEST_TIMEOUT_S, initial=10, label="Longest wait for a connection, seconds"
    )
    call_timeout_s = forms.FloatField(
        min_value=0.1, max_value=LONGEST_TIMEOUT_S, initial=60, label="Longest wait for a call, seconds"
    )
    output_cap_bytes = forms.IntegerField(
        min_value=1_000, max_value=LARGEST_OUTPUT, initial=1_000_000, label="Largest answer, bytes"
    )
    reason = forms.CharField(
        max_length=500,
        label="Why",
        help_text="Kept in the audit log with your name.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, server: McpServer | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if server is not None:
            del self.fields["name"]

    def wanted(self) -> Wanted:
        """What was asked for.

        Raises:
            problems.Invalid: a line of the variables is none.
        """
        data = {name: value for name, value in self.cleaned_data.items() if name not in ("name", "reason")}
        data["transport"] = Transport(data["transport"])
        data["environment"] = _environment(data["environment"])
        return Wanted(**data)

    def refuse(self, problem: problems.Problem) -> None:
        """Show what the verb said beside the fields it is about, or above them all."""
        for name, sentence in (problem.extra.get("errors") or {}).items():
            if name in self.fields:
                self.add_error(name, sentence)
        if not self.errors:
            self.add_error(None, problem.detail)


def initial(server: McpServer) -> dict[str, Any]:
    """A server as its form shows it."""

    return {
        "transport": server.transport,
        "command_line": shlex.join(server.command),
        "environment": "\n".join(f"{child}={variable}" for child, variable in server.environment.items()),
        "url": server.url,
        "header_name": server.header_name,
        "header_variable": server.header_variable,
        "connect_timeout_s": server.connect_timeout_s,
        "call_timeout_s": server.call_timeout_s,
        "output_cap_bytes": server.output_cap_bytes,
    }


def _environment(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        child, mark, variable = (part.strip() for part in line.partition("="))
        if not mark:
            said = f"{line[:60]!r} is no line of the form NAME=MCP_NAME."
            raise problems.Invalid(said, errors={"environment": said})
        found[child] = variable
    return found
