"""How an MCP server is reached, and how a tool of one stands."""

from enum import StrEnum


class Transport(StrEnum):
    STDIO = "stdio"  # a child process of the worker
    HTTP = "http"  # streamable HTTP


class Standing(StrEnum):
    """Follows from what the server offers now and what people have reviewed; it is not stored."""

    NEW = "new"  # offered, never reviewed
    REVIEWED = "reviewed"  # exactly this offer was reviewed
    CHANGED = "changed"  # another offer was reviewed
    UNUSABLE = "unusable"  # its offer breaks a rule of ours
    GONE = "gone"  # not offered any more
