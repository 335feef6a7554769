"""`up` knows its own console from whoever else answers at its port."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from console import supervisor
from console.embedded import children, lock, ports, start
from console.embedded.processes import ServerProblem
from console.embedded.start import Answers


@contextmanager
def answering(status: int = 200, name: str = "") -> Iterator[int]:
    """A server at some port that may say which start it belongs to."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if name:
                self.send_header(start.HEADER, name)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((ports.LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def an_up(tmp_path: Path, port: int) -> supervisor.Supervisor:
    """A supervisor whose console has been started, and has not said anything yet."""
    options = argparse.Namespace(host=ports.LOOPBACK, port=port, workers=1, no_demo=True)
    found = supervisor.Supervisor(tmp_path, lock.OwnerLock(tmp_path), options)
    found.children = [children.Child("web", ["never"], next_start_at=float("inf"))]
    return found


@pytest.mark.parametrize(
    ("status", "name", "found"),
    [
        (200, "mine", Answers.OURS),
        (500, "mine", Answers.NOBODY),
        (200, "theirs", Answers.ANOTHER_STEADYHAND),
        (200, "", Answers.ANOTHER),
        (404, "", Answers.ANOTHER),
    ],
)
def test_who_answers_is_told_by_the_name_of_the_start(status, name, found):
    with answering(status, name) as port:
        assert start.who_answers(ports.LOOPBACK, port, "mine") == found


def test_nobody_answers_at_a_port_without_a_server():
    assert start.who_answers(ports.LOOPBACK, ports.pick(), "mine") == Answers.NOBODY


@pytest.mark.parametrize(("name", "by"), [("theirs", "another Steadyhand"), ("", "another program")])
def test_up_does_not_take_another_server_for_its_own(tmp_path, name, by):
    """It has taken the port after `up` had found it free."""
    with answering(200, name) as port, pytest.raises(ServerProblem) as told:
        an_up(tmp_path, port)._wait_for_web()

    assert str(told.value) == (
        f"Port {port} on 127.0.0.1 is in use by {by}. Choose another one: python3 manage.py up --port {port + 1}"
    )


def test_up_goes_on_when_its_own_console_answers(tmp_path):
    up = an_up(tmp_path, 0)
    with answering(200, up.start) as up.options.port:
        up._wait_for_web()

    assert up._environment()[start.VARIABLE] == up.start
