"""One PostgreSQL cluster in a folder of its own, listening on the loopback address only."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from console.embedded import account, binaries, files, ports, processes
from console.embedded.processes import ServerProblem

DATABASE = "steadyhand"
ROLE = "steadyhand"
SUPERUSER = "postgres"
READY_LINE = 7
START_SECONDS = 90.0


class Postgres:
    """A cluster below `folder`, made on the first start. `throwaway` trades durability for speed, for tests."""

    name = "postgres"

    def __init__(self, folder: Path, *, throwaway: bool = False, namespaces: bool | None = None) -> None:
        self.settings_file = folder / "postgres.json"
        self.throwaway = throwaway
        self.runner = account.choose(folder / "postgres", binaries.postgres(), namespaces=namespaces)
        self.process: subprocess.Popen[bytes] | None = None
        self.settings: dict[str, str] = {}

    @property
    def cluster(self) -> Path:
        return self.runner.cluster

    @property
    def url(self) -> str:
        return self._url(ROLE, self.settings["password"], DATABASE)

    def start(self, output: int | IO[bytes] = subprocess.DEVNULL, log: Path | None = None) -> None:
        """Start the server and wait until it takes connections; make cluster, role and database when they are missing.

        Raises:
            ServerProblem: it cannot start; the sentence says why and the way out.
        """
        self._load_settings()
        if not self.cluster.exists():
            self._initialise()
        self._check_version()
        self._check_nobody_runs_it()
        port = ports.pick(int(self.settings.get("port", 0)))
        self.settings["port"] = str(port)
        files.write_json(self.settings_file, self.settings)
        self.process = processes.start(
            self._command(port), stop_signal=signal.SIGINT, identity=self.runner.identity, output=output
        )
        if not processes.wait_until(self._is_ready, alive=self.is_alive, seconds=START_SECONDS):
            self.stop()
            told = processes.tail(log if log is not None else self.process.stdout)
            raise ServerProblem(f"PostgreSQL did not start from {self.cluster}.{_hint(told)} It said:{told}")
        self._ensure_database()

    def stop(self) -> None:
        """SIGINT ends sessions and writes everything; SIGQUIT, as a last resort, leaves the rest to recovery."""
        if self.process is not None:
            processes.stop(self.process, signal.SIGINT, signal.SIGQUIT)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _load_settings(self) -> None:
        self.settings = files.read_json(self.settings_file)
        if self.settings:
            return
        if self.cluster.exists():
            raise ServerProblem(
                f"{self.settings_file} is missing: it holds the password of the database in {self.cluster}."
                f" Restore it, or move {self.cluster} away to start empty."
            )
        self.settings = {"password": secrets.token_urlsafe(24), "superuser_password": secrets.token_urlsafe(24)}
        files.write_json(self.settings_file, self.settings)

    def _initialise(self) -> None:
        """Make the cluster beside its place and move it there when it is whole: a kill leaves no half of one."""
        parent = files.folder(self.cluster.parent)
        if self.runner.owner is not None and account.owner_of(parent) is None:
            # The account walks through; what lies in the folder stays private by its own mode.
            parent.chmod(0o711)
        unfinished = Path(tempfile.mkdtemp(prefix="postgres-new-", dir=parent))
        password_file = unfinished.with_suffix(".password")
        try:
            files.write(password_file, self.settings["superuser_password"] + "\n")
            for path in (unfinished, password_file):
                if self.runner.owner is not None:
                    os.chown(path, *self.runner.owner)
            child = processes.start(self._initdb(unfinished, password_file), identity=self.runner.identity)
            said, _ = child.communicate()
            if child.returncode != 0:
                told = "".join(f"\n    {line}" for line in said.decode(errors="replace").splitlines()[-12:])
                raise ServerProblem(f"PostgreSQL cannot make a data directory.{_hint(told)} initdb said:{told}")
            unfinished.rename(self.cluster)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(unfinished, ignore_errors=True)

    def _initdb(self, cluster: Path, password_file: Path) -> list[str | os.PathLike[str]]:
        major = binaries.postgres_major(self.runner.programs)
        if major < binaries.OLDEST_POSTGRES:
            raise ServerProblem(
                f"PostgreSQL {major} in {self.runner.programs} is too old; {binaries.OLDEST_POSTGRES} is the oldest."
            )
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if major >= 17 else ["--locale=C.UTF-8"]
        quick = ["--no-sync"] if self.throwaway else []
        return [
            self.runner.programs / "initdb",
            f"--pgdata={cluster}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            *locale,
            *quick,
        ]

    def _command(self, port: int) -> list[str | os.PathLike[str]]:
        options = {
            "listen_addresses": ports.LOOPBACK,
            "port": str(port),
            # No Unix socket: its path may not be longer than 107 bytes.
            "unix_socket_directories": "",
            "max_connections": "200",
            "log_checkpoints": "off",
        }
        if self.throwaway:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        settings = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [self.runner.programs / "postgres", "-D", self.cluster, *settings]

    def _is_ready(self) -> bool:
        try:
            lines = (self.cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        mine = self.process is not None and lines[:1] == [str(self.process.pid)]
        return mine and len(lines) > READY_LINE and lines[READY_LINE].strip() == "ready"

    def _check_version(self) -> None:
        try:
            made_by = (self.cluster / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise ServerProblem(
                f"{self.cluster} is no PostgreSQL data directory ({error.strerror}: PG_VERSION)."
                " Restore it from a backup, or move it away to start empty."
            ) from None
        installed = binaries.postgres_major(self.runner.programs)
        if made_by != str(installed):
            raise ServerProblem(
                f"{self.cluster} was made by PostgreSQL {made_by}; the installed PostgreSQL {installed} cannot read it."
                f" Start it with PostgreSQL {made_by} ({binaries.POSTGRES_VARIABLE}=<folder of its programs>)"
                f" and dump it, or move it away to start empty: mv {self.cluster} {self.cluster}-{made_by}"
            )

    def _check_nobody_runs_it(self) -> None:
        """Stop an orphan of ours; take a stale file away when its number now belongs to another program.

        PostgreSQL itself would refuse to start for as long as any process has that number. Where the other program
        cannot be told, the file stays and PostgreSQL decides.
        """
        file = self.cluster / "postmaster.pid"
        try:
            pid = int(file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return
        arguments = processes.arguments_of(pid)
        if self._is_ours(arguments):
            os.kill(pid, signal.SIGINT)
            gone = processes.wait_until(
                lambda: not self._is_ours(processes.arguments_of(pid)), alive=lambda: True, seconds=20
            )
            if not gone:
                raise ServerProblem(f"A PostgreSQL server (process {pid}) still uses {self.cluster}. Stop it first.")
        elif any(arguments):
            file.unlink(missing_ok=True)

    def _is_ours(self, arguments: list[bytes]) -> bool:
        return os.fsencode(self.cluster) in arguments

    def _ensure_database(self) -> None:
        """The console's own role is no superuser: SQL that somebody smuggles in cannot reach files or programs."""
        import psycopg
        from psycopg import sql

        superuser = self._url(SUPERUSER, self.settings["superuser_password"], "postgres")
        with psycopg.connect(superuser, autocommit=True) as connection:
            role = sql.Identifier(ROLE)
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone():
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(role, self.settings["password"])
                )
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), role))

    def _url(self, user: str, password: str, database: str) -> str:
        return f"postgresql://{user}:{password}@{ports.LOOPBACK}:{self.settings['port']}/{database}"


def _hint(told: str) -> str:
    if "No space left on device" in told:
        return " The disk is full: free some space and start again."
    if "shared memory" in told or "semaphores" in told:
        return " The system allows too little shared memory or too few semaphores."
    return ""
