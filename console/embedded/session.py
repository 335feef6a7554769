"""What a management command needs before Django reads its settings: servers that run, their addresses, the keys."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from console.embedded import files, lock, servers
from console.embedded.processes import ServerProblem

# These read code and files only; everything else may ask the database.
NEED_NO_SERVERS = {"check", "collectstatic", "compilemessages", "diffsettings", "findstatic", "makemessages"}
NEED_NO_SERVERS |= {
    "help",
    "makemigrations",
    "startapp",
    "startproject",
    "test",
    "version",
    "--help",
    "-h",
    "--version",
}
# These hurt the servers they use, so they never lean on those of anybody else.
BRING_THEIR_OWN = {"chaos"}
# What these write is gone when they end, so nothing signed by them stays: passing keys will do.
LEAVE_NOTHING_SIGNED = {"bench"}
MANAGE = servers.ROOT / "manage.py"
OWNER_STARTS_SECONDS = 90.0


own: servers.Servers | None = None  # the servers of a command that brings its own


@contextmanager
def around(arguments: Sequence[str]) -> Iterator[None]:
    """Put what the command needs into the environment, for as long as it runs.

    `arguments` is the command's name and what follows it.
    """
    if is_external():
        if arguments and arguments[0] in LEAVE_NOTHING_SIGNED:
            for name in servers.KEYS:
                os.environ.setdefault(name.upper(), servers.new_key())
        yield
        return
    data_dir = servers.data_dir()
    if not arguments or arguments[0] in NEED_NO_SERVERS or "--help" in arguments:
        os.environ.update(_keys_without_traces(data_dir))
        # makemigrations would like to compare with a database, and complains that it cannot.
        warnings.filterwarnings("ignore", message="Got an error checking a consistent migration history")
        yield
        return
    with _passing_servers() if arguments[0] in BRING_THEIR_OWN else _servers(data_dir, arguments) as variables:
        os.environ.update(variables)
        yield


def is_external() -> bool:
    return bool(os.environ.get(servers.DATABASE_VARIABLE) and os.environ.get(servers.REDIS_VARIABLE))


@contextmanager
def _servers(data_dir: Path, arguments: Sequence[str]) -> Iterator[dict[str, str]]:
    """Lean on servers that another process owns, or own them for the duration of this command."""
    owned = lock.OwnerLock(data_dir)
    owner = owned.take(f"manage.py {arguments[0]}")
    if owner is not None:
        with lock.leaning(data_dir):
            yield _addresses_of(owner, data_dir) | servers.keys(data_dir)
        return
    with ExitStack() as stack:
        stack.callback(owned.release)
        started = stack.enter_context(servers.running(data_dir))
        stack.callback(_wait_for_leaners, data_dir)
        schema = nullcontext() if arguments[0] == "migrate" else _current_schema(data_dir, started.variables)
        with schema:
            yield started.variables


@contextmanager
def _passing_servers() -> Iterator[dict[str, str]]:
    """Durable servers in a folder of their own, which is gone when the command ends."""
    global own
    with tempfile.TemporaryDirectory(prefix="steadyhand-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with servers.running(folder) as own:
            yield own.variables | {"STEADYHAND_DATA_DIR": name}
        own = None


def _addresses_of(owner: lock.Owner, data_dir: Path) -> dict[str, str]:
    """The addresses the owner publishes, once its servers run."""
    end = time.monotonic() + OWNER_STARTS_SECONDS
    while time.monotonic() < end:
        known = files.read_json(servers.endpoints_file(data_dir))
        if known:
            return {name.upper(): str(value) for name, value in known.items()} | _given()
        time.sleep(0.1)
    raise ServerProblem(
        f"{owner.command} (process {owner.pid}) owns {data_dir}, but its servers did not start within"
        f" {OWNER_STARTS_SECONDS:.0f} seconds. Stop it and try again."
    )


def _given() -> dict[str, str]:
    names = (servers.DATABASE_VARIABLE, servers.REDIS_VARIABLE)
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def _wait_for_leaners(data_dir: Path) -> None:
    if lock.has_leaners(data_dir):
        print("Another command still uses the database; waiting for it before the servers stop.", file=sys.stderr)
    while lock.has_leaners(data_dir):
        time.sleep(0.2)


@contextmanager
def _current_schema(data_dir: Path, variables: dict[str, str]) -> Iterator[None]:
    """Bring the embedded database to the migrations of this checkout, unless that was done before."""
    stamp = data_dir / "migrated"
    wanted = "\n".join(sorted(str(path.relative_to(servers.ROOT)) for path in servers.ROOT.glob("*/migrations/*.py")))
    if not stamp.exists() or stamp.read_text() != wanted:
        print("Preparing the database ...", file=sys.stderr)
        migrate = subprocess.run(
            [sys.executable, MANAGE, "migrate", "--verbosity", "0"], env=os.environ | variables, check=False
        )
        if migrate.returncode != 0:
            raise ServerProblem("The database could not be migrated; the reason stands above.")
        files.write(stamp, wanted)
    yield


def _keys_without_traces(data_dir: Path) -> dict[str, str]:
    """The keys of this directory, or passing ones when it has none yet: such a command signs nothing that stays."""
    known = files.read_json(servers.secrets_file(data_dir))
    return {name.upper(): os.environ.get(name.upper()) or known.get(name) or servers.new_key() for name in servers.KEYS}
