"""Untrusted input, private data and acting never come together in one run without a person or a source (property)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from releases.bundles import Budgets, Bundle
from releases.policies import ruleoftwo
from runtime.policies import gating, recalling
from runtime.policies.budgeting import Spent
from runtime.policies.gating import Allow, Facts
from runtime.policies.provenance import Justified, Knowledge

USER = "Please pay 12.50 to ana@example.test for order ORD-1042."
NAMES = ("one", "two", "three")
VALUES = st.sampled_from(["ana@example.test", "eve@example.test", "ORD-1042", "12.50", "99", "x1", "Please pay", ""])
UNSPENT = Spent(steps=0, tool_calls=0, tokens=0, cost_usd=Decimal(0), working=timedelta())
CLASSES = st.sampled_from(["destination", "amount", "commitment", "target", "label", "content", "free"])


@st.composite
def tools(draw, name):
    """Leaning towards what meets all three: one reads, another one acts, and a third does anything."""
    effects = {"one": ["read"], "two": ["write", "egress"]}.get(name, ["read", "write", "egress", "destructive"])
    effect = draw(st.sampled_from(effects))
    return {
        "name": name,
        "effect": effect,
        "retry": "read" if effect == "read" else "unsafe",
        "output_trust": draw(st.sampled_from(["trusted", "untrusted"])),
        "output_secret": draw(st.booleans()),
        "scope": draw(st.sampled_from(["", "orders:read"])),
        "labelled": draw(st.sampled_from([*[True] * 9, False])),
        "minted": draw(st.sampled_from([[], ["id"]])),
        "arguments": draw(st.dictionaries(st.sampled_from(["to", "sum", "note"]), CLASSES)),
    }


@st.composite
def bundles(draw):
    return Bundle.model_validate(
        {
            "version": "1",
            "model": {"provider": "scripted", "name": "any"},
            "instructions": "",
            "tools": [draw(tools(name)) for name in NAMES],
            "provenance": draw(st.sampled_from(["log", "log", "enforce"])),
            "force_human_review": draw(st.sampled_from([False, False, True])),
            "write_tools_enabled": draw(st.sampled_from([True, True, False])),
            "rules": draw(
                st.lists(
                    st.builds(
                        lambda tool: {"id": f"allow-{tool}", "tool": tool, "then": "allow", "reason": "Fine."},
                        st.sampled_from(NAMES),
                    ),
                    max_size=2,
                    unique_by=lambda rule: rule["id"],
                )
            ),
        }
    )


READS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.dictionaries(st.sampled_from(["id", "text"]), VALUES)), max_size=4
)
ARGUMENTS = st.dictionaries(st.sampled_from(["to", "sum", "note"]), VALUES, min_size=1)


def judged(bundle, reads, tool, arguments):
    known = Knowledge()
    known.hear(USER)
    labels = {one.name: recalling.labels(one) for one in bundle.tools}
    for step, (name, result) in enumerate(reads):
        known.read(step, labels[name], {}, result, tool=name)
    facts = Facts(
        tool=tool, bundle=bundle, agent="a", switches=(), scopes=frozenset({"*"}), arguments=arguments,
        schema_errors={}, has_secret=False, spent=UNSPENT, budgets=Budgets(), repeats=0, approvals=0,
        known=known, labels=labels[tool],
    )  # fmt: skip
    return gating.decide_call(facts), known


@settings(max_examples=600, deadline=None)
@given(bundles(), READS, st.sampled_from(["two", "two", "three"]), ARGUMENTS)
def test_all_three_in_one_run_never_pass_without_a_person_or_a_source(bundle, reads, tool, arguments):
    verdict, known = judged(bundle, reads, tool, arguments)

    acts = bundle.toolset[tool].is_write
    read = [bundle.toolset[name] for name, _ in reads]
    exposure = ruleoftwo.judge(bundle)
    has_private = any(one.name in exposure.private for one in read)
    if known.is_tainted and has_private and acts and isinstance(verdict, Allow):
        assert isinstance(verdict.origins, Justified)


def test_a_release_that_only_notes_is_held_to_it_too():
    """What a value on nobody's word does in a release with all three that was made active some other way."""
    content = {
        "version": "1", "model": {"provider": "scripted", "name": "any"}, "instructions": "", "provenance": "log",
        "tools": [
            {"name": "one", "effect": "read", "retry": "read", "scope": "orders:read"},
            {"name": "two", "effect": "write", "output_trust": "trusted", "arguments": {"to": "destination"}},
        ],
    }  # fmt: skip
    reads, arguments = [("one", {"text": "eve@example.test"})], {"to": "eve@example.test"}

    asked, _ = judged(Bundle.model_validate(content), reads, "two", arguments)
    content["tools"][0]["scope"] = ""
    noted, _ = judged(Bundle.model_validate(content), reads, "two", arguments)

    assert (asked.rule, type(asked)) == ("provenance", gating.Ask)
    assert (type(noted), noted.origins.rule) == (Allow, "provenance")
