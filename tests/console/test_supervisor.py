"""`manage.py up` as a person meets it: it starts, tells, mends what crashes, and leaves nothing behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from console.embedded import files, ports, processes

# One `up` serves most of these tests, in their order: they belong to one worker process.
pytestmark = pytest.mark.xdist_group("supervisor")
MANAGE = settings.BASE_DIR / "manage.py"
PATIENCE = 120.0


class Up:
    """One `manage.py up`, with what it printed."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.port = ports.pick()
        self.data_dir = data_dir
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, MANAGE, "up", "--no-demo", "--port", str(self.port), *options],
            env=environment(data_dir),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        os.set_blocking(self.process.stdout.fileno(), False)

    def wait_for(self, pattern: str, since: int = 0) -> re.Match[str]:
        """The first match in what was printed since that position; fails when it ends or takes too long."""
        end = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while time.monotonic() < end:
                if found := re.compile(pattern).search(self.said, since):
                    return found
                if selector.select(0.2):
                    self.said += self.process.stdout.read() or ""
                if self.process.poll() is not None:
                    break
        pytest.fail(f"{pattern!r} was not printed, but:\n{self.said}")

    def status(self, path: str = "/readyz") -> int:
        connection = http.client.HTTPConnection(ports.LOOPBACK, self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()

    def is_ready(self) -> bool:
        return self.status() == 200

    def pids(self) -> set[int]:
        """Every process of this `up`: all of them have the data directory in their environment or arguments."""
        return {pid for pid in descendants(self.process.pid) if pid != self.process.pid}

    def pid_of(self, *words: bytes) -> int:
        return next(pid for pid in self.pids() if all(word in processes.arguments_of(pid) for word in words))

    def server_pid(self, program: str) -> int:
        """Valkey puts its address behind its name, and PostgreSQL's own children replace theirs."""
        names = {pid: processes.arguments_of(pid)[0].split(b" ")[0] for pid in self.pids()}
        return next(pid for pid, name in names.items() if Path(os.fsdecode(name)).name == program)

    def end(self) -> str:
        """Let it finish, and give everything that it printed."""
        self.process.wait(60)
        self.said += self.process.stdout.read() or ""
        return self.said


def environment(data_dir: Path) -> dict[str, str]:
    """As on a machine without servers and settings of its own."""
    ours = ("DATABASE_URL", "REDIS_URL", "STEADYHAND_", "DJANGO_", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | {
        "STEADYHAND_DATA_DIR": str(data_dir)
    }


def descendants(pid: int) -> set[int]:
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(child): int(parent) for child, parent in (line.split() for line in listing.splitlines())}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def eventually(is_true) -> bool:
    return processes.wait_until(is_true, alive=lambda: True, seconds=PATIENCE)


def are_gone(pids: set[int]) -> bool:
    return not any(any(processes.arguments_of(pid)) for pid in pids)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A running `up`. The tests of this module disturb it one after another; each finds it ready."""
    started = Up(files.folder(tmp_path_factory.mktemp("up") / "data"))
    try:
        started.wait_for(r"Ready after")
        yield started
    finally:
        started.process.kill()
        started.process.wait()
        started.process.stdout.close()


def test_it_tells_where_the_console_is(up):
    assert f"Steadyhand runs at http://127.0.0.1:{up.port}" in up.said
    assert eventually(up.is_ready)
    assert re.search(r"^prepare    \| migrations: done", up.said, re.MULTILINE)
    assert "\x1b[" not in up.said
    assert "person_create --email" in up.said  # without the demo nobody has an account yet


def test_a_second_start_says_that_it_already_runs(up):
    second = Up(up.data_dir)

    said = second.end()

    assert second.process.returncode == 2
    assert (
        f"Steadyhand already runs in this directory at http://127.0.0.1:{up.port} (process {up.process.pid})." in said
    )


def test_another_command_uses_the_running_servers(up):
    told = subprocess.run(
        [
            sys.executable,
            MANAGE,
            "shell",
            "--verbosity",
            "0",
            "-c",
            "from django.db import connection as c; c.connect(); print(c.settings_dict['PORT'])",
        ],
        env=environment(up.data_dir),
        capture_output=True,
        text=True,
        check=False,
    )

    endpoints = json.loads((up.data_dir / "endpoints.json").read_text())
    assert told.returncode == 0, told.stderr
    assert f":{told.stdout.strip()}/" in endpoints["database_url"]


@pytest.mark.parametrize("words", [(b"worker", b"1"), (b"web",), (b"scheduler",)], ids=["worker", "web", "scheduler"])
def test_a_crashed_child_is_started_again(up, words):
    assert eventually(up.is_ready)
    pid, position = up.pid_of(*words), len(up.said)

    os.kill(pid, signal.SIGKILL)

    up.wait_for(r"was ended by SIGKILL; starting it again in \d+ s", position)
    assert eventually(lambda: any(all(w in processes.arguments_of(p) for w in words) for p in up.pids() - {pid}))
    assert eventually(up.is_ready)


@pytest.mark.parametrize(("name", "program"), [("postgres", "postgres"), ("valkey", "valkey-server")])
def test_a_killed_server_comes_back_at_the_same_address(up, name, program):
    assert eventually(up.is_ready)
    before, position = (up.data_dir / "endpoints.json").read_text(), len(up.said)
    pid = up.server_pid(program)

    os.kill(pid, signal.SIGKILL)

    up.wait_for(rf"{name} was ended by SIGKILL; starting it again", position)
    assert eventually(up.is_ready)
    assert (up.data_dir / "endpoints.json").read_text() == before


def test_ctrl_c_stops_everything_in_order_and_exits_cleanly(up):
    assert eventually(up.is_ready)
    pids = up.pids()

    up.process.send_signal(signal.SIGINT)
    said = up.end()

    assert up.process.returncode == 0, said
    # A child whose database was killed under it may have complained; the supervisor itself never does.
    assert not re.search(r"^(up +\| )?Traceback", said, re.MULTILINE)
    assert said.rstrip().endswith("stopped")
    assert said.index("database system is shut down") > said.rindex("Valkey is now ready to exit")
    assert are_gone(pids)
    assert not (up.data_dir / "endpoints.json").exists()


def test_nothing_survives_a_killed_supervisor_and_its_data_does(up):
    if up.process.poll() is None:
        up.process.terminate()
        up.end()
    again = Up(up.data_dir)
    again.wait_for("Ready after")
    pids = again.pids()
    assert len(pids) >= 6

    again.process.kill()
    again.process.wait()

    assert eventually(lambda: are_gone(pids))
    third = Up(up.data_dir)
    third.wait_for("Ready after")
    third.process.terminate()
    assert "Traceback" not in third.end()
    assert third.process.returncode == 0
    for each in (again, third):
        each.process.stdout.close()


def test_a_port_in_use_is_named_with_the_way_out(tmp_path):
    with socket.create_server((ports.LOOPBACK, 0)) as other:
        port = other.getsockname()[1]
        refused = subprocess.run(
            [sys.executable, MANAGE, "up", "--port", str(port)],
            env=environment(tmp_path / "data"),
            capture_output=True,
            text=True,
            check=False,
        )

    assert refused.returncode == 1
    assert f"Port {port} on 127.0.0.1 is in use" in refused.stderr
    assert f"--port {port + 1}" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "data" / "postgres").exists()
