"""JSON schemas of strangers: always an answer, always soon (D18 for the schemas of tools)."""

from __future__ import annotations

import json

import pytest

from runtime import schemas
from tests.patience import at_most


def errors(schema, value):
    return schemas.errors(json.dumps(schema), value)


def test_places_and_rules_are_named():
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}

    assert errors(schema, {"n": 3}) == {}
    assert set(errors(schema, {"n": "x", "also": 1})) == {"n", "arguments"}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": {"pattern": "^(a+)+$"}}},
        {"patternProperties": {"^(a+)+$": {"type": "integer"}}, "additionalProperties": False},
        {"propertyNames": {"pattern": "^(a|a)*$"}},
    ],
)
def test_a_catastrophic_pattern_takes_linear_time(schema):
    with at_most(5):
        assert errors({"type": "object", **schema}, {"a": "a" * 20_000 + "!", "a" * 20_000 + "!": 1})


def test_references_that_double_at_each_level_are_given_up():
    levels = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)} | {"d60": {}}

    with at_most(10):
        found = errors({"$defs": levels, "$ref": "#/$defs/d0"}, {})

    assert "steps" in found["schema"]


def test_long_lists_of_alternatives_for_long_arrays_are_given_up():
    choices = {"items": {"anyOf": [{"const": f"choice {n}"} for n in range(1000)]}}

    with at_most(10):
        assert "steps" in errors(choices, ["choice 999"] * 20_000)["schema"]


def test_an_ordinary_call_is_far_from_the_bound():
    line = {"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(20)}}

    assert errors({"items": line}, [{f"p{n}": n for n in range(20)}] * 1000) == {}


def test_a_remote_reference_is_not_fetched():
    assert "nowhere in it" in errors({"$ref": "http://127.0.0.1:9/schema"}, {})["schema"]


def test_patterns_decide_which_other_arguments_are_refused():
    schema = {"type": "object", "patternProperties": {"^x-": {}}, "additionalProperties": False}

    assert errors(schema, {"x-a": 1}) == {}
    assert errors(schema, {"y": 1})


def test_long_arrays_are_not_compared_with_themselves():
    assert errors({"uniqueItems": True}, [{"n": n} for n in range(2000)])
    assert errors({"uniqueItems": True}, [1, 2]) == {}
    assert errors({"uniqueItems": True}, [1, 1])


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$ref": "#"}, {}),
        ({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}, {}),
        ({"properties": {"n": {"multipleOf": 0.1}}}, {"n": 10**4000}),
    ],
)
def test_a_schema_that_never_ends_or_a_number_beyond_numbers_is_an_error_of_the_value(schema, value):
    assert "cannot be applied" in errors(schema, value)["schema"]
    assert "cannot be applied" in schemas.first(json.dumps(schema), value)[1]
