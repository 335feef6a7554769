"""Approval requests: claiming, deciding, freezing, expiring, and two people at once."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, close_old_connections, connection, transaction
from django.utils.timezone import now

from approvals import requests
from approvals.models import ApprovalRequest, Decision
from approvals.policies.deciding import MayDecide, MayNot
from approvals.states import ApprovalStatus, Verdict
from console import problems
from console.actors import system
from console.models import ApiToken, AuditEntry
from console.roles import Role
from console.states import IllegalMove
from tests.approvals.conftest import KIND
from tests.builders import a_user, an_actor, an_approval
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.django_db


def a_request(**fields):
    return an_approval(subject_kind=KIND, **fields)


def kinds(request):
    return list(request.events.values_list("kind", flat=True))


def assert_untouched(request, subject):
    """A refusal leaves no trace."""
    request.refresh_from_db()
    assert request.status == ApprovalStatus.PENDING
    assert not Decision.objects.exists()
    assert not AuditEntry.objects.exists()
    assert subject.answers == []


def a_token_of(user):
    return ApiToken.objects.create(
        owner=user,
        name="script",
        prefix="abcd1234",
        digest="0" * 64,
        scopes=["approvals.read", "approvals.decide"],
        expires_at=now() + timedelta(days=1),
    )


# Deciding


def test_approve_wakes_the_subject_and_is_audited(subject):
    request, mara = a_request(), an_actor(Role.SUPPORT)

    decision = requests.decide(request.pk, Verdict.APPROVE, by=mara, reason="photo is there", version=1)

    request.refresh_from_db()
    assert (request.status, request.version) == (ApprovalStatus.APPROVED, 2)
    assert subject.answers == [("approve", {"order_id": "1042", "amount": "129.00"})]
    assert (decision.by_label, decision.edits) == (mara.label, {})
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.reason, entry.actor_id) == ("approval.approve", "photo is there", mara.id)
    assert kinds(request) == ["decided"]


def test_edits_are_checked_kept_as_a_difference_and_decided_on(subject):
    request = a_request()

    decision = requests.decide(
        request.pk, Verdict.APPROVE, by=an_actor(Role.SUPPORT), reason="", edits={"amount": "99"}
    )

    assert decision.arguments == {"order_id": "1042", "amount": "99.00"}
    assert decision.edits == {"amount": ["129.00", "99.00"]}
    assert AuditEntry.objects.get().changes["amount"] == ["129.00", "99.00"]
    request.refresh_from_db()
    assert request.arguments["amount"] == "129.00"  # what was proposed stays on record


def test_edits_that_the_tool_refuses_decide_nothing(subject):
    request = a_request()

    with pytest.raises(problems.Invalid):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(Role.SUPPORT), reason="", edits={"amount": "5000"})

    assert_untouched(request, subject)


def test_a_field_that_was_not_offered_cannot_be_edited(subject):
    request = a_request()

    with pytest.raises(problems.Invalid, match="order_id cannot be edited"):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(Role.SUPPORT), reason="", edits={"order_id": "7"})

    assert_untouched(request, subject)


def test_a_rejection_needs_a_reason_and_ignores_edits(subject):
    request, mara = a_request(), an_actor(Role.SUPPORT)

    with pytest.raises(problems.Invalid, match="needs a reason"):
        requests.decide(request.pk, Verdict.REJECT, by=mara, reason="  ")
    assert_untouched(request, subject)

    decision = requests.decide(request.pk, Verdict.REJECT, by=mara, reason="wrong order", edits={"amount": "1"})
    assert (decision.edits, decision.reason) == ({}, "wrong order")
    assert subject.answers == [("reject", {"order_id": "1042", "amount": "129.00"})]


def test_secrets_in_a_reason_are_masked(subject):
    request = a_request()

    decision = requests.decide(request.pk, Verdict.REJECT, by=an_actor(Role.SUPPORT), reason="password=hunter2000")

    assert "hunter2000" not in decision.reason
    assert "hunter2000" not in AuditEntry.objects.get().reason


def test_deciding_twice_the_same_way_changes_nothing(subject):
    request, mara = a_request(), an_actor(Role.SUPPORT)

    first = requests.decide(request.pk, Verdict.APPROVE, by=mara, reason="")
    second = requests.decide(request.pk, Verdict.APPROVE, by=mara, reason="")

    assert first.pk == second.pk
    assert len(subject.answers) == 1


def test_deciding_after_a_colleague_says_who_decided_what(subject):
    request, mara = a_request(), an_actor(Role.SUPPORT)
    requests.decide(request.pk, Verdict.APPROVE, by=mara, reason="", edits={"amount": "99"})

    with pytest.raises(problems.Conflict) as refused:
        requests.decide(request.pk, Verdict.REJECT, by=an_actor(Role.SUPPORT), reason="no")

    assert mara.label in refused.value.detail
    assert "129.00 became 99.00" in refused.value.detail
    assert len(subject.answers) == 1


def test_a_stale_version_is_refused(subject):
    request = a_request(version=2)

    with pytest.raises(problems.Conflict, match="changed since"):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(Role.SUPPORT), reason="", version=1)

    assert_untouched(request, subject)


def test_a_request_past_its_deadline_is_refused_before_the_sweeper_came(subject):
    request = a_request(due_at=now() - timedelta(seconds=1))

    with pytest.raises(problems.Conflict, match="expired"):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(Role.SUPPORT), reason="")

    assert_untouched(request, subject)


@pytest.mark.parametrize("role", [Role.MANAGER, Role.AUDITOR, ""])
def test_who_may_not_decide_finds_nothing(role, subject):
    request = a_request()

    with pytest.raises(ApprovalRequest.DoesNotExist):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(role), reason="")

    assert_untouched(request, subject)


def test_a_right_on_another_agent_finds_nothing(subject):
    request = a_request(agent="shop-support")

    with pytest.raises(ApprovalRequest.DoesNotExist):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(Role.OPERATOR, agent="mail-triage"), reason="")

    assert_untouched(request, subject)


def test_nobody_decides_for_themselves(subject):
    mara = an_actor(Role.ADMIN)
    request = a_request(requested_for=mara.id)

    with pytest.raises(problems.Forbidden, match="themselves"):
        requests.decide(request.pk, Verdict.APPROVE, by=mara, reason="")

    assert_untouched(request, subject)


def test_four_eyes_needs_somebody_else_than_who_started_the_work(subject):
    starter = an_actor(Role.ADMIN)
    request = a_request(four_eyes=True, requested_by=starter.id)

    with pytest.raises(problems.Forbidden, match="second person"):
        requests.decide(request.pk, Verdict.APPROVE, by=starter, reason="")
    assert_untouched(request, subject)

    requests.decide(request.pk, Verdict.APPROVE, by=an_actor(Role.SUPPORT), reason="")
    assert len(subject.answers) == 1


def test_a_token_does_not_make_its_owner_a_second_person(subject):
    owner = a_user(Role.ADMIN)
    token = a_token_of(owner)
    by_token = a_request(four_eyes=True, requested_by=str(token.pk))
    by_person = a_request(four_eyes=True, requested_by=str(owner.pk))

    with pytest.raises(problems.Forbidden, match="second person"):
        requests.decide(by_token.pk, Verdict.APPROVE, by=owner.actor(), reason="")
    with pytest.raises(problems.Forbidden, match="second person"):
        requests.decide(by_person.pk, Verdict.APPROVE, by=token.actor(), reason="")

    assert subject.answers == []


def test_when_the_subject_fails_nothing_was_decided(subject):
    request, subject.fails = a_request(), True

    with pytest.raises(RuntimeError):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(Role.SUPPORT), reason="")

    assert_untouched(request, subject)


def test_the_right_says_beside_the_buttons_what_the_verb_would_say():
    request, mara = a_request(), an_actor(Role.SUPPORT)

    assert requests.right(request, by=mara) == MayDecide()
    assert isinstance(requests.right(request, by=an_actor(Role.AUDITOR)), MayNot)
    assert isinstance(requests.right(a_request(requested_for=mara.id), by=mara), MayNot)


# Claiming


def test_claim_holds_for_five_minutes_and_keeps_others_out(subject):
    request, mara, lena = a_request(), an_actor(Role.SUPPORT), an_actor(Role.SUPPORT)

    requests.claim(request.pk, by=mara)

    request.refresh_from_db()
    assert str(request.claimed_by_id) == mara.id
    assert timedelta(minutes=4) < request.claimed_until - now() <= requests.CLAIM
    with pytest.raises(problems.Conflict, match="Take it over"):
        requests.decide(request.pk, Verdict.APPROVE, by=lena, reason="")
    assert subject.answers == []
    requests.decide(request.pk, Verdict.APPROVE, by=mara, reason="")
    assert len(subject.answers) == 1


def test_claiming_again_renews_without_a_second_event():
    request, mara = a_request(), an_actor(Role.SUPPORT)
    requests.claim(request.pk, by=mara)
    ApprovalRequest.objects.update(claimed_until=now() + timedelta(minutes=1))

    requests.claim(request.pk, by=mara)

    request.refresh_from_db()
    assert request.claimed_until - now() > timedelta(minutes=4)
    assert kinds(request) == ["claimed"]


def test_a_claim_is_left_to_whoever_has_it_unless_taken_over(subject):
    request, mara, lena = a_request(), an_actor(Role.SUPPORT), an_actor(Role.SUPPORT)
    requests.claim(request.pk, by=mara)

    requests.claim(request.pk, by=lena)
    request.refresh_from_db()
    assert str(request.claimed_by_id) == mara.id

    requests.claim(request.pk, by=lena, take_over=True)
    request.refresh_from_db()
    assert str(request.claimed_by_id) == lena.id
    assert AuditEntry.objects.get().action == "approval.take_over"


def test_a_program_holds_nothing():
    request = a_request()

    with pytest.raises(problems.Forbidden):
        requests.claim(request.pk, by=a_token_of(a_user(Role.ADMIN)).actor())

    request.refresh_from_db()
    assert request.claimed_by is None


def test_a_decided_request_cannot_be_claimed(subject):
    request = a_request(status=ApprovalStatus.REJECTED)

    requests.claim(request.pk, by=an_actor(Role.SUPPORT))

    request.refresh_from_db()
    assert request.claimed_by is None


# Expiring, freezing, withdrawing


def test_expire_due_ends_what_is_overdue_and_nothing_else(subject):
    late, early = a_request(due_at=now() - timedelta(seconds=1)), a_request()
    frozen = a_request(due_at=now() - timedelta(hours=1), status=ApprovalStatus.FROZEN)

    assert requests.expire_due() == 1
    assert requests.expire_due() == 0

    for request, status in ((late, "expired"), (early, "pending"), (frozen, "frozen")):
        request.refresh_from_db()
        assert request.status == status
    assert subject.answers == [("ended", None)]
    assert AuditEntry.objects.get().action == "approval.expire"


def test_freezing_rests_the_deadline_and_thawing_gives_the_time_back():
    mara = an_actor(Role.OPERATOR)
    request = a_request(due_at=now() + timedelta(minutes=20))

    assert requests.freeze(action="issue_refund", agent=None, by=mara, reason="refunds are off") == 1
    request.refresh_from_db()
    assert (request.status, request.version) == (ApprovalStatus.FROZEN, 2)
    ApprovalRequest.objects.update(due_at=now() - timedelta(hours=3))  # three hours pass
    assert requests.expire_due() == 0

    assert requests.thaw(action="issue_refund", agent=None, by=mara, reason="fixed") == 1
    request.refresh_from_db()
    assert (request.status, request.version) == (ApprovalStatus.PENDING, 3)
    assert timedelta(minutes=19) < request.due_at - now() <= timedelta(minutes=20)
    assert kinds(request) == ["frozen", "thawed"]


def test_freezing_reaches_only_the_named_action_or_agent():
    mara = an_actor(Role.OPERATOR)
    refund, mail = a_request(), a_request(action="send_reply")
    other = a_request(agent="mail-triage")

    requests.freeze(action="send_reply", agent=None, by=mara, reason="off")
    requests.freeze(action=None, agent="mail-triage", by=mara, reason="off")

    found = {r.pk: r.status for r in ApprovalRequest.objects.all()}
    assert found == {refund.pk: "pending", mail.pk: "frozen", other.pk: "frozen"}


def test_a_frozen_request_cannot_be_approved(subject):
    request = a_request()
    requests.freeze(action=None, agent=None, by=an_actor(), reason="everything is off")

    with pytest.raises(problems.Conflict, match="kill switch"):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(Role.SUPPORT), reason="", version=2)

    assert subject.answers == []


def test_thawing_leaves_what_something_else_still_stops():
    mara = an_actor()
    request = a_request(status=ApprovalStatus.FROZEN, left_when_frozen=timedelta(minutes=5))

    assert requests.thaw(action=None, agent=None, by=mara, reason="fixed", still=lambda r: "another switch") == 0

    request.refresh_from_db()
    assert request.status == ApprovalStatus.FROZEN
    assert request.events.last().data["reason"] == "another switch"


def test_void_withdraws_an_open_or_approved_request(subject):
    request = a_request()

    requests.void(KIND, request.subject_id, by=system("gate"), reason="the run was cancelled")

    request.refresh_from_db()
    assert request.status == ApprovalStatus.VOID
    assert requests.void(KIND, request.subject_id, by=system("gate"), reason="again") is None
    with pytest.raises(problems.Conflict, match="already void"):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(Role.SUPPORT), reason="")


def test_one_open_request_per_subject():
    first = a_request()

    with pytest.raises(IntegrityError), transaction.atomic():
        a_request(subject_id=first.subject_id)


def test_a_final_status_is_final():
    request = a_request(status=ApprovalStatus.EXPIRED)

    with pytest.raises(IllegalMove, match="final"):
        requests._settle(request, ApprovalStatus.APPROVED)


# Two people at the same instant


@pytest.mark.django_db(transaction=True)
def test_two_people_deciding_at_the_same_instant_make_one_decision(subject):
    """D21. Without the row lock both pass the guard; the second then fails on the unique constraint, with a 500."""
    for _ in range(5):
        request = a_request()
        answers = at_once(
            lambda by, key=request.pk: requests.decide(key, Verdict.APPROVE, by=by, reason=""),
            lambda by, key=request.pk: requests.decide(key, Verdict.REJECT, by=by, reason="no"),
        )

        assert sorted(type(answer).__name__ for answer in answers) == ["Conflict", "Decision"], answers
        assert Decision.objects.filter(request=request).count() == 1
    assert len(subject.answers) == 5


@pytest.mark.django_db(transaction=True)
def test_deciding_and_expiring_at_the_same_instant_end_once(subject):
    for _ in range(5):
        request = a_request(due_at=now() + timedelta(milliseconds=300))
        after = request.due_at
        answers = at_once(
            lambda by, key=request.pk: requests.decide(key, Verdict.APPROVE, by=by, reason=""),
            lambda by, key=request.pk, moment=after: requests.expire(key, moment=moment),
        )

        request.refresh_from_db()
        won = [answer for answer in answers if isinstance(answer, Decision) or answer is True]
        assert len(won) == 1, answers
        assert request.status in (ApprovalStatus.APPROVED, ApprovalStatus.EXPIRED)
    assert len(subject.answers) == 5


def at_once(*verbs):
    """Run each verb on a connection of its own, all released together. Returns results and exceptions."""
    actors = [an_actor(Role.ADMIN) for _ in verbs]
    gate, answers = threading.Barrier(len(verbs)), [None] * len(verbs)

    def run(index):
        try:
            connection.ensure_connection()
            gate.wait(timeout=PATIENCE_S)
            answers[index] = verbs[index](actors[index])
        except Exception as refused:
            answers[index] = refused
        finally:
            close_old_connections()
            connection.close()

    threads = [threading.Thread(target=run, args=[index]) for index in range(len(verbs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=PATIENCE_S)
    return answers
