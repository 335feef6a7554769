"""Connections to MCP servers: shared, watched, given up, made again, and gone with the worker."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from runtime.mcp import connections, stdio, web
from runtime.mcp.configuring import Config, NotUsable
from runtime.mcp.connections import Connection, Pool, Unreachable
from runtime.policies.offering import Listing
from tests.runtime.mcp.conftest import PLAIN, command


@dataclass
class Memory:
    """A door to nothing but these variables."""

    config: Config
    stored: list[Listing] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    is_off: bool = False

    async def load(self, name: str) -> Config:
        if self.is_off:
            raise NotUsable("It is off.")
        return self.config

    async def store(self, config: Config, listing: Listing, told: str) -> None:
        self.stored.append(listing)

    async def fail(self, config: Config, error: str) -> None:
        self.failed.append(error)


@pytest.fixture
def config(tmp_path) -> Config:
    return Config("library", command=tuple(command(PLAIN, tmp_path)), directory=tmp_path / "home")


@pytest.fixture
def pooled(config):
    """Runs a coroutine function with a pool and its door, and closes the pool."""

    def run(story: Callable[[Pool, Memory], Any], door: Memory | None = None) -> Memory:
        known = door or Memory(config)

        async def go() -> None:
            pool = Pool(known)
            try:
                await story(pool, known)
            finally:
                await pool.aclose()

        asyncio.run(go())
        return known

    return run


async def until(is_so: Callable[[], bool], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


def children(folder: Path) -> int:
    found = 0
    for each in Path("/proc").glob("[0-9]*/cwd"):
        try:
            found += each.readlink() == folder
        except OSError:
            continue
    return found


def test_one_connection_serves_all_calls_and_another_configuration_makes_a_new_one(pooled, config):
    async def story(pool: Pool, door: Memory) -> None:
        first, second = await asyncio.gather(pool.get(config), pool.get(config))
        assert first is second
        assert children(config.directory) == 1
        answers = await asyncio.gather(*(first.call("find_book", {"title": str(n)}, 5) for n in range(20)))
        assert [answer.structured_content["title"] for answer in answers] == [str(n) for n in range(20)]

        other = await pool.get(replace(config, call_timeout_s=5))
        assert other is not first
        assert children(config.directory) == 1

    assert len(pooled(story).stored) == 2


async def changed(connection: Connection, door: Memory, mood: Path) -> None:
    mood.write_text("rug-pull")  # noqa: ASYNC240
    end = time.monotonic() + 20
    while len(door.stored) < 2:  # whoever has to listen first may miss the first notices
        assert time.monotonic() < end
        await connection.call("trouble", {"kind": "announce"}, 5)
        await asyncio.sleep(0.1)


def test_a_server_that_says_its_tools_have_changed_is_listed_again(pooled, config, tmp_path):
    async def story(pool: Pool, door: Memory) -> None:
        await changed(await pool.get(config), door, tmp_path / "mood")

    before, after = (listing.digests for listing in pooled(story).stored)
    assert {name for name in before if before[name] != after[name]} == {"lend"}


def test_so_is_one_that_has_to_be_listened_to(pooled, far_server, settings):
    settings.ALLOW_PRIVATE_HOSTS = ["127.0.0.1"]
    port, folder = far_server
    (folder / "mood").unlink(missing_ok=True)
    far = Config("library", url=f"http://127.0.0.1:{port}/mcp")

    async def story(pool: Pool, door: Memory) -> None:
        connection = await pool.get(far)
        await changed(connection, door, folder / "mood")

    pooled(story, Memory(far))
    (folder / "mood").unlink()


def test_nobody_has_to_call_for_a_change_to_be_noticed(pooled, config, tmp_path, monkeypatch):
    monkeypatch.setattr(connections, "LOOK_S", 0.05)
    monkeypatch.setattr(connections, "LIST_S", 0.1)
    monkeypatch.setattr(connections, "QUIET_S", 0.0)

    async def story(pool: Pool, door: Memory) -> None:
        await pool.get(config)
        (tmp_path / "mood").write_text("schema")
        await until(lambda: len(door.stored) == 2)

    pooled(story)


@pytest.mark.parametrize("ends", ["idle", "off"])
def test_what_is_idle_or_was_turned_off_is_ended(pooled, config, monkeypatch, ends):
    monkeypatch.setattr(connections, "LOOK_S", 0.05)
    monkeypatch.setattr(connections, "IDLE_S", 0.2 if ends == "idle" else 600)
    monkeypatch.setattr(connections, "QUIET_S", 0.0)

    async def story(pool: Pool, door: Memory) -> None:
        await pool.get(config)
        assert children(config.directory) == 1
        door.is_off = ends == "off"
        await until(lambda: children(config.directory) == 0)

    pooled(story)


def test_who_fails_is_not_tried_again_at_once(pooled, config, tmp_path):
    (tmp_path / "mood").write_text("complains")

    async def story(pool: Pool, door: Memory) -> None:
        for _ in range(3):
            with pytest.raises(Unreachable, match="is wrong"):
                await pool.get(config)
        assert len(door.failed) == 1
        (tmp_path / "mood").write_text("")
        pool._kept["library"].not_before = 0
        await pool.get(config)

    pooled(story)


def test_a_pool_is_not_used_after_a_fork(pooled, config):
    async def story(pool: Pool, door: Memory) -> None:
        pool._pid += 1
        with pytest.raises(RuntimeError, match="forked"):
            await pool.get(config)

    pooled(story)


def test_what_a_server_writes_to_its_error_output_neither_blocks_it_nor_is_kept_whole(pooled, config):
    async def story(pool: Pool, door: Memory) -> None:
        connection = await pool.get(config)
        await connection.call("trouble", {"kind": "complains"}, 10)
        await until(lambda: connection.trouble().endswith("the end"))
        assert len(connection.trouble()) <= stdio.LONGEST_ERRORS

    pooled(story)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end of its input ends the child")
def test_a_killed_worker_takes_its_servers_with_it(tmp_path):
    """Also those that do not listen to the end of their input."""
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom runtime.mcp import stdio\n"
        "async def go():\n"
        "    child = await stdio.start([sys.executable, '-c', 'import time; time.sleep(60)'], {}, Path(sys.argv[1]))\n"
        "    print(child.process.pid, flush=True)\n    await asyncio.sleep(60)\nasyncio.run(go())\n"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "home")], stdout=subprocess.PIPE, text=True
    )
    assert worker.stdout is not None
    child = int(worker.stdout.readline())
    deadline = time.monotonic() + 30
    while b"time.sleep" not in Path(f"/proc/{child}/cmdline").read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)

    worker.send_signal(signal.SIGKILL)
    worker.wait()
    worker.stdout.close()

    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False


def sent(answer: httpx2.Response, cap_bytes: int = 1000) -> httpx2.Response:
    """What a client behind the cap receives of an answer to request 7."""

    async def go() -> httpx2.Response:
        way = web.Capped(cap_bytes, httpx2.MockTransport(lambda request: answer))
        async with httpx2.AsyncClient(transport=way) as client:
            return await client.post("http://mcp.example.com/", json={"jsonrpc": "2.0", "id": 7, "method": "x"})

    return asyncio.run(go())


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_an_answer_over_http_is_cut_whatever_length_it_claims(kind):
    large = json.dumps({"jsonrpc": "2.0", "id": 7, "result": "x" * 5000})
    body = f"event: message\ndata: {large}\n\n" if kind == "text/event-stream" else large

    text = sent(httpx2.Response(200, headers={"content-type": kind}, content=body)).text

    found = json.loads(text.split("data: ")[-1])
    assert found["id"] == 7
    assert found["result"]["_meta"]["steadyhand/cut"]["bytes"] == len(body)


def test_small_events_before_a_large_one_arrive():
    events = "event: message\ndata: {}\n\n" + "event: message\ndata: " + "x" * 5000 + "\n\n"

    text = sent(httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=events)).text

    assert text.startswith("event: message\ndata: {}\n\n")
    assert "steadyhand/cut" in text


def test_a_compressed_answer_is_not_unpacked():
    packed = gzip.compress(b"x" * 10_000_000)

    with pytest.raises(httpx2.RemoteProtocolError, match="compressed"):
        sent(httpx2.Response(200, headers={"content-encoding": "gzip"}, content=packed), cap_bytes=100_000)
