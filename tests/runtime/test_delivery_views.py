"""What operators see of messages to callers, and the button that sends one again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from console import ids
from console.models import AuditEntry
from console.roles import Role
from runtime.models import Callback, Delivery, DeliveryAttempt, Run
from runtime.states import DeliveryStatus
from tests.builders import a_run, an_agent, an_event
from tests.runtime.test_run_views import signed_in, text_of

pytestmark = pytest.mark.django_db

MOST_QUERIES = 12
GIVEN_UP = DeliveryStatus.GIVEN_UP


def a_delivery(run: Run | None = None, status: DeliveryStatus = DeliveryStatus.DELIVERED, **fields) -> Delivery:
    run = run or a_run(callback_url="https://user.example/hook?key=secret")
    Callback.objects.get_or_create(run=run)
    event = an_event(run, fields.pop("kind", "run.finished"))
    attempts = fields.pop("attempts", 1)
    times = {"delivered_at": now(), "next_at": None} if status == DeliveryStatus.DELIVERED else {}
    values = {"happened_at": event.at, **times, **fields}
    row = Delivery.objects.create(run=run, seq=event.seq, kind=event.kind, status=status, attempts=attempts, **values)
    for number in range(1, attempts + 1):
        is_good = status == DeliveryStatus.DELIVERED and number == attempts
        DeliveryAttempt.objects.create(
            delivery=row, number=number, took_ms=40, answer=204 if is_good else 500, error="" if is_good else "No."
        )
    return row


def queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as asked:
        assert client.get(address).status_code == 200
    return len(asked)


def test_the_list_shows_what_was_told_and_hides_what_may_be_secret_in_an_address():
    row = a_delivery(status=GIVEN_UP, attempts=3, last_error="The receiver answered 500.")

    page = text_of(signed_in().get("/deliveries/"))

    assert row.run.title in page
    assert "Given up" in page
    assert "user.example" in page
    assert "secret" not in page.replace("csrf", "")
    assert row.webhook_id in page


@pytest.mark.parametrize(("query", "shown"), [("status=given_up", 1), ("status=pending", 0), ("kind=run.finished", 2)])
def test_the_list_is_filtered_by_its_address(query, shown):
    a_delivery()
    a_delivery(status=GIVEN_UP)

    page = text_of(signed_in().get(f"/deliveries/?{query}"))

    assert sum(row.public_id + '"' in page for row in Delivery.objects.all()) == shown


def test_a_run_id_finds_its_messages():
    mine, other = a_delivery(), a_delivery()

    page = text_of(signed_in().get(f"/deliveries/?run={mine.run.public_id}"))

    assert mine.public_id in page
    assert other.public_id not in page


def test_new_messages_wait_behind_a_bar():
    first = a_delivery()
    later = a_delivery()

    page = text_of(signed_in().get(f"/deliveries/?top={first.public_id}"))

    assert "1 new message" in page
    assert later.public_id not in page


def test_the_runs_own_tab_shows_each_attempt():
    row = a_delivery(attempts=2)

    page = text_of(signed_in().get(f"{row.run.get_absolute_url()}?tab=deliveries"))

    assert "Answered 204" in page
    assert page.count("Send again") >= 1
    assert "Messages to the caller" in page


def test_personal_data_is_masked_for_those_who_only_look_on():
    row = a_delivery(a_run(callback_url="https://user.example/", title="Write to ana@example.com"))

    assert "ana@example.com" in text_of(signed_in().get("/deliveries/"))
    assert "ana@example.com" not in text_of(signed_in(Role.AUDITOR).get("/deliveries/"))
    assert row.public_id in text_of(signed_in(Role.AUDITOR).get("/deliveries/"))


def test_sending_again_goes_back_to_where_it_was_asked():
    row = a_delivery(status=GIVEN_UP)
    client, url = signed_in(), f"/deliveries/{row.public_id}/send-again/"
    back = f"/runs/{row.run.public_id}/?tab=deliveries"

    answer = client.post(url, {"reason": "They mended it.", "back": back})
    elsewhere = client.post(url, {"reason": "Again.", "back": "https://evil.example/"})

    assert answer["Location"] == back
    assert elsewhere["Location"] == "/deliveries/"
    row.refresh_from_db()
    assert row.status == DeliveryStatus.PENDING
    assert abs(row.next_at - now()) < timedelta(seconds=10)
    assert AuditEntry.objects.filter(action="delivery.send_again").count() == 2


def test_only_those_who_may_are_offered_to_send_again():
    a_delivery(status=GIVEN_UP)

    page = text_of(signed_in(Role.AUDITOR).get("/deliveries/"))

    assert "Given up" in page
    assert "send-again" not in page


def test_an_operator_of_another_agent_sees_none_of_it():
    row = a_delivery(a_run(agent=an_agent("mine"), callback_url="https://user.example/"))
    client = signed_in(Role.OPERATOR, agent="another")

    assert row.public_id not in text_of(client.get("/deliveries/"))
    assert client.post(f"/deliveries/{row.public_id}/send-again/", {"reason": "Why."}).status_code == 404
    assert client.post(f"/deliveries/{ids.public('dlv', ids.new())}/send-again/", {"reason": "W"}).status_code == 404


def test_the_number_of_queries_does_not_grow_with_the_list():
    client = signed_in()
    client.get("/deliveries/")
    row = a_delivery(attempts=3)
    few = queries(client, "/deliveries/"), queries(client, f"{row.run.get_absolute_url()}?tab=deliveries")

    for _ in range(30):
        a_delivery(attempts=3)
        a_delivery(row.run, kind="run.resumed", attempts=2)
    many = queries(client, "/deliveries/"), queries(client, f"{row.run.get_absolute_url()}?tab=deliveries")

    assert few == many
    assert max(many) <= MOST_QUERIES, many
