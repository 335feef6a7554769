"""`manage.py up`: everything in the foreground, in order, started again when it crashes, stopped together.

This process loads no Django: it stays small, and a fault in the application cannot take it down.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from console.embedded import children, lock, ports, processes, servers, start
from console.embedded.postgres import Postgres
from console.embedded.processes import ServerProblem
from console.embedded.start import Answers
from console.embedded.valkey import Valkey

MANAGE = servers.ROOT / "manage.py"
# Listening on every address; the browser here takes the loopback.
EVERY_ADDRESS = {"": ports.LOOPBACK, "0.0.0.0": ports.LOOPBACK, "::": "::1"}  # noqa: S104 - the user's choice
ADD_A_PERSON = 'python3 manage.py person_create --email you@example.com --name "Your Name" --role admin'
ALREADY_RUNS = 2
STOP_SECONDS = 15.0
WEB_START_SECONDS = 120.0
MOST_FIRST_CRASHES = 3


class Stop(BaseException):
    """Somebody asked us to stop: Ctrl-C, or SIGTERM."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=8000, help="port of the console (default: 8000)")
    parser.add_argument("--host", default=ports.LOOPBACK, help="address to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="number of worker processes (default: 2)")
    parser.add_argument("--no-demo", action="store_true", help="leave the demo shop and its accounts out")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="manage.py up", description="Start everything and open the console.")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    data_dir = servers.data_dir()
    owned = lock.OwnerLock(data_dir)
    try:
        owner = owned.take("manage.py up")
        if owner is not None:
            print(_already_runs(owner), file=sys.stderr)
            return ALREADY_RUNS
        _check_port(options.host, options.port)
        return Supervisor(data_dir, owned, options).run()
    except ServerProblem as problem:
        print(problem, file=sys.stderr)
        return 1
    finally:
        owned.release()


def _already_runs(owner: lock.Owner) -> str:
    if owner.command != "manage.py up":
        return f"{owner.command} (process {owner.pid}) uses the database here. Start again when it has ended."
    where = f" at {owner.url}" if owner.url else " and is still starting"
    return f"Steadyhand already runs in this directory{where} (process {owner.pid}). Stop that one with Ctrl-C first."


def _check_port(host: str, port: int) -> None:
    try:
        is_free = ports.is_free(port, host)
    except (OSError, OverflowError) as error:
        raise ServerProblem(f"Cannot listen on {host}, port {port}: {error}. Check --host and --port.") from None
    if not is_free:
        raise ServerProblem(_taken(host, port, "another program"))


def _taken(host: str, port: int, by: str) -> str:
    return f"Port {port} on {host} is in use by {by}. Choose another one: python3 manage.py up --port {port + 1}"


class Supervisor:
    def __init__(self, data_dir: Path, owned: lock.OwnerLock, options: argparse.Namespace) -> None:
        self.data_dir = data_dir
        self.owned = owned
        self.options = options
        self.began = time.monotonic()
        self.logs = children.Logs()
        self.servers = servers.embedded(data_dir)
        self.children: list[children.Child] = []
        self.env: dict[str, str] = {}
        self.start = start.new()

    @property
    def reachable_host(self) -> str:
        """An address of this machine that a browser on it can open."""
        host: str = self.options.host
        return EVERY_ADDRESS.get(host, host)

    @property
    def url(self) -> str:
        host = self.reachable_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.options.port}"

    def run(self) -> int:
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, _raise_stop)
        try:
            self._start_servers()
            self._prepare()
            self._start_children()
            self._wait_for_web()
            self._greet()
            while True:
                self._watch()
        except Stop:
            return 0
        finally:
            for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(each, self._hurry)
            self._stop()

    def say(self, text: str) -> None:
        self.logs.line("up", f"{time.monotonic() - self.began:5.1f} s  {text}")

    def _start_servers(self) -> None:
        servers.endpoints_file(self.data_dir).unlink(missing_ok=True)
        for server in self.servers.each():
            self.say(f"starting {server.name}")
            self._start_server(server)
        self.servers.publish()
        self.env = self._environment()

    def _start_server(self, server: Postgres | Valkey) -> None:
        server.start(output=processes.PIPE)
        assert server.process is not None
        self.logs.follow(server.name, server.process.stdout)

    def _environment(self) -> dict[str, str]:
        env = os.environ | self.servers.variables | {"PYTHONUNBUFFERED": "1", start.VARIABLE: self.start}
        env.setdefault("STEADYHAND_BASE_URL", self.url)
        return env

    def _prepare(self) -> None:
        self.say("preparing database, static files and demo data")
        without_demo = ["--no-demo"] if self.options.no_demo else []
        child = children.Child("prepare", [sys.executable, MANAGE, "prepare", *without_demo])
        child.start(self.logs, self.env)
        self.children.append(child)
        assert child.process is not None
        while child.process.poll() is None:
            self.logs.pump(0.1)
        self.logs.pump(0.1)
        self.children.remove(child)
        if child.process.returncode != 0:
            raise ServerProblem("Preparing did not work; the reason stands above.")

    def _start_children(self) -> None:
        web = ["web", "--host", self.options.host, "--port", str(self.options.port)]
        wanted = [("web", web)]
        wanted += [(f"worker-{slot}", ["worker", "--slot", str(slot)]) for slot in range(1, self.options.workers + 1)]
        wanted += [("scheduler", ["scheduler"])]
        self.say(f"starting {', '.join(name for name, _ in wanted)}")
        for name, command in wanted:
            child = children.Child(name, [sys.executable, MANAGE, *command])
            child.start(self.logs, self.env)
            self.children.append(child)

    def _wait_for_web(self) -> None:
        web = self.children[0]
        end = time.monotonic() + WEB_START_SECONDS
        while (found := self._who_answers()) != Answers.OURS:
            if found != Answers.NOBODY:
                by = "another program" if found == Answers.ANOTHER else found.value
                raise ServerProblem(_taken(self.options.host, self.options.port, by))
            self._watch()
            if web.crashes >= MOST_FIRST_CRASHES or time.monotonic() > end:
                raise ServerProblem("The web server did not start; its messages stand above.")

    def _who_answers(self) -> Answers:
        return start.who_answers(self.reachable_host, self.options.port, self.start)

    def _greet(self) -> None:
        self.owned.tell(lock.Owner(os.getpid(), "manage.py up", self.url))
        accounts = self.data_dir / "demo_accounts.txt"
        lines = ["", f"Steadyhand runs at {self.url}"]
        if self.options.no_demo:
            lines += ["", f"Whoever signs in is added with: {ADD_A_PERSON}"]
        elif accounts.exists():
            lines += ["", *accounts.read_text().strip().splitlines()]
        lines += [
            "",
            f"Ready after {time.monotonic() - self.began:.1f} s. Ctrl-C stops it; its data stays in {self.data_dir}.",
            "",
        ]
        print("\n".join(f"  {line}".rstrip() for line in lines), flush=True)

    def _watch(self) -> None:
        self.logs.pump(0.25)
        for server in self.servers.each():
            if not server.is_alive():
                self._revive(server)
        for child in self.children:
            child.watch(self.logs, self.env)

    def _revive(self, server: Postgres | Valkey) -> None:
        """Start a dead server at the same address, so that everybody who uses it can reconnect."""
        status = server.process.returncode if server.process is not None else 0
        self.logs.line("up", f"{server.name} {children.how_it_ended(status)}; starting it again")
        try:
            self._start_server(server)
        except ServerProblem as problem:
            self.logs.line("up", f"{problem} Next try in 5 s.")
            time.sleep(5)
            return
        before, self.env = self.env, self._environment()
        if before != self.env:
            self.logs.line("up", f"{server.name} has another address now; starting everything that uses it again")
            self.servers.publish()
            children.stop_all(self.children, self.logs, patience=STOP_SECONDS)

    def _hurry(self, number: int, frame: FrameType | None) -> None:
        """A second Ctrl-C: do not wait for our own processes; the servers still stop in order."""
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                child.process.kill()

    def _stop(self) -> None:
        if self.children:
            self.say("stopping (Ctrl-C again: do not wait for work in progress)")
        children.stop_all(self.children, self.logs, patience=STOP_SECONDS)
        for server in reversed(self.servers.each()):
            server.stop()
        self.logs.pump(0)
        servers.endpoints_file(self.data_dir).unlink(missing_ok=True)
        self.say("stopped")


def _raise_stop(number: int, frame: FrameType | None) -> None:
    raise Stop
