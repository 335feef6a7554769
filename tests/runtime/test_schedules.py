"""Schedules: each due time gives one run, whoever looks and however late."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils.timezone import now

from console import problems
from console.models import AuditEntry, RoleGrant
from console.roles import Role
from runtime import admission, schedules
from runtime.models import Occurrence, Run, Schedule
from runtime.states import DueOutcome, Hold, Overlap, RunPriority, RunStatus
from tests import builders
from tests.runtime.meeting import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def agent():
    return builders.a_release(builders.an_agent("shop-support")).agent


def due(schedule: Schedule, *, late: timedelta = timedelta(seconds=1)) -> Schedule:
    Schedule.objects.filter(pk=schedule.pk).update(next_at=now() - late)
    schedule.refresh_from_db()
    return schedule


def keep(by=None, **fields):
    values = {
        "agent": "shop-support", "name": "Report", "text": "Sum up yesterday.", "principal_id": "cus_1",
        "expression": "every 15 minutes", **fields,
    }  # fmt: skip
    return schedules.create(by=by or builders.an_actor(), **values)


def test_a_due_schedule_starts_one_run_and_knows_its_next_time(agent):
    schedule = due(keep(name="Report"))
    came_up = schedule.next_at

    assert schedules.start_due() == 1
    assert schedules.start_due() == 0

    schedule.refresh_from_db()
    run = Run.objects.get()
    occurrence = Occurrence.objects.get()
    assert schedule.next_at == came_up + timedelta(minutes=15)
    assert (occurrence.due_at, occurrence.outcome, occurrence.run) == (came_up, DueOutcome.STARTED, run)
    assert (run.input_text, run.principal_id) == ("Sum up yesterday.", "cus_1")
    assert "schedule of" in run.started_by_label


def test_two_schedulers_start_a_due_time_once(agent):
    for _ in range(10):
        due(builders.a_schedule(agent))

    counts = at_once(4, lambda _: schedules.start_due())

    assert sum(counts) == 10
    assert Run.objects.count() == Occurrence.objects.count() == 10


def test_times_that_passed_give_one_run_not_a_burst(agent):
    schedule = due(keep(), late=timedelta(hours=5))

    schedules.start_due()
    schedules.start_due()

    schedule.refresh_from_db()
    assert Run.objects.count() == 1
    assert now() < schedule.next_at <= now() + timedelta(minutes=15)


def test_a_time_is_left_out_while_the_run_before_has_not_ended(agent):
    schedule = due(keep(overlap=Overlap.SKIP))
    schedules.start_due()

    due(schedule)
    schedules.start_due()

    assert [one.outcome for one in schedule.occurrences.all()] == [DueOutcome.SKIPPED, DueOutcome.STARTED]
    assert Run.objects.count() == 1


def test_a_queued_time_starts_when_the_run_before_has_ended(agent):
    schedule = due(keep(overlap=Overlap.QUEUE))
    schedules.start_due()
    due(schedule)
    schedules.start_due()
    first, second = Run.objects.order_by("created_at")

    assert (first.held_for, second.held_for) == ("", Hold.SLOT)
    Run.objects.filter(pk=first.pk).update(status=RunStatus.SUCCEEDED)
    admission.sweep()

    second.refresh_from_db()
    assert second.held_for == ""


def test_a_schedule_ends_with_the_right_of_who_keeps_it(agent):
    user = builders.a_user(Role.OPERATOR)
    schedule = due(keep(by=user.actor()))
    RoleGrant.objects.filter(user=user).update(role=Role.AUDITOR)

    schedules.start_due()

    schedule.refresh_from_db()
    assert schedule.next_at is None
    assert "may no longer start runs" in schedule.stopped_reason
    assert schedule.occurrences.get().outcome == DueOutcome.REFUSED
    assert not Run.objects.exists()
    assert AuditEntry.objects.filter(action="schedule.disable").exists()


def test_a_full_queue_refuses_the_time_and_says_so(agent, settings):
    settings.QUEUE_LIMIT = 1
    builders.a_run(RunStatus.QUEUED, agent=agent, priority=RunPriority.BACKGROUND)
    schedule = due(keep())

    schedules.start_due()

    schedule.refresh_from_db()
    assert "waiting for a worker" in schedule.occurrences.get().detail
    assert schedule.next_at > now()


def test_off_is_off_and_on_makes_nothing_up(agent):
    by = builders.an_actor()
    schedule = due(keep(by=by))

    schedules.disable(schedule.pk, by=by, reason="Not before spring")
    schedules.disable(schedule.pk, by=by, reason="Again")
    assert schedules.start_due() == 0
    schedules.enable(schedule.pk, by=by)

    schedule.refresh_from_db()
    assert schedule.next_at > now()
    assert [entry.action for entry in AuditEntry.objects.filter(object_kind="schedule").order_by("id")] == [
        "schedule.create", "schedule.disable", "schedule.enable",
    ]  # fmt: skip


def test_run_now_starts_it_beside_its_times(agent):
    schedule = keep()
    before = schedule.next_at

    run = schedules.run_now(schedule.pk, by=builders.an_actor())

    schedule.refresh_from_db()
    assert schedule.next_at == before
    assert schedule.occurrences.get().run == run


def test_what_cannot_be_used_is_named(agent):
    with pytest.raises(problems.Invalid) as refused:
        keep(name=" ", expression="soon", text="", principal_id="")

    assert refused.value.extra["errors"].keys() == {"name", "input", "user_id", "expression"}


def test_on_another_agent_nothing_can_be_kept(agent):
    stranger = builders.an_actor(agent="another-agent")
    schedule = builders.a_schedule(agent)

    with pytest.raises(problems.Missing):
        keep(by=stranger)
    with pytest.raises(Schedule.DoesNotExist):
        schedules.disable(schedule.pk, by=stranger, reason="no")
