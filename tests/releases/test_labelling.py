"""What a change of labels means: looser, stricter or unclear, and which tools bring a release under the Rule of Two."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from releases.bundles import Bundle, ToolManifest
from releases.policies import label_words, labelling, ruleoftwo
from releases.policies.labelling import Baseline, Direction
from tests.builders import a_bundle, a_tool

LOOSER, UNCLEAR, STRICTER = Direction.LOOSER, Direction.UNCLEAR, Direction.STRICTER


def a_manifest(**labels):
    return ToolManifest(name="issue_refund", **labels)


@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("effect", "read", "write"),
        ("effect", "write", "egress"),
        ("effect", "read", "egress"),
        ("effect", "egress", "destructive"),
        ("output_trust", "trusted", "untrusted"),
        ("output_secret", False, True),
        ("moves_money", False, True),
        ("labelled", True, False),
        ("verifies", True, False),
        ("retry", "read", "idempotent"),
        ("retry", "transactional", "unsafe"),
        ("retry", "read", "unsafe"),
        ("scope", "", "refunds:write"),
        ("timeout_s", 60, 5),
        ("output_cap_bytes", 9000, 100),
        ("minted", ["id"], []),
        ("minted", ["id", "other"], ["id"]),
        ("system", ["amount"], []),
        ("harmless", {"permission": ["r", "w"]}, {"permission": ["r"]}),
        ("authored", [{"where": {"from": ["$SELF"]}, "fields": ["to", "cc"]}],
         [{"where": {"from": ["$SELF"]}, "fields": ["to"]}]),
        ("arguments", {"note": "free"}, {"note": "content"}),
        ("arguments", {"note": "content"}, {"note": "target"}),
        ("arguments", {"note": "free"}, {}),
    ],
)  # fmt: skip
def test_a_label_is_looser_one_way_and_stricter_the_other(field, low, high):
    lax, strict = ({"retry": "idempotent", field: value} for value in (low, high))

    (down,) = labelling.compare(a_manifest(**strict), a_manifest(**lax))
    (up,) = labelling.compare(a_manifest(**lax), a_manifest(**strict))

    assert (down.field, down.direction, up.direction) == (field, LOOSER, STRICTER)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"scope": "refunds:write"}, {"scope": "orders:read"}),
        ({"retry": "idempotent"}, {"retry": "transactional"}),
        ({"arguments": {"to": "target"}}, {"arguments": {"to": "destination"}}),
        ({"arguments": {"to": "target"}}, {}),
        ({"arguments": {"to": "content"}}, {"arguments": {"to": "destination"}}),
        ({"minted": ["id"], "system": ["id"]}, {"system": ["id"]}),
        ({"hands_off": True}, {}),
        ({}, {"declines": True}),
        ({}, {"is_retrieval": True}),
    ],
)
def test_what_depends_on_the_call_is_unclear(before, after):
    (found,) = labelling.compare(a_manifest(**before), a_manifest(**after))

    assert found.direction is UNCLEAR


def test_one_looser_label_makes_the_whole_change_looser_and_a_stricter_one_alone_needs_nobody():
    was = Baseline("release 1", a_manifest(effect="write", timeout_s=10, retry="idempotent"))

    (mixed,) = changed(a_tool(effect="read", timeout_s=5, retry="idempotent"), was)
    (strict,) = changed(a_tool(effect="egress", timeout_s=5, retry="idempotent"), was)

    assert (mixed.direction, mixed.needs_review, mixed.source) == (LOOSER, True, "release 1")
    assert (strict.direction, strict.needs_review) == (STRICTER, False)


def test_what_a_tool_is_called_and_told_is_no_label():
    was = Baseline("release 1", a_manifest(description="Pays.", title="Pay", parameters={"type": "object"}))

    assert changed({"name": "issue_refund", "description": "Pays back.", "title": "Pay back"}, was) == ()


def test_a_tool_that_nobody_declared_is_set_against_the_riskiest():
    (found,) = changed(a_tool(effect="read", retry="read"), None)

    assert found.source == labelling.NOBODY
    assert {one.field: one.direction for one in found.differences}["labelled"] is LOOSER
    # Even labels that say the worst are somebody's word, once they count as reviewed.
    assert [one.field for one in changed({"name": "issue_refund"}, None)[0].differences] == ["labelled"]
    assert changed({"name": "issue_refund", "labelled": False}, None) == ()


def changed(tool, baseline):
    bundle = Bundle.model_validate(a_bundle(tools=[tool]))
    return labelling.changes(bundle, {"issue_refund": baseline} if baseline else {})


MANIFESTS = st.builds(
    a_manifest,
    effect=st.sampled_from(labelling.EFFECTS),
    output_trust=st.sampled_from(["trusted", "untrusted"]),
    output_secret=st.booleans(),
    retry=st.sampled_from(["read", "idempotent", "transactional", "unsafe"]),
    scope=st.sampled_from(["", "a", "b"]),
    moves_money=st.booleans(),
    labelled=st.booleans(),
    verifies=st.booleans(),
    minted=st.lists(st.sampled_from(["id", "no"]), unique=True).map(sorted),
    system=st.lists(st.sampled_from(["id", "sum"]), unique=True).map(sorted),
    arguments=st.dictionaries(
        st.sampled_from(["to", "note"]),
        st.sampled_from(["destination", "amount", "commitment", "target", "label", "content", "free"]),
    ),
    timeout_s=st.sampled_from([1, 2]),
)


@given(MANIFESTS, MANIFESTS)
def test_no_way_there_and_back_escapes_a_second_person(one, other):
    """Whatever differs needs a review in at least one direction, so that nobody loosens in steps that look stricter."""
    there = {found.field: found.direction for found in labelling.compare(one, other)}
    back = {found.field: found.direction for found in labelling.compare(other, one)}

    assert there.keys() == back.keys()
    assert all({there[field], back[field]} != {STRICTER} for field in there)
    assert labelling.compare(one, one) == ()


def test_every_label_has_a_direction_or_is_unclear_and_is_told_in_words():
    labels = set(ToolManifest.model_fields) - labelling.WORDS
    plain = {one.field for one in label_words.described(ToolManifest(name="x"))}
    told = {"arguments", *plain, *label_words.OF_SERVERS}

    assert labels == told
    assert set(labelling._DIRECTIONS) <= labels


def test_a_difference_is_told_in_words():
    was = Baseline("release 1", a_manifest(effect="egress", arguments={"to": "destination"}, retry="idempotent"))

    (change,) = changed(a_tool(effect="read", retry="idempotent", arguments={"to": "free"}), was)

    assert [(one.name, one.before, one.after, one.word) for one in label_words.changed(change)] == [
        ("Effect", "Sends something out", "Reads", "Looser"),
        ("Arguments", "to: destination", "to: free", "Looser"),
    ]


READS = a_tool("read_mail", effect="read", retry="read", output_trust="untrusted")
SECRET = a_tool("read_key", effect="read", retry="read", output_trust="trusted", output_secret=True)
OWN = a_tool("lookup_order", effect="read", retry="read", output_trust="trusted", scope="orders:read")
ACTS = a_tool("pay", output_trust="trusted")
NOBODYS = a_tool("guess", effect="read", retry="read", output_trust="trusted", labelled=False)


@pytest.mark.parametrize(
    ("tools", "more", "expected"),
    [
        ([], {}, (0, False)),
        ([READS], {}, (1, False)),
        ([READS, ACTS], {}, (2, False)),
        ([READS, SECRET], {"provenance": "log"}, (2, False)),
        ([READS, SECRET, ACTS], {}, (3, False)),
        ([READS, OWN, ACTS], {}, (3, False)),
        ([READS, OWN, ACTS], {"provenance": "log"}, (3, True)),
        ([READS, OWN, ACTS], {"provenance": "log", "force_human_review": True}, (3, False)),
        ([READS, OWN, ACTS], {"provenance": "log", "write_tools_enabled": False}, (2, False)),
        ([NOBODYS], {"provenance": "log"}, (3, True)),
    ],
)
def test_the_rule_of_two_counts_what_comes_together(tools, more, expected):
    found = ruleoftwo.judge(Bundle.model_validate(a_bundle(tools=tools, **more)))

    assert (found.count, found.is_open) == expected


def test_the_badge_says_it_in_words():
    def badge(tools, **more):
        return ruleoftwo.badge(ruleoftwo.judge(Bundle.model_validate(a_bundle(tools=tools, **more)))).word

    assert badge([READS, OWN, ACTS]) == "Untrusted + private + acts: people are asked"
    assert badge([READS, OWN, ACTS], provenance="log") == "Untrusted + private + acts: nobody is asked"
    assert badge([READS, ACTS]) == "Two of three: untrusted + acts"
    assert badge([READS]) == "One of three: untrusted"
    assert badge([]) == "None of the three"
