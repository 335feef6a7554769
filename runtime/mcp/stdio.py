"""An MCP server as a child process: messages of its output in, messages to its input, nothing else shared.

The child gets an environment of its own (no secret of ours is inherited), a directory and a process group of its own,
and dies with the thread that started it. Its error output is kept capped and redacted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter
from pydantic import ValidationError

from console import redact
from runtime.mcp.sieve import Sieve, StreamTooLong, TooLarge, answered, stand_in, unreadable

PATH = "/usr/local/bin:/usr/bin:/bin"
CHUNK_BYTES = 65_536
LONGEST_ERRORS = 8_000  # bytes of its error output that are kept
CLOSING_S = 0.4  # for a child whose input was closed, and again after SIGTERM
# Ends the child when its parent dies (Linux), then becomes the server: nothing of this stays in memory.
LEASH = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() != int(sys.argv[1]): sys.exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


@dataclass
class Child:
    """A running server. `errors` is the end of what it wrote to its error output."""

    process: asyncio.subprocess.Process
    errors: bytearray = field(default_factory=bytearray)

    def last_words(self) -> str:
        return redact.text(bytes(self.errors).decode("utf-8", "replace").replace("\0", "")).strip()


async def start(command: Sequence[str], environment: Mapping[str, str], directory: Path) -> Child:
    """Start the server. `environment` is all it gets beside PATH, HOME and LANG.

    Raises:
        OSError: the program cannot be started.
    """
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    if not os.access(command[0], os.X_OK):
        raise FileNotFoundError(f"{command[0]} is no program that can be started")
    has_leash = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "prctl")
    leash = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid())] if has_leash else []
    process = await asyncio.create_subprocess_exec(
        *leash,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": PATH, "HOME": str(directory), "LANG": "C.UTF-8", **environment},
        cwd=directory,
        start_new_session=True,
    )
    return Child(process)


@asynccontextmanager
async def streams(child: Child, cap_bytes: int) -> AsyncIterator[TransportStreams]:
    """The two streams of a session over a child that was started; ends the child."""
    incoming, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, to_send = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = [
        asyncio.ensure_future(_read(child, incoming, cap_bytes)),
        asyncio.ensure_future(_write(child, to_send, incoming)),
        asyncio.ensure_future(_read_errors(child)),
    ]
    try:
        yield received, outgoing
    finally:
        await stop(child)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in (incoming, received, outgoing, to_send):
            stream.close()


async def stop(child: Child) -> None:
    """Close its input, then ask its process group to end, then kill it; and wait for it, so that no zombie stays.

    What is done about a cancelled caller: the killing is not waited for, the process is reaped by its transport.
    """
    process = child.process
    if process.stdin is not None:
        process.stdin.close()
    try:
        for ask in (None, signal.SIGTERM):
            _signal(process, ask)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(_gone(process), CLOSING_S)
                break
    finally:
        _signal(process, signal.SIGKILL)  # the group: also what it left behind
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_gone(process), CLOSING_S)
        # A grandchild may hold its output open: the transport would wait for the end of it.
        getattr(process, "_transport").close()  # noqa: B009  # nothing public closes it


async def _gone(process: asyncio.subprocess.Process) -> None:
    """`wait()` also waits for the end of its output, which a grandchild may hold open."""
    while process.returncode is None:  # noqa: ASYNC110  # nothing tells of it but this
        await asyncio.sleep(0.02)


def _signal(process: asyncio.subprocess.Process, which: signal.Signals | None) -> None:
    if which is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, which)


async def _read(child: Child, incoming: Any, cap_bytes: int) -> None:
    """Pass its messages on. The session sees the end of the connection when the output ends or cannot be read on."""
    output = child.process.stdout
    assert output is not None
    sieve = Sieve(cap_bytes, (b"\n",))
    async with incoming:
        try:
            while chunk := await output.read(CHUNK_BYTES):
                for message in sieve.feed(chunk):
                    parsed = _parsed(message)
                    if parsed is not None:
                        await incoming.send(parsed)
        except StreamTooLong as wrong:
            child.errors += f"\nIt sent {wrong}.".encode()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            return


def _parsed(message: bytes | TooLarge) -> SessionMessage | None:
    """One message; None for what is none. Servers that print to their output are not taken down for it.

    An answer that cannot be read (nested too deeply, text that is no text) is an error to whoever waits for it.
    """
    if isinstance(message, TooLarge):
        if message.request_id is None:
            return None
        message = stand_in(message, message.request_id)
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(message, by_name=False))
    except ValueError as wrong:
        request_id = answered(message)
        if request_id is None:
            return None
        return SessionMessage(jsonrpc_message_adapter.validate_json(unreadable(request_id, _why(wrong)), by_name=False))


def _why(wrong: ValueError) -> str:
    """The rule that was broken, without the server's words."""
    first = wrong.errors(include_input=False, include_url=False)[0] if isinstance(wrong, ValidationError) else None
    return str(first["msg"])[:200] if first else "it is no JSON"


async def _write(child: Child, to_send: Any, incoming: Any) -> None:
    pipe = child.process.stdin
    assert pipe is not None
    try:
        async with to_send:
            async for message in to_send:
                pipe.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
                await pipe.drain()
    except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        incoming.close()


async def _read_errors(child: Child) -> None:
    output = child.process.stderr
    assert output is not None
    while chunk := await output.read(CHUNK_BYTES):
        child.errors += chunk
        del child.errors[:-LONGEST_ERRORS]
