"""The verifier before the final answer: one more answer, then a person; and what a crash in between leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings

from runtime import verifiers
from runtime.messages import Notice, Reply
from runtime.models import Run
from runtime.providers.base import ModelRequest
from runtime.states import RunStatus
from runtime.verifiers import Answer
from tests.runtime import harness
from tests.runtime.harness import a_scripted_release, calling, saying, start, work

pytestmark = pytest.mark.django_db(transaction=True)

BY_CODE = {"kind": "code", "name": "spy"}
seen: list[Answer] = []


@verifiers.verifier("spy")
def _spy(answer: Answer) -> str | None:
    """No answer may promise anything."""
    seen.append(answer)
    if "crash" in answer.text:
        raise ValueError("broken")
    return "It promises something." if "promise" in answer.text else None


@verifiers.verifier("spy-async")
async def _spy_async(answer: Answer) -> str | None:
    return None if answer.calls else "It has looked nothing up."


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    seen.clear()
    yield from harness.fresh()


def a_run(*replies: Reply | str, verification: Any = BY_CODE, **content: Any) -> Run:
    return work(start(a_scripted_release(saying(*replies), verification=verification, **content)))


def verdicts(run: Run) -> list[tuple[str, str]]:
    return list(run.steps.filter(rule="verification").order_by("seq").values_list("verdict", "summary"))


def test_an_answer_that_passes_is_given():
    run = a_run(calling("spy_read", order_id="7"), "It is on its way.")

    assert (run.status, run.answer) == (RunStatus.SUCCEEDED, "It is on its way.")
    assert verdicts(run) == [("passed", "")]
    assert (seen[0].asked, seen[0].calls[0].tool, seen[0].calls[0].arguments) == (
        "Please refund order 10482",
        "spy_read",
        {"order_id": "7"},
    )


def test_the_model_is_told_what_was_found_and_answers_once_more():
    told: list[Any] = []

    def script(request: ModelRequest) -> Reply:
        told.extend(message.text for message in request.messages if isinstance(message, Notice))
        return saying("I promise.", "I cannot say.")(request)

    run = work(start(a_scripted_release(script, verification=BY_CODE)))

    assert (run.status, run.answer, run.model_calls) == (RunStatus.SUCCEEDED, "I cannot say.", 2)
    assert [verdict for verdict, _ in verdicts(run)] == ["flagged", "passed"]
    assert "It promises something." in told[0]


def test_a_second_failure_hands_off_with_both_verdicts():
    run = a_run("I promise.", "I promise again.", "Never reached.")

    assert (run.status, run.cause) == (RunStatus.ESCALATED, "verification")
    assert "promise" not in run.answer
    assert verdicts(run) == [("flagged", "It promises something."), ("refused", "It promises something.")]
    assert run.model_calls == 2


def test_the_guardrails_check_the_second_answer_as_well():
    rails = [{"id": "no-swearing", "on": "output", "check": "banned_phrases", "settings": {"phrases": ["damn"]}}]

    run = a_run("I promise.", "Damn.", guardrails=rails)

    assert (run.status, run.cause) == (RunStatus.REFUSED, "guardrail:no-swearing")


@verifiers.verifier("spy_that_leaves")
async def _leaving(answer: Answer) -> str | None:
    raise SystemExit(3)


def test_a_verifier_that_ends_the_interpreter_ends_nothing():
    run = a_run("All is paid.", verification={"kind": "code", "name": "spy_that_leaves", "retries": 0})

    assert run.status == RunStatus.ESCALATED
    assert "It raised SystemExit." in verdicts(run)[0][1]


@pytest.mark.parametrize(("unchecked", "status"), [("act", "escalated"), ("pass", "succeeded")])
def test_a_verifier_that_fails_counts_as_the_release_says(unchecked: str, status: str):
    run = a_run("crash", verification={**BY_CODE, "retries": 0, "unchecked": unchecked})

    assert run.status == status
    assert "broke off (ValueError: broken)" in verdicts(run)[0][1]


def test_a_verifier_that_nobody_offers_passes_nothing():
    run = a_run("Hi.", verification={"kind": "code", "name": "gone", "retries": 0})

    assert run.status == RunStatus.ESCALATED
    assert run.cause_detail == "No installed package offers the verifier gone."


def test_a_verifier_may_be_a_coroutine():
    assert a_run("Hi.", verification={"kind": "code", "name": "spy-async", "retries": 0}).status == "escalated"


def test_the_short_form_escalates_at_once_as_it_always_did():
    run = a_run("You get $500.00 back.", "Nothing.", verification="grounded_figures")

    assert (run.status, run.model_calls) == (RunStatus.ESCALATED, 1)


def test_a_second_model_judges_by_the_criteria_and_what_the_run_was_told():
    asked: list[str] = []

    def script(request: ModelRequest) -> Reply:
        if "judge" in request.instructions:
            asked.append(harness.told(request)[0])
            return Reply(json.dumps({"pass": len(asked) > 1, "reason": "Not covered."}))
        return saying(calling("spy_read", order_id="7"), "All is paid.", "I will ask.")(request)

    release = a_scripted_release(script, verification={"kind": "model", "criteria": "Every promise is covered."})
    run = work(start(release))

    assert (run.status, run.answer) == (RunStatus.SUCCEEDED, "I will ask.")
    assert "Every promise is covered." in asked[0] and "All is paid." in asked[0] and "129.00" in asked[0]
    assert run.model_calls == 5
    assert run.steps.filter(rule="verification", input_tokens__gt=0).count() == 2


# A crash between the verdict and the second answer


def test_a_crash_before_the_verdict_is_durable_asks_everything_again(monkeypatch: pytest.MonkeyPatch):
    harness.vanishing(monkeypatch, lambda turn: turn.state.answers_again == 1)
    run = a_run("I promise.", "I cannot say.")
    assert run.status == RunStatus.RUNNING

    run = harness.taken_over(run)

    assert (run.status, run.answer) == (RunStatus.SUCCEEDED, "I cannot say.")
    assert [verdict for verdict, _ in verdicts(run)] == ["flagged", "passed"]


def test_a_crash_after_the_verdict_is_durable_does_not_send_the_answer_back_twice(monkeypatch: pytest.MonkeyPatch):
    """The verdict is written before the second answer is asked for, so a second failure after the crash is the last."""
    asked: list[int] = []

    def script(request: ModelRequest) -> Reply:
        asked.append(sum(isinstance(message, Notice) for message in request.messages))
        return saying("I promise.", "I promise more.", "I promise most.")(request)

    harness.vanishing(monkeypatch, lambda turn: turn.state.answers_again == 1 and turn.state.answer is not None)
    run = work(start(a_scripted_release(script, verification=BY_CODE)))
    assert run.status == RunStatus.RUNNING
    assert verdicts(run) == [("flagged", "It promises something.")]

    run = harness.taken_over(run)

    assert (run.status, run.cause) == (RunStatus.ESCALATED, "verification")
    assert [verdict for verdict, _ in verdicts(run)] == ["flagged", "refused"]
    assert asked == [0, 1, 1]


def test_a_judgement_is_durable_before_the_second_answer_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    """It has been paid for, and it says that the one more answer is used up."""

    def script(request: ModelRequest) -> Reply:
        if "judge" in request.instructions:
            return Reply(json.dumps({"pass": False, "reason": "Not covered."}))
        return saying("All is paid.", "All is well.")(request)

    harness.vanishing(monkeypatch, lambda turn: turn.state.answers_again == 1 and turn.state.answer is not None)
    run = work(start(a_scripted_release(script, verification={"kind": "model", "criteria": "Covered."})))
    assert verdicts(run) == [("flagged", "Not covered.")]

    run = harness.taken_over(run)

    assert (run.status, len(verdicts(run))) == (RunStatus.ESCALATED, 2)


def test_the_verifier_of_the_documents_does_what_they_say():
    page = (settings.BASE_DIR / "docs" / "how-to" / "guard-texts.md").read_text()
    exec(page.split("```python\n")[1].split("```")[0], {"__name__": "documents"})  # noqa: S102

    run = a_run("It was refunded.", "I will look.", verification={"kind": "code", "name": "refunds-were-paid"})

    assert run.answer == "I will look."
    assert "issue_refund has not paid one" in verdicts(run)[0][1]


def test_two_verifiers_cannot_have_one_name():
    other = lambda answer: None  # noqa: E731
    other.__module__ = "elsewhere"

    with pytest.raises(ValueError, match="Two verifiers are called spy"):
        verifiers.verifier("spy")(other)
