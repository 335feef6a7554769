"""The difference of two bundles in words."""

from __future__ import annotations

import pytest

from releases.bundles import Bundle
from releases.policies import diff
from tests.builders import a_bundle, a_tool

RULE = {
    "id": "refund-limit",
    "tool": "issue_refund",
    "when": [{"argument": "amount", "op": "gt", "value": 100}],
    "then": "ask",
    "reason": "Large refunds need a person",
}
GUARD = {"id": "long", "on": "input", "check": "length", "settings": {"most": 100}}


def changes(before, after):
    old, new = (Bundle.model_validate(a_bundle("1.0", **content)) for content in (before, after))
    return [(change.area, change.kind, change.text, change.before, change.after) for change in diff.changes(old, new)]


def test_equal_bundles_differ_in_nothing():
    assert changes({}, {}) == []


def test_the_version_label_is_no_difference():
    old, new = Bundle.model_validate(a_bundle("1.0")), Bundle.model_validate(a_bundle("2.0"))

    assert diff.changes(old, new) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ({"instructions": "a\nb"}, {"instructions": "a"}, ("Instructions", "changed", "2 lines became 1", "", "")),
        (
            {"model": {"provider": "openai", "name": "gpt-5"}},
            {"model": {"provider": "openai", "name": "gpt-5", "parameters": {"temperature": 0}}},
            ("Model", "changed", "Main model", "gpt-5 (openai)", "gpt-5 (openai), temperature 0"),
        ),
        (
            {},
            {"fallback_model": {"provider": "anthropic", "name": "claude"}},
            ("Model", "changed", "Fallback model", "none", "claude (anthropic)"),
        ),
        ({}, {"budgets": {"max_steps": 10}}, ("Budgets", "changed", "Steps", "40", "10")),
        ({}, {"write_tools_enabled": False}, ("Settings", "changed", "Write tools", "enabled", "off in this release")),
        (
            {},
            {"retrieval": {"index": "policies", "version": "7"}},
            ("Settings", "changed", "Retrieval", "none", "policies, version 7"),
        ),
        (
            {},
            {"rollback_on": {"unsafe_action_rate": "0.01"}},
            ("Rolls back on", "changed", "Unsafe action rate", "0.001", "0.01"),
        ),
        (
            {"rules": [RULE]},
            {"rules": [{**RULE, "when": [{"argument": "amount", "op": "gt", "value": 150}]}]},
            (
                "Rules",
                "changed",
                "refund-limit",
                "When amount is over 100, on issue_refund: ask a person within 60 min. Large refunds need a person",
                "When amount is over 150, on issue_refund: ask a person within 60 min. Large refunds need a person",
            ),
        ),
        # What the sentence does not tell is named field by field.
        (
            {"rules": [RULE]},
            {"rules": [{**RULE, "risk": "high"}]},
            ("Rules", "changed", "refund-limit", "risk: medium", "risk: high"),
        ),
        (
            {"guardrails": [GUARD]},
            {},
            ("Guardrails", "removed", "long", "Input longer than allowed is refused, most 100", ""),
        ),
    ],
)
def test_a_change_is_told_in_words(before, after, expected):
    assert changes(before, after) == [expected]


def test_tools_are_added_removed_and_relabelled():
    lookup = a_tool("lookup_order", effect="read", retry="read")
    found = changes(
        {"tools": [lookup, a_tool("issue_refund"), a_tool("send_reply")]},
        {"tools": [lookup, a_tool("issue_refund", moves_money=True), a_tool("hand_off", labelled=False)]},
    )

    assert [(kind, text) for _, kind, text, _, _ in found] == [
        ("added", "hand_off"), ("changed", "issue_refund"), ("removed", "send_reply"),
    ]  # fmt: skip
    assert "nobody has reviewed these labels" in found[0][4]
    assert "moves money" in found[1][4]


def test_a_changed_schema_or_description_of_a_tool_is_told():
    found = changes({"tools": [a_tool("t", description="a")]}, {"tools": [a_tool("t", description="b")]})

    assert found == [("Tools", "changed", "t", "description: a", "description: b")]
