"""Callers' URLs are told each event once, in order, and again until they have it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import timedelta
from itertools import islice
from typing import Any

import django_rq
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils.timezone import now

from console import ids, problems, queue
from console.models import AuditEntry
from console.roles import Role
from runtime import deliveries, jobs, lanes
from runtime.models import Callback, Delivery, DeliveryAttempt, Run
from runtime.policies.delivering import WAITS
from runtime.policies.lanes import PLACES
from runtime.states import FINAL, DeliveryStatus, RunStatus
from tests.builders import a_release, a_run, an_actor, an_agent, an_event
from tests.programs import Program
from tests.runtime.receivers import close, receiving, slow

pytestmark = pytest.mark.django_db

ALL = ["run.started", "run.waiting", "run.resumed", "run.finished"]


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    """A worker that has sent nothing yet."""
    monkeypatch.setattr(lanes, "OURS", lanes.Lanes())
    return lanes.OURS


@pytest.fixture
def receiver(settings):
    settings.ALLOW_PRIVATE_HOSTS = ["127.0.0.1"]
    with receiving() as server:
        yield server


def a_told_run(url: str, *kinds: str, wants: list[str] | None = None, **fields) -> Run:
    """A run whose journal holds events of these kinds; it has ended if the last of them says so."""
    kinds = kinds or ("run.finished",)
    status = RunStatus.SUCCEEDED if kinds[-1] == "run.finished" else RunStatus.RUNNING
    run = a_run(status, callback_url=url, answer="Done.", **{"started_by_id": str(ids.new()), **fields})
    Callback.objects.create(run=run, events=wants or ALL)
    for kind in kinds:
        an_event(run, kind)
    return run


def told(receiver) -> list[str]:
    return [json.loads(body)["type"] for _, body in receiver.got]


def sweep() -> int:
    """What the sweep asks for, done by one worker. Returns how many messages were taken."""
    return sum(map(deliveries.deliver, deliveries.sweep()))


def come_due() -> None:
    Delivery.objects.filter(status=DeliveryStatus.PENDING).update(next_at=now())


def test_each_event_is_told_once_and_in_order(receiver):
    run = a_told_run(receiver.url, "run.created", "run.started", "run.waiting", "run.resumed", "run.finished")

    assert deliveries.deliver(run.pk) == 4
    assert deliveries.deliver(run.pk) == 0
    assert sweep() == 0

    assert told(receiver) == ALL
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 4
    assert not Callback.objects.get().is_open


def test_only_what_the_caller_asked_for_is_told(receiver):
    run = a_told_run(receiver.url, *ALL, wants=["run.finished"])

    deliveries.deliver(run.pk)

    assert told(receiver) == ["run.finished"]


def test_a_change_is_told_while_the_run_goes_on(receiver):
    run = a_told_run(receiver.url, "run.started", "run.waiting")
    sweep()
    an_event(run, "run.resumed")

    sweep()

    assert told(receiver) == ["run.started", "run.waiting", "run.resumed"]
    assert Callback.objects.get().is_open


def test_an_event_never_becomes_two_deliveries(receiver):
    run = a_told_run(receiver.url, *ALL)
    deliveries.derive()
    Callback.objects.update(seen_seq=0, is_open=True)  # as if the cursor had been lost

    deliveries.derive()

    assert Delivery.objects.filter(run=run).count() == 4


def test_a_failed_attempt_is_repeated_later_with_the_same_id(receiver):
    receiver.answers = [(500, {})]
    run = a_told_run(receiver.url)

    assert deliveries.deliver(run.pk) == 0
    assert deliveries.deliver(run.pk) == 0  # not due yet
    row = Delivery.objects.get()
    assert timedelta(seconds=5) < row.next_at - now() <= WAITS[0]
    assert "500" in row.last_error

    come_due()
    assert sweep() == 1
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert [headers["Steadyhand-Attempt"] for headers, _ in receiver.got] == ["1", "2"]


def test_what_comes_later_waits_for_what_comes_before(receiver):
    receiver.answers = [(500, {})]
    run = a_told_run(receiver.url, *ALL)

    assert deliveries.deliver(run.pk) == 0
    Delivery.objects.filter(kind="run.finished").update(next_at=now() - timedelta(hours=1))
    assert sweep() == 0
    assert deliveries.deliver(run.pk) == 0
    assert told(receiver) == ["run.started"]

    come_due()
    assert sweep() == 4
    assert told(receiver) == ["run.started", *ALL]


def test_a_slow_receiver_costs_the_time_limit_and_no_more(receiver, monkeypatch):
    monkeypatch.setattr(deliveries, "TIMEOUT_S", 0.3)
    receiver.answers = [slow(2)]
    run = a_told_run(receiver.url)

    deliveries.deliver(run.pk)

    attempt = DeliveryAttempt.objects.get()
    assert 250 < attempt.took_ms < 1500
    assert "did not answer in time" in attempt.error
    assert attempt.answer is None


def test_each_attempt_is_kept_with_what_came_of_it(receiver):
    receiver.answers = [(500, {}), close, (200, {})]
    run = a_told_run(receiver.url)

    for _ in range(3):
        deliveries.deliver(run.pk)
        come_due()

    attempts = list(DeliveryAttempt.objects.order_by("number"))
    assert [attempt.answer for attempt in attempts] == [500, None, 200]
    assert [bool(attempt.error) for attempt in attempts] == [True, True, False]
    assert all(attempt.took_ms is not None for attempt in attempts)
    row = Delivery.objects.get()
    assert (row.status, row.attempts, row.last_error) == (DeliveryStatus.DELIVERED, 3, "")


def test_attempts_come_to_an_end_and_let_the_next_message_through(receiver):
    receiver.answers = [(500, {})] * (len(WAITS) + 1)
    run = a_told_run(receiver.url, "run.started", "run.finished")

    for _ in range(len(WAITS) + 2):
        deliveries.deliver(run.pk)
        come_due()

    first, last = Delivery.objects.order_by("seq")
    assert (first.status, first.attempts, first.next_at) == (DeliveryStatus.GIVEN_UP, len(WAITS) + 1, None)
    assert "the last one" in first.last_error
    assert last.status == DeliveryStatus.DELIVERED


@pytest.mark.parametrize("status", [302, 410])
def test_a_redirect_is_not_followed_and_gone_is_gone(receiver, status):
    receiver.answers = [(status, {"Location": receiver.url + "/elsewhere"})]
    run = a_told_run(receiver.url)

    deliveries.deliver(run.pk)

    assert len(receiver.got) == 1
    assert Delivery.objects.get().status == (DeliveryStatus.GIVEN_UP if status == 410 else DeliveryStatus.PENDING)


def test_an_address_inside_is_never_called(receiver, settings):
    settings.ALLOW_PRIVATE_HOSTS = []
    run = a_told_run(receiver.url)

    assert deliveries.deliver(run.pk) == 0

    row = Delivery.objects.get()
    assert (row.status, receiver.got) == (DeliveryStatus.GIVEN_UP, [])
    assert "public internet" in row.last_error


@pytest.mark.parametrize("status", sorted(set(RunStatus) - FINAL))
def test_a_run_that_has_not_ended_is_not_told_as_ended(receiver, status):
    run = a_run(status, callback_url=receiver.url)
    Callback.objects.create(run=run)
    an_event(run, "run.started")

    assert sweep() == 0

    assert receiver.got == []


def test_a_worker_that_died_while_sending_leaves_a_row_that_comes_due_again(receiver):
    run = a_told_run(receiver.url)
    deliveries.derive()
    assert deliveries._claim(run.pk)  # and then it is killed

    assert sweep() == 0
    Delivery.objects.update(next_at=now() - timedelta(seconds=1))

    assert sweep() == 1
    first, second = DeliveryAttempt.objects.order_by("number")
    assert (first.took_ms, second.answer) == (None, 204)


def test_a_late_answer_counts_when_it_was_yes_and_not_when_it_was_no(receiver):
    run = a_told_run(receiver.url)
    deliveries.derive()
    slow_one = deliveries._claim(run.pk)
    come_due()  # its claim ran out
    second = deliveries._claim(run.pk)

    deliveries._record(slow_one, deliveries.Outcome(500), 61_000, deliveries.TryAgain(WAITS[0], "late"))
    row = Delivery.objects.get()
    assert (row.status, row.attempts, row.next_at) == (DeliveryStatus.PENDING, 2, second.next_at)

    deliveries._record(slow_one, deliveries.Outcome(200), 62_000, deliveries.Delivered())
    deliveries._record(second, deliveries.Outcome(500), 100, deliveries.TryAgain(WAITS[0], "no"))
    assert Delivery.objects.get().status == DeliveryStatus.DELIVERED


@pytest.mark.django_db(transaction=True)
def test_workers_at_the_same_instant_send_each_message_once_and_in_order(receiver):
    run = a_told_run(receiver.url, *ALL)
    start = threading.Barrier(4)

    def work():
        start.wait()
        deliveries.sweep()
        deliveries.deliver(run.pk)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert told(receiver) == ALL


@pytest.mark.django_db(transaction=True)
def test_a_worker_killed_between_sending_and_recording_leads_to_the_same_message_again(receiver):
    run = a_told_run(receiver.url)
    code = (
        "import django; django.setup(); from console import ids; from runtime import deliveries; import sys;"
        "deliveries.deliver(ids.parse('run', sys.argv[1]))"
    )
    database = connection.settings_dict
    env = os.environ | {
        "DATABASE_URL": f"postgresql://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
        f"/{database['NAME']}",
        "STEADYHAND_ALLOW_PRIVATE_HOSTS": '["127.0.0.1"]',
        "PYTHONPATH": str(django_settings.BASE_DIR),
    }
    began = threading.Event()

    def kill_the_sender(_):
        began.wait(10)
        os.kill(sender.pid, signal.SIGKILL)

    receiver.answers = [kill_the_sender]
    sender = subprocess.Popen([sys.executable, "-c", code, run.public_id], env=env)
    began.set()
    assert sender.wait(30) == -signal.SIGKILL

    assert sweep() == 0  # the claim holds
    Delivery.objects.update(next_at=now())
    assert sweep() == 1

    assert len(receiver.got) == 2
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    assert len({body for _, body in receiver.got}) == 1
    assert [attempt.answer for attempt in DeliveryAttempt.objects.order_by("number")] == [None, 204]


@pytest.mark.django_db(transaction=True)
def test_a_cancelled_run_is_told_once_its_end_is_committed(receiver):
    a_release(an_agent("shop-support"))
    program = Program()
    body = {
        "agent": "shop-support", "input": "Hello.", "user_id": "cust-1", "callback_url": receiver.url,
        "callback_events": ["run.cancel_requested", "run.finished"],
    }  # fmt: skip
    key = program.post("/runs", body).json()["run_id"]

    program.post(f"/runs/{key}/cancel", {"reason": "Not needed."})
    assert sweep() == 2

    assert told(receiver) == ["run.cancel_requested", "run.finished"]
    last = json.loads(receiver.got[-1][1])
    assert (last["run_id"], last["status"], last["cause"]) == (key, "cancelled", "cancelled")


# Sending again


def test_what_was_given_up_can_be_sent_again_and_says_who_wanted_it(receiver):
    receiver.answers = [(410, {})]
    run = a_told_run(receiver.url)
    deliveries.deliver(run.pk)
    operator = an_actor(Role.OPERATOR)

    deliveries.send_again(Delivery.objects.get().pk, by=operator, reason="They mended it.")
    assert deliveries.deliver(run.pk) == 1

    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1
    entry = AuditEntry.objects.get(action="delivery.send_again")
    assert (entry.actor_label, entry.reason) == (operator.label, "They mended it.")


def test_what_is_being_sent_is_not_sent_a_second_time_at_once(receiver):
    run = a_told_run(receiver.url)
    deliveries.derive()
    deliveries._claim(run.pk)

    with pytest.raises(problems.Conflict):
        deliveries.send_again(Delivery.objects.get().pk, by=an_actor(Role.OPERATOR), reason="Now.")

    assert not AuditEntry.objects.exists()


def test_sending_again_needs_a_reason_and_a_right_on_the_agent(receiver):
    a_told_run(receiver.url)
    deliveries.derive()
    key = Delivery.objects.get().pk

    with pytest.raises(problems.Invalid):
        deliveries.send_again(key, by=an_actor(Role.OPERATOR), reason=" ")
    with pytest.raises(Delivery.DoesNotExist):
        deliveries.send_again(key, by=an_actor(Role.OPERATOR, agent="another"), reason="Why.")
    with pytest.raises(Delivery.DoesNotExist):
        deliveries.send_again(key, by=an_actor(Role.AUDITOR), reason="Why.")


def test_programs_see_what_became_of_their_callbacks(receiver):
    receiver.answers = [(500, {})]
    run, program = a_told_run(receiver.url), Program("runs.read")
    deliveries.deliver(run.pk)
    deliveries.deliver(run.pk)

    item = program.get(f"/runs/{run.public_id}/deliveries").json()["items"][0]

    assert (item["type"], item["status"], item["attempts"]) == ("run.finished", "pending", 1)
    assert item["webhook_id"] == receiver.got[0][0]["webhook-id"]
    assert item["tries"][0]["answer"] == 500
    assert item["next_attempt_at"]


def test_a_message_that_cannot_be_made_keeps_no_other_from_being_sent(receiver, monkeypatch):
    broken, other = (a_told_run(receiver.url) for _ in range(2))
    deliveries.derive()
    Delivery.objects.filter(run=broken).update(next_at=now() - timedelta(minutes=1))
    make = deliveries.callbacks.message

    def message(delivery: Delivery, *about: Any) -> Any:
        if delivery.run_id == broken.pk:
            raise LookupError("an error of ours")
        return make(delivery, *about)

    monkeypatch.setattr(deliveries.callbacks, "message", message)

    first, second = deliveries.sweep()
    with pytest.raises(LookupError):
        deliveries.deliver(first)
    assert deliveries.deliver(second) == 1
    assert Delivery.objects.get(run=other).status == DeliveryStatus.DELIVERED
    assert Delivery.objects.get(run=broken).next_at > now()


# Slow receivers


def waiting_jobs() -> list[str]:
    return [str(job.args[0]) for job in django_rq.get_queue(queue.CALLBACKS).get_jobs()]


@pytest.mark.django_db(transaction=True)
def test_a_receiver_that_hangs_holds_up_no_other_client_and_its_rest_waits_without_a_thread(receiver, monkeypatch):
    monkeypatch.setattr(deliveries, "TIMEOUT_S", 50.0)
    over = threading.Event()

    def work(run: Run) -> int:
        try:
            return deliveries.deliver(run.pk)
        finally:
            connection.close()

    with receiving() as hanging, ThreadPoolExecutor(PLACES) as room:
        hanging.answers = [lambda _: over.wait(60)] * PLACES
        client = str(ids.new())
        slow_ones = [a_told_run(hanging.url, started_by_id=client) for _ in range(PLACES)]
        other = a_told_run(receiver.url)
        try:
            sent = [room.submit(work, run) for run in slow_ones]
            assert room.submit(work, other).result(timeout=40) == 1
            assert [done.result() for done in islice(as_completed(sent, timeout=40), PLACES - 2)] == [0] * (PLACES - 2)
            assert sum(not each.done() for each in sent) == 2
        finally:
            over.set()

    asked_again = set(waiting_jobs())
    assert asked_again
    assert asked_again < {run.public_id for run in slow_ones}


def test_the_sweep_leaves_room_for_each_client_and_each_of_its_hosts(receiver, monkeypatch):
    monkeypatch.setattr(deliveries, "SWEEP_OF_A_LANE", 2)
    late = [a_told_run("https://slow.example/hook", started_by_id="a") for _ in range(5)]
    deliveries.derive()
    Delivery.objects.update(next_at=now() - timedelta(hours=1))
    mine, others = (
        a_told_run(url, started_by_id=client)
        for url, client in (("https://quick.example/x?slow.example", "a"), ("https://slow.example/hook", "b"))
    )

    asked = deliveries.sweep()

    assert {mine.pk, others.pk} < set(asked[:3])
    assert len(set(asked) & {run.pk for run in late}) == len(asked) - 2 == 2


@pytest.mark.django_db(transaction=True)
def test_what_is_due_is_asked_for_in_a_queue_of_its_own_and_once(receiver):
    run = a_told_run(receiver.url)

    deliveries.sweep()
    deliveries.sweep()

    assert waiting_jobs() == [run.public_id]
    assert django_rq.get_queue(queue.CHORES).count == 0


@pytest.mark.django_db(transaction=True)
def test_a_thread_that_has_sent_holds_no_connection_of_the_database(receiver):
    jobs.deliver_callback(a_told_run(receiver.url).public_id)

    assert connection.connection is None
    assert len(receiver.got) == 1


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_stops_sends_nothing_more_and_forgets_nothing(receiver, ours):
    first, second = a_told_run(receiver.url, *ALL), a_told_run(receiver.url)
    receiver.answers = [lambda handler: (ours.close(), handler.send_response(204), handler.end_headers())]

    assert deliveries.deliver(first.pk) == 1
    assert deliveries.deliver(second.pk) == 0

    assert len(receiver.got) == 1
    assert set(deliveries.sweep()) == {first.pk, second.pk}
