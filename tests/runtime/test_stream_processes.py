"""A stream over real processes: a proxy that cuts it, and a web server that is killed and started again."""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils.timezone import now

from console import live
from console.embedded import ports, processes
from runtime import events
from runtime.models import Run, Step
from runtime.states import RunStatus, StepStatus
from tests.builders import a_run, a_step
from tests.patience import PATIENCE_S
from tests.programs import API, Program

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 60


class Web:
    """The web server as a process of its own, on the test's database."""

    def __init__(self, log) -> None:
        known = connection.settings_dict
        self.port = ports.pick()
        self.log = log
        self.env = os.environ | {
            "DATABASE_URL": f"postgresql://{known['USER']}:{known['PASSWORD']}@{known['HOST']}:{known['PORT']}/"
            f"{known['NAME']}"
        }
        self.start()

    def start(self) -> None:
        command = [sys.executable, settings.BASE_DIR / "manage.py", "web", "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = processes.start(command, output=log, env=self.env)
        alive = lambda: self.process.poll() is None  # noqa: E731
        assert processes.wait_until(self._answers, alive=alive, seconds=PATIENCE_S), processes.tail(self.log)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            ask = http.client.HTTPConnection(ports.LOOPBACK, self.port, timeout=5)
            ask.request("GET", "/readyz")
            return ask.getresponse().status == 200
        return False


@pytest.fixture
def web(tmp_path) -> Iterator[Web]:
    started = Web(tmp_path / "web.log")
    yield started
    processes.stop(started.process, patience=10)


class Proxy:
    """Passes on what is said, and hangs up in the middle of it again and again."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.cuts = 0
        self.chance = random.Random(7)
        self.socket = socket.create_server((ports.LOOPBACK, 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.socket.accept()
                threading.Thread(target=self._pass, args=[near], daemon=True).start()

    def _pass(self, near: socket.socket) -> None:
        left = self.chance.randint(900, 6000)
        with near, contextlib.suppress(OSError), socket.create_connection((ports.LOOPBACK, self.target)) as far:
            far.sendall(near.recv(65536))
            while piece := far.recv(700):
                near.sendall(piece[:left])
                left -= len(piece)
                if left <= 0:
                    self.cuts += 1
                    return


def listen(port: int, run: Run, program: Program) -> list[int]:
    """Follow the run to its end like a browser's EventSource: the ids of the events that came through whole."""
    heard: list[int] = []
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            asking = http.client.HTTPConnection(ports.LOOPBACK, port, timeout=20)
            headers = {**program.headers, **({"Last-Event-ID": str(heard[-1])} if heard else {})}
            asking.request("GET", f"{API}/runs/{run.public_id}/events/stream", headers=headers)
            answer = asking.getresponse()
            if answer.status == 204:
                return heard
            if answer.status == 200:
                _read(answer, heard)
        time.sleep(0.05)
    raise AssertionError(f"The end did not come; heard up to {heard[-1:]}.")


def _read(answer: http.client.HTTPResponse, heard: list[int]) -> None:
    number = None
    while line := answer.readline():
        if line.startswith(b"id: "):
            number = int(line[4:])
        elif line == b"\n" and number is not None:
            heard.append(number)
            number = None


def write(run: Run, between: Callable[[int], None]) -> int:
    """A worker's writes, some steps ending after later ones began; returns how many entries there are."""
    begun: list[Step] = []
    for place in range(ROUNDS):
        with transaction.atomic():
            begun.append(a_step(run, seq=events.next_seq(run.pk), status=StepStatus.STARTED))
        if place % 3:
            step = begun.pop(0)
            with transaction.atomic():
                done = events.next_seq(run.pk)
                Step.objects.filter(pk=step.pk).update(status=StepStatus.DONE, finished_at=now(), done_seq=done)
        live.send(f"run:{run.public_id}")
        time.sleep(0.02)
        between(place)
    with transaction.atomic():
        Run.objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED, finished_at=now())
        events.append(run, "run.finished")
    live.send(f"run:{run.public_id}")
    run.refresh_from_db()
    return run.seq


def test_nothing_is_lost_or_repeated_over_cuts_and_a_restart_of_the_server(web):
    run, program = a_run(RunStatus.RUNNING), Program("runs.read")
    proxy = Proxy(web.port)
    heard: list[int] = []
    listening = threading.Thread(target=lambda: heard.extend(listen(proxy.port, run, program)))
    listening.start()

    def in_the_middle(place: int) -> None:
        if place == ROUNDS // 2:
            web.kill()
            web.start()

    entries = write(run, in_the_middle)
    listening.join(PATIENCE_S)

    assert heard == list(range(1, entries + 1))
    assert proxy.cuts >= 3
