"""JSON Schema, the part of draft 2020-12 that files are described with; pure, and imports the standard library alone.

What a schema asks and we do not know is an error, never passed over: a check must not hold because it was not made.
A schema may come from a model: `judge` runs in a child process, since patterns and references can go on for ever.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from agents.checking import bounded
from agents.checking.json_schema_form import TYPES, is_number, resolved, schema_faults, shown


def check(schema: object, instance: object, *, timeout_s: float = 10.0) -> tuple[list[str], list[str]]:
    """Return (why the schema cannot be used, where the instance does not fit it); blocks, so call it from a thread."""
    try:
        answer = bounded.call("agents.checking.json_schema:judge", schema, instance, timeout_s=timeout_s)
    except bounded.NoAnswer as error:
        return [f"it came to no answer: {error}"], []
    except RecursionError:
        return [], ["$: nested too deeply to be compared"]
    assert isinstance(answer, list)  # noqa: S101 - for the type checker
    unusable, faults = answer
    return unusable, faults


def judge(schema: object, instance: object, limit: int = 10) -> tuple[list[str], list[str]]:
    """Return the same as `check`, at most `limit` of each, however long it takes."""
    try:
        if unusable := list(itertools.islice(schema_faults(schema, schema), limit)):
            return unusable, []
        return [], list(itertools.islice(_Validator(schema).faults(schema, instance, "$"), limit))
    except RecursionError:
        return ["it is nested too deeply, or refers to itself without end"], []


class _Validator:
    """Finds where an instance does not fit; each keyword has its rule below."""

    def __init__(self, root: object) -> None:
        self.root = root

    def faults(self, schema: Any, value: Any, at: str) -> Iterator[str]:  # noqa: ANN401 - any JSON
        if schema is True:
            return
        if schema is False:
            yield f"{at}: nothing is allowed here"
            return
        for keywords, applies in (
            (_ANY, True),
            (_NUMBERS, is_number(value)),
            (_STRINGS, isinstance(value, str)),
            (_ARRAYS, isinstance(value, list)),
            (_OBJECTS, isinstance(value, dict)),
        ):
            for keyword in keywords if applies else ():
                if keyword in schema:
                    yield from keywords[keyword](self, schema, value, at)

    def fits(self, schema: object, value: object) -> bool:
        return next(self.faults(schema, value, ""), None) is None


_Rule = Callable[[_Validator, dict[str, Any], Any, str], Iterator[str]]


def _simple(keyword: str, holds: Callable[[Any, Any], bool], says: str) -> _Rule:
    """Make a rule of a test; `says` may hold {value} and {wanted}."""

    def rule(_: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
        if not holds(schema[keyword], value):
            yield f"{at}: {says.format(value=shown(value), wanted=shown(schema[keyword]))}"

    return rule


def _type(wanted: str | list[str], value: object) -> bool:
    return any(TYPES[kind](value) for kind in ([wanted] if isinstance(wanted, str) else wanted))


def _reference(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    yield from v.faults(resolved(schema["$ref"], v.root), value, at)


def _all_of(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for one in schema["allOf"]:
        yield from v.faults(one, value, at)


def _any_of(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    if not any(v.fits(one, value) for one in schema["anyOf"]):
        first = next(v.faults(schema["anyOf"][0], value, at), "")
        yield f"{at}: fits none of {len(schema['anyOf'])} alternatives (the first: {first})"


def _one_of(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    if (fitting := sum(v.fits(one, value) for one in schema["oneOf"])) != 1:
        yield f"{at}: fits {fitting} of {len(schema['oneOf'])} alternatives, should fit exactly one"


def _not(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    if v.fits(schema["not"], value):
        yield f"{at}: {shown(value)} is what it should not be"


def _if(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    branch = "then" if v.fits(schema["if"], value) else "else"
    yield from v.faults(schema.get(branch, True), value, at)


def _items(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for index in range(len(schema.get("prefixItems", ())), len(value)):
        yield from v.faults(schema["items"], value[index], f"{at}[{index}]")


def _prefix_items(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for index, (one, item) in enumerate(zip(schema["prefixItems"], value, strict=False)):
        yield from v.faults(one, item, f"{at}[{index}]")


def _contains(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    fitting = sum(v.fits(schema["contains"], item) for item in value)
    least, most = schema.get("minContains", 1), schema.get("maxContains", len(value))
    if not least <= fitting <= most:
        yield f"{at}: {fitting} items are as asked for, should be {least} to {most}"


def _properties(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for name, one in schema["properties"].items():
        if name in value:
            yield from v.faults(one, value[name], f"{at}.{name}")


def _pattern_properties(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for pattern, one in schema["patternProperties"].items():
        for name in value:
            if re.search(pattern, name):
                yield from v.faults(one, value[name], f"{at}.{name}")


def _additional(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for name in value:
        known = name in schema.get("properties", ())
        if not known and not any(re.search(pattern, name) for pattern in schema.get("patternProperties", ())):
            if schema["additionalProperties"] is False:
                yield f"{at}: {shown(name)} is not a known property"
            else:
                yield from v.faults(schema["additionalProperties"], value[name], f"{at}.{name}")


def _property_names(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for name in value:
        for fault in v.faults(schema["propertyNames"], name, at):
            yield f"{fault} (the name of a property)"


def _required(_: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for name in schema["required"]:
        if name not in value:
            yield f"{at}: {shown(name)} is missing"


def _dependent_required(_: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for name, needed in schema["dependentRequired"].items():
        for other in needed if name in value else ():
            if other not in value:
                yield f"{at}: {shown(other)} is missing, since {shown(name)} is there"


_ANY: dict[str, _Rule] = {
    "$ref": _reference,
    "type": _simple("type", _type, "{value} is not of type {wanted}"),
    "enum": _simple("enum", lambda wanted, value: _key(value) in map(_key, wanted), "{value} is none of {wanted}"),
    "const": _simple("const", lambda wanted, value: _key(value) == _key(wanted), "{value} is not {wanted}"),
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
}
_NUMBERS: dict[str, _Rule] = {
    "minimum": _simple("minimum", lambda wanted, value: value >= wanted, "{value} is below {wanted}"),
    "maximum": _simple("maximum", lambda wanted, value: value <= wanted, "{value} is above {wanted}"),
    "exclusiveMinimum": _simple("exclusiveMinimum", lambda wanted, value: value > wanted, "{value} is not > {wanted}"),
    "exclusiveMaximum": _simple("exclusiveMaximum", lambda wanted, value: value < wanted, "{value} is not < {wanted}"),
    # By their decimal text: 0.3 is a multiple of 0.1.
    "multipleOf": _simple(
        "multipleOf",
        lambda wanted, value: math.isfinite(value) and Fraction(repr(value)) % Fraction(repr(wanted)) == 0,
        "{value} is no multiple of {wanted}",
    ),
}
_STRINGS: dict[str, _Rule] = {
    "minLength": _simple("minLength", lambda wanted, value: len(value) >= wanted, "{value} is too short (< {wanted})"),
    "maxLength": _simple("maxLength", lambda wanted, value: len(value) <= wanted, "{value} is too long (> {wanted})"),
    "pattern": _simple("pattern", lambda wanted, value: bool(re.search(wanted, value)), "{value} is not like {wanted}"),
}
_ARRAYS: dict[str, _Rule] = {
    "prefixItems": _prefix_items,
    "items": _items,
    "contains": _contains,
    "minItems": _simple("minItems", lambda wanted, value: len(value) >= wanted, "fewer than {wanted} items"),
    "maxItems": _simple("maxItems", lambda wanted, value: len(value) <= wanted, "more than {wanted} items"),
    "uniqueItems": _simple(
        "uniqueItems", lambda wanted, value: not wanted or len(set(map(_key, value))) == len(value), "items are equal"
    ),
}
_OBJECTS: dict[str, _Rule] = {
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "propertyNames": _property_names,
    "required": _required,
    "dependentRequired": _dependent_required,
    "minProperties": _simple("minProperties", lambda wanted, value: len(value) >= wanted, "fewer than {wanted} keys"),
    "maxProperties": _simple("maxProperties", lambda wanted, value: len(value) <= wanted, "more than {wanted} keys"),
}


def _key(value: object) -> object:
    """Return what is equal for equal JSON values: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, list):
        return ("array", *map(_key, value))
    if isinstance(value, dict):
        return frozenset((name, _key(one)) for name, one in value.items())
    return (isinstance(value, bool), value)
