"""Effects and scopes of kill switches, and what a reviewer of labels can say."""

from enum import StrEnum

SERVER_MARK = "__"  # between the name of an MCP server and that of its tool


class Scope(StrEnum):
    EVERYTHING = "everything"
    AGENT = "agent"
    TOOL = "tool"
    SERVER = "server"  # every tool of an MCP server


class SwitchEffect(StrEnum):
    PAUSE_RUNS = "pause_runs"  # no new run starts
    DISABLE_TOOL = "disable_tool"  # no call of the tool starts
    WRITES_OFF = "writes_off"  # no call that changes anything starts
    FORCE_REVIEW = "force_review"  # every write asks a person


EFFECTS_OF_SCOPE = {
    Scope.EVERYTHING: frozenset({SwitchEffect.PAUSE_RUNS, SwitchEffect.WRITES_OFF, SwitchEffect.FORCE_REVIEW}),
    Scope.AGENT: frozenset({SwitchEffect.PAUSE_RUNS, SwitchEffect.WRITES_OFF, SwitchEffect.FORCE_REVIEW}),
    Scope.TOOL: frozenset({SwitchEffect.DISABLE_TOOL, SwitchEffect.FORCE_REVIEW}),
    Scope.SERVER: frozenset({SwitchEffect.DISABLE_TOOL, SwitchEffect.FORCE_REVIEW}),
}


class LabelVerdict(StrEnum):
    """One word per release and change; a rejected release stays as it is, and a new one is made."""

    ACCEPT = "accept"
    REJECT = "reject"
