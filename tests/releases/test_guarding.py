from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.conf import settings

from releases import bundles
from releases.bundles import Bundle, Verification
from releases.policies import guarding, sentences
from tests.builders import a_bundle, a_tool

BOMB: dict[str, Any] = {"$ref": "#/$defs/n0", "$defs": {"n30": {"type": "string"}}}
for number in range(30):
    BOMB["$defs"][f"n{number}"] = {"allOf": [{"$ref": f"#/$defs/n{number + 1}"}] * 2}


def mistakes(**rail: Any) -> dict[str, str]:
    one = {"id": "rail", "on": "output", "check": "length", **rail}
    return guarding.mistakes(Bundle.model_validate(a_bundle(guardrails=[one])))


@pytest.mark.parametrize(
    ("rail", "place", "word"),
    [
        ({"check": "citations", "on": "results"}, "on", "citations can check output, not results"),
        ({"check": "schema", "on": "output", "settings": {"json_schema": {}}}, "on", "not output"),
        ({"on": "input", "then": "ask"}, "then", "On input a guardrail can"),
        ({"check": "injection", "then": "redact"}, "then", "cannot say what to take out"),
        ({"check": "model_graded", "then": "redact", "settings": {"criteria": "x"}}, "then", "cannot say"),
        ({"tools": ["lookup_order"]}, "tools", "about tools"),
        ({"on": "results", "tools": ["gone"]}, "tools", "no tool gone"),
        ({"settings": {"most": 3}}, "settings.most", "length has no such setting. It has: max_characters, max_bytes."),
        ({"settings": {"max_characters": "3"}}, "settings.max_characters", "valid integer"),
        ({"check": "banned_phrases"}, "settings.phrases", "required"),
        ({"check": "forbidden_topics"}, "settings", "Say phrases, patterns"),
        ({"check": "language"}, "settings", "Say which languages"),
        ({"check": "forbidden_topics", "settings": {"patterns": ["ok", "(a"]}}, "settings.patterns.1", "RE2"),
        ({"check": "forbidden_topics", "settings": {"patterns": [r"(a)\1"]}}, "settings.patterns.0", "references back"),
        (
            {"check": "forbidden_topics", "settings": {"patterns": ["((a{100}){100}){100}"]}},
            "settings.patterns.0",
            "RE2",
        ),
        ({"check": "forbidden_topics", "settings": {"patterns": ["a" * 501]}}, "settings.patterns.0", "500"),
        ({"check": "personal_data", "settings": {"kinds": ["name"]}}, "settings.kinds.0", "'email'"),
        (
            {"check": "model_graded", "settings": {"criteria": "x", "model": {"name": "m"}}},
            "settings.model",
            "provider",
        ),
    ],
)
def test_a_guardrail_that_cannot_work_is_told_with_its_place(rail: dict[str, Any], place: str, word: str):
    found = mistakes(**rail)

    assert list(found) == [f"guardrails.0.{place}"]
    assert word in found[f"guardrails.0.{place}"]


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"type": "nothing"}, "no JSON schema"),
        ({"$ref": "https://example.com/s.json"}, "leads out of the schema"),
        ({"$ref": "#/$defs/gone"}, "nothing at"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}}, "refers to itself"),
        ({"properties": {"a": {"patternProperties": {"(a+)+$": {}}}}}, "patternProperties cannot be used"),
        ({"properties": {"a": {"pattern": "(?=a)"}}}, "RE2"),
        (BOMB, "parts with what it refers to"),
    ],
)
def test_a_schema_that_nothing_bounds_is_refused(schema: dict[str, Any], word: str):
    found = mistakes(check="schema", on="results", settings={"json_schema": schema})

    assert word in found["guardrails.0.settings.json_schema"]


def test_a_schema_may_have_properties_that_are_called_like_keywords():
    schema = {"properties": {"pattern": {"const": {"pattern": "(?=x)"}}, "patternProperties": {"type": "string"}}}

    assert mistakes(check="schema", on="results", settings={"json_schema": schema}) == {}


def test_every_check_has_settings_and_a_place_in_the_sentences():
    rails = [
        {"id": "a", "on": "input", "check": "hidden_characters", "then": "flag"},
        {"id": "b", "on": "results", "check": "personal_data", "then": "redact", "tools": ["lookup_order"]},
        {"id": "c", "on": "output", "check": "model_graded", "then": "ask", "settings": {"criteria": "Polite."}},
    ]
    bundle = Bundle.model_validate(a_bundle(guardrails=rails))

    assert guarding.mistakes(bundle) == {}
    said = "Result of a tool holding personal data goes on without it; of lookup_order only"
    assert sentences.guardrail(bundle.guardrails[1]) == said
    assert guarding.SETTINGS.keys() == sentences.CHECKS.keys()


@pytest.mark.parametrize("page", ["how-to/guard-texts.md", "reference/bundle.md"])
def test_the_guardrails_of_the_documents_can_be_created(page: str):
    text = (settings.BASE_DIR / "docs" / page).read_text()
    blocks = re.findall(r"(?:^    .+\n)+", text, re.MULTILINE)
    rails = [rail for block in blocks if '"check"' in block for rail in json.loads(f"[{block.strip().rstrip(',')}]")]
    tools = [a_tool("search_mail", effect="read", retry="read")]

    found = guarding.mistakes(Bundle.model_validate(a_bundle(guardrails=rails, tools=tools)))

    assert len(rails) >= 1
    assert found == {}


def test_two_guardrails_need_two_ids():
    rail = {"id": "rail", "on": "input", "check": "length"}

    found = guarding.mistakes(Bundle.model_validate(a_bundle(guardrails=[rail, rail])))

    assert "guardrails.1.id" in found


@pytest.mark.parametrize("short", ["none", "grounded_figures"])
def test_the_short_forms_of_verification_stay_what_they_were(short: str):
    """So that a stored release keeps its digest, and its runs are verified as they always were: without a retry."""
    bundle = Bundle.model_validate(a_bundle(verification=short))

    assert bundle.verification == Verification(kind=short, retries=0)
    assert bundle.model_dump(mode="json")["verification"] == short


def test_fields_that_came_later_do_not_change_the_digest_of_an_earlier_release():
    content = a_bundle(guardrails=[{"id": "r", "version": "1", "on": "input", "check": "length", "settings": {}}])

    stored = Bundle.model_validate(content).model_dump(mode="json")["guardrails"][0]

    assert stored == {"id": "r", "version": "1", "on": "input", "check": "length", "settings": {}, "then": "refuse"}


def test_a_whole_verification_survives_being_stored_and_read():
    whole = {"kind": "model", "criteria": "Every promise is covered by a policy."}
    bundle = Bundle.model_validate(a_bundle(verification=whole))

    again = Bundle.model_validate(bundle.model_dump(mode="json"))

    assert again.verification == bundle.verification
    assert again.verification.retries == 1
    assert bundles.digest(again) == bundles.digest(bundle)


@pytest.mark.parametrize(
    "wrong", [{"kind": "code"}, {"kind": "model"}, {"kind": "none", "name": "x"}, {"kind": "code", "criteria": "x"}]
)
def test_a_verification_has_what_its_kind_needs(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match="belong"):
        Verification.model_validate(wrong)
