"""What a caller's URL is told, and the keys it is signed with."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils.timezone import now
from standardwebhooks import Webhook, WebhookVerificationError

from console import ids, problems
from console.actors import Actor
from console.models import AuditEntry
from runtime import callbacks, masking
from runtime.models import CallbackKey, Delivery, Run
from runtime.states import CallbackEvent, RunStatus
from tests.builders import a_release, a_run, an_agent, an_event
from tests.programs import Program

pytestmark = pytest.mark.django_db

CLIENT = Actor("token", "0199-client", "billing robot")


def a_message(run: Run, kind: str = "run.finished", attempts: int = 1, **data):
    event = an_event(run, kind, data=data)
    delivery = Delivery(run=run, seq=event.seq, kind=kind, happened_at=event.at, attempts=attempts)
    return callbacks.message(delivery, event, now())


def test_a_message_is_signed_for_the_token_that_started_the_run():
    program = Program()
    run = a_run(answer="Done.", started_by_id=str(program.token.pk))
    secret = program.get("/callback-secret").json()["secret"]

    body, headers = a_message(run)

    told = Webhook(secret).verify(body, headers)
    assert (told["type"], told["run_id"], told["status"]) == ("run.finished", run.public_id, "succeeded")
    assert (told["cause"], told["answer"], told["event_id"]) == ("answered", "Done.", 1)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"Done.", b"Gone."), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(Program().get("/callback-secret").json()["secret"]).verify(body, headers)


def test_every_attempt_says_the_same_under_the_same_id():
    run = a_run(answer="Done.")
    event = an_event(run, "run.finished")
    delivery = Delivery(run=run, seq=event.seq, kind=event.kind, happened_at=event.at)

    first, headers = callbacks.message(delivery, event, now())
    delivery.attempts += 1
    second, later = callbacks.message(delivery, event, now() + timedelta(hours=3))

    assert first == second
    assert headers["webhook-id"] == later["webhook-id"] == run.public_id.replace("run_", "msg_")
    assert headers["webhook-signature"] != later["webhook-signature"]


def test_a_change_on_the_way_is_told_with_what_happened_and_what_it_means():
    run = a_run(RunStatus.RUNNING)  # has gone on since

    body, headers = a_message(run, "run.waiting", until="2026-11-28T12:00:00Z", approval="apr_1")

    told = json.loads(body)
    assert (told["type"], told["status"], told["event_id"]) == ("run.waiting", "waiting", 1)
    assert told["data"] == {"until": "2026-11-28T12:00:00Z", "approval": "apr_1"}
    assert headers["webhook-id"] == run.public_id.replace("run_", "msg_") + "_1"
    assert "answer" not in told


@pytest.mark.parametrize("kind", CallbackEvent)
def test_every_kind_of_event_can_be_told(kind):
    run = a_run()

    event = an_event(run, kind)

    assert callbacks.body(run, event, masking._as_it_is)["type"] == kind


@pytest.mark.parametrize(
    ("scopes", "told"), [(("runs.create", "runs.personal"), "ana@example.com"), (("runs.create",), "•••")]
)
def test_a_message_shows_personal_data_only_to_a_token_that_may_see_it(scopes, told):
    program = Program(*scopes)
    run = a_run(answer="Sent to ana@example.com", started_by_id=str(program.token.pk))

    end, _ = a_message(run)
    change, _ = a_message(run, "run.waiting", title="Write to ana@example.com")

    assert json.loads(end)["answer"] == f"Sent to {told}"
    assert json.loads(change)["data"]["title"] == f"Write to {told}"


# Keys


def signed_with(headers: dict[str, str], body: bytes, secret: str) -> bool:
    try:
        Webhook(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


def test_after_a_rotation_both_keys_sign_until_the_overlap_is_over():
    program = Program("runs.create")
    run = a_run(started_by_id=str(program.token.pk))
    old = program.get("/callback-secret").json()["secret"]

    answer = program.post("/callback-secret/rotate", {"overlap_hours": 2, "reason": "Yearly."}).json()

    new = answer["secret"]
    assert new != old
    assert answer["previous_valid_until"]
    body, headers = a_message(run)
    assert signed_with(headers, body, old)
    assert signed_with(headers, body, new)
    CallbackKey.objects.update(previous_until=now())
    body, headers = a_message(run)
    assert not signed_with(headers, body, old)
    assert signed_with(headers, body, new)
    assert program.get("/callback-secret").json() == {"secret": new, "previous_valid_until": None}


def test_a_leaked_key_can_be_ended_at_once():
    callbacks.rotate(by=CLIENT, overlap=timedelta(hours=1), reason="Yearly.")
    leaked = callbacks.secrets(CLIENT.id, now())

    callbacks.rotate(by=CLIENT, overlap=timedelta(), reason="It was in a log.")

    assert not set(leaked) & set(callbacks.secrets(CLIENT.id, now()))
    entries = AuditEntry.objects.filter(action="callback_key.rotate").order_by("pk")
    assert [entry.reason for entry in entries] == ["Yearly.", "It was in a log."]


def test_a_second_rotation_does_not_cut_the_first_short():
    callbacks.rotate(by=CLIENT, overlap=timedelta(hours=1), reason="Yearly.")
    before = callbacks.secrets(CLIENT.id, now())

    with pytest.raises(problems.Conflict):
        callbacks.rotate(by=CLIENT, overlap=timedelta(hours=1), reason="A double click.")

    assert callbacks.secrets(CLIENT.id, now()) == before


@pytest.mark.parametrize("hours", [-1, 169])
def test_an_overlap_has_bounds(hours):
    with pytest.raises(problems.Invalid):
        callbacks.rotate(by=CLIENT, overlap=timedelta(hours=hours), reason="Why not.")

    assert not CallbackKey.objects.exists()


def test_a_caller_says_which_events_it_wants():
    a_release(an_agent("shop-support"))
    program = Program()
    body = {"agent": "shop-support", "input": "Hello.", "user_id": "cust-1", "callback_url": "https://example.com/"}

    program.post("/runs", body)
    program.post("/runs", {**body, "callback_events": ["run.waiting", "run.finished", "run.waiting"]})
    refused = program.post("/runs", {**body, "callback_events": ["run.sneezed"]})

    assert [list(run.callback.events) for run in Run.objects.order_by("created_at")] == [
        ["run.finished"],
        ["run.finished", "run.waiting"],
    ]
    assert refused.status_code == 422


def test_the_same_key_with_other_events_is_another_request():
    a_release(an_agent("shop-support"))
    program, key = Program(), str(ids.new())
    body = {"agent": "shop-support", "input": "Hello.", "user_id": "cust-1", "callback_url": "https://example.com/"}

    first = program.post("/runs", body, **{"Idempotency-Key": key})
    same = program.post("/runs", {**body, "callback_events": ["run.finished"]}, **{"Idempotency-Key": key})
    other = program.post("/runs", {**body, "callback_events": ["run.waiting"]}, **{"Idempotency-Key": key})

    assert (first.status_code, same.status_code, other.status_code) == (202, 200, 409)
