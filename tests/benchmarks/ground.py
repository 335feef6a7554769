"""What a benchmark stands on: servers that keep what they commit, a database of its own, and the product's processes.

With DATABASE_URL and REDIS_URL it makes a new database on that server and takes it away again; otherwise it starts
servers in a temporary folder. Import models only inside `standing()`: Django is set up there.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import sql

from console.embedded import files, ports, servers

MANAGE = servers.ROOT / "manage.py"
START_S = 180.0
KEPT_OPEN_S = 3.0  # the web server closes connections that rest for longer than 5 s


@contextmanager
def standing() -> Iterator[Path]:
    """Django on durable servers with an empty, migrated database. Yields a folder for logs."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="steadyhand-benchmark-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        files.folder(folder)
        if os.environ.get(servers.DATABASE_VARIABLE) and os.environ.get(servers.REDIS_VARIABLE):
            os.environ[servers.DATABASE_VARIABLE] = stack.enter_context(own_database(f"benchmark_{os.getpid()}"))
        else:
            os.environ.update(stack.enter_context(servers.running(folder)).variables)
        os.environ["STEADYHAND_DATA_DIR"] = str(folder)
        for name in servers.KEYS:
            os.environ.setdefault(name.upper(), servers.new_key())
        _set_up()
        yield folder


def _set_up() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    django.setup()
    from django.core.management import call_command

    from runtime.bench import meters

    call_command("migrate", verbosity=0, interactive=False)
    meters.require_durable()


@contextmanager
def own_database(name: str) -> Iterator[str]:
    """A new database on the server of DATABASE_URL. Yields its address."""
    address = os.environ[servers.DATABASE_VARIABLE]
    administer(address, "DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
    administer(address, "CREATE DATABASE {}", name)
    try:
        yield urlunsplit(urlsplit(address)._replace(path=f"/{name}"))
    finally:
        administer(address, "DROP DATABASE {} WITH (FORCE)", name)


def administer(address: str, statement: Any, *names: str) -> None:
    with psycopg.connect(urlunsplit(urlsplit(address)._replace(path="/postgres")), autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


class Process:
    """A process of the product, started by `manage.py`; what it says goes to a log and may be waited for."""

    def __init__(self, folder: Path, *command: str, says: str = "", **env: str) -> None:
        self.began = time.monotonic()
        self.said_at: float | None = None
        self._said = threading.Event()
        self._says = says
        self.log = folder / f"{command[0]}-{time.monotonic_ns()}.log"
        self.process = subprocess.Popen(
            [sys.executable, str(MANAGE), *command],
            env=os.environ | env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def wait_until_said(self) -> float:
        """Seconds from the start of the process to the line it was asked for."""
        if not self._said.wait(START_S) or self.said_at is None:
            raise RuntimeError(f"It did not say {self._says!r}:\n{self.log.read_text()[-2000:]}")
        return self.said_at - self.began

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(45)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.log.open("w") as log:
            for line in self.process.stdout:
                log.write(line)
                log.flush()
                if self._says and self.said_at is None and self._says in line:
                    self.said_at = time.monotonic()
                    self._said.set()
        self._said.set()


class Web:
    """The web server as a process, and a person who is signed in to it."""

    def __init__(self, folder: Path) -> None:
        from django.core.management import call_command

        call_command("collectstatic", verbosity=0, interactive=False)
        self.port = ports.pick()
        self.began = time.monotonic()
        self.process = Process(folder, "web", "--port", str(self.port))
        self.connection = http.client.HTTPConnection(ports.LOOPBACK, self.port, timeout=60)
        self.cookies: dict[str, str] = {}
        self.used_at = self.began
        self.answers_after_s = self._wait()

    def sign_in(self, user: Any) -> None:
        from django.conf import settings
        from django.test import Client

        browser = Client()
        browser.force_login(user)
        self.cookies[settings.SESSION_COOKIE_NAME] = browser.cookies[settings.SESSION_COOKIE_NAME].value

    def get(self, path: str) -> tuple[float, int, bytes]:
        """Seconds until the first byte of the answer, its status, and all of it."""
        return self._ask("GET", path, None)

    def post(self, path: str, form: dict[str, str]) -> tuple[float, int, bytes]:
        from django.middleware.csrf import _get_new_csrf_string  # type: ignore[attr-defined]

        token = self.cookies.setdefault("csrftoken", _get_new_csrf_string())
        return self._ask("POST", path, urlencode({**form, "csrfmiddlewaretoken": token}))

    def _ask(self, method: str, path: str, body: str | None) -> tuple[float, int, bytes]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded"}
        if time.monotonic() - self.used_at > KEPT_OPEN_S:
            self.connection.close()
        self.used_at = time.monotonic()
        began = time.perf_counter()
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        first = time.perf_counter() - began
        return first, answer.status, answer.read()

    def _wait(self) -> float:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.process.poll() is None:
            try:
                self.get("/healthz")
            except OSError:
                self.connection.close()
                time.sleep(0.02)
            else:
                return time.monotonic() - self.began
        raise RuntimeError(f"The web server did not answer:\n{self.process.log.read_text()[-2000:]}")


def until(is_so: Callable[[], bool], seconds: float = 60.0, every: float = 0.005) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise RuntimeError(f"It did not become so within {seconds:g} s.")
        time.sleep(every)


def ms(seconds: Sequence[float], part: float) -> float:
    """A quantile in milliseconds."""
    ascending = sorted(seconds)
    return round(1000 * ascending[min(len(ascending) - 1, int(part * len(ascending)))], 3)


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


def knob(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)


def emit(**found: Any) -> None:
    print(json.dumps(found), flush=True)
