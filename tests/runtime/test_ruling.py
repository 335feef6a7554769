"""Operator rules in the gate: expressions, several that ask, those that are only logged, and what is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus, Verdict
from console.principals import Principal
from console.roles import Role
from releases.bundles import Budgets, Bundle
from releases.policies.variables import Total, Totals
from runtime import inspections, masking, rulings
from runtime.policies import gating
from runtime.policies.budgeting import Spent
from runtime.policies.gating import Allow, Ask, Facts, Refuse
from runtime.policies.ruling import Applied
from runtime.states import RunStatus
from tests.builders import a_bundle, a_tool, a_user
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work

PAY = calling("spy_pay", order_id="1", amount="129.00")
BY_TWO = {
    "id": "two",
    "tool": "spy_pay",
    "then": "ask",
    "reason": "Large.",
    "approvals_needed": 2,
    "ask_roles": ["admin"],
}


def a_rule(then="ask", **fields):
    return {"id": f"{then}-rule", "tool": "issue_refund", "then": then, "reason": f"It says {then}.", **fields}


def verdict(*rules, reviewed=False, **arguments):
    tool = a_tool(arguments={"amount": "amount"}, moves_money=True)
    bundle = Bundle.model_validate(a_bundle(tools=[tool], rules=list(rules)))
    facts = Facts(
        tool="issue_refund",
        bundle=bundle,
        agent="shop",
        switches=(),
        scopes=frozenset({"*"}),
        arguments={"amount": "129.00", **arguments},
        schema_errors={},
        has_secret=False,
        spent=Spent(0, 0, 0, Decimal(0), timedelta()),
        budgets=Budgets(),
        repeats=0,
        approvals=0,
        reviewed=reviewed,
        principal=Principal("cust-1", attributes={"tier": "gold"}),
        now=datetime(2026, 11, 28, 23, tzinfo=UTC),
        totals=Totals(date(2026, 11, 28), {"principal": Total()}),
    )
    return gating.decide_call(facts)


# The verdict


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"condition": "args.amount > 100.0 && principal.attributes.tier == 'gold' && hour >= 22"}, Ask),
        ({"condition": "args.amount > 200.0"}, Allow),
        ({"condition": "args.amount > 100.0", "when": [{"argument": "amount", "op": "gt", "value": 500}]}, Allow),
        ({"condition": "args.amount > 100.0", "when": [{"argument": "amount", "op": "gt", "value": 50}]}, Ask),
    ],
)
def test_comparisons_and_expression_must_both_hold(fields, expected):
    assert type(verdict(a_rule(**fields))) is expected


@pytest.mark.parametrize(("then", "expected"), [("ask", Ask), ("refuse", Refuse), ("allow", Allow)])
def test_what_cannot_be_evaluated_fails_closed_with_the_error_in_the_reason(then, expected):
    """A rule that asks or refuses holds, one that allows does not."""
    for condition in ("args.nothing > 1.0", "args.amount", "args.amount >", "totals.agent.calls > 1"):
        found = verdict(a_rule(then, condition=condition))

        assert type(found) is expected
        if then == "allow":
            assert (found.rule, found.rules) == ("default", ())
        else:
            assert "could not be evaluated" in found.reason
            assert found.rules[0].error


@pytest.mark.parametrize("amount", ["1e301", "1e-999999", "129 dollars", [100, 29], {"usd": 129}])
def test_a_sum_that_an_unreadable_amount_belongs_to_is_not_known(amount):
    """It is no amount of nothing: a rule about the sum holds, and the sum before stays readable."""
    after = a_rule(condition="totals.principal.after.sum.amount > 500.0")

    assert "could not be evaluated" in verdict(after, amount=amount).reason
    assert type(verdict(after)) is Allow
    assert type(verdict(a_rule(condition="totals.principal.sum.amount > 500.0"), amount=amount)) is Allow


def test_a_refusal_holds_for_a_call_that_a_person_has_approved():
    assert type(verdict(a_rule("refuse", condition="args.amount > 100.0"), reviewed=True)) is Refuse
    assert verdict(a_rule("ask", condition="args.amount > 100.0"), reviewed=True).rule == "approved"


def test_of_several_that_ask_the_most_people_and_only_those_whom_all_accept():
    one = a_rule(id="one", risk="low", approvals_needed=3, ask_roles=["admin", "operator"])
    two = a_rule(id="two", risk="high", ask_roles=["operator", "support"], four_eyes=True)
    three = a_rule(id="three")

    found = verdict(one, two, three)

    assert (found.rule, found.risk, found.four_eyes) == ("rule:two", "high", True)
    assert (found.approvals_needed, found.ask_roles) == (3, ("operator",))


def test_where_nobody_is_accepted_by_all_the_strictest_decides_and_never_everybody():
    low, high = a_rule(id="low", risk="low", ask_roles=["support"]), a_rule(id="high", risk="high", ask_roles=["admin"])

    assert verdict(low, high).ask_roles == ("admin",)
    assert verdict(low, a_rule(id="plain", risk="high")).ask_roles == ("support",)


# Only logged


@pytest.mark.parametrize(
    ("rules", "expected", "applied"),
    [
        (["refuse"], Allow, [("refuse", True)]),
        (["ask"], Allow, [("ask", True)]),
        (["allow"], Allow, [("allow", False)]),
        (["ask", "refuse"], Allow, [("ask", True), ("refuse", True)]),
    ],
)
def test_a_rule_that_is_only_logged_changes_no_verdict(rules, expected, applied):
    found = verdict(*(a_rule(then, mode="log") for then in rules))

    assert type(found) is expected
    assert [(one.verdict, one.changes) for one in found.rules] == applied
    assert all(one.is_log for one in found.rules)


def test_what_a_logged_rule_would_have_come_to_counts_the_others():
    """An ask changes nothing about a call that another rule refuses; a refusal does, about one that asks."""
    refused = verdict(a_rule("refuse"), a_rule("ask", mode="log"))
    asked = verdict(a_rule("ask"), a_rule("refuse", mode="log"))

    assert refused.rules == (Applied("refuse-rule", "1", "refuse"), Applied("ask-rule", "1", "refuse", is_log=True))
    assert type(asked) is Ask
    assert asked.rules[1] == Applied("refuse-rule", "1", "refuse", is_log=True, changes=True)


# In a run


@pytest.fixture
def fresh() -> Iterator[None]:
    yield from harness.fresh()


def logged(then, **fields):
    return {"id": then, "tool": "spy_pay", "then": then, "reason": "why", "mode": "log", **fields}


def seen(run, name):
    """What the trace says of the rules of a step."""
    step = run.steps.select_related("payload").get(name=name)
    return list(inspections.build(run, step, "summary", masking._as_it_is).rules)


@pytest.mark.django_db(transaction=True)
def test_a_logged_rule_stands_with_the_step_and_is_counted(fresh):
    rules = [logged("refuse"), logged("ask", id="never", condition="args.amount > 1000.0"), logged("ask")]
    release = a_scripted_release(saying(PAY, "Paid."), rules=rules)

    run = work(start(release))
    work(start(release, principal_id="cus_2"))

    assert run.status == RunStatus.SUCCEEDED
    assert len(harness.paid()) == 2
    assert seen(run, "spy_pay") == [
        "refuse v1: only logged, would refuse it, which changes what was done",
        "ask v1: only logged, would ask people, which changes what was done",
    ]
    today = datetime.now(UTC).date()
    assert rulings.figures(release, today) == {
        "refuse": rulings.Figure(refused=2, changed=2),
        "ask": rulings.Figure(asked=2, changed=2),
    }
    assert rulings.figures(release, today + timedelta(days=7)) == {}


@pytest.mark.django_db(transaction=True)
def test_a_call_that_is_asked_about_is_counted_once_and_its_question_says_so(fresh):
    rules = [{**logged("ask"), "mode": "enforce", "approvals_needed": 2}, logged("refuse")]
    run = work(start(a_scripted_release(saying(PAY, "Paid."), rules=rules)))
    request = ApprovalRequest.objects.get()
    assert seen(run, "rule:ask") == [
        "ask v1: ask people",
        "refuse v1: only logged, would refuse it, which changes what was done",
    ]

    for _ in range(2):
        requests.decide(request.pk, Verdict.APPROVE, by=a_user(Role.SUPPORT).actor(), reason="")
    work(run)

    assert len(harness.paid()) == 1
    assert rulings.figures(run.release, datetime.now(UTC).date()) == {
        "ask": rulings.Figure(asked=1),
        "refuse": rulings.Figure(refused=1, changed=1),
    }


@pytest.mark.django_db(transaction=True)
def test_a_call_that_two_people_must_approve_is_made_after_the_second(fresh):
    run = work(start(a_scripted_release(saying(PAY, "Paid."), rules=[BY_TWO])))
    request = ApprovalRequest.objects.get()
    assert (request.approvals_needed, request.roles) == (2, ["admin"])
    assert request.editable == []
    ada, ben = a_user(Role.ADMIN), a_user(Role.ADMIN)

    requests.decide(request.pk, Verdict.APPROVE, by=ada.actor(), reason="")
    run.refresh_from_db()
    assert run.status == RunStatus.WAITING
    requests.decide(request.pk, Verdict.APPROVE, by=ben.actor(), reason="")
    run = work(run)

    assert len(harness.paid()) == 1
    approval = run.steps.get(kind="approval")
    assert approval.payload.output["by"] == f"{ada} and {ben}"


@pytest.mark.django_db(transaction=True)
def test_the_first_approver_who_lost_the_role_voids_the_approval(fresh):
    run = work(start(a_scripted_release(saying(PAY, "Paid."), rules=[BY_TWO])))
    request = ApprovalRequest.objects.get()
    ada, ben = a_user(Role.ADMIN), a_user(Role.ADMIN)
    for user in (ada, ben):
        requests.decide(request.pk, Verdict.APPROVE, by=user.actor(), reason="")
    ada.grants.update(role=Role.OPERATOR)

    run = work(run)

    assert harness.paid() == []
    assert run.steps.filter(rule="approval-void").exists()
    request.refresh_from_db()
    assert request.status == ApprovalStatus.VOID


@pytest.mark.django_db(transaction=True)
def test_edits_cannot_slip_under_a_rule_that_wants_more_people_or_other_roles(fresh):
    from console import problems

    rules = [
        {"id": "any", "tool": "spy_pay", "then": "ask", "reason": "Every payment."},
        {"id": "many", "tool": "spy_pay", "then": "ask", "reason": "Large.", "condition": "args.amount > 500.0",
         "approvals_needed": 2},
        {"id": "boss", "tool": "spy_pay", "then": "ask", "reason": "Tiny.", "condition": "args.amount < 2.0",
         "ask_roles": ["admin"]},
        {"id": "night", "tool": "spy_pay", "then": "refuse", "reason": "Enough.",
         "condition": "totals.principal.after.sum.amount > 800.0"},
    ]  # fmt: skip
    work(start(a_scripted_release(saying(PAY, "Paid."), rules=rules)))
    request, ada = ApprovalRequest.objects.get(), a_user(Role.ADMIN).actor()

    for amount, said in (("600.00", "stricter"), ("1.00", "stricter"), ("900.00", "Enough")):
        with pytest.raises(problems.Invalid, match=said):
            requests.decide(request.pk, Verdict.APPROVE, by=ada, reason="", edits={"amount": amount})
    requests.decide(request.pk, Verdict.APPROVE, by=ada, reason="", edits={"amount": "400.00"})
