"""Children in sessions of their own that end when we end, however we end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO

LAUNCH = Path(__file__).with_name("launch.py")
NAMESPACE = "namespace"
# Linux signals a child when its parent dies; elsewhere a watching process does.
KERNEL_TIES = sys.platform == "linux"
Identity = str | tuple[int, int] | None
PIPE = subprocess.PIPE
Output = int | IO[bytes]


class ServerProblem(Exception):
    """A server cannot start or go on. The message says what, why and the way out."""


def start(
    command: Sequence[str | os.PathLike[str]],
    *,
    stop_signal: signal.Signals = signal.SIGTERM,
    identity: Identity = None,
    output: Output = subprocess.PIPE,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child; call it from the main thread, because the kernel ties the child to the thread that forked it."""
    lifeline = None if KERNEL_TIES else _lifeline()
    options = {
        "identity": identity,
        "parent": os.getpid(),
        "stop_signal": int(stop_signal),
        "lifeline": lifeline,
    }
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCH), json.dumps(options), *(os.fspath(word) for word in command)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(env) if env is not None else None,
        start_new_session=True,
        pass_fds=() if lifeline is None else (lifeline,),
    )


@lru_cache(maxsize=1)
def _lifeline() -> int:
    """The read end of a pipe that breaks when this process ends. The write end is deliberately never closed."""
    read_end, _ = os.pipe()
    return read_end


@lru_cache(maxsize=1)
def namespaces_work() -> bool:
    """Whether this process may start a child in a user namespace of its own."""
    if sys.platform != "linux":
        return False
    child = start(["/bin/true"], identity=NAMESPACE, output=subprocess.DEVNULL)
    return child.wait() == 0


def wait_until(ready: Callable[[], bool], *, alive: Callable[[], bool], seconds: float) -> bool:
    """Poll `ready` for so long as `alive`; False when it died or the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ready():
            return True
        if not alive():
            return False
        time.sleep(0.02)
    return False


def stop(child: subprocess.Popen[bytes], *signals: signal.Signals, patience: float = 10.0) -> None:
    """Send the signals one after another, each after `patience` seconds more, SIGKILL as the last."""
    for each in (*signals, signal.SIGKILL):
        if child.poll() is not None:
            return
        child.send_signal(each)
        try:
            child.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


def arguments_of(pid: int) -> list[bytes]:
    """The command line of a process; empty when there is none, or only its remains."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return []
    answer = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, check=False)
    return answer.stdout.split()


def tail(output: IO[bytes] | Path | None, lines: int = 12) -> str:
    """The last lines that an ended child wrote, indented, for an error message."""
    if output is None:
        return ""
    if isinstance(output, Path):
        text = output.read_bytes()[-8000:] if output.exists() else b""
    else:
        text = output.read()
    return "".join(f"\n    {line}" for line in text.decode(errors="replace").splitlines()[-lines:])
