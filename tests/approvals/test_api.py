"""Approval requests as programs read and decide them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils.timezone import now

from approvals import subjects
from approvals.models import ApprovalRequest, Decision
from approvals.states import ApprovalStatus, Verdict
from console import problems
from console.models import AuditEntry
from console.roles import Role
from tests.builders import a_decision, an_approval
from tests.programs import Program

pytestmark = pytest.mark.django_db


class Subject:
    """Stands for whatever asked: takes any arguments below a thousand, and remembers how it was answered."""

    def __init__(self):
        self.answers = []

    def check(self, request, arguments):
        if float(arguments["amount"]) >= 1000:
            raise problems.Invalid("At most 999.", errors={"amount": "At most 999."})
        return dict(arguments)

    def decided(self, request, decision):
        self.answers.append(decision.verdict)

    def ended(self, request):
        self.answers.append("ended")


@pytest.fixture
def subject(monkeypatch):
    found = Subject()
    monkeypatch.setitem(subjects._handlers, "test.subject", found)
    return found


def a_request(**fields):
    return an_approval(subject_kind="test.subject", **fields)


def test_get_shows_the_exact_arguments_and_why_a_person_is_asked():
    request = a_request()

    told = Program().get(f"/approvals/{request.public_id}").json()

    assert told["arguments"] == {"order_id": "1042", "amount": "129.00"}
    assert told["editable"] == ["amount"]
    assert (told["status"], told["amount_usd"], told["may_decide"]) == ("pending", "129.00", True)
    assert told["why"]
    assert told["decision"] is None


def test_list_filters_by_status_action_and_risk():
    wanted = a_request(risk="high")
    a_request(risk="low", action="send_reply")
    a_request(status=ApprovalStatus.REJECTED)
    program = Program()

    def found(**query):
        return [item["approval_id"] for item in program.get("/approvals", query).json()["items"]]

    assert found(status="pending", risk="high") == [wanted.public_id]
    assert found(status="pending", action="issue_refund") == [wanted.public_id]
    assert len(found()) == 3
    assert program.get("/approvals", {"status": "open"}).status_code == 422


def test_approve_wakes_the_subject_and_is_audited(subject):
    request, program = a_request(), Program()

    answer = program.post(f"/approvals/{request.public_id}/decision", {"verdict": "approve", "version": 1})

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["decision"]["verdict"]) == ("approved", "approve")
    assert subject.answers == ["approve"]
    assert AuditEntry.objects.get(action="approval.approve").actor_id == str(program.token.pk)


def test_approve_with_edits_keeps_old_and_new(subject):
    request = a_request()

    body = {"verdict": "approve", "edits": {"amount": "29.00"}, "reason": "Only the broken part."}
    told = Program().post(f"/approvals/{request.public_id}/decision", body).json()

    assert told["decision"]["edits"] == {"amount": ["129.00", "29.00"]}
    assert told["decision"]["arguments"] == {"order_id": "1042", "amount": "29.00"}


def test_the_answers_of_a_request_are_listed_and_a_third_one_is_taken_where_it_is_offered(subject):
    labels = {"approve": "It happened", "reject": "It did not happen", "give_up": "Give up"}
    request, plain, program = a_request(labels=labels), a_request(), Program()

    body = {"verdict": "give_up", "reason": "Nobody can say."}
    told = program.post(f"/approvals/{request.public_id}/decision", body).json()
    refused = program.post(f"/approvals/{plain.public_id}/decision", body)

    assert told["answers"] == labels
    assert (told["status"], told["decision"]["verdict"]) == ("rejected", "give_up")
    assert program.get(f"/approvals/{plain.public_id}").json()["answers"].keys() == {"approve", "reject"}
    assert refused.status_code == 422
    assert subject.answers == ["give_up"]


def test_the_same_decision_again_changes_nothing(subject):
    request, program = a_request(), Program()

    answers = [program.post(f"/approvals/{request.public_id}/decision", {"verdict": "approve"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert Decision.objects.count() == 1
    assert subject.answers == ["approve"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"verdict": "reject"}, 422, "reason"),
        ({"verdict": "maybe"}, 422, "verdict"),
        ({"verdict": "approve", "edits": {"order_id": "7"}}, 422, "order_id"),
        ({"verdict": "approve", "edits": {"amount": "5000"}}, 422, "amount"),
        ({"verdict": "reject", "reason": "No.", "edits": {"amount": "1"}}, 422, "edits"),
        ({"verdict": "give_up", "reason": "No.", "edits": {"amount": "1"}}, 422, "edits"),
        ({"verdict": "approve", "status": "approved"}, 422, "status"),
        ({"verdict": "approve", "version": 2}, 409, None),
    ],
)
def test_a_decision_that_cannot_be_used_decides_nothing(subject, body, status, field):
    request = a_request()

    answer = Program().post(f"/approvals/{request.public_id}/decision", body)

    assert answer.status_code == status
    assert field is None or field in answer.json()["errors"]
    request.refresh_from_db()
    assert (request.status, subject.answers) == (ApprovalStatus.PENDING, [])


def test_an_expired_request_is_decided_by_nobody(subject):
    request = a_request(due_at=now() - timedelta(seconds=1))

    assert Program().post(f"/approvals/{request.public_id}/decision", {"verdict": "approve"}).status_code == 409
    assert subject.answers == []


def test_a_token_is_no_second_person(subject):
    program = Program()
    request = a_request(four_eyes=True, requested_by=str(program.owner.pk))

    answer = program.post(f"/approvals/{request.public_id}/decision", {"verdict": "approve"})

    assert answer.status_code == 403
    assert ApprovalRequest.objects.get().status == ApprovalStatus.PENDING


@pytest.mark.parametrize(("role", "told"), [(Role.SUPPORT, "ana@example.com"), (Role.AUDITOR, "•••")])
def test_personal_data_is_masked_for_those_who_only_look_on(role, told):
    request = a_request(arguments={"to": "ana@example.com"}, title="Write to ana@example.com", status="rejected")
    a_decision(request, Verdict.REJECT, reason="Not ana@example.com")
    program = Program(role=role)

    whole = program.get(f"/approvals/{request.public_id}").json()
    line = program.get("/approvals").json()["items"][0]

    assert (whole["title"], line["title"]) == (f"Write to {told}",) * 2
    assert (whole["arguments"], whole["decision"]["arguments"]) == ({"to": told},) * 2
    assert whole["decision"]["reason"] == f"Not {told}"


def test_a_get_decides_nothing(subject):
    request, program = a_request(), Program()

    assert program.get(f"/approvals/{request.public_id}/decision", {"verdict": "approve"}).status_code == 405
    assert subject.answers == []
