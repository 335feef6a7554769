"""Whether the process of another worker life can still do anything.

A process id alone proves nothing: ids are used again, and containers count their own. So a life keeps which boot of
which machine it runs under, in which namespace of process ids, and when its process began.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from runtime.policies.recovering import Fate

PROC = Path("/proc")
START = 19  # place of the start time in /proc/<pid>/stat, counted behind the name in brackets


def identity() -> str:
    """`boot:namespace:start` of this process; empty where the system does not tell (no /proc)."""
    begun = _begun(os.getpid())
    place = _place()
    return f"{place}:{begun}" if place and begun else ""


def fate(process: str, host: str, pid: int) -> Fate:
    """What is known of a process by its identity, host and id, seen from here."""
    place, _, begun = process.rpartition(":")
    if place and place == _place():
        now = _begun(pid)
        return Fate.ALIVE if now == begun else Fate.GONE
    if process or host != socket.gethostname() or _place():
        return Fate.UNSEEN
    return Fate.ALIVE if _answers(pid) else Fate.GONE


def _place() -> str:
    """The boot of this machine and the namespace of process ids that this process counts in."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{(PROC / 'self/ns/pid').readlink().name}"
    except OSError:
        return ""


def _begun(pid: int) -> str:
    """When the process began, in ticks of its machine; empty when there is none, or only its remains."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[START]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
