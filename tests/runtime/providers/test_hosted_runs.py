"""Whole runs with a model behind HTTP: engine, gate, budgets and trace over the provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from releases import bundles
from releases.models import Release
from runtime import tools
from runtime.states import RunStatus, StepKind, StepStatus
from tests import builders
from tests.model_server import Answer, ModelServer, ProposedCall
from tests.runtime import harness
from tests.runtime.harness import start, trace, work

pytestmark = pytest.mark.django_db(transaction=True)

PRICE = {"input_usd": "1.00", "cached_input_usd": "0.10", "output_usd": "10.00"}
READ = ProposedCall("spy_read", '{"order_id": "10482"}')


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    yield from harness.fresh()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as running:
        yield running


def a_model(server: ModelServer, **fields: Any) -> dict[str, Any]:
    return {"provider": "openai-compatible", "name": "stub-1", "base_url": server.url, "timeout_s": 30, **fields}


def a_hosted_release(server: ModelServer, *, model: dict[str, Any] | None = None, **content: Any) -> Release:
    manifests = [tools.known()[name].manifest.model_dump(mode="json") for name in harness.TOOLS]
    content.setdefault("budgets", bundles.Budgets().model_dump(mode="json"))
    return builders.a_release(model=model or a_model(server), tools=manifests, **content)


def test_a_run_survives_a_429_calls_its_tool_and_answers(server):
    measured = {"prompt_tokens": 400, "completion_tokens": 20, "cached": 100}
    server.script(
        Answer(status=429, retry_after="0"),
        Answer("I look it up.", (READ,), usage=measured),
        Answer("Your order is on its way.", usage=measured),
    )

    run = work(start(a_hosted_release(server, model=a_model(server, price=PRICE))))

    assert (run.status, run.answer) == (RunStatus.SUCCEEDED, "Your order is on its way.")
    models = list(run.steps.filter(kind=StepKind.MODEL).order_by("seq").values_list("status", "error", "attempt"))
    assert models == [
        (StepStatus.FAILED, "rate_limited", 1),
        (StepStatus.DONE, "", 2),
        (StepStatus.DONE, "", 1),
    ]
    assert [name for name, _ in harness.effects] == ["spy_read"]
    assert (run.input_tokens, run.cached_tokens, run.output_tokens) == (800, 200, 40)
    assert (run.cost_usd, run.cost_basis) == (Decimal("0.00102"), "exact")  # 600 × 1 + 200 × 0.1 + 40 × 10 millionths
    told = server.requests[2]["messages"]
    assert json.loads(told[-1]["content"]) == {"order": "10482", "total": "129.00"}


def test_the_fallback_answers_when_the_first_model_refuses_for_good(server):
    with ModelServer() as second:
        server.script(Answer(status=401, error="Wrong key."))
        second.script(Answer("I am the other one.", model="other-1"))
        release = a_hosted_release(server, fallback_model=a_model(second, name="other"))

        run = work(start(release))

    assert (run.status, run.answer) == (RunStatus.SUCCEEDED, "I am the other one.")
    assert [name for kind, name, _ in trace(run) if kind == "model"] == ["stub-1", "other-1"]
    assert len(server.requests) == 1


def test_a_model_that_stays_down_fails_the_run_with_its_cause(server):
    server.script(Answer(status=503))
    budgets = bundles.Budgets(max_model_attempts=2).model_dump(mode="json")

    run = work(start(a_hosted_release(server, budgets=budgets)))

    assert (run.status, run.cause) == (RunStatus.FAILED, "model_unavailable")
    assert len(server.requests) == 2


def test_a_missing_key_fails_the_run_and_names_the_variable(server, monkeypatch):
    monkeypatch.delenv("KEY_OF_NOBODY", raising=False)

    run = work(start(a_hosted_release(server, model=a_model(server, api_key_variable="KEY_OF_NOBODY"))))

    assert (run.status, run.cause) == (RunStatus.FAILED, "model_no_key")
    assert "KEY_OF_NOBODY" in run.steps.get(kind=StepKind.MODEL).summary


@pytest.mark.parametrize(
    "arguments",
    [
        '{"order_id": "1", "amount": "5.00", "amount": "500.00"}',
        '{"order_id": "1", "amount": NaN}',
        '{"order_id": "1", "amount": 1e999}',
        '{"order_id": "1", "amount": "5.00"',
        '{"order_id": "1", "amount": ' + "[" * 300 + "5" + "]" * 300 + "}",
        '{"order_id": "1", "amount": ' + "[" * 50_000 + "]" * 50_000 + "}",
    ],
)
def test_arguments_that_can_be_read_two_ways_are_never_executed(server, arguments):
    server.script(Answer("", (ProposedCall("spy_pay", arguments),)), Answer("I could not do it."))

    run = work(start(a_hosted_release(server)))

    assert run.status == RunStatus.SUCCEEDED
    assert harness.paid() == []
    assert harness.effects == []


def test_nonsense_usage_is_charged_and_marked(server):
    server.script(
        Answer("An answer without any count of tokens.", usage={"prompt_tokens": -900, "completion_tokens": 1})
    )

    run = work(start(a_hosted_release(server, model=a_model(server, price=PRICE))))

    assert run.status == RunStatus.SUCCEEDED
    assert run.input_tokens > 100
    assert run.cost_usd > 0
    assert run.cost_basis == "estimated"


def test_a_reply_that_hangs_ends_in_the_time_out_of_the_model(server):
    server.script(Answer("too late", delay_s=1.5))
    budgets = bundles.Budgets(max_model_attempts=1).model_dump(mode="json")

    run = work(start(a_hosted_release(server, model=a_model(server, timeout_s=0.4), budgets=budgets)))

    assert (run.status, run.cause) == (RunStatus.FAILED, "model_timeout")
