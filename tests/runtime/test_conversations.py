"""Messages to a thread that is busy: one run is active, none is lost, and they come in order."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from django.db import IntegrityError

from console import problems
from console.actors import Actor
from runtime import admission, conversations, interventions, runs
from runtime.models import Run
from runtime.states import FINAL, Hold, OnBusy, RunStatus
from tests import builders
from tests.runtime import harness
from tests.runtime.meeting import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def release():
    return builders.a_release(builders.an_agent("shop-support"))


def say(first: Run | None, text: str = "And one thing more", on_busy: OnBusy = OnBusy.QUEUE, **options: Any) -> Run:
    run, _ = runs.create(
        agent="shop-support",
        text=text,
        by=options.pop("by", harness.STARTER),
        principal_id="cus_1",
        thread_id=first.thread_id if first else None,
        on_busy=on_busy,
        **options,
    )
    return run


def end(run: Run) -> None:
    """The run ends as a worker would end it, and says so."""
    Run.objects.filter(pk=run.pk).update(status=RunStatus.SUCCEEDED)
    admission.after_turn(run.thread_id, run.slots)


def active(first: Run) -> list[Run]:
    held = Run.objects.filter(thread_id=first.thread_id).exclude(status__in=FINAL)
    return list(held.exclude(held_for=Hold.THREAD))


def test_a_message_in_line_is_accepted_and_starts_after_the_one_before(release):
    first = say(None)

    second, third = say(first, "second"), say(first, "third")

    assert [run.held_for for run in (second, third)] == [Hold.THREAD, Hold.THREAD]
    assert {second.wait_reason, third.wait_reason} == {"thread"}
    end(first)
    assert active(first) == [second]
    end(second)
    assert active(first) == [third]
    assert [event.kind for event in third.events.all()] == ["run.created", "run.held", "run.released"]


def test_a_message_is_refused_unless_the_caller_wants_to_wait(release):
    first = say(None)

    with pytest.raises(problems.Conflict, match=first.public_id):
        say(first, on_busy=OnBusy.REJECT)


@pytest.mark.parametrize("is_idle", [False, True], ids=["busy", "idle"])
def test_twenty_messages_at_once_give_one_active_run_and_none_is_lost(release, is_idle):
    first = say(None)
    if is_idle:
        end(first)

    answers = at_once(20, lambda place: say(first, f"message {place}"))

    assert all(isinstance(answer, Run) for answer in answers), answers
    order = []
    while found := active(first):
        assert len(found) == 1
        order.append(found[0].pk)
        end(found[0])
    assert len(order) == len(set(order)) == (20 if is_idle else 21)
    assert not Run.objects.exclude(status__in=FINAL).exists()


def test_a_message_that_comes_while_the_run_ends_is_never_left_behind(release):
    for _ in range(30):
        first = say(None)

        def meet(place: int, first: Run = first) -> Any:
            if not place:
                return say(first)
            time.sleep(random.uniform(0, 0.03))
            return end(first)

        answers = at_once(2, meet)

        assert active(first) == [answers[0]]


def test_the_database_refuses_a_second_active_run_of_a_thread(release):
    first = say(None)

    with pytest.raises(IntegrityError, match="run_one_active_per_thread"):
        builders.a_run(RunStatus.QUEUED, agent=release.agent, thread=first.thread)


def test_an_interruption_cancels_the_active_run_and_keeps_the_line(release):
    first = say(None)
    waiting = say(first, "waiting")

    last = say(first, "stop that", OnBusy.INTERRUPT)

    first.refresh_from_db()
    assert (first.status, first.cause) == (RunStatus.CANCELLED, "interrupted")
    assert active(first) == [waiting]
    end(waiting)
    assert active(first) == [last]


def test_a_running_run_is_asked_to_stop_and_the_message_waits_for_its_end(release):
    first = say(None)
    Run.objects.filter(pk=first.pk).update(status=RunStatus.RUNNING)

    last = say(first, on_busy=OnBusy.INTERRUPT)

    first.refresh_from_db()
    assert (first.cancel_requested_at is not None, first.cancel_cause) == (True, "interrupted")
    assert last.held_for == Hold.THREAD


def test_who_may_not_cancel_runs_may_not_interrupt(release):
    starter = Actor("token", "t1", "a program", rights=frozenset({("runs.create", "*")}))
    first = say(None, by=starter)

    with pytest.raises(problems.Forbidden, match="on_busy queue"):
        say(first, on_busy=OnBusy.INTERRUPT, by=starter)

    first.refresh_from_db()
    assert first.status == RunStatus.QUEUED


def test_a_message_in_line_can_be_cancelled(release):
    first = say(None)
    second, third = say(first), say(first)

    runs.cancel(second.pk, by=harness.STARTER, reason="No longer needed")
    end(first)

    assert active(first) == [third]


def test_a_message_in_line_learns_what_the_thread_has_read_meanwhile(release):
    first = say(None)
    second = say(first)
    Run.objects.filter(pk=first.pk).update(tainted=True)

    end(first)

    second.refresh_from_db()
    assert second.tainted


def test_what_a_crash_forgot_is_found_by_the_sweep(release):
    first = say(None)
    second = say(first)
    Run.objects.filter(pk=first.pk).update(status=RunStatus.FAILED)

    admission.sweep()

    assert active(first) == [second]


def test_a_line_has_an_end(release, monkeypatch):
    monkeypatch.setattr(conversations, "MOST_IN_LINE", 2)
    first = say(None)
    say(first), say(first)

    with pytest.raises(problems.TooMany):
        say(first)


def test_a_paused_message_keeps_its_place(release):
    by = builders.an_actor()
    first = say(None)
    second = say(first)

    interventions.pause(second.pk, by=by, reason="Look first")
    end(first)
    assert active(first) == []
    interventions.resume(second.pk, by=by)
    admission.sweep()

    assert active(first) == [second]
