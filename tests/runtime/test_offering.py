"""What an MCP server offers, judged: names, hidden characters, digests, standing."""

from __future__ import annotations

import pytest

from runtime import schemas
from runtime.policies import offering
from runtime.policies.offering import Offer, Standing

SCHEMA = {"type": "object", "properties": {"book": {"type": "string", "description": "Which."}}}


def offer(name="lend", description="Lend a book.", schema=SCHEMA, **more):
    return Offer(name, description, schema, **more)


def judged(*offers, server="library"):
    return offering.judge(server, offers, schemas.why_unusable)


def problem(schema):
    return judged(offer(schema=schema)).tools["lend"].problem


@pytest.mark.parametrize(
    "changed",
    [
        offer(description="Lend a book. "),
        offer(description="Lend a book.\u200b"),
        offer(schema={**SCHEMA, "required": ["book"]}),
        offer(schema={"type": "object", "properties": {"book": {"type": "string", "description": "Which?"}}}),
        offer(output_schema={"type": "object"}),
        offer(annotations={"readOnlyHint": True}),
    ],
)
def test_whatever_changes_of_an_offer_changes_its_digest(changed):
    assert judged(changed).digests != judged(offer()).digests


def test_the_order_of_a_schema_is_not_part_of_the_digest():
    turned = {"properties": {"book": {"description": "Which.", "type": "string"}}, "type": "object"}

    assert judged(offer(schema=turned)).digests == judged(offer()).digests


@pytest.mark.parametrize(
    "name", ["l\u0435nd", "lend\u200b", "le nd", "", "fs.read", "lend/now", "x" * 56, "lénd", "lend\n"]
)
def test_a_name_that_is_not_plain_is_refused(name):
    found = judged(offer(name))

    assert dict(found.tools) == {}
    assert len(found.refused) == 1
    assert "\u200b" not in found.refused[0][0]


@pytest.mark.parametrize("other", ["lend", "1end", "LEND", "Lend"])
def test_names_that_can_be_taken_for_each_other_are_both_refused(other):
    found = judged(offer(), offer(other, "Lend it to me."), offer("find_book"))

    assert list(found.tools) == ["find_book"]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "string"}, "not one of an object"),
        ({"type": "object", "properties": {"bo\u200bok": {}}}, "Hidden characters"),
        ({"type": "object", "properties": {"book": {"enum": ["a\u202eb"]}}}, "Hidden characters stand in its schema"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, "no JSON schema"),
        ({"type": "object", "properties": {"a": {"pattern": "(a)\\1"}}}, "linear time"),
        ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties"),
    ],
)
def test_a_schema_that_cannot_be_used_is_kept_with_the_reason(schema, says):
    assert says in problem(schema)


def deep(levels):
    return {"type": "object", "properties": {"a": deep(levels - 1)}} if levels else {"type": "object"}


@pytest.mark.parametrize(
    "hostile",
    [
        offer(description="a\0b"),
        offer(description="x" * 31_000),
        offer(schema=deep(20)),
        offer(schema={"type": "object", "maxProperties": float("inf")}),
    ],
)
def test_what_cannot_be_stored_is_refused(hostile):
    assert (dict(judged(hostile).tools), len(judged(hostile).refused)) == ({}, 1)


def test_of_one_server_only_so_many_tools_are_kept():
    found = judged(*(offer(f"tool_{number:03}") for number in range(2, 260)))

    assert len(found.tools) <= offering.MOST_TOOLS
    assert len(found.refused) <= offering.MOST_REFUSED


def test_a_model_reads_no_hidden_character_and_only_so_much():
    whole = judged(offer(description="Lend\u202e\u200b\U000e0041 it. " + "x" * 5000)).tools["lend"].offer

    text = offering.description(whole)

    assert text.startswith("Lend it. xxx")
    assert len(text) <= 4000


def test_texts_in_a_schema_are_cleaned_and_arguments_that_it_does_not_name_refused():
    hidden = {"type": "object", "properties": {"book": {"type": "string", "description": "Wh\u200bich."}}}

    found = offering.parameters(judged(offer(schema=hidden)).tools["lend"].offer)

    assert found == {**SCHEMA, "additionalProperties": False}


@pytest.mark.parametrize(
    ("offered", "reviewed", "why", "standing"),
    [
        ("a", set(), "", Standing.NEW),
        ("a", {"a", "b"}, "", Standing.REVIEWED),
        ("a", {"b"}, "", Standing.CHANGED),
        ("a", {"a"}, "Too long.", Standing.UNUSABLE),
        ("", {"a"}, "", Standing.GONE),
    ],
)
def test_how_a_tool_stands(offered, reviewed, why, standing):
    assert offering.decide_standing(offered, reviewed, why) == standing


@pytest.mark.parametrize(
    ("pin", "offered", "is_reviewed", "says"),
    [
        ("a", "a", True, ""),
        ("a", "b", True, "differently"),
        ("a", None, True, "does not offer"),
        ("a", "a", False, "Nobody has reviewed"),
    ],
)
def test_a_call_needs_pin_review_and_offer_to_be_the_same(pin, offered, is_reviewed, says):
    found = offering.decide_call("library__lend", pin, offered, is_reviewed=is_reviewed)

    assert (says in found) if says else found == ""


@pytest.mark.parametrize("name", ["Library", "a__b", "a_", "-a", "9a", "bü", "", "a" * 41, "a b", "new", "g1thub"])
def test_names_of_servers(name):
    assert offering.server_name_problem(name, ["github"])


def test_a_plain_name_of_a_server_is_taken():
    assert offering.server_name_problem("git-files_2", ["github"]) == ""
