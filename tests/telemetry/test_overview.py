from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from console.roles import Role
from runtime.states import RunKind, RunStatus, StepStatus
from telemetry import jobs, overview, rollups
from telemetry.models import LastRollUp, MetricPoint
from tests.builders import a_release, a_run, a_step, a_user, an_actor, an_agent

pytestmark = pytest.mark.django_db


def ended(status: RunStatus = RunStatus.SUCCEEDED, *, ago: timedelta = timedelta(0), **fields):
    at = timezone.now() - ago
    return a_run(status, created_at=at - timedelta(seconds=3), finished_at=at, **fields)


def tiles(query: dict[str, str] | None = None, by=None) -> dict[str, str]:
    found = overview.build(query or {}, by=by or an_actor(Role.MANAGER), now=timezone.now())
    return {tile.key: tile.value for tile in found.tiles}


@pytest.fixture
def manager(client: Client) -> Client:
    client.force_login(a_user(Role.MANAGER))
    return client


def test_shares_are_of_runs_that_nobody_stopped():
    for status in (
        (RunStatus.SUCCEEDED,) * 5
        + (RunStatus.REFUSED,) * 2
        + (RunStatus.ESCALATED, RunStatus.FAILED, RunStatus.EXPIRED)
    ):
        ended(status)
    ended(RunStatus.CANCELLED)
    ended(kind=RunKind.REPLAY)
    jobs.roll_up()

    found = tiles()

    assert [found[key] for key in ("success", "refusal", "escalation", "failure")] == [
        "50.0%",
        "20.0%",
        "10.0%",
        "10.0%",
    ]


def test_tool_errors_count_calls_that_were_made():
    run = ended()
    for status in (StepStatus.DONE, StepStatus.DONE, StepStatus.FAILED, StepStatus.UNKNOWN):
        a_step(run, status=status)
    jobs.roll_up()

    assert tiles()["tool-errors"] == "50.0%"


def test_amounts_are_per_run():
    ended(steps_used=4, cost_usd="0.03", input_tokens=1000, output_tokens=100)
    ended(steps_used=7, cost_usd="0.05", input_tokens=3000, output_tokens=100)
    jobs.roll_up()

    found = tiles()

    assert (found["steps"], found["cost"], found["tokens"]) == ("5.5", "$0.040", "2,100")


def test_working_time_and_waiting_for_people_stand_apart():
    for _ in range(20):
        ended(working_ms=2000, parked_ms=600_000)
    jobs.roll_up()

    found = tiles()

    assert found["latency-p50"].startswith(("1.9", "2.0"))
    assert found["latency-p95"].startswith(("1.9", "2.0"))
    assert found["parked"].startswith(("9 min 5", "10 min"))


def test_few_runs_get_no_percentile_no_trend_and_no_comparison():
    ended(working_ms=2000)
    jobs.roll_up()

    found = overview.build({}, by=an_actor(Role.MANAGER), now=timezone.now())
    by_key = {tile.key: tile for tile in found.tiles}

    assert by_key["latency-p95"].value == "Not enough data"
    assert by_key["success"].is_thin
    assert (list(by_key["success"].points), by_key["success"].no_trend) == ([], "Not enough data for a trend")
    assert by_key["success"].change == "Nothing to compare with"


def test_a_period_is_compared_with_the_one_before():
    for _ in range(20):
        ended(ago=timedelta(hours=2))
        ended(RunStatus.FAILED, ago=timedelta(hours=2))
        ended(ago=timedelta(hours=30))
    jobs.roll_up()

    found = overview.build({"range": "24h"}, by=an_actor(Role.MANAGER), now=timezone.now())
    success = found.tiles[0]

    assert (success.value, success.change, success.population) == ("50.0%", "−50.0 pp on the 24 h before", "40 runs")


def test_filters_narrow_every_figure():
    support, back = an_agent("support"), an_agent("back-office")
    first = a_release(support, version="1.0")
    second = a_release(support, version="2.0")
    ended(agent=support, release=first)
    ended(RunStatus.FAILED, agent=support, release=second)
    ended(RunStatus.REFUSED, agent=back)
    jobs.roll_up()

    assert tiles({"agent": "support"})["success"] == "50.0%"
    assert tiles({"agent": "support", "release": "2.0"})["failure"] == "100.0%"
    assert tiles({"agent": "back-office"})["refusal"] == "100.0%"


def test_nobody_sees_figures_of_an_agent_that_is_not_theirs(client: Client):
    ended(agent=an_agent("support"))
    ended(RunStatus.FAILED, agent=an_agent("secret-agent"))
    jobs.roll_up()
    client.force_login(a_user(Role.MANAGER, agent="support"))

    page = client.get("/overview/").content.decode()
    hidden = client.get("/overview/?agent=secret-agent")
    absent = client.get("/overview/?agent=no-such-agent")

    assert "100.0%" in page
    assert "secret-agent" not in page.lower()
    assert "Secret Agent" not in page
    assert (hidden.status_code, absent.status_code) == (404, 404)
    assert "secret-agent" not in client.get("/overview/export.csv").getvalue().decode()


def test_the_page_asks_few_questions_however_many_runs_there_are(manager: Client):
    agent = an_agent()
    for number in range(3):
        release = a_release(agent)
        a_step(ended(agent=agent, release=release, ago=timedelta(hours=number)), name=f"tool_{number}")
    jobs.roll_up()

    with CaptureQueriesContext(connection) as few:
        manager.get("/overview/?range=30d")
    with CaptureQueriesContext(connection) as none:
        manager.get("/overview/?range=30d&agent=" + agent.slug)

    asked = [query["sql"] for query in few.captured_queries]
    ours = [sql for sql in asked if "metricpoint" in sql or "releases_agent" in sql or "lastrollup" in sql]
    assert len(ours) <= 8, ours
    assert len(asked) <= 12, asked
    assert not [sql for sql in asked if 'FROM "runtime_step"' in sql or "runtime_run r" in sql]
    assert len(none.captured_queries) <= len(asked)


def test_the_chart_travels_as_data_and_as_a_table(manager: Client):
    for status in (RunStatus.SUCCEEDED, RunStatus.SUCCEEDED, RunStatus.FAILED):
        ended(status)
    jobs.roll_up()

    page = manager.get("/overview/").content.decode()

    figure = json.loads(page.split('<script id="runs-by-outcome" type="application/json">')[1].split("</script>")[0])
    assert {trace["name"]: sum(trace["y"]) for trace in figure["data"]} == {"Succeeded": 2, "Failed": 1}
    assert figure["layout"]["yaxis"]["dtick"] == 1  # so that no mark stands between two whole runs
    assert 'data-chart="runs-by-outcome"' in page
    assert 'id="plotly.js-style-global" class="no-inline-styles"' in page
    assert 'data-label="Succeeded">2</td>' in page
    assert "style=" not in page


def test_without_a_run_the_chart_still_shows_the_chosen_time(manager: Client):
    page = manager.get("/overview/?range=7d").content.decode()

    figure = json.loads(page.split('<script id="runs-by-outcome" type="application/json">')[1].split("</script>")[0])
    first, last = (datetime.fromisoformat(moment) for moment in figure["layout"]["xaxis"]["range"])
    assert figure["data"] == []
    assert timedelta(days=6) < last - first < timedelta(days=9)
    assert first < datetime.now(UTC).replace(tzinfo=None) < last + timedelta(days=1)


def test_names_cannot_break_out_of_the_page(manager: Client):
    agent = an_agent("x", name="</script><script>alert(1)</script>")
    a_step(ended(agent=agent), name="<img src=x>")
    jobs.roll_up()

    page = manager.get("/overview/").content.decode()

    assert "<script>alert" not in page
    assert "<img src=x>" not in page


def test_each_tile_explains_itself(manager: Client):
    ended()
    jobs.roll_up()

    page = manager.get("/overview/").content.decode()

    assert page.count("<dt>Counted</dt>") == page.count("<dt>Left out</dt>") == 12
    assert "Cancelled runs are left out, too" in page


def test_empty_pages_say_what_to_do(manager: Client):
    first_use = manager.get("/overview/").content.decode()
    an_agent("support")
    LastRollUp.objects.create(at=timezone.now())
    filtered = manager.get("/overview/?agent=support").content.decode()

    assert "Runs have not been counted yet" in first_use
    assert "No run has ended in this time" in first_use
    assert "No run of this choice has ended" in filtered
    assert "Clear filters" in filtered


def test_old_figures_are_called_old(manager: Client):
    ended()
    jobs.roll_up()
    fresh = manager.get("/overview/").content.decode()
    LastRollUp.objects.update(at=timezone.now() - timedelta(minutes=12))

    stale = manager.get("/overview/").content.decode()

    assert "Nobody has counted runs since" not in fresh
    assert "Nobody has counted runs since" in stale


def test_a_run_that_just_ended_is_in_the_figures_of_today(manager: Client):
    jobs.roll_up()
    ended()

    jobs.roll_up()

    assert MetricPoint.objects.get().hour == rollups.hour_of(timezone.now())
    assert "100.0%" in manager.get("/overview/?range=today").content.decode()


def test_the_breakdown_is_sorted_as_asked(manager: Client):
    for name, runs, cost in (("Cheap", 3, "0.01"), ("Dear", 1, "0.90")):
        agent = an_agent(name.lower(), name)
        for _ in range(runs):
            ended(agent=agent, cost_usd=cost)
    jobs.roll_up()

    by_runs = [row.name for row in overview.build({}, by=an_actor(Role.MANAGER), now=timezone.now()).by_release.rows]
    by_cost = manager.get("/overview/?sort=cost").content.decode()

    assert by_runs == ["Cheap", "Dear"]
    assert by_cost.index("data-row>Dear</a>") < by_cost.index("data-row>Cheap</a>")
    assert 'aria-sort="descending"' in by_cost


def test_the_export_holds_the_breakdown_with_raw_numbers(manager: Client):
    agent = an_agent("support", "=HYPERLINK()")
    for _ in range(20):
        a_step(ended(agent=agent, working_ms=1000), name="lookup_order")
    jobs.roll_up()

    answer = manager.get("/overview/export.csv?range=24h")

    rows = list(csv.DictReader(io.StringIO(answer.getvalue().decode())))
    assert [(row["part"], row["agent or tool"]) for row in rows] == [
        ("release", "'=HYPERLINK()"),
        ("tool", "lookup_order"),
    ]
    assert (rows[0]["runs"], rows[0]["success"], float(rows[0]["p95"])) == ("20", "1.0", pytest.approx(1000, rel=0.011))
    assert (rows[1]["calls"], rows[1]["errors"], rows[1]["success"]) == ("20", "0.0", "")
    assert "attachment" in answer["Content-Disposition"]


@pytest.mark.parametrize("address", ["/overview/", "/overview/export.csv"])
def test_strangers_sign_in_first(client: Client, address: str):
    assert client.get(address).status_code == 302


@pytest.mark.parametrize("query", ["range=9999d", "sort=__class__", "tool_sort='", "agent="])
def test_a_garbled_address_does_no_harm(manager: Client, query: str):
    ended()
    jobs.roll_up()

    assert manager.get(f"/overview/?{query}").status_code == 200
