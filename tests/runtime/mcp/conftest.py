from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runtime.mcp import discoveries, reviews
from runtime.mcp.models import McpServer, McpTool
from runtime.mcp.states import Transport
from tests.builders import an_actor
from tests.patience import until

SERVER = Path(__file__).with_name("server.py")
PLAIN = Path(__file__).with_name("plain.py")


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


def command(script: Path, folder: Path, *transport: str) -> list[str]:
    return [sys.executable, str(script), *transport, "--mood", str(folder / "mood"), "--log", str(folder / "log")]


def started(script: Path, folder: Path, settings: Any, *transport: str) -> Library:
    settings.MCP_COMMANDS = [f"{sys.executable} {script}"]
    settings.MCP_DIR = folder / "mcp"
    row = McpServer.objects.create(
        name="library",
        transport=Transport.STDIO,
        command=command(script, folder, *transport),
        created_by_label="test",
    )
    return Library(row, folder)


@pytest.fixture
def library(db, tmp_path, settings) -> Library:
    """Started by us, over its input and output; see plain.py."""
    return started(PLAIN, tmp_path, settings)


@pytest.fixture
def packaged_library(db, tmp_path, settings) -> Library:
    """The same with the package's server."""
    return started(SERVER, tmp_path, settings, "stdio")


@pytest.fixture
def far_library(db, far_server: tuple[int, Path], settings) -> Library:
    """Running elsewhere with the package's server, over streamable HTTP."""
    port, folder = far_server
    for name in ("mood", "log"):
        (folder / name).unlink(missing_ok=True)
    settings.ALLOW_PRIVATE_HOSTS = ["127.0.0.1"]
    row = McpServer.objects.create(
        name="library", transport=Transport.HTTP, url=f"http://127.0.0.1:{port}/mcp", created_by_label="test"
    )
    return Library(row, folder)


@pytest.fixture(scope="session")
def far_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """Its port and folder. One for all tests: it takes a second to start."""
    folder = tmp_path_factory.mktemp("library")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(command(SERVER, folder, "http", str(port)), stderr=subprocess.DEVNULL)

    def answers() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(answers)
    yield port, folder
    process.kill()
    process.wait()
