from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from runtime.replay import agents, declared
from runtime.replay.declared import BadTools
from runtime.tools import BadArguments
from tests.runtime.replay.recorded import TOOLS, write_tools
from tests.runtime.replay.recorded import declared as declaring


def manifests(tmp_path: Any, **tools: Any) -> dict[str, Any]:
    loaded = declared.load(write_tools(tmp_path / "tools.json", {"library": tools}))
    return {manifest.name: manifest for manifest in loaded["library"]}


def executable(schema: dict[str, Any]) -> declared.RecordedTool:
    tool = declared.Declared.model_validate({"schema": {"parameters": schema}, "write": False})
    return declared.recorded_tool(declared.manifest("find_book", tool), uuid4(), "c1")


def test_labels_come_from_the_file(tmp_path):
    tools = manifests(tmp_path, **TOOLS["library"])

    assert [tools[name].effect for name in TOOLS["library"]] == ["read", "write", "destructive", "read"]
    assert tools["extend_loan"].arguments == {"loan": "target"}
    assert (tools["extend_loan"].retry, tools["find_book"].retry) == ("idempotent", "read")
    assert tools["to_librarian"].hands_off
    assert all(tool.output_trust == "untrusted" for tool in tools.values())


@pytest.mark.parametrize(
    ("labels", "effect"),
    [
        ({"type": "write", "write": False}, "write"),
        ({"type": "read", "write": True}, "write"),
        ({"type": "read", "write": False, "moves_money": True}, "write"),
        ({"type": "read", "write": False, "destructive": True}, "destructive"),
        ({"type": "think", "write": None}, "read"),
    ],
)
def test_where_labels_disagree_the_riskier_one_counts(tmp_path, labels, effect):
    assert manifests(tmp_path, x=declaring("x") | labels)["x"].effect == effect


def test_every_write_asks_a_person_by_the_same_rule(tmp_path):
    tools = list(manifests(tmp_path, **TOOLS["library"]).values())

    rules = declared.rules(tools)

    assert [(rule.id, rule.tool, rule.then, rule.risk) for rule in rules] == [
        ("replay-writes", "extend_loan", "ask", "medium"),
        ("replay-writes", "delete_account", "ask", "high"),
    ]


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "is not JSON"),
        ("[]", "Input should be a valid dictionary"),
        ('{"library": {"x": {}}}', "library.x.schema: Field required"),
        (json.dumps({"library": {"x": {"schema": {}}}}), "'x' says neither `write` nor a known `type`"),
        (
            json.dumps({"library": {"x": {"schema": {}, "type": "magic"}}}),
            "'x' says neither `write` nor a known `type`",
        ),
        (json.dumps({"library": {"a b": declaring("a b")}}), "Tool 'a b' cannot be used: name"),
        (
            json.dumps({"library": {"x": {"schema": {"parameters": {"type": "thing"}}, "write": False}}}),
            "The schema of tool 'x' is no JSON schema",
        ),
        ('{"library": {"x": 1}, "library": {}}', "repeats the key 'library'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_tool_and_the_rule(tmp_path, text, rule):
    path = tmp_path / "tools.json"
    path.write_text(text)

    with pytest.raises(BadTools) as refused:
        declared.load(path)

    assert rule in str(refused.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadTools, match=r"absent\.json cannot be read: No such file"):
        declared.load(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({}, "arguments"),
        ({"title": 7}, "title"),
        ({"title": "Momo", "extra": 1}, "arguments"),
        ({"title": "Momo", "tags": ["a", 1]}, "tags.1"),
        ({"title": "x" * 200_000}, "arguments"),
    ],
)
def test_arguments_that_break_the_schema_are_refused_with_their_place(arguments, place):
    schema = {
        "properties": {"title": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["title"],
    }

    with pytest.raises(BadArguments) as refused:
        executable(schema).canonical(arguments)

    assert list(refused.value.errors) == [place]
    assert all(len(text) <= 300 for text in refused.value.errors.values())


def test_arguments_that_fit_stay_as_they_are():
    arguments = {"title": "Momo", "copies": 2}

    assert executable({"properties": {"title": {}, "copies": {"type": "integer"}}}).canonical(arguments) == arguments


def test_a_remote_reference_in_a_schema_is_never_fetched():
    tool = executable({"properties": {"title": {"$ref": "http://127.0.0.1:9/schema.json"}}})

    with pytest.raises(BadArguments, match="refers to"):
        tool.canonical({"title": "Momo"})


def test_domains_get_slugs_that_stay_apart():
    slugs = [
        agents.slug(domain) for domain in ("retail", "Retail", "re tail", "re-tail", "", "日本", "x" * 90, "x" * 91)
    ]

    assert slugs[0] == "replay-retail"
    assert len(set(slugs)) == len(slugs)
    assert all(len(slug) <= 50 and slug.replace("-", "").isalnum() and slug.isascii() for slug in slugs)


def test_the_same_tools_and_instructions_are_the_same_release(tmp_path):
    tools = list(manifests(tmp_path, **TOOLS["library"]).values())

    assert agents.bundle(tools, "Be kind.") == agents.bundle(tools, "Be kind.")
    assert agents.bundle(tools, "Be kind.").version != agents.bundle(tools, "Be strict.").version
