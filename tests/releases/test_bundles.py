"""The bundle: what it accepts, what it says when it does not, and its digest."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from releases import bundles
from releases.bundles import Bundle, ToolManifest
from tests.builders import a_bundle, a_tool


def test_a_tool_without_labels_counts_as_the_riskiest():
    tool = ToolManifest(name="mystery")

    assert (tool.effect, tool.output_trust, tool.retry) == ("egress", "untrusted", "unsafe")
    assert tool.is_write


@pytest.mark.parametrize(
    ("change", "place", "word"),
    [
        ({"version": ""}, "version", "at least 1"),
        ({"version": "with space"}, "version", "pattern"),
        ({"surprise": 1}, "surprise", "not permitted"),
        ({"tools": [a_tool("a"), a_tool("a")]}, "", "listed twice: a"),
        ({"tools": [{**a_tool("a"), "effect": "harmless"}]}, "tools.0.effect", "read"),
        ({"rules": [{"id": "r", "tool": "gone", "then": "ask", "reason": "x"}]}, "", "does not have: gone"),
        ({"budgets": {"max_steps": 0}}, "budgets.max_steps", "greater than 0"),
        ({"budgets": {"max_cost_usd": -1}}, "budgets.max_cost_usd", "greater than or equal"),
        ({"budgets": {"max_cost_usd": "NaN"}}, "budgets.max_cost_usd", "finite"),
        ({"model": {"provider": "openai-compatible", "name": "m"}}, "model", "base_url belongs"),
        ({"model": {"provider": "openai", "name": "m", "base_url": "http://x"}}, "model", "base_url belongs"),
        ({"instructions": "x" * 100_001}, "instructions", "100000"),
    ],
)
def test_what_breaks_the_schema_is_named_with_its_place(change, place, word):
    with pytest.raises(ValidationError) as refused:
        Bundle.model_validate({**a_bundle(), **change})

    error = refused.value.errors()[0]
    assert ".".join(map(str, error["loc"])) == place
    assert word in error["msg"]


def test_the_digest_ignores_the_order_of_keys_and_sees_every_value():
    content = a_bundle("1.0")
    shuffled = json.loads(json.dumps(dict(reversed(content.items()))))

    one, same = Bundle.model_validate(content), Bundle.model_validate(shuffled)
    other = Bundle.model_validate({**content, "instructions": content["instructions"] + " "})

    assert bundles.digest(one) == bundles.digest(same)
    assert bundles.digest(one) != bundles.digest(other)
    assert len(bundles.digest(one)) == 64


def test_a_bundle_survives_being_stored_and_read():
    bundle = Bundle.model_validate(a_bundle(rules=[{"id": "r", "tool": "issue_refund", "then": "ask", "reason": "x"}]))

    again = Bundle.model_validate(json.loads(json.dumps(bundle.model_dump(mode="json"))))

    assert again == bundle
    assert bundles.digest(again) == bundles.digest(bundle)


def test_a_bundle_cannot_be_changed():
    bundle = Bundle.model_validate(a_bundle())

    with pytest.raises(ValidationError, match="frozen"):
        bundle.instructions = "something else"
