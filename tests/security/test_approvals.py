"""An approval is what was shown, by whom it was given, for one call (D19 to D24, D28)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalRequest, Decision
from approvals.states import ApprovalStatus, Verdict
from console import problems, tokens
from console.actors import system
from console.models import ApiToken, AuditEntry, RoleGrant, User
from console.roles import Role
from releases.models import Release
from runtime.models import Run, StepPayload
from runtime.states import RunStatus
from tests.builders import a_user
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)

ASK = {"id": "ask", "tool": "spy_pay", "then": "ask", "reason": "Every payment needs a person."}
FOUR_EYES = {**ASK, "four_eyes": True}
PAY = calling("spy_pay", order_id="1", amount="129.00")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def parked(rule=ASK, *replies, **options) -> Run:
    return work(start(a_scripted_release(saying(*(replies or (PAY, "ok"))), rules=[rule]), **options))


def card(run: Run) -> ApprovalRequest:
    return ApprovalRequest.objects.get(subject_id__startswith=f"{run.public_id}:")


def approve(run: Run, by=None) -> Decision:
    return requests.decide(card(run).pk, Verdict.APPROVE, by=by or a_user(Role.SUPPORT).actor(), reason="")


def nothing_paid(run: Run) -> bool:
    """The call was not made, the approval is void, and the audit log says so."""
    assert harness.paid() == []
    assert run.steps.filter(rule="approval-void").exists()
    assert card(run).status == ApprovalStatus.VOID
    return AuditEntry.objects.filter(action="approval.void", object_id=card(run).public_id).exists()


def test_an_approval_counts_once_and_pays_once():
    """The way it should go, so that the refusals below mean something."""
    run = parked()
    approve(run)

    run = work(run, turns=3)

    assert run.status == RunStatus.SUCCEEDED
    assert len(harness.paid()) == 1


def test_arguments_edited_in_the_database_before_the_decision_void_it():
    """D19: the page showed one amount, the row holds another when it is decided."""
    run = parked()
    ApprovalRequest.objects.update(arguments={"order_id": "1", "amount": "9999.00"})
    approve(run)

    assert nothing_paid(work(run))


def test_fields_edited_in_the_database_void_the_approval():
    """D19: the arguments stayed, but what a person read was another amount."""
    run = parked()
    request = card(run)
    request.fields[1]["value"] = "1.00"
    request.save()
    approve(run)

    assert nothing_paid(work(run))


def test_arguments_and_digest_edited_together_still_differ_from_the_runs_question():
    """D19: the run's own journal keeps what it asked."""
    run = parked()
    request = card(run)
    from runtime import toolbox

    request.arguments = {"order_id": "1", "amount": "9999.00"}
    request.fields[1]["value"] = "9999.00"
    request.digest = toolbox.digest("spy_pay", request.arguments, run.release.digest)
    request.save()
    approve(run)

    assert nothing_paid(work(run))


def test_a_call_with_an_approved_id_and_other_arguments_asks_again():
    """D19: the model repeats the id of the call that was approved."""
    run = parked(ASK, PAY, calling("spy_pay", order_id="1", amount="500.00"), "ok")
    approve(run)

    run = work(run)

    assert len(harness.paid()) == 1
    assert run.status == RunStatus.WAITING
    assert ApprovalRequest.objects.filter(status=ApprovalStatus.PENDING).count() == 1


def test_two_calls_of_one_id_in_one_reply_each_ask():
    """D19, D20: one approval covers the first; the second is another question."""
    from runtime.messages import Reply

    run = parked(ASK, Reply("", (*PAY.calls, *PAY.calls)), "ok")
    approve(run)

    run = work(run)

    assert len(harness.paid()) == 1
    assert run.status == RunStatus.WAITING


def test_the_approval_of_another_run_is_not_accepted():
    """D20: same tool, same arguments, same release; the journal is pointed at somebody else's approval."""
    approved = parked()
    other = work(start(approved.release))
    approve(approved)
    approve(other)
    payload = StepPayload.objects.get(step__run=other, step__kind="approval")
    payload.input = {**payload.input, "request": card(approved).public_id}
    payload.save()

    other = work(other)

    assert harness.paid() == []
    assert "another call" in other.steps.get(rule="approval-void").summary


@pytest.mark.parametrize("end", ["grant", "account", "token"])
def test_a_decider_who_lost_the_right_before_dispatch_voids_the_approval(end):
    """D23: checked when deciding and again when the call is to be made."""
    run = parked()
    user = a_user(Role.SUPPORT)
    actor = user.actor()
    if end == "token":
        made, _ = tokens.create(by=actor, name="t", scopes=["approvals.decide"], expires_in=timedelta(days=1))
        actor = ApiToken.objects.get(pk=made.pk).actor()
    approve(run, by=actor)

    if end == "grant":
        RoleGrant.objects.filter(user=user).delete()
    elif end == "account":
        User.objects.filter(pk=user.pk).update(is_active=False)
    else:
        ApiToken.objects.update(revoked_at=now())

    assert nothing_paid(work(run))


def test_a_decision_dated_after_the_deadline_voids_the_approval():
    """D24: whoever moves the deadline of a decided request gains nothing."""
    run = parked()
    approve(run)
    ApprovalRequest.objects.update(due_at=now() - timedelta(hours=1))

    assert nothing_paid(work(run))


def test_a_decision_turned_into_an_approval_by_hand_voids_it():
    """D19: a rejection whose row was edited."""
    run = parked()
    approve(run)
    Decision.objects.update(verdict=Verdict.REJECT)

    assert nothing_paid(work(run))


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.ADMIN])
def test_the_author_of_the_release_is_no_second_person(role):
    """D22: under four eyes neither who started the run nor who made the release decides."""
    author = a_user(role)
    release = a_scripted_release(saying(PAY, "ok"), rules=[FOUR_EYES])
    Release.objects.update(created_by_id=str(author.pk))
    run = work(start(release))

    with pytest.raises(problems.Forbidden, match="second person"):
        approve(run, by=author.actor())
    approve(run, by=a_user(role).actor())


def test_the_authors_token_is_no_second_person_either():
    """D22: a token acts for its owner."""
    author = a_user(Role.OPERATOR)
    release = a_scripted_release(saying(PAY, "ok"), rules=[FOUR_EYES])
    Release.objects.update(created_by_id=str(author.pk))
    run = work(start(release))
    made, _ = tokens.create(by=author.actor(), name="t", scopes=["approvals.decide"], expires_in=timedelta(days=1))

    with pytest.raises(problems.Forbidden, match="second person"):
        approve(run, by=ApiToken.objects.get(pk=made.pk).actor())


def test_four_eyes_of_any_asking_rule_hold():
    """D22: a stricter rule without four eyes does not take them from the other."""
    stricter = {**ASK, "id": "high", "risk": "high"}
    run = work(start(a_scripted_release(saying(PAY, "ok"), rules=[FOUR_EYES, stricter])))

    request = card(run)
    assert (request.risk, request.four_eyes) == ("high", True)


def test_edits_cannot_slip_under_a_stricter_rule():
    """D19: values that another rule wants four eyes for are not accepted on this card."""
    big = {**FOUR_EYES, "id": "big", "when": [{"argument": "amount", "op": "gt", "value": 1000}]}
    run = work(start(a_scripted_release(saying(PAY, "ok"), rules=[ASK, big])))

    with pytest.raises(problems.Invalid, match="stricter"):
        requests.decide(
            card(run).pk, Verdict.APPROVE, by=a_user(Role.SUPPORT).actor(), reason="", edits={"amount": "5000.00"}
        )


def test_an_edited_amount_is_what_is_paid_once():
    """D19: an edit made through the verb is bound like the proposal was."""
    run = parked()
    requests.decide(card(run).pk, Verdict.APPROVE, by=system("test"), reason="", edits={"amount": "99.00"})

    run = work(run)

    assert [str(amount) for _, amount in harness.paid()] == ["99.00"]
