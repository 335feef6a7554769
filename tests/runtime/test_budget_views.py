from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from console.roles import Role
from releases.models import Agent
from runtime.models import Ledger
from tests.builders import a_release, a_user, an_agent

pytestmark = pytest.mark.django_db

TODAY = datetime.now(UTC).date()
DAILY = {"per_agent": {"max_usd": 10, "max_runs": 4}, "per_principal": {"max_usd": 2, "max_tool_calls": 50}}


@pytest.fixture
def agent() -> Agent:
    return an_agent("shop")


def page(agent: Agent, *, role: Role = Role.OPERATOR, query: str = "") -> str:
    client = Client()
    client.force_login(a_user(role))
    answer = client.get(f"/agents/{agent.slug}/budgets/{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def a_ledger(agent: Agent, principal: str = "", **used: Any) -> Ledger:
    return Ledger.objects.create(agent=agent, principal_id=principal, day=used.pop("day", TODAY), **used)


def test_today_is_shown_against_the_limits_with_what_is_in_flight(agent):
    a_release(agent, daily=DAILY)
    a_ledger(agent, settled_usd=Decimal("7"), reserved_usd=Decimal("1.5"), settled_runs=4)
    a_ledger(agent, day=TODAY - timedelta(days=1), settled_usd=Decimal("9.99"))
    a_ledger(agent, "cus_7", settled_usd=Decimal("1.25"), settled_tool_calls=3)
    a_ledger(an_agent("other"), "cus_8", settled_usd=Decimal("1.11"))

    shown = page(agent)

    assert '<span class="v">$8.50</span> of $10.00' in shown
    assert "nearly used up" in shown
    assert '<span class="v">4</span> of 4' in shown
    assert "At most $2.00, 50 tool calls a day." in shown
    assert "cus_7" in shown and "$1.25" in shown
    assert "9.99" not in shown and "cus_8" not in shown


def test_the_greatest_users_come_first_and_the_page_stays_short(agent):
    a_release(agent, daily=DAILY)
    for number in range(30):
        a_ledger(agent, f"cus_{number:02}", settled_usd=Decimal(number) / 100)

    shown = page(agent)

    assert shown.index("cus_29") < shown.index("cus_28")
    assert "cus_20" in shown and "cus_19" not in shown


def test_limits_of_another_release_can_be_looked_at(agent):
    a_release(agent, daily=DAILY)
    other = a_release(agent, is_active=False, version="9.9", daily={"per_agent": {"max_usd": 99}})
    foreign = a_release(an_agent("other"), daily={"per_agent": {"max_usd": 55}})

    assert "of $99.00" in page(agent, query=f"?release={other.public_id}")
    assert "which does not answer new runs" in page(agent, query=f"?release={other.public_id}")
    assert "of $10.00" in page(agent, query=f"?release={foreign.public_id}")
    assert "of $10.00" in page(agent, query="?release=nonsense")


def test_without_limits_it_says_how_to_set_some(agent):
    assert "No release answers new runs" in page(agent)

    a_release(agent)

    assert "has no daily limits" in page(agent)


def test_nobody_without_the_right_to_personal_data_reads_who_it_was(agent):
    a_release(agent, daily=DAILY)
    a_ledger(agent, "ana.lima@example.com", settled_usd=Decimal("1"))

    assert "ana.lima@example.com" in page(agent)
    assert "ana.lima@example.com" not in page(agent, role=Role.MANAGER)


def test_the_number_of_queries_does_not_grow(agent):
    a_release(agent, daily=DAILY)
    client = Client()
    client.force_login(a_user())

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            client.get(f"/agents/{agent.slug}/budgets/")
        return len(seen)

    queries()
    few = queries()
    a_ledger(agent, settled_usd=1)
    for number in range(20):
        a_ledger(agent, f"cus_{number}", settled_usd=1)

    assert queries() == few <= 9


@pytest.mark.parametrize("about", ["agent", "release"])
def test_the_pages_of_agent_and_release_bring_it_along(agent, about):
    release = a_release(agent, daily=DAILY)
    client = Client()
    client.force_login(a_user())

    shown = client.get((agent if about == "agent" else release).get_absolute_url()).content.decode()

    assert f'hx-get="/agents/{agent.slug}/budgets/' in shown
