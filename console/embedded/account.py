"""Who PostgreSQL runs as. It refuses root, so root needs another identity for that one child.

First choice: a user namespace, in which the child sees an ordinary user id while its files stay root's. Where those are
forbidden (many containers): an account that exists. Nothing is ever created in the system and no parent folder is
opened up.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from dataclasses import dataclass
from pathlib import Path

from console.embedded import processes
from console.embedded.processes import Identity, ServerProblem

ACCOUNTS = ("postgres", "nobody")
ELSEWHERE = Path("/var/tmp")  # noqa: S108 - what is made there is checked: see private_folder


@dataclass(frozen=True)
class Runner:
    """The identity of the server process, where its cluster lies and which programs it runs."""

    identity: Identity
    cluster: Path
    programs: Path

    @property
    def owner(self) -> tuple[int, int] | None:
        """Who has to own the cluster, when that is somebody else than we."""
        return self.identity if isinstance(self.identity, tuple) else None


def choose(cluster: Path, programs: Path, *, namespaces: bool | None = None) -> Runner:
    """Pick the identity for PostgreSQL; `namespaces=False` pretends that they are forbidden."""
    if os.geteuid() != 0:
        return Runner(None, cluster, programs)
    account = owner_of(cluster) or owner_of(cluster.parent)
    if account is None:
        if namespaces is None:
            namespaces = processes.namespaces_work()
        if namespaces and can_reach(cluster.parent, 0, 0) and can_reach(programs, 0, 0):
            return Runner(processes.NAMESPACE, cluster, programs)
        account = existing_account()
    if not can_reach(cluster.parent, *account):
        cluster = private_folder(str(cluster), account) / "postgres"
    if not can_reach(programs, *account):
        changed_at = (programs / "postgres").stat().st_mtime_ns
        programs = copied(programs, private_folder(f"{programs} {changed_at}", account))
    return Runner(account, cluster, programs)


def owner_of(folder: Path) -> tuple[int, int] | None:
    """The ids of a folder's owner when we are root and it belongs to somebody else."""
    if os.geteuid() != 0 or not folder.exists():
        return None
    about = folder.stat()
    return (about.st_uid, about.st_gid) if about.st_uid != 0 else None


def existing_account() -> tuple[int, int]:
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    raise ServerProblem(
        "PostgreSQL does not run as root, user namespaces are not allowed here, and there is no account"
        f" {' or '.join(ACCOUNTS)}. Run this as an ordinary user, or set DATABASE_URL to a PostgreSQL server."
    )


def can_reach(folder: Path, uid: int, gid: int) -> bool:
    """Whether a process with these ids, and without root's privileges, can walk into the folder."""
    folder = folder.resolve()
    for each in (folder, *folder.parents):
        about = each.stat()
        if about.st_uid == uid:
            allowed = about.st_mode & 0o100
        elif about.st_gid == gid:
            allowed = about.st_mode & 0o010
        else:
            allowed = about.st_mode & 0o001
        if not allowed:
            return False
    return True


def private_folder(source: str, account: tuple[int, int]) -> Path:
    """A folder of the account below /var/tmp, always the same one for the same source."""
    uid, gid = account
    name = hashlib.sha256(os.fsencode(source)).hexdigest()[:16]
    folder = ELSEWHERE / f"steadyhand-{name}"
    if not folder.exists():
        folder.mkdir(mode=0o700)
        os.chown(folder, uid, gid)
    # Everybody may write to /var/tmp: a folder (or link) that somebody else put there is not ours to trust.
    about = folder.lstat()
    if folder.is_symlink() or about.st_uid != uid or about.st_mode & 0o077:
        raise ServerProblem(f"{folder} exists but is not ours. Remove it, or run this as an ordinary user.")
    return folder


def copied(programs: Path, target: Path) -> Path:
    """A copy of the programs and their libraries that the account can run.

    They find their libraries by a path relative to themselves, so both keep their places beside each other.
    """
    package = programs.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    inside = target / package.name / programs.relative_to(package)
    if not (target / ".complete").exists():
        shutil.copytree(programs.parent, inside.parent, dirs_exist_ok=True, symlinks=True)
        if libraries.is_dir():
            shutil.copytree(libraries, target / libraries.name, dirs_exist_ok=True)
        (target / ".complete").touch()
    return inside
