"""JSON Schema, the part of draft 2020-12 that files are described with; pure, and imports the standard library alone.

What a schema asks and we do not know is an error, never passed over: a check must not hold because it was not made.
A schema may come from a model: `judge` runs in a child process, since patterns and references can go on for ever.
"""

import itertools
import json
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from agents import bounded

_ANNOTATIONS = {"$schema", "$comment", "title", "description", "default", "examples", "deprecated", "readOnly"}
_ANNOTATIONS |= {"writeOnly", "format", "contentEncoding", "contentMediaType"}
_SHAPES = {
    "schema": {"items", "contains", "additionalProperties", "propertyNames", "not", "if", "then", "else"},
    "schemas": {"prefixItems", "allOf", "anyOf", "oneOf"},
    "schemas by name": {"$defs", "definitions", "properties", "patternProperties"},
    "count": {
        *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
        *("minContains", "maxContains"),
    },
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    "positive number": {"multipleOf"},
    "pattern": {"pattern"},
    "true or false": {"uniqueItems"},
    "names": {"required"},
    "names by name": {"dependentRequired"},
    "values": {"enum"},
    "value": {"const"},
    "types": {"type"},
    "reference": {"$ref"},
}
_SHAPE_OF = {keyword: shape for shape, keywords in _SHAPES.items() for keyword in keywords}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and value == value // 1,
}


def check(schema: object, instance: object, *, timeout_s: float = 10.0) -> tuple[list[str], list[str]]:
    """Return (why the schema cannot be used, where the instance does not fit it); blocks, so call it from a thread."""
    try:
        answer = bounded.call("agents.json_schema:judge", schema, instance, timeout_s=timeout_s)
    except bounded.NoAnswer as error:
        return [f"it came to no answer: {error}"], []
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


def schema_faults(schema: object, root: object, at: str = "#") -> Iterator[str]:
    """Yield what in a schema is wrong or not known."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield f"{at} is neither an object nor true or false"
        return
    for keyword, wanted in schema.items():
        here = f"{at}/{keyword}"
        if keyword in _ANNOTATIONS or keyword.startswith("x-") or (keyword == "$id" and at == "#"):
            continue
        shape = _SHAPE_OF.get(keyword)
        if shape is None:
            yield f"{here}: {keyword!r} is not supported"
        elif why := _wrong_shape(shape, wanted, root):
            yield f"{here} {why}"
        else:
            if keyword == "patternProperties":
                yield from (f"{here}: {name!r} {why}" for name in wanted if (why := _wrong_shape("pattern", name, 0)))
            for name, inner in _inner(shape, wanted):
                yield from schema_faults(inner, root, here + name)


def _inner(shape: str, wanted: Any) -> list[tuple[str, object]]:  # noqa: ANN401 - any JSON
    """Return the schemas within a keyword's value, each with its place."""
    if shape == "schema":
        return [("", wanted)]
    if shape == "schemas":
        return [(f"/{index}", one) for index, one in enumerate(wanted)]
    return [(f"/{name}", one) for name, one in wanted.items()] if shape == "schemas by name" else []


def _wrong_shape(shape: str, wanted: Any, root: object) -> str | None:  # noqa: ANN401 - any JSON
    names = isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)
    fits = {
        "schemas": isinstance(wanted, list) and bool(wanted),
        "schemas by name": isinstance(wanted, dict),
        "count": _TYPES["integer"](wanted) and wanted >= 0,
        "number": _is_number(wanted),
        "positive number": _is_number(wanted) and wanted > 0,
        "true or false": isinstance(wanted, bool),
        "names": names,
        "names by name": isinstance(wanted, dict) and all(not _wrong_shape("names", one, 0) for one in wanted.values()),
        "values": isinstance(wanted, list),
    }
    if not fits.get(shape, True):
        return f"should be {'a list of ' if shape in ('schemas', 'names', 'values') else ''}{shape}"
    if shape == "types" and (
        unknown := [kind for kind in (wanted if isinstance(wanted, list) else [wanted]) if kind not in list(_TYPES)]
    ):
        return f"names the unknown type {_shown(unknown[0])}"
    if shape == "pattern":
        try:
            re.compile(wanted)
        except (re.error, TypeError, OverflowError) as error:
            return f"is no regular expression: {error}"
    if shape == "reference":
        try:
            _resolved(wanted, root)
        except (LookupError, TypeError, ValueError):
            return f"refers to {_shown(wanted)}; only '#' and '#/…' within this file can be followed"
    return None


def _resolved(reference: str, root: Any) -> Any:  # noqa: ANN401 - any JSON
    """Follow a JSON pointer (RFC 6901) in a fragment; raises LookupError, TypeError or ValueError where it cannot."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise ValueError(reference)
    here = root
    for part in reference[2:].split("/") if reference != "#" else []:
        name = part.replace("~1", "/").replace("~0", "~")
        here = here[int(name)] if isinstance(here, list) else here[name]
    if not isinstance(here, dict | bool):
        raise TypeError(reference)
    return here


class _Validator:
    """Finds where an instance does not fit; each keyword is the method of its name below."""

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
            (_NUMBERS, _is_number(value)),
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
            yield f"{at}: {says.format(value=_shown(value), wanted=_shown(schema[keyword]))}"

    return rule


def _type(wanted: str | list[str], value: object) -> bool:
    return any(_TYPES[kind](value) for kind in ([wanted] if isinstance(wanted, str) else wanted))


def _reference(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    yield from v.faults(_resolved(schema["$ref"], v.root), value, at)


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
        yield f"{at}: {_shown(value)} is what it should not be"


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
                yield f"{at}: {_shown(name)} is not a known property"
            else:
                yield from v.faults(schema["additionalProperties"], value[name], f"{at}.{name}")


def _property_names(v: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for name in value:
        for fault in v.faults(schema["propertyNames"], name, at):
            yield f"{fault} (the name of a property)"


def _required(_: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for name in schema["required"]:
        if name not in value:
            yield f"{at}: {_shown(name)} is missing"


def _dependent_required(_: _Validator, schema: dict[str, Any], value: Any, at: str) -> Iterator[str]:  # noqa: ANN401
    for name, needed in schema["dependentRequired"].items():
        for other in needed if name in value else ():
            if other not in value:
                yield f"{at}: {_shown(other)} is missing, since {_shown(name)} is there"


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


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004 - a line of text
