"""Callbacks: signed, retried, sent once for one end of a run."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.db import connection
from django.utils.timezone import now
from standardwebhooks import Webhook, WebhookVerificationError

from console import ids
from runtime import callbacks, runs
from runtime.models import Callback, Run
from runtime.states import RunStatus
from tests.builders import a_release, a_run, an_agent
from tests.programs import Program

pytestmark = pytest.mark.django_db


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body))
        status, headers = self.server.answers.pop(0) if self.server.answers else (204, {})
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def receiver(settings):
    settings.ALLOW_PRIVATE_HOSTS = ["127.0.0.1"]
    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.got, server.answers = [], []
    server.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def a_told_run(url: str, status: RunStatus = RunStatus.SUCCEEDED, **fields) -> Run:
    run = a_run(status, callback_url=url, answer="Done.", **{"started_by_id": str(ids.new()), **fields})
    Callback.objects.create(run=run)
    return run


def test_the_message_is_signed_for_the_token_that_started_the_run(receiver):
    program = Program()
    run = a_told_run(receiver.url)
    Run.objects.filter(pk=run.pk).update(started_by_id=program.token.pk)
    secret = program.get("/callback-secret").json()["secret"]

    assert callbacks.deliver(run.pk)

    headers, body = receiver.got[0]
    told = Webhook(secret).verify(body, headers)
    assert (told["type"], told["run_id"], told["status"]) == ("run.finished", run.public_id, "succeeded")
    assert (told["cause"], told["answer"]) == ("answered", "Done.")
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"Done.", b"Gone."), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(Program().get("/callback-secret").json()["secret"]).verify(body, headers)


@pytest.mark.parametrize(
    ("scopes", "told"), [(("runs.create", "runs.personal"), "ana@example.com"), (("runs.create",), "•••")]
)
def test_a_message_shows_personal_data_only_to_a_token_that_may_see_it(receiver, scopes, told):
    program = Program(*scopes)
    run = a_told_run(receiver.url, started_by_id=str(program.token.pk))
    Run.objects.update(answer="Sent to ana@example.com")

    callbacks.deliver(run.pk)

    assert json.loads(receiver.got[0][1])["answer"] == f"Sent to {told}"


def test_a_delivered_message_is_not_sent_again(receiver):
    run = a_told_run(receiver.url)

    assert callbacks.deliver(run.pk)
    assert not callbacks.deliver(run.pk)
    assert callbacks.sweep() == 0

    assert len(receiver.got) == 1
    assert Callback.objects.get().delivered_at


def test_a_failed_attempt_is_repeated_later_with_the_same_id(receiver):
    receiver.answers = [(500, {})]
    run = a_told_run(receiver.url)

    assert not callbacks.deliver(run.pk)
    assert not callbacks.deliver(run.pk)  # not due yet
    row = Callback.objects.get()
    assert timedelta(seconds=5) < row.next_at - now() <= callbacks.WAITS[0]
    assert "500" in row.last_error

    Callback.objects.update(next_at=now())
    assert callbacks.sweep() == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert [headers["Steadyhand-Attempt"] for headers, _ in receiver.got] == ["1", "2"]


def test_attempts_come_to_an_end(receiver):
    receiver.answers = [(500, {})] * 20
    run = a_told_run(receiver.url)

    waits = []
    for _ in range(len(callbacks.WAITS) + 3):
        callbacks.deliver(run.pk)
        row = Callback.objects.get()
        waits.append(row.next_at and row.next_at - now())
        Callback.objects.filter(next_at__isnull=False).update(next_at=now())

    assert len(receiver.got) == len(callbacks.WAITS) + 1
    assert waits[-1] is None
    told = [wait for wait in waits if wait]
    assert told == sorted(told)
    assert callbacks.sweep() == 0


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        ((410, {}), None),
        ((503, {"Retry-After": "900"}), timedelta(seconds=900)),
        ((429, {"Retry-After": "999999"}), callbacks.LONGEST_WAIT),
        ((429, {"Retry-After": "soon"}), callbacks.WAITS[0]),
        ((302, {"Location": "http://127.0.0.1:1/"}), callbacks.WAITS[0]),
    ],
)
def test_the_receivers_answer_decides_when_it_is_tried_again(receiver, answer, wait):
    receiver.answers = [answer]
    run = a_told_run(receiver.url)

    callbacks.deliver(run.pk)

    row = Callback.objects.get()
    assert row.delivered_at is None
    assert (row.next_at is None) if wait is None else abs(row.next_at - now() - wait) < timedelta(seconds=10)
    assert len(receiver.got) == 1


def test_an_address_inside_is_never_called(receiver, settings):
    settings.ALLOW_PRIVATE_HOSTS = []
    run = a_told_run(receiver.url)

    assert not callbacks.deliver(run.pk)

    row = Callback.objects.get()
    assert (row.next_at, receiver.got) == (None, [])
    assert "public internet" in row.last_error


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING])
def test_a_run_that_has_not_ended_is_not_told(receiver, status):
    run = a_told_run(receiver.url, status)

    assert not callbacks.deliver(run.pk)
    assert callbacks.sweep() == 0
    assert receiver.got == []


def test_what_the_queue_forgot_is_found_by_the_sweep(receiver):
    a_told_run(receiver.url)

    assert callbacks.sweep() == 1


def test_a_worker_that_died_while_sending_leaves_a_row_that_comes_due_again(receiver):
    run = a_told_run(receiver.url)
    Callback.objects.update(attempts=1, next_at=now() + callbacks.CLAIM)  # claimed, then killed

    assert callbacks.sweep() == 0
    Callback.objects.update(next_at=now() - timedelta(seconds=1))

    assert callbacks.sweep() == 1
    assert json.loads(receiver.got[0][1])["run_id"] == run.public_id


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_the_same_instant_send_one_message(receiver):
    run = a_told_run(receiver.url)
    start = threading.Barrier(4)

    def work():
        start.wait()
        callbacks.deliver(run.pk)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(receiver.got) == 1


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_run_is_told_once_its_end_is_committed(receiver):
    a_release(an_agent("shop-support"))
    program = Program()
    body = {"agent": "shop-support", "input": "Hello.", "user_id": "cust-1", "callback_url": receiver.url}
    key = program.post("/runs", body).json()["run_id"]

    program.post(f"/runs/{key}/cancel", {"reason": "Not needed."})
    assert callbacks.sweep() == 1

    told = json.loads(receiver.got[0][1])
    assert (told["run_id"], told["status"], told["cause"]) == (key, "cancelled", "cancelled")
    assert runs.Run.objects.get().callback.delivered_at
