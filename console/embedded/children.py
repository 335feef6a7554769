"""The processes under a supervisor: their log lines, and when to start a crashed one again."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from console.embedded import processes

COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
WIDTH = 10
LONGEST_PAUSE = 30.0
# A child that lived this long did start: the next crash is a first one again.
SETTLED_SECONDS = 60.0
# Lines that say nothing an operator can use.
NOISE = (b"overcommit_memory", b"Memory overcommit must be enabled")


class Logs:
    """Every child's output, line by line, each with the name of the child before it."""

    def __init__(self, out: IO[str] = sys.stdout) -> None:
        self.out = out
        self.in_colour = out.isatty() and not os.environ.get("NO_COLOR")
        self.selector = selectors.DefaultSelector()
        self.rest: dict[int, bytes] = {}

    def follow(self, name: str, stream: IO[bytes] | None) -> None:
        if stream is not None:
            os.set_blocking(stream.fileno(), False)
            self.rest[stream.fileno()] = b""
            self.selector.register(stream, selectors.EVENT_READ, name)

    def pump(self, seconds: float) -> None:
        """Print what the children say within this time; returns early when something was said."""
        if not self.selector.get_map():
            time.sleep(seconds)
            return
        for key, _ in self.selector.select(seconds):
            self._read(key)

    def _read(self, key: selectors.SelectorKey) -> None:
        stream, name = key.fileobj, key.data
        assert not isinstance(stream, int)
        try:
            chunk = os.read(key.fd, 65536)
        except BlockingIOError:
            return
        lines = (self.rest.pop(key.fd) + chunk).split(b"\n")
        if chunk:
            self.rest[key.fd] = lines.pop()
        else:
            self.selector.unregister(stream)
            stream.close()  # type: ignore[attr-defined]
        for line in lines:
            if line.strip() and not any(noise in line for noise in NOISE):
                self.line(name, line.decode(errors="replace"))

    def line(self, name: str, text: str) -> None:
        prefix = f"{name:<{WIDTH}} |"
        if self.in_colour:
            prefix = f"\x1b[{COLOURS[sum(name.encode()) % len(COLOURS)]}m{prefix}\x1b[0m"
        print(prefix, text.rstrip("\r"), file=self.out, flush=True)


@dataclass
class Child:
    """One of our own processes. It is started again when it ends by itself, later and later while it keeps crashing."""

    name: str
    command: Sequence[str | os.PathLike[str]]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    crashes: int = 0
    next_start_at: float = field(default=0.0)

    def start(self, logs: Logs, env: Mapping[str, str]) -> None:
        self.process = processes.start(self.command, env=env)
        self.started_at = time.monotonic()
        logs.follow(self.name, self.process.stdout)

    def watch(self, logs: Logs, env: Mapping[str, str]) -> None:
        """Notice a crash, and start again when the pause is over."""
        if self.process is not None:
            status = self.process.poll()
            if status is None:
                return
            if time.monotonic() - self.started_at > SETTLED_SECONDS:
                self.crashes = 0
            pause = min(2.0**self.crashes, LONGEST_PAUSE)
            self.crashes += 1
            self.process = None
            self.next_start_at = time.monotonic() + pause
            logs.line("up", f"{self.name} {how_it_ended(status)}; starting it again in {pause:.0f} s")
        elif time.monotonic() >= self.next_start_at:
            self.start(logs, env)


def how_it_ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def stop_all(children: Sequence[Child], logs: Logs, *, patience: float) -> None:
    """Ask all at once, go on printing what they say, and kill those that do not end in time."""
    running = [child.process for child in children if child.process is not None]
    for process in running:
        if process.poll() is None:
            process.terminate()
    end = time.monotonic() + patience
    while any(process.poll() is None for process in running) and time.monotonic() < end:
        logs.pump(0.05)
    for process in running:
        if process.poll() is None:
            process.kill()
            process.wait()
