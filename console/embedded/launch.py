"""Turn this process into another program that cannot outlive whoever started it.

Run by path in an isolated interpreter: `launch.py '<options as JSON>' program arguments...`. A process of its own does
what would be unsafe between fork and exec in a process with threads.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
# PostgreSQL refuses user id 0, so the namespace shows another one; files stay root's.
SHOWN_UID = 1000


def main() -> None:
    options: dict[str, Any] = json.loads(sys.argv[1])
    command = sys.argv[2:]
    try:
        become(options.get("identity"))
        # After the change of identity, which would clear it.
        tie_to_parent(options["parent"], options["stop_signal"], options.get("lifeline"))
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error}")


def become(identity: Any) -> None:
    """`"namespace"`, or `[uid, gid]`, or None to stay who we are."""
    if identity is None:
        return
    if identity == "namespace":
        uid, gid = os.geteuid(), os.getegid()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{SHOWN_UID} {uid} 1"),
            ("gid_map", f"{SHOWN_UID} {gid} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(text)
        return
    uid, gid = identity
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def tie_to_parent(parent: int, stop_signal: int, lifeline: int | None) -> None:
    """Be signalled when the parent dies: by the kernel on Linux, by a watching process elsewhere.

    `lifeline` is the read end of a pipe whose only write end the parent holds; given, the watching process is used.
    """
    if lifeline is not None:
        watch(lifeline, stop_signal)
    else:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, stop_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(f"the process {parent} that wanted this one is gone")


def watch(lifeline: int, stop_signal: int) -> None:
    """Fork a watcher that signals this process once nobody holds the other end of the pipe."""
    watched = os.getpid()
    os.set_inheritable(lifeline, False)
    if os.fork() != 0:
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    while os.read(lifeline, 1):
        pass
    # Our parent is the watched process; another parent means that it has ended and its number may be somebody else's.
    if os.getppid() == watched:
        os.kill(watched, stop_signal)
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
