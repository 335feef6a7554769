from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.test import Client

from console import problems
from console.models import AuditEntry
from console.roles import Role
from runtime.models import Run
from runtime.states import RunStatus
from telemetry import feedback
from telemetry.models import Feedback, MetricPoint
from tests.builders import a_run, a_user, an_actor
from tests.programs import Program

pytestmark = pytest.mark.django_db


def test_feedback_is_kept_counted_and_audited():
    run, ada = a_run(), an_actor()

    given = feedback.give(run.pk, 1, " Very quick. ", by=ada)

    assert (given.score, given.comment, given.by_label) == (1, "Very quick.", ada.label)
    assert MetricPoint.objects.get().helpful == 1
    entry = AuditEntry.objects.get(action="feedback.give")
    assert entry.changes == {"score": [None, 1], "comment": ["", "Very quick."]}


def test_a_change_of_mind_replaces_the_first_word():
    run, ada = a_run(), an_actor()
    feedback.give(run.pk, 1, by=ada)

    feedback.give(run.pk, -1, "It was wrong.", by=ada)

    assert Feedback.objects.get().score == -1
    assert (MetricPoint.objects.get().helpful, MetricPoint.objects.get().unhelpful) == (0, 1)


def test_saying_the_same_again_leaves_no_trace():
    run, ada = a_run(), an_actor()
    first = feedback.give(run.pk, 1, "Good.", by=ada)

    again = feedback.give(run.pk, 1, "Good.", by=ada)

    assert (again.pk, again.changed_at) == (first.pk, first.changed_at)
    assert AuditEntry.objects.filter(action="feedback.give").count() == 1


def test_each_person_has_a_word_of_their_own():
    run = a_run()

    feedback.give(run.pk, 1, by=an_actor())
    feedback.give(run.pk, -1, by=an_actor())

    assert Feedback.objects.count() == 2


@pytest.mark.parametrize(("score", "comment"), [(0, ""), (2, ""), (5, ""), (1, "x" * 2001)])
def test_nonsense_is_refused_and_leaves_no_trace(score, comment):
    run = a_run()

    with pytest.raises(problems.Invalid):
        feedback.give(run.pk, score, comment, by=an_actor())

    assert not Feedback.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_run_of_another_agent_does_not_exist():
    run = a_run()

    with pytest.raises(Run.DoesNotExist):
        feedback.give(run.pk, 1, by=an_actor(agent="another-agent"))


def test_secrets_in_a_comment_are_masked():
    given = feedback.give(a_run().pk, -1, "It leaked sk-proj-abcdefghijklmnopqrstuvwx", by=an_actor())

    given.refresh_from_db()
    assert "abcdefgh" not in given.comment


def test_a_run_in_progress_can_be_rated_and_is_counted_when_it_ends():
    given = feedback.give(a_run(RunStatus.RUNNING).pk, 1, by=an_actor())

    assert given.score == 1
    assert not MetricPoint.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_are_one_word():
    run, ada = a_run(), an_actor()
    gate, wrong = threading.Barrier(2), []

    def click(score: int) -> None:
        gate.wait()
        try:
            feedback.give(run.pk, score, by=ada)
        except Exception as failure:
            wrong.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=click, args=(score,)) for score in (1, -1)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert wrong == []
    assert Feedback.objects.count() == 1


def test_a_person_gives_feedback_without_javascript(client: Client):
    run = a_run()
    client.force_login(a_user(Role.SUPPORT))
    page = client.get(f"/runs/{run.public_id}/feedback/")

    answer = client.post(f"/runs/{run.public_id}/feedback/", {"score": "-1", "comment": "<b>No</b>"}, follow=True)

    assert page.status_code == answer.status_code == 200
    assert b'id="feedback"' in answer.content
    assert b"&lt;b&gt;No&lt;/b&gt;" in answer.content
    assert Feedback.objects.get().score == -1


@pytest.mark.parametrize("body", [{}, {"score": "0"}, {"score": "1; DROP"}, {"score": "1", "comment": "x" * 3000}])
def test_a_form_that_cannot_be_read_is_answered_with_a_sentence(client: Client, body):
    run = a_run()
    client.force_login(a_user(Role.SUPPORT))

    answer = client.post(f"/runs/{run.public_id}/feedback/", body)

    assert answer.status_code == 422
    assert not Feedback.objects.exists()


def test_a_foreign_run_is_not_found(client: Client):
    client.force_login(a_user(Role.SUPPORT, agent="another-agent"))

    assert client.get(f"/runs/{a_run().public_id}/feedback/").status_code == 404


def test_a_program_gives_feedback():
    run = a_run()
    program = Program("feedback.give")

    answer = program.post(f"/runs/{run.public_id}/feedback", {"score": 1, "comment": "Fine."})

    assert answer.status_code == 200
    assert answer.json()["run_id"] == run.public_id
    assert program.post(f"/runs/{run.public_id}/feedback", {"score": 3}).status_code == 422
