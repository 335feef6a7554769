from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.http import QueryDict

from console import problems
from runtime import run_lists
from runtime.models import Run
from runtime.states import RunKind, RunStatus
from tests.builders import a_release, a_run, an_agent

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


def titles(query: str) -> list[str]:
    chosen = run_lists.filters(QueryDict(query), NOW)
    found = run_lists.matching(Run.objects.all(), chosen)
    return [run.title for run in run_lists.page(found, QueryDict(query)).items]


def test_only_live_runs_are_listed_unless_asked_otherwise():
    a_run(title="live")
    a_run(title="replay", kind=RunKind.REPLAY)

    assert titles("") == ["live"]
    assert titles("kind=replay") == ["replay"]
    assert sorted(titles("kind=all")) == ["live", "replay"]


def test_several_statuses_widen_and_other_filters_narrow():
    shop, other = an_agent("shop"), an_agent("other")
    a_run(RunStatus.FAILED, agent=shop, title="failed in shop")
    a_run(RunStatus.REFUSED, agent=shop, title="refused in shop")
    a_run(RunStatus.FAILED, agent=other, title="failed elsewhere")
    a_run(RunStatus.SUCCEEDED, agent=shop, title="fine")

    assert sorted(titles("status=failed&status=refused&agent=shop")) == ["failed in shop", "refused in shop"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("tool=issue_refund", ["refund"]),
        ("cause=kill_switch", ["switched"]),
        ("cost=0.5", ["costly"]),
        ("release=7.0", ["new release"]),
        ("since=hour", ["refund"]),
        ("since=today&until=2026-11-24", ["costly", "new release", "refund", "switched"]),
        ("until=2026-11-23", ["yesterday"]),
    ],
)
def test_each_filter_finds_its_run(query, expected):
    at = NOW - timedelta(hours=5)
    a_run(title="refund", tools_called=["lookup_order", "issue_refund"], created_at=NOW - timedelta(minutes=3))
    a_run(title="switched", cause="kill_switch", created_at=at)
    a_run(title="costly", cost_usd=Decimal("0.51"), created_at=at)
    a_run(title="new release", release=a_release(version="7.0"), created_at=at)
    a_run(title="yesterday", cost_usd=Decimal("0.5"), created_at=NOW - timedelta(days=1))

    assert sorted(titles(query)) == expected


def test_a_run_is_found_by_its_id_and_by_how_the_id_begins():
    wanted, other = a_run(title="wanted"), a_run(title="other")

    assert titles(f"q={wanted.public_id}") == ["wanted"]
    assert titles(f"q={wanted.public_id.upper()}") == ["wanted"]
    assert sorted(titles(f"q={wanted.public_id[:10]}")) == ["other", "wanted"]
    assert titles(f"q={other.public_id[:-1]}") == ["other"]
    assert titles("q=run_7zzzzzzzzzzzzzzzzzzzzzzzzz") == []
    assert titles("q=run_zz") == []


def test_words_are_found_in_title_and_customer_whatever_their_case():
    a_run(title="Refund for order 1042", principal_label="Ana Lima", principal_id="cus_7")
    a_run(title="Where is it?", principal_label="Jonas Weber", principal_id="cus_77")

    assert titles("q=order+1042") == ["Refund for order 1042"]
    assert titles("q=jonas") == ["Where is it?"]
    assert titles("q=cus_7") == ["Refund for order 1042"]
    assert titles("q=100%25") == []


def test_what_cannot_be_used_is_left_out_and_said():
    a_run(title="one")

    chosen = run_lists.filters(QueryDict("q=ab&cost=much&since=someday&status=nonsense&kind=nonsense"), NOW)

    assert titles("q=ab&cost=much&since=someday&status=nonsense") == ["one"]
    assert len(chosen.wrong) == 3
    assert "'much'" in chosen.wrong[1]
    assert chosen.is_empty


def test_pages_by_cursor_show_every_run_once_even_at_the_same_moment():
    runs = [a_run(title=str(number), created_at=NOW) for number in range(5)]
    runs.append(a_run(title="earlier", created_at=NOW - timedelta(microseconds=1)))
    expected = [run.title for run in sorted(runs, key=lambda run: (run.created_at, run.pk), reverse=True)]

    seen, query, pages = [], {}, 0
    while True:
        page = run_lists.page(Run.objects.all(), query, size=2)
        seen += [run.title for run in page.items]
        pages += 1
        if not page.older:
            break
        query = {"before": page.older}

    assert seen == expected
    assert pages == 3
    back = run_lists.page(Run.objects.all(), {"after": page.newer}, size=2)
    assert [run.title for run in back.items] == expected[2:4]
    assert back.older
    assert back.newer


def test_new_runs_wait_behind_the_bar_and_do_not_move_the_list():
    first = a_run(title="first", created_at=NOW)
    top = run_lists.cursor(first)
    a_run(title="second", created_at=NOW + timedelta(seconds=1))

    page = run_lists.page(Run.objects.all(), {"top": top})

    assert [run.title for run in page.items] == ["first"]
    assert run_lists.newer_count(Run.objects.all(), top) == 1


@pytest.mark.parametrize("mark", ["x", "zz-zz", "-", "ffffffffffffffffffff-01", "5-run_1", "é"])
def test_a_page_mark_that_the_list_never_gave_out_is_refused(mark):
    with pytest.raises(problems.Invalid, match="page mark"):
        run_lists.page(Run.objects.all(), {"before": mark})


def test_counting_stops_at_the_cap(monkeypatch):
    monkeypatch.setattr(run_lists, "MOST_COUNTED", 2)
    for _ in range(3):
        a_run()
    everything = run_lists.filters(QueryDict(""), NOW)
    page = run_lists.page(Run.objects.all(), {})

    assert run_lists.count(Run.objects.all(), everything, page) == "2+"
    assert run_lists.count(Run.objects.exclude(pk=page.items[0].pk), everything, page) == "2"


def test_a_search_of_all_texts_is_not_counted_a_second_time(django_assert_num_queries):
    for _ in range(3):
        a_run(title="refund")
    chosen = run_lists.filters(QueryDict("q=refund"), NOW)
    cut, whole = (run_lists.page(Run.objects.all(), {}, size=size) for size in (2, 50))

    with django_assert_num_queries(0):
        assert run_lists.count(Run.objects.all(), chosen, cut) == "2 or more"
        assert run_lists.count(Run.objects.all(), chosen, whole) == "3"


def test_a_slow_search_is_ended_with_a_way_out(monkeypatch):
    monkeypatch.setattr(run_lists, "SEARCH_MS", 50)
    chosen = run_lists.filters(QueryDict("q=refund"), NOW)

    with (
        pytest.raises(problems.Problem, match="Narrow it"),
        run_lists.patience(chosen),
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT pg_sleep(5)")


def test_a_preset_is_on_when_the_address_asks_for_exactly_it():
    presets = {one.label: one for one in run_lists.presets(QueryDict("since=today&status=failed&before=5-1"))}

    assert presets["Failed today"].is_on
    assert presets["Failed today"].query == ""
    assert not presets["Refused"].is_on
    assert presets["Refused"].query == "status=refused"


def test_a_date_of_the_address_stays_among_the_ranges():
    assert ("2026-11-20", "Since 2026-11-20") in run_lists.ranges("2026-11-20")
    assert run_lists.ranges("today") == run_lists.ranges("")


def test_the_bar_of_a_row_parts_working_from_waiting():
    run = a_run(
        RunStatus.WAITING,
        created_at=NOW - timedelta(seconds=100),
        working_ms=25_000,
        waiting_since=NOW - timedelta(seconds=50),
    )

    row = run_lists.rows([run], lambda _: lambda value: value, NOW)[0]

    assert (row.bar.working, row.bar.waiting) == ("25%", "50%")
    assert row.bar.label == "25.0 s working, 50.0 s waiting for a person"
