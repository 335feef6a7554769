"""Both servers together, the secrets of a data directory, and the addresses others find them by."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from console.embedded import files
from console.embedded.postgres import Postgres
from console.embedded.processes import ServerProblem
from console.embedded.valkey import Valkey

ROOT = Path(__file__).resolve().parent.parent.parent
DATABASE_VARIABLE = "DATABASE_URL"
REDIS_VARIABLE = "REDIS_URL"
KEYS = ("steadyhand_secret_key", "steadyhand_audit_key")
SMALLEST_DISK_BYTES = 300 * 1024 * 1024
LARGEST_LOG_BYTES = 5 * 1024 * 1024


@dataclass
class Servers:
    """The embedded servers of one data directory; None where the environment names an external one."""

    data_dir: Path
    postgres: Postgres | None
    valkey: Valkey | None

    def each(self) -> list[Postgres | Valkey]:
        return [server for server in (self.postgres, self.valkey) if server is not None]

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs in its environment to reach all servers and to sign what it writes."""
        found = {name: os.environ[name] for name in (DATABASE_VARIABLE, REDIS_VARIABLE) if os.environ.get(name)}
        if self.postgres is not None:
            found[DATABASE_VARIABLE] = self.postgres.url
        if self.valkey is not None:
            found[REDIS_VARIABLE] = self.valkey.url
        if self.each():
            found |= keys(self.data_dir)
        return found

    def publish(self) -> None:
        """Tell other commands in this directory where the servers are; external ones are no secret of ours to keep."""
        if not self.each():
            return
        files.write_json(
            endpoints_file(self.data_dir),
            {name.lower(): self.variables[name] for name in (DATABASE_VARIABLE, REDIS_VARIABLE)},
        )


def data_dir() -> Path:
    """The folder of the embedded servers and of collected static files."""
    return Path(os.environ.get("STEADYHAND_DATA_DIR") or ROOT / ".steadyhand").absolute()


def embedded(data_dir: Path, *, throwaway: bool = False) -> Servers:
    """Prepare a server for each address that the environment does not give. Nothing is started yet."""
    wants_postgres, wants_valkey = not os.environ.get(DATABASE_VARIABLE), not os.environ.get(REDIS_VARIABLE)
    if wants_postgres or wants_valkey:
        files.folder(data_dir)
        check_disk(data_dir)
    return Servers(
        data_dir,
        Postgres(data_dir, throwaway=throwaway) if wants_postgres else None,
        Valkey(data_dir, throwaway=throwaway) if wants_valkey else None,
    )


@contextmanager
def running(data_dir: Path, *, throwaway: bool = False) -> Iterator[Servers]:
    """Start both, publish their addresses, and stop them at the end. The caller holds the owner's lock."""
    endpoints_file(data_dir).unlink(missing_ok=True)
    servers = embedded(data_dir, throwaway=throwaway)
    with ExitStack() as stack:
        for server in servers.each():
            log = log_file(data_dir, server.name)
            stack.callback(server.stop)
            with log.open("ab") as output:
                server.start(output, log)
        servers.publish()
        stack.callback(endpoints_file(data_dir).unlink, missing_ok=True)
        yield servers


def keys(data_dir: Path) -> dict[str, str]:
    """The keys of an embedded installation, made once and kept beside its data. The environment's keys go first."""
    known = files.read_json(secrets_file(data_dir))
    missing = [name for name in KEYS if not known.get(name)]
    if missing:
        known |= {name: new_key() for name in missing}
        files.write_json(secrets_file(data_dir), known)
    return {name.upper(): os.environ.get(name.upper()) or known[name] for name in KEYS}


def new_key() -> str:
    return secrets.token_urlsafe(48)


def secrets_file(data_dir: Path) -> Path:
    return data_dir / "secrets.json"


def endpoints_file(data_dir: Path) -> Path:
    return data_dir / "endpoints.json"


def log_file(data_dir: Path, name: str) -> Path:
    """Where a server writes while no supervisor listens; started anew when it grew large."""
    folder = files.folder(data_dir / "logs")
    path = folder / f"{name}.log"
    if path.exists() and path.stat().st_size > LARGEST_LOG_BYTES:
        path.unlink()
    return path


def check_disk(data_dir: Path) -> None:
    free = shutil.disk_usage(data_dir).free
    if free < SMALLEST_DISK_BYTES:
        raise ServerProblem(
            f"Only {free // 2**20} MB are free on the disk of {data_dir}; {SMALLEST_DISK_BYTES // 2**20} MB are needed."
            " Free some space, or set STEADYHAND_DATA_DIR to a folder on another disk."
        )
