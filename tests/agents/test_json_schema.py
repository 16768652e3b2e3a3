import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.checking import json_schema

PRICES = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["vendors"],
    "additionalProperties": False,
    "properties": {"vendors": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/vendor"}}},
    "$defs": {
        "vendor": {
            "type": "object",
            "required": ["name", "price"],
            "properties": {"name": {"type": "string", "minLength": 1}, "price": {"type": "number", "minimum": 0}},
        }
    },
}


def test_what_fits_has_no_faults() -> None:
    assert json_schema.judge(PRICES, {"vendors": [{"name": "A", "price": 1.5}]}) == ([], [])


def test_each_fault_says_where_it_is() -> None:
    _, faults = json_schema.judge(PRICES, {"vendors": [{"name": "", "price": "1"}, {}], "more": 1})
    assert set(faults) == {
        '$.vendors[0].name: "" is too short (< 1)',
        '$.vendors[0].price: "1" is not of type "number"',
        '$.vendors[1]: "name" is missing',
        '$.vendors[1]: "price" is missing',
        '$: "more" is not a known property',
    }


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"minumum": 3}, "'minumum' is not supported"),
        ({"unevaluatedProperties": False}, "'unevaluatedProperties' is not supported"),
        ({"properties": {"a": {"type": "text"}}}, 'the unknown type "text"'),
        ({"minimum": "3"}, "should be number"),
        ({"required": "name"}, "should be a list of names"),
        ({"pattern": "("}, "no regular expression"),
        ({"patternProperties": {"(": True}}, "no regular expression"),
        ({"$ref": "https://example.org/x.json"}, "only '#' and '#/…'"),
        ({"$ref": "#/$defs/none"}, "only '#' and '#/…'"),
        ({"items": [True]}, "neither an object nor true or false"),
        ([], "neither an object nor true or false"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"multipleOf": 0}, "positive number"),
    ],
)
def test_a_schema_that_cannot_be_used_is_said_and_judges_nothing(schema: Any, why: str) -> None:
    unusable, faults = json_schema.judge(schema, {"a": 1})
    assert why in unusable[0]
    assert faults == []


def test_a_schema_without_end_is_stopped() -> None:
    schema = {"pattern": "(a+)+$"}
    unusable, _ = json_schema.check(schema, "a" * 40 + "b", timeout_s=0.5)
    assert "took longer" in unusable[0]
    assert json_schema.check(schema, "aaa") == ([], [])


@pytest.mark.parametrize("depth", [100, 900, 990, 5_000, 50_000])
def test_a_deep_instance_is_judged_or_said_to_be_too_deep(depth: int) -> None:
    deep: Any = 1
    for _ in range(depth):
        deep = [deep]
    unusable, faults = json_schema.check({"items": {"$ref": "#"}, "type": ["array", "integer"]}, deep)
    assert (unusable, faults) == ([], []) if depth == 100 else unusable or faults


def test_a_decimal_is_a_multiple_as_it_is_written() -> None:
    assert json_schema.judge({"multipleOf": 0.1}, 0.3) == ([], [])
    assert json_schema.judge({"multipleOf": 0.1}, 0.35)[1]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([0.5, 1.0, -2.0])
    | st.sampled_from(["", "a", "ab"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
COUNTS = st.integers(0, 3)
NAMES = st.sampled_from("abc")
TYPES = st.sampled_from(["null", "boolean", "object", "array", "string", "number", "integer"])


def _larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=3)
    by_name = st.dictionaries(NAMES, inner, max_size=2)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "const": VALUES,
        **dict.fromkeys(["allOf", "anyOf", "oneOf", "prefixItems"], some),
        **dict.fromkeys(["not", "if", "then", "else", "items", "contains", "additionalProperties"], inner),
        **dict.fromkeys(["properties", "patternProperties"], by_name),
        **dict.fromkeys(["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"], COUNTS),
        **dict.fromkeys(["minContains", "maxContains"], COUNTS),
        **dict.fromkeys(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], st.integers(-3, 3)),
        "multipleOf": st.integers(1, 3),
        "pattern": st.sampled_from(["^a", "b$", "a|b"]),
        "propertyNames": st.fixed_dictionaries({"enum": st.lists(NAMES, min_size=1, max_size=2)}),
        "uniqueItems": st.booleans(),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
    }
    return st.fixed_dictionaries({}, optional=keywords)


SCHEMAS = st.recursive(st.booleans(), _larger, max_leaves=5)


@settings(max_examples=100, deadline=None)
@given(schema=SCHEMAS, value=VALUES)
def test_it_judges_as_the_reference_implementation_does(schema: Any, value: Any) -> None:
    unusable, faults = json_schema.judge(schema, value)
    expected = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert unusable == []
    assert (faults == []) == expected, json.dumps([schema, value])
