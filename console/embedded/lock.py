"""Who uses a data directory: one process owns its servers, others may lean on them meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from console.embedded import files
from console.embedded.processes import ServerProblem


@dataclass(frozen=True)
class Owner:
    """What an owner tells about itself. `url` is empty until there is a page to open."""

    pid: int
    command: str
    url: str = ""


class OwnerLock:
    """Held for as long as the process lives: the kernel drops it, so a killed owner leaves no lock behind."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "owner.lock"
        self.descriptor: int | None = None

    def take(self, command: str) -> Owner | None:
        """Become the owner. Returns who owns it already, or None when it is ours now."""
        files.folder(self.path.parent)
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ServerProblem(
                f"Cannot open {self.path}: {error.strerror}. Run this as the account that made it, or set"
                " STEADYHAND_DATA_DIR to a folder of yours."
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            return _parsed(told)
        self.descriptor = descriptor
        self.tell(Owner(os.getpid(), command))
        return None

    def tell(self, owner: Owner) -> None:
        if self.descriptor is not None:
            os.ftruncate(self.descriptor, 0)
            os.pwrite(self.descriptor, json.dumps(asdict(owner)).encode(), 0)

    def release(self) -> None:
        if self.descriptor is not None:
            os.ftruncate(self.descriptor, 0)
            os.close(self.descriptor)
            self.descriptor = None


def _parsed(told: bytes) -> Owner:
    try:
        found = json.loads(told)
        return Owner(int(found["pid"]), str(found["command"]), str(found.get("url", "")))
    except (ValueError, KeyError, TypeError):
        return Owner(0, "another command")


@contextmanager
def leaning(data_dir: Path) -> Iterator[None]:
    """Mark that this process uses servers of another owner, who waits for us before it stops them."""
    descriptor = os.open(_users(data_dir), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def has_leaners(data_dir: Path) -> bool:
    descriptor = os.open(_users(data_dir), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _users(data_dir: Path) -> Path:
    return data_dir / "users.lock"
