"""How an MCP server is reached."""

from enum import StrEnum


class Transport(StrEnum):
    STDIO = "stdio"  # a child process of the worker
    HTTP = "http"  # streamable HTTP
