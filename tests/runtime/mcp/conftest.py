from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runtime.mcp import discoveries, reviews
from runtime.mcp.models import McpServer, McpTool
from runtime.mcp.states import Transport
from tests.builders import an_actor

SERVER = Path(__file__).with_name("server.py")


@dataclass
class Library:
    """The server of the tests as it is known to the console, and its two strings: its mood and its log."""

    row: McpServer
    folder: Path

    def mood(self, word: str) -> None:
        (self.folder / "mood").write_text(word)

    @property
    def done(self) -> list[str]:
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []

    def look(self) -> McpServer:
        discoveries.look(self.row.pk)
        self.row.refresh_from_db()
        return self.row

    def review(self, *names: str) -> list[dict]:
        """Review these tools as they are offered, and give what a release pins."""
        found = []
        for name in names:
            tool = McpTool.objects.get(server=self.row, name=name)
            review = reviews.review(self.row.name, name, tool.digest, by=an_actor(), reason="Read it.")
            found.append(reviews.manifest_json(tool, review))
        return found


def command(folder: Path, *transport: str) -> list[str]:
    return [sys.executable, str(SERVER), *transport, "--mood", str(folder / "mood"), "--log", str(folder / "log")]


@pytest.fixture
def library(db, tmp_path, settings) -> Library:
    """Started by us, over its input and output."""
    settings.MCP_COMMANDS = [f"{sys.executable} {SERVER}"]
    settings.MCP_DIR = tmp_path / "mcp"
    row = McpServer.objects.create(
        name="library", transport=Transport.STDIO, command=command(tmp_path, "stdio"), created_by_label="test"
    )
    return Library(row, tmp_path)


@pytest.fixture
def far_library(db, tmp_path, settings, programs: Callable[..., int]) -> Library:
    """Running elsewhere, over streamable HTTP."""
    settings.ALLOW_PRIVATE_HOSTS = ["127.0.0.1"]
    port = programs(tmp_path)
    row = McpServer.objects.create(
        name="library", transport=Transport.HTTP, url=f"http://127.0.0.1:{port}/mcp", created_by_label="test"
    )
    return Library(row, tmp_path)


@pytest.fixture
def programs() -> Iterator[Callable[..., int]]:
    """Start the server for HTTP; gives its port."""
    started: list[subprocess.Popen] = []

    def start(folder: Path) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started.append(subprocess.Popen(command(folder, "http", str(port)), stderr=subprocess.DEVNULL))
        until = time.monotonic() + 20
        while time.monotonic() < until:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            time.sleep(0.05)
        raise AssertionError("The server did not start.")

    yield start
    for each in started:
        each.kill()
        each.wait()
