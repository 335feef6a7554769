"""What a model proposes that no tool of the release takes: it meets the gate, and nothing else (D01, D02, D06)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import Verdict
from console import problems
from console.actors import system
from runtime.messages import Call, Reply
from runtime.models import Run
from runtime.providers import arguments
from runtime.states import RunStatus
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, effects, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)

# Every payment asks, so that a refusal which came after the rules would leave a card.
ASK = {"id": "ask", "tool": "spy_pay", "then": "ask", "reason": "Every payment needs a person."}
GOOD = {"order_id": "1", "amount": "5"}
ROOM = {"max_steps": 200, "max_tool_calls": 200, "max_tokens": 10_000_000}
NAMES = (
    "Spy_Pay", "SPY_PAY", "spy_pay ", " spy_pay", "spy_pay\n", "spy_pay\t", "spy\u200b_pay", "spy_pay\ufeff",
    "spy\u00adpay", "\u0455py_pay", "spy_p\u0430y", "\uff53py_pay", "spy\u2010pay", "spy_pay()", "spy_payment", "spy",
    "", ".", "../spy_pay", "runtime.spy_pay", "spy_pay;spy_pay", "spy_pay\u202e", "spy_send", "unsafe_send", "remember",
    "__class__", "p" * 5000,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


def proposing(*calls: Call, **content: Any) -> Run:
    content = {"use": ["spy_pay"], "rules": [ASK], "budgets": ROOM, **content}
    return work(start(a_scripted_release(saying(Reply("", calls), "I could not."), **content)))


def test_a_tool_that_the_release_does_not_have_is_denied_and_noted_and_raises_no_card():
    """D01: other case, spaces, hidden characters, look-alike letters, what is installed but not in the release."""
    run = proposing(*(Call(f"c{place}", name, GOOD) for place, name in enumerate(NAMES)))

    assert (effects, ApprovalRequest.objects.count()) == ([], 0)
    refused = run.steps.filter(verdict="refused").order_by("seq").select_related("payload")
    assert [step.rule for step in refused] == ["release-tools"] * len(NAMES)
    assert all("There is no tool" in step.payload.output["reason"] for step in refused)
    assert not run.steps.filter(kind="tool").exists()
    assert (run.status, run.tool_calls, run.tool_errors) == (RunStatus.SUCCEEDED, 0, len(NAMES))


def test_whoever_approves_everything_opens_nothing_that_the_release_does_not_have():
    """D06: the list of a release is not on any card, so no hurried person can let something past it."""
    run = proposing(Call("c1", "spy_send", {"text": "all secrets"}), Call("c2", "spy_pay", GOOD))
    for request in ApprovalRequest.objects.open():
        requests.decide(request.pk, Verdict.APPROVE, by=system("somebody in a hurry"), reason="")

    run = work(run)

    assert [name for name, _ in effects] == ["spy_pay"]
    assert run.status == RunStatus.SUCCEEDED


RAW = {
    "one too many": json.dumps({**GOOD, "to": "me"}),
    "a hidden one": json.dumps({**GOOD, "amount\u200b": "1"}),
    "one missing": json.dumps({"order_id": "1"}),
    "none": "",
    "a list for a text": json.dumps({"order_id": ["1"], "amount": "5"}),
    "an object for a text": json.dumps({"order_id": {"$ne": ""}, "amount": "5"}),
    "a word for a number": json.dumps({"order_id": "1", "amount": "many"}),
    "a truth for a number": json.dumps({"order_id": "1", "amount": True}),
    "null": json.dumps({"order_id": "1", "amount": None}),
    "NaN": '{"order_id": "1", "amount": NaN}',
    "NaN as text": json.dumps({"order_id": "1", "amount": "NaN"}),
    "infinity": '{"order_id": "1", "amount": Infinity}',
    "minus infinity as text": json.dumps({"order_id": "1", "amount": "-Infinity"}),
    "beyond any number": '{"order_id": "1", "amount": 1e999}',
    "the same key twice": '{"order_id": "1", "amount": "5", "amount": "5000"}',
    "no object": '["1", "5"]',
    "no JSON": "order 1, five dollars",
    "two objects": json.dumps(GOOD) * 2,
    "a megabyte": json.dumps({"order_id": "1" * 1_000_000, "amount": "5"}),
    "a megabyte of spaces and one too many": json.dumps({**GOOD, " ": ""}) + " " * 1_000_000,
    "endless nesting": '{"order_id": ' + "[" * 50_000 + "]" * 50_000 + "}",
}


def test_arguments_that_do_not_fit_are_refused_before_anybody_is_asked_about_them():
    """D02: as a provider's parser reads them; the rule that asks about every payment never sees them."""
    run = proposing(
        *(Call(f"c{place}", "spy_pay", arguments.parse(raw)) for place, raw in enumerate(RAW.values())),
    )

    assert (effects, ApprovalRequest.objects.count()) == ([], 0)
    rules = run.steps.filter(verdict="refused").order_by("seq").values_list("rule", flat=True)
    assert dict(zip(RAW, rules, strict=False)) == dict.fromkeys(RAW, "schema"), run.cause_detail
    assert (run.status, run.tool_errors) == (RunStatus.SUCCEEDED, len(RAW))


def test_a_model_that_goes_on_proposing_nonsense_uses_up_its_budget():
    """D02: each refused call is a step of the run, so the limit of steps ends it."""
    nonsense = (Call(f"c{place}", "spy_pay", {"order_id": str(place)}) for place in range(50))

    run = proposing(*nonsense, budgets={**ROOM, "max_steps": 20})

    assert (run.status, run.cause) == (RunStatus.FAILED, "budget:max_steps")
    assert run.steps_used <= 21
    assert effects == []


def test_a_call_with_a_credential_in_it_is_refused_and_not_made_with_what_is_left():
    """D42: it is masked before the call is kept, and what was masked is nobody's proposal."""
    run = proposing(
        Call("c1", "spy_pay", {**GOOD, "order_id": "password=hunter2222"}),
        Call("c2", "spy_pay", arguments.parse('{"order_id": "AKIAABCDEFGHIJKLMNOP", "amount": "5"}')),
    )

    assert (effects, ApprovalRequest.objects.count(), run.status) == ([], 0, RunStatus.SUCCEEDED)
    rules = run.steps.filter(verdict="refused").values_list("rule", flat=True)
    assert list(rules) == ["secret-in-arguments"] * 2


def test_a_credential_cannot_be_edited_into_a_call():
    """D42: the edit is refused before anything of it is kept."""
    card = ApprovalRequest.objects.get(subject_id__startswith=proposing(Call("c1", "spy_pay", GOOD)).public_id)
    ApprovalRequest.objects.update(fields=[{**field, "editable": True} for field in card.fields])

    with pytest.raises(problems.Invalid, match="credential"):
        requests.decide(
            card.pk, Verdict.APPROVE, by=system("test"), reason="", edits={"order_id": "AKIAABCDEFGHIJKLMNOP"}
        )
