"""The processes that chaos starts, hurts and starts again: workers, scheduler, and the two servers if they are ours.

Everything is called from the main thread: the kernel ties a child to the thread that started it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from console import environment
from console.embedded import processes, servers
from console.embedded.postgres import Postgres
from console.embedded.valkey import Valkey
from runtime.chaos import scenes

MANAGE = environment.ROOT / "manage.py"
LAST_LINES = 15
AT_WORK_S = 1.5


@dataclass
class Member:
    """A worker or the scheduler. Whatever ends it, `Crew.revive` starts it again."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    is_frozen: bool = False
    starts: int = 0
    _said_before: int = 0  # bytes of the log when it was started last
    _ready_at: float | None = None

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether it said so."""
        if not self.is_alive:
            return False
        if self._ready_at is None:
            with self.log.open("rb") as said:
                said.seek(self._said_before)
                if b"is ready" in said.read():
                    self._ready_at = time.monotonic()
        return self._ready_at is not None

    def is_at_work(self) -> bool:
        """Whether it has been ready for a while: hurting what only starts would show nothing."""
        return self.is_ready() and self._ready_at is not None and time.monotonic() - self._ready_at > AT_WORK_S

    def start(self, variables: Mapping[str, str]) -> None:
        self.starts += 1
        self._ready_at = None
        self.is_frozen = False
        with self.log.open("ab") as output:
            self._said_before = output.tell()
            command = [sys.executable, str(MANAGE), *self.arguments]
            self.process = processes.start(command, output=output, env=os.environ | variables)

    def kill(self) -> None:
        if self.process is not None and self.is_alive:
            self.process.kill()
            self.process.wait()
        self.is_frozen = False

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        self.is_frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.is_alive:
            self.process.send_signal(number)


@dataclass
class Crew:
    """`lease_s`: the lease of the workers, where it is not to be the product's own."""

    folder: Path
    workers: int
    lease_s: float | None
    own: servers.Servers | None
    members: list[Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in range(1, self.workers + 1):
            name, command = f"worker-{number}", ("worker", "--slot", f"chaos-{os.getpid()}-{number}")
            self.members.append(Member(name, command, self.folder / f"{name}.log"))
        self.members.append(Member("scheduler", ("scheduler",), self.folder / "scheduler.log"))

    @property
    def postgres(self) -> Postgres | None:
        return self.own.postgres if self.own else None

    @property
    def valkey(self) -> Valkey | None:
        return self.own.valkey if self.own else None

    def at_work(self) -> list[Member]:
        """The workers that are in the middle of it, frozen ones among them."""
        return [each for each in self.members[:-1] if each.is_at_work()]

    def scheduler(self) -> Member:
        return self.members[-1]

    def revive(self) -> None:
        """Start whatever has ended, at once."""
        for member in self.members:
            if not member.is_alive:
                member.start(self._variables())

    def start_server(self, server: Postgres | Valkey) -> None:
        log = servers.log_file(_folder_of(self.own), server.name)
        with log.open("ab") as output:
            server.start(output, log)

    def stop(self) -> None:
        """End every process of ours, frozen or not."""
        for member in self.members:
            member.kill()

    def last_words(self) -> str:
        """What each process said last, to find out why it does not do what it should."""
        return "".join(f"\n{each.name}:{processes.tail(each.log, LAST_LINES)}" for each in self.members)

    def _variables(self) -> dict[str, str]:
        modules = [*environment.load().steadyhand_tools, scenes.__name__]
        found = {"STEADYHAND_TOOLS": json.dumps(modules), "PYTHONUNBUFFERED": "1"}
        return found | ({scenes.LEASE_VARIABLE: str(self.lease_s)} if self.lease_s else {})


def _folder_of(own: servers.Servers | None) -> Path:
    assert own is not None, "only servers of our own are started again"
    return own.data_dir
