"""Requests that several people must approve, and those that only certain roles decide."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from approvals import cards, decisions, inbox, requests
from approvals.models import ApprovalRequest, Decision
from approvals.policies.deciding import MayDecide, MayNot
from approvals.states import ApprovalStatus, Verdict
from console import problems
from console.models import ApiToken, AuditEntry, RoleGrant
from console.roles import Role
from tests.approvals.conftest import KIND
from tests.builders import a_user, an_actor, an_approval
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.django_db
SOON = datetime.now(UTC) + timedelta(days=1)


def a_request(needed: int = 2, **fields):
    return an_approval(subject_kind=KIND, approvals_needed=needed, **fields)


def read(user, request):
    browser = Client()
    browser.force_login(user)
    return browser.get(reverse("approvals:detail", args=[request.pk])).content.decode()


def approve(request, by):
    return requests.decide(request.pk, Verdict.APPROVE, by=by, reason="", version=1)


def test_the_first_of_two_approvals_leaves_the_question_open_for_somebody_else(subject):
    request, ada, ben = a_request(), an_actor(Role.SUPPORT), an_actor(Role.OPERATOR)
    requests.claim(request.pk, by=ada)

    approve(request, ada)

    request.refresh_from_db()
    assert request.status == ApprovalStatus.PENDING
    assert subject.answers == []
    assert request.claimed_by is None
    assert requests.right(request, by=ben) == MayDecide()
    assert list(request.events.values_list("kind", flat=True)) == ["claimed", "voted"]
    assert AuditEntry.objects.get(action="approval.approve").changes == {"approvals": ["0 of 2", "1 of 2"]}
    assert decisions.outcome(request) is None

    approve(request, ben)

    request.refresh_from_db()
    assert request.status == ApprovalStatus.APPROVED
    assert [verdict for verdict, _ in subject.answers] == ["approve"]
    assert decisions.deciders(request) == f"{ada.label} and {ben.label}"


def test_one_person_counts_once_whatever_they_answer_with(subject):
    request, user = a_request(), a_user(Role.SUPPORT)
    token = ApiToken.objects.create(
        owner=user, name="script", prefix="abcd1234", digest="0" * 64, scopes=["approvals.decide"], expires_at=SOON
    )

    first = approve(request, user.actor())

    assert approve(request, user.actor()) == first
    with pytest.raises(problems.Forbidden, match="You have approved this, 1 of 2"):
        approve(request, token.actor())
    assert Decision.objects.count() == 1
    assert ApprovalRequest.objects.get().status == ApprovalStatus.PENDING


@pytest.mark.parametrize("is_same_person", [True, False])
def test_a_later_rejection_rejects(subject, is_same_person):
    request, ada = a_request(3), an_actor(Role.SUPPORT)
    approve(request, ada)
    approve(request, an_actor(Role.SUPPORT))

    by = ada if is_same_person else an_actor(Role.SUPPORT)
    requests.decide(request.pk, Verdict.REJECT, by=by, reason="It was the wrong order")

    request.refresh_from_db()
    assert request.status == ApprovalStatus.REJECTED
    assert [verdict for verdict, _ in subject.answers] == ["reject"]
    with pytest.raises(problems.Conflict, match="rejected this"):
        approve(request, an_actor(Role.SUPPORT))


def test_what_several_approve_cannot_be_edited(subject):
    request = a_request()

    with pytest.raises(problems.Invalid, match="2 people approve this exactly as it is proposed"):
        requests.decide(request.pk, Verdict.APPROVE, by=an_actor(), reason="", edits={"amount": "1.00"})

    assert not Decision.objects.exists()


def test_only_the_roles_of_the_question_decide_it_and_on_its_agent(subject):
    request = a_request(1, roles=["admin"])
    elsewhere = a_user(Role.ADMIN, agent="another-agent")
    RoleGrant.objects.create(user=elsewhere, role=Role.SUPPORT, agent="shop-support")

    for actor in (an_actor(Role.SUPPORT), elsewhere.actor()):
        with pytest.raises(problems.Forbidden, match="the role admin"):
            approve(request, actor)
        assert inbox.following(actor, inbox.Filters()) is None
    assert not Decision.objects.exists()

    admin = an_actor(Role.ADMIN)
    assert inbox.following(admin, inbox.Filters()) == request
    approve(request, admin)
    assert ApprovalRequest.objects.get().status == ApprovalStatus.APPROVED


def test_every_approval_is_checked_again_at_dispatch(subject):
    request, ada, ben = a_request(roles=["admin"]), a_user(Role.ADMIN), a_user(Role.ADMIN)
    approve(request, ada.actor())
    approve(request, ben.actor())
    request.refresh_from_db()
    given = list(request.decisions.order_by("pk"))
    assert decisions.why_lapsed(request, given) == ""

    assert "Only 1 of 2" in decisions.why_lapsed(request, given[:1])
    assert "Only 1 of 2" in decisions.why_lapsed(request, [given[0], given[0]])
    ada.grants.update(role=Role.OPERATOR)  # may decide still, but not this
    assert "may not decide" in decisions.why_lapsed(request, given)


def test_who_has_approved_is_not_led_to_it_again_and_may_only_reject(subject):
    request, user = a_request(), a_user(Role.SUPPORT)
    approve(request, user.actor())
    request.refresh_from_db()

    assert inbox.following(user.actor(), inbox.Filters()) is None
    assert isinstance(requests.right(request, by=user.actor()), MayNot)
    assert requests.right(request, by=user.actor(), verdict=Verdict.REJECT) == MayDecide()

    page = read(user, request)
    for part in ("1 of 2 approved", "It waits for somebody else", 'data-may="no"', 'data-may-reject="yes"'):
        assert part in page


def test_a_vote_says_whom_it_waits_for(subject):
    request, user = a_request(), a_user(Role.SUPPORT)
    browser = Client()
    browser.force_login(user)

    answer = browser.post(
        reverse("approvals:decide", args=[request.pk]), {"verdict": "approve", "version": "1"}, follow=True
    )

    assert "Approved, 1 of 2; it waits for somebody else" in answer.content.decode()


def test_a_request_that_expires_after_one_approval_says_that_one_was_not_enough(subject):
    request, user = a_request(), a_user(Role.SUPPORT)
    approve(request, user.actor())
    ApprovalRequest.objects.update(due_at=request.created_at)

    requests.expire(request.pk, moment=request.due_at)

    request.refresh_from_db()
    assert request.status == ApprovalStatus.EXPIRED
    assert decisions.outcome(request) is None
    assert AuditEntry.objects.get(action="approval.expire").reason.startswith("Only 1 of 2 people approved by ")
    page = read(user, request)
    assert "Only 1 of 2 people approved in time" in page
    assert "Nobody decided" not in page


def test_the_list_and_the_request_say_how_many_have_approved_and_that_nothing_can_be_edited(subject):
    request, reader = a_request(), a_user(Role.ADMIN)
    before = read(reader, request)
    approve(request, an_actor(Role.SUPPORT))

    after = read(reader, request)

    assert "2 people</span>" in before
    assert "Nothing can be edited" in before
    assert 'name="arg-' not in before
    assert "1 of 2 approved</span>" in after


def test_a_request_that_all_have_approved_tells_each_answer_once(subject):
    request, ada, ben = a_request(), an_actor(Role.SUPPORT), a_user(Role.ADMIN)
    approve(request, ada)
    requests.decide(request.pk, Verdict.APPROVE, by=ben.actor(), reason="I have seen the photo", version=1)

    page = read(ben, request)

    assert "2 of 2 approved" in page
    assert page.count("I have seen the photo") == 1
    assert page.count(f"{ben} approved") == 1


def test_only_who_can_answer_may_hold_a_request_or_take_it_over(subject):
    request, holder = a_request(roles=["admin"]), an_actor(Role.ADMIN)
    requests.claim(request.pk, by=holder)
    support, admin = a_user(Role.SUPPORT), a_user(Role.ADMIN)

    with pytest.raises(problems.Forbidden, match="the role admin"):
        requests.claim(request.pk, by=support.actor(), take_over=True)

    request.refresh_from_db()
    assert str(request.claimed_by_id) == holder.id
    assert "Take over" not in read(support, request)
    assert "You cannot decide this" in read(support, request)
    assert "Take over" in read(admin, request)
    assert f"{holder.label} holds this request" in read(admin, request)


def test_who_has_approved_may_take_it_over_to_reject_it(subject):
    request, user = a_request(), a_user(Role.SUPPORT)
    approve(request, user.actor())
    requests.claim(request.pk, by=an_actor(Role.ADMIN))

    assert "Take over" in read(user, request)
    assert "It waits for somebody else" in read(user, request)
    requests.claim(request.pk, by=user.actor(), take_over=True)

    assert "Take over" not in read(user, request)
    requests.decide(request.pk, Verdict.REJECT, by=user.actor(), reason="It was the wrong order")
    assert subject.answers[0][0] == "reject"


def test_two_answers_to_one_question_are_one_similar_decision_and_one_of_today(subject):
    for _ in range(2):
        request = a_request()
        approve(request, an_actor())
        approve(request, an_actor())
    half = a_request()
    approve(half, an_actor())
    reader = an_actor(Role.ADMIN)

    assert cards.card(half, by=reader).similar is None  # two are too few
    assert inbox.today(reader).decided == 2

    requests.decide(half.pk, Verdict.REJECT, by=reader, reason="It was the wrong order")

    assert cards.card(a_request(), by=reader).similar == (2, 3)
    assert inbox.today(reader).decided == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("needed", "expected"), [(1, ["Conflict", "Decision"]), (2, ["Decision", "Decision"])])
def test_two_people_at_the_same_instant_on_two_connections(subject, needed, expected):
    """Both count where two are needed, and whoever comes last wakes what waits, once."""
    for turn in range(5):
        request = a_request(needed)
        actors = [an_actor(Role.ADMIN), an_actor(Role.ADMIN)]
        together, answers = threading.Barrier(2), []

        def act(by, request=request, together=together, answers=answers):
            together.wait()
            try:
                answers.append(type(approve(request, by)).__name__)
            except problems.Problem as refused:
                answers.append(type(refused).__name__)
            finally:
                connection.close()

        threads = [threading.Thread(target=act, args=(by,)) for by in actors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=PATIENCE_S)

        request.refresh_from_db()
        assert sorted(answers) == expected
        assert request.status == ApprovalStatus.APPROVED
        assert len(subject.answers) == turn + 1
