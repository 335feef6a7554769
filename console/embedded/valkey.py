"""One Valkey server (the Redis protocol) on the loopback address, with a password of its own per start."""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
from pathlib import Path
from typing import IO

from console.embedded import account, binaries, files, ports, processes
from console.embedded.processes import ServerProblem

DATABASES = 64
START_SECONDS = 60.0


class Valkey:
    """A server with its data below `folder`. PostgreSQL holds the truth; this may lose its last second."""

    name = "valkey"

    def __init__(self, folder: Path, *, throwaway: bool = False) -> None:
        self.folder = folder / "valkey"
        self.throwaway = throwaway
        self.program = binaries.valkey()
        self.process: subprocess.Popen[bytes] | None = None
        self.password = secrets.token_urlsafe(24)
        self.port: int | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{ports.LOOPBACK}:{self.port}/0"

    def start(self, output: int | IO[bytes] = subprocess.DEVNULL, log: Path | None = None) -> None:
        """Start the server and wait until it answers. A second start keeps port and password, so clients come back.

        Raises:
            ServerProblem: it cannot start; the sentence says why.
        """
        files.folder(self.folder)
        self.port = ports.pick(self.port)
        configuration = self.folder / "valkey.conf"
        files.write(configuration, self._configuration())
        self.process = processes.start(
            [self.program, configuration], identity=account.owner_of(self.folder), output=output
        )
        if not processes.wait_until(self._answers, alive=self.is_alive, seconds=START_SECONDS):
            self.stop()
            told = processes.tail(log if log is not None else self.process.stdout)
            raise ServerProblem(f"Valkey did not start from {self.folder}. It said:{told}")

    def stop(self) -> None:
        if self.process is not None:
            processes.stop(self.process, signal.SIGTERM)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _configuration(self) -> str:
        durable = ["save ''"] if self.throwaway else ["save ''", "appendonly yes", "appendfsync everysec"]
        lines = [
            f"bind {ports.LOOPBACK}",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{self.folder}"',
            f"databases {DATABASES}",
            "maxmemory-policy noeviction",
            "enable-debug-command no",
            "enable-module-command no",
            "loglevel warning",
            *durable,
        ]
        return "\n".join(lines).replace("''", '""') + "\n"

    def _answers(self) -> bool:
        """A server that still reads its file of commands answers LOADING, not PONG."""
        try:
            with socket.create_connection((ports.LOOPBACK, self.port or 0), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\nQUIT\r\n".encode())
                said = b""
                while chunk := connection.recv(1024):
                    said += chunk
        except OSError:
            return False
        return b"+PONG" in said
