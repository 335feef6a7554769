from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from runtime.models import Run
from runtime.states import RunKind, RunStatus, StepKind, StepStatus
from telemetry import jobs, rollups
from telemetry.models import Dimension, Feedback, LastRollUp, MetricPoint
from telemetry.policies import latency
from tests.builders import a_release, a_run, a_step, an_agent

pytestmark = pytest.mark.django_db

HOUR = datetime(2026, 11, 20, 14, tzinfo=UTC)


def ended(status: RunStatus = RunStatus.SUCCEEDED, *, at: datetime = HOUR + timedelta(minutes=20), **fields) -> Run:
    return a_run(status, created_at=at - timedelta(seconds=30), finished_at=at, **fields)


def the_point(**fields) -> MetricPoint:
    return MetricPoint.objects.get(dimension=Dimension.RUN, **fields)


def test_an_hour_counts_its_runs_by_outcome_and_sums_what_they_used():
    agent = an_agent()
    for status in (RunStatus.SUCCEEDED, RunStatus.SUCCEEDED, RunStatus.REFUSED, RunStatus.ESCALATED):
        ended(status, agent=agent, steps_used=5, input_tokens=100, cached_tokens=40, output_tokens=10,
              cost_usd=Decimal("0.01"))  # fmt: skip
    ended(RunStatus.FAILED, agent=agent, cost_basis="unpriced")
    ended(RunStatus.EXPIRED, agent=agent, cost_basis="estimated")
    ended(RunStatus.CANCELLED, agent=agent)

    rollups.roll_up(HOUR)

    point = the_point()
    assert (point.hour, point.agent, point.release) == (HOUR, agent, agent.active_release)
    outcomes = ("runs", "succeeded", "refused", "escalated", "failed", "expired", "cancelled")
    assert [getattr(point, name) for name in outcomes] == [7, 2, 1, 1, 1, 1, 1]
    assert (point.steps, point.input_tokens, point.cached_tokens, point.output_tokens) == (20, 400, 160, 40)
    assert (point.cost_usd, point.unpriced_runs, point.estimated_runs) == (Decimal("0.04"), 1, 1)


def test_counting_an_hour_twice_changes_nothing():
    run = ended(working_ms=1200)
    a_step(run)

    rollups.roll_up(HOUR)
    first = list(MetricPoint.objects.order_by("dimension").values_list("dimension", "runs", "working_histogram"))
    rollups.roll_up(HOUR)

    assert (
        list(MetricPoint.objects.order_by("dimension").values_list("dimension", "runs", "working_histogram")) == first
    )
    assert len(first) == 2


def test_a_run_that_no_longer_belongs_to_the_hour_leaves_it():
    run = ended()
    rollups.roll_up(HOUR)
    Run.objects.filter(pk=run.pk).update(kind=RunKind.DRILL)

    rollups.roll_up(HOUR)

    assert not MetricPoint.objects.exists()


@pytest.mark.parametrize("kind", [RunKind.SHADOW, RunKind.EVAL, RunKind.DRILL, RunKind.REPLAY])
def test_only_live_runs_are_counted(kind):
    ended(kind=kind)

    rollups.roll_up(HOUR)

    assert not MetricPoint.objects.exists()


def test_an_hour_holds_its_first_moment_and_not_its_last():
    ended(at=HOUR)
    ended(at=HOUR + timedelta(hours=1))
    a_run(RunStatus.RUNNING, created_at=HOUR)

    rollups.roll_up(HOUR + timedelta(minutes=59))

    assert the_point().runs == 1


def test_agents_and_releases_stand_apart():
    agent = an_agent()
    old, new = a_release(agent), a_release(agent)
    ended(agent=agent, release=old)
    ended(agent=agent, release=new)
    ended(RunStatus.FAILED)

    rollups.roll_up(HOUR)

    assert MetricPoint.objects.count() == 3
    assert (the_point(release=old).runs, the_point(release=new).runs) == (1, 1)


def test_times_go_into_histograms_that_give_percentiles_back_within_one_percent():
    for ms in (100, 200, 300, 400, 60_000):
        ended(working_ms=ms, parked_ms=ms * 100 if ms > 300 else 0, agent=an_agent("a"))
    ended(RunStatus.CANCELLED, working_ms=9_000_000, agent=an_agent("a"))

    rollups.roll_up(HOUR)

    point = the_point()
    working = {int(bucket): count for bucket, count in point.working_histogram.items()}
    assert sum(working.values()) == 5
    assert latency.percentile_ms(working, 0.5, at_least=1) == pytest.approx(300, rel=0.011)
    assert latency.percentile_ms(working, 0.95, at_least=1) == pytest.approx(60_000, rel=0.011)
    assert set(working) == {latency.bucket(ms) for ms in (100, 200, 300, 400, 60_000)}
    assert (point.parked_runs, sum(point.parked_histogram.values())) == (2, 2)


def test_tools_are_counted_from_their_steps():
    run = ended()
    a_step(run, StepKind.MODEL, "gpt")
    a_step(run, StepKind.TOOL, "lookup_order", took=timedelta(milliseconds=500))
    a_step(run, StepKind.TOOL, "lookup_order", status=StepStatus.FAILED)
    a_step(run, StepKind.TOOL, "issue_refund", status=StepStatus.UNKNOWN)
    a_step(run, StepKind.RETRIEVAL, "search_policy")
    other = ended(agent=run.agent)
    a_step(other, StepKind.TOOL, "lookup_order")

    rollups.roll_up(HOUR)

    found = MetricPoint.objects.filter(dimension=Dimension.TOOL).order_by("name")
    assert [(point.name, point.runs, point.tool_calls, point.tool_errors) for point in found] == [
        ("issue_refund", 1, 1, 1),
        ("lookup_order", 2, 3, 1),
        ("search_policy", 1, 1, 0),
    ]


def test_feedback_is_counted_with_its_run():
    run = ended()
    for number, score in enumerate((1, 1, -1)):
        Feedback.objects.create(run=run, score=score, by_kind="user", by_id=str(number), by_label="Ada")

    rollups.roll_up(HOUR)

    assert (the_point().runs, the_point().helpful, the_point().unhelpful) == (1, 2, 1)


def test_the_job_counts_the_present_hour_and_makes_up_for_missed_ones():
    now = timezone.now()
    ended(at=now - timedelta(seconds=1))
    ended(at=now - timedelta(hours=30))
    ended(at=now - timedelta(days=40))
    jobs.roll_up()
    assert MetricPoint.objects.count() == 2  # the last one is older than the job looks back

    LastRollUp.objects.update(at=now - timedelta(hours=10))
    ended(at=now - timedelta(hours=9))
    late = ended(at=now - timedelta(hours=20))  # written into the past behind our back
    jobs.roll_up()

    hours = set(MetricPoint.objects.values_list("hour", flat=True))
    assert rollups.hour_of(now - timedelta(hours=9)) in hours
    assert rollups.hour_of(late.finished_at) not in hours
    assert LastRollUp.objects.get().at >= now


def test_the_job_is_one_that_the_queue_may_call():
    assert jobs.roll_up in jobs.ENTRY_POINTS
    assert ((jobs.roll_up, jobs.EVERY_S),) == jobs.CRON
