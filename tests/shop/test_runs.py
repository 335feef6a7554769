"""The demo end to end: the shop's agent, tools and rules in the real engine."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import Verdict
from releases import switches
from releases.models import Agent, Release
from releases.states import Scope, SwitchEffect
from runtime import runs
from runtime.models import Run
from runtime.shop import documents, releasing, samples
from runtime.shop.management.commands import demo_traffic
from runtime.shop.models import Order, OutboxMessage, Refund
from runtime.states import RunStatus
from tests.runtime.harness import DECIDER, STARTER, trace, work

pytestmark = pytest.mark.django_db(transaction=True)

OVER_LIMIT = "The headphones from order 10482 arrived broken. I want my money back."


@pytest.fixture(autouse=True)
def shop(story_orders: None) -> Agent:
    documents.store()
    return releasing.establish()


def ask(text: str, principal: str = "cus_1001", **options: Any) -> Run:
    run, _ = runs.create(agent=releasing.SLUG, text=text, by=STARTER, principal_id=principal, **options)
    return work(run)


def paid(order: int) -> list[Decimal]:
    return list(Refund.objects.filter(order_id=order, run_id__startswith="run_").values_list("amount_usd", flat=True))


def test_a_small_refund_is_paid_without_a_person():
    run = ask("Please refund order 10471, the hub does not work.", "cus_1002")

    assert (run.status, run.cause) == (RunStatus.SUCCEEDED, "answered")
    assert "$49.00 for order 10471" in run.answer
    assert "[damaged#arrived-damaged@2026.06]" in run.answer
    assert paid(10471) == [Decimal("49.00")]
    assert OutboxMessage.objects.get().customer_id == "cus_1002"
    assert run.tools_called == ["search_policy", "lookup_order", "issue_refund", "send_reply"]
    assert run.cost_usd > 0
    assert run.cost_basis == "estimated"
    assert not run.tainted


def test_a_refund_over_the_limit_waits_and_is_paid_with_the_edited_amount_once():
    run = ask(OVER_LIMIT)
    request = ApprovalRequest.objects.get()

    assert run.status == RunStatus.WAITING
    assert request.title == "Refund $129.00 for order 10482"
    assert paid(10482) == []

    requests.decide(request.pk, Verdict.APPROVE, by=DECIDER, reason="Half of it", edits={"amount": "80"})
    run = work(run)

    assert run.status == RunStatus.SUCCEEDED
    assert "$80.00 for order 10482" in run.answer
    assert "I had proposed $129.00" in run.answer
    assert paid(10482) == [Decimal("80.00")]
    assert Order.objects.get(pk=10482).refunded_usd == Decimal("80.00")


def test_a_rejection_pays_nothing_and_says_why():
    run = ask(OVER_LIMIT)
    requests.decide(ApprovalRequest.objects.get().pk, Verdict.REJECT, by=DECIDER, reason="Ask for a photo first")

    run = work(run)

    assert run.status == RunStatus.SUCCEEDED
    assert "Ask for a photo first" in run.answer
    assert paid(10482) == []
    assert not OutboxMessage.objects.exists()


def test_a_switched_off_refund_ends_as_refused_with_the_switch_in_the_trace():
    switches.engage(Scope.TOOL, SwitchEffect.DISABLE_TOOL, "issue_refund", by=DECIDER, reason="Paid twice")

    run = ask("Please refund order 10471, the hub does not work.", "cus_1002")

    assert (run.status, run.cause) == (RunStatus.REFUSED, "kill_switch")
    assert ("guardrail", "kill_switch", "refused") in trace(run)
    assert "switched off for now" in run.answer
    assert "Paid twice" not in run.answer
    assert paid(10471) == []


def test_a_high_refund_needs_somebody_else_than_who_started_it():
    ask("Order 10290: the laptop has a cracked screen. Refund it please.", "cus_1006")
    request = ApprovalRequest.objects.get()

    assert (request.rule, request.risk, request.four_eyes) == ("refund-high", "high", True)


@pytest.mark.parametrize(
    ("order", "customer", "status"),
    [(10975, "cus_1005", RunStatus.SUCCEEDED), (10940, "cus_1004", RunStatus.WAITING)],
)
def test_a_new_address_asks_a_person_only_when_the_order_is_packed(order: int, customer: str, status: RunStatus):
    run = ask(f"Send order {order} to 14 Broad Street, 100221 Lagos, Nigeria.", customer)

    assert run.status == status
    assert (Order.objects.get(pk=order).street == "14 Broad Street") == (status == RunStatus.SUCCEEDED)


def test_another_customers_order_is_not_there():
    run = ask("Refund order 10471, it is broken", "cus_1001")

    assert run.status == RunStatus.SUCCEEDED
    assert "cannot find an order 10471" in run.answer
    assert paid(10471) == []


def test_a_follow_up_knows_what_was_spoken_of():
    first = ask("Where is order 10482?")
    second = ask("and where is my other order?", thread_id=first.thread_id)

    assert "Order 10482" in first.answer
    assert "Order 10811" in second.answer


def test_the_first_release_asks_from_fifty_dollars_and_cannot_list():
    first = Release.objects.get(version=releasing.FIRST)
    Agent.objects.filter(slug=releasing.SLUG).update(active_release=first)

    waits = ask("Order 10205 never arrived, I want my money back.", "cus_1008")
    asks = ask("where is my parcel?")

    assert waits.status == RunStatus.WAITING
    assert "10482" not in asks.answer
    assert "search_policy" in waits.tools_called


@pytest.mark.parametrize(("title", "customer", "text"), samples.INPUTS)
def test_every_sample_ends_truthfully_or_waits_for_a_person(title: str, customer: str, text: str):
    run = ask(text, customer)

    expected = {
        "A refund a person decides": RunStatus.WAITING,
        "A large refund": RunStatus.WAITING,
        "A new address, already packed": RunStatus.WAITING,
        "Two things at once": RunStatus.WAITING,
        "A ticket that a stranger wrote into": RunStatus.WAITING,
        "Too late to send back": RunStatus.REFUSED,
        "Something the agent declines": RunStatus.REFUSED,
        "A threat: a person must see it": RunStatus.ESCALATED,
    }
    assert run.status == expected.get(title, RunStatus.SUCCEEDED), run.cause_detail
    assert run.answer or run.status == RunStatus.WAITING
    assert not run.steps.filter(status="failed").exists()


@pytest.mark.parametrize(("share", "verdict", "amounts"), [(1.0, "approve", [Decimal("129.00")]), (0.0, "reject", [])])
def test_the_scripted_reviewer_of_the_traffic_decides(share: float, verdict: str, amounts: list[Decimal]):
    run, _ = runs.create(agent=releasing.SLUG, text=OVER_LIMIT, by=demo_traffic.CUSTOMERS, principal_id="cus_1001")
    work(run)
    command = demo_traffic.Command()
    command.draw, command.tally = random.Random(1), demo_traffic.Tally()

    command._decide(share)
    run = work(run)

    request = ApprovalRequest.objects.get()
    assert (request.decisions.get().verdict, request.decisions.get().by_label) == (verdict, "system (demo reviewer)")
    assert (command.tally.approved, command.tally.rejected) == (int(share), 1 - int(share))
    assert run.status == RunStatus.SUCCEEDED
    assert paid(10482) == amounts
