"""The buttons of a run's page, and what they post."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from console.roles import Role
from runtime.models import Run
from runtime.states import RunStatus, StepKind, StepStatus
from tests.builders import a_release, a_run, a_step, a_user, an_approval

pytestmark = pytest.mark.django_db

ENDED_AND_NOT = (RunStatus.SUCCEEDED, RunStatus.RUNNING)


def signed_in(role: Role = Role.OPERATOR, *, agent: str = "") -> Client:
    client = Client()
    client.force_login(a_user(role, agent=agent))
    return client


def text_of(response) -> str:
    return response.content.decode()


def buttons(page: str) -> set[str]:
    actions = page.partition('id="run-actions"')[2].partition("{#")[0]
    return set(re.findall(r'action="/runs/[^/]+/(\w+)/"', actions))


def test_going_on_stands_among_what_follows_the_run_to_its_end():
    ended, under_way = (text_of(signed_in().get(a_run(status).get_absolute_url())) for status in ENDED_AND_NOT)

    assert "Go on</a>" in ended.partition('id="run-actions"')[2]
    assert "Go on</a>" not in under_way


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        (RunStatus.QUEUED, {"pause", "cancel"}),
        (RunStatus.RUNNING, {"pause", "cancel"}),
        (RunStatus.WAITING, {"pause", "cancel"}),
        (RunStatus.PAUSED, {"resume", "cancel"}),
        (RunStatus.SUCCEEDED, {"fork"}),
        (RunStatus.FAILED, {"fork"}),
    ],
)
def test_the_page_offers_what_fits_the_state_of_the_run(status, offered):
    run = a_run(status)

    assert buttons(text_of(signed_in().get(run.get_absolute_url()))) == offered
    assert buttons(text_of(signed_in(Role.AUDITOR).get(run.get_absolute_url()))) == set()


def test_pause_and_resume_are_plain_forms_that_lead_back_to_the_run():
    run = a_run(RunStatus.QUEUED)
    client = signed_in()

    paused = client.post(f"{run.get_absolute_url()}pause/", {"reason": "Wait for the customer."}, follow=True)
    page = text_of(paused)
    assert paused.redirect_chain[-1][0] == run.get_absolute_url()
    assert "Wait for the customer." in page
    assert "Paused" in page

    resumed = client.post(f"{run.get_absolute_url()}resume/", follow=True)
    assert "Resumed" in text_of(resumed)
    run.refresh_from_db()
    assert run.status == RunStatus.QUEUED


def test_a_pause_of_a_waiting_run_says_that_the_deadline_keeps_running():
    run = a_run(RunStatus.WAITING)
    request = an_approval(run)
    a_step(run, StepKind.APPROVAL, "Approval", status=StepStatus.STARTED, input={"request": request.public_id})
    client = signed_in()

    assert "its deadline keeps running" in text_of(client.get(run.get_absolute_url()))
    page = text_of(client.post(f"{run.get_absolute_url()}pause/", {"reason": "Wait."}, follow=True))
    assert "its deadline keeps running" in page
    assert "Review request" in page


@pytest.mark.parametrize(
    ("action", "status", "answer", "sentence"),
    [
        ("pause", RunStatus.SUCCEEDED, 409, "this is a final state"),
        ("pause", RunStatus.QUEUED, 422, "Say why"),
        ("resume", RunStatus.FAILED, 409, "this is a final state"),
        ("fork", RunStatus.RUNNING, 409, "Pause or cancel it first"),
        ("fork", RunStatus.SUCCEEDED, 422, "Say why"),
    ],
)
def test_what_cannot_be_done_says_why_and_changes_nothing(action, status, answer, sentence):
    run = a_run(status)
    reason = {} if answer == 422 else {"reason": "Because."}

    response = signed_in().post(f"{run.get_absolute_url()}{action}/", reason)

    assert (response.status_code, sentence in text_of(response)) == (answer, True)
    run.refresh_from_db()
    assert (run.status, Run.objects.count()) == (status, 1)


def test_an_opened_step_offers_to_retry_from_there_and_names_what_may_be_done_twice():
    run = a_run(RunStatus.FAILED)
    first = a_step(run, StepKind.INPUT, "Message received", output={"text": "Hello"})
    step = a_step(run, name="issue_refund", summary="Refund $129.00", input={"arguments": {}}, output={})
    client = signed_in()

    page = text_of(client.get(f"{run.get_absolute_url()}steps/{step.public_id}/"))
    assert "Retry from here" in page
    assert "May be done a second time" in page
    assert "Refund $129.00" in page

    posted = dict(re.findall(r'name="(step|form_id)" value="([^"]+)"', page.partition("Retry from this step")[2]))
    assert posted["step"] == step.public_id
    for _ in range(2):
        response = client.post(f"{run.get_absolute_url()}fork/", {**posted, "reason": "Once more."})
    new = run.forks.get()
    assert response["Location"] == new.get_absolute_url()
    assert [step.name for step in new.steps.all()] == [first.name]


def test_both_traces_name_each_other_and_copies_say_where_they_are_from():
    run = a_run(RunStatus.FAILED)
    copied = a_step(run, StepKind.INPUT, "Message received", output={"text": "Hello"})
    step = a_step(run, StepKind.MODEL, "scripted-1", status=StepStatus.FAILED, error="timeout", input={}, output={})
    client = signed_in()
    client.post(f"{run.get_absolute_url()}fork/", {"step": step.public_id, "reason": "Once more."})
    new = run.forks.get()

    page = text_of(client.get(new.get_absolute_url()))
    assert f"{run.get_absolute_url()}" in page
    assert f"at step {step.seq}" in page
    assert "Taken over" in page
    assert copied.public_id in text_of(client.get(f"{new.get_absolute_url()}steps/{new.steps.get().public_id}/"))
    assert new.public_id in text_of(client.get(run.get_absolute_url()))


def test_another_release_is_a_choice_where_there_is_one():
    run = a_run(RunStatus.FAILED)
    client = signed_in()
    assert "The active release" not in text_of(client.get(run.get_absolute_url()))

    a_release(run.agent, version="9.9")

    assert "The active release, 9.9" in text_of(client.get(run.get_absolute_url()))


def test_a_link_of_the_palette_opens_the_question():
    run = a_run(RunStatus.QUEUED)
    client = signed_in()

    assert re.search(r'id="pause" data-ask open', text_of(client.get(f"{run.get_absolute_url()}?act=pause")))
    assert "data-ask open" not in text_of(client.get(run.get_absolute_url()))
