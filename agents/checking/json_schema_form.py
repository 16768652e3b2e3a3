"""What a JSON schema may be made of: which keywords are known, and what shape the value of each has."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

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


def is_number(value: object) -> bool:
    """Return whether a value is a number in JSON's sense: true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": is_number,
    "integer": lambda value: is_number(value) and value == value // 1,
}


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


def _is_names(wanted: Any) -> bool:  # noqa: ANN401 - any JSON
    return isinstance(wanted, list) and all(isinstance(name, str) for name in wanted)


_FITS: dict[str, Callable[[Any], bool]] = {
    "schemas": lambda wanted: isinstance(wanted, list) and bool(wanted),
    "schemas by name": lambda wanted: isinstance(wanted, dict),
    "count": lambda wanted: TYPES["integer"](wanted) and wanted >= 0,
    "number": is_number,
    "positive number": lambda wanted: is_number(wanted) and wanted > 0,
    "true or false": lambda wanted: isinstance(wanted, bool),
    "names": _is_names,
    "names by name": lambda wanted: isinstance(wanted, dict) and all(map(_is_names, wanted.values())),
    "values": lambda wanted: isinstance(wanted, list),
}
"""Whether a keyword's value has its shape, for the shapes of which no more is to be said than their name."""


def _wrong_shape(shape: str, wanted: Any, root: object) -> str | None:  # noqa: ANN401 - any JSON
    if shape in _FITS:
        listed = "a list of " if shape in ("schemas", "names", "values") else ""
        return None if _FITS[shape](wanted) else f"should be {listed}{shape}"
    if shape == "types":
        kinds = wanted if isinstance(wanted, list) else [wanted]
        unknown = [kind for kind in kinds if not (isinstance(kind, str) and kind in TYPES)]
        return f"names the unknown type {shown(unknown[0])}" if unknown else None
    if shape == "pattern":
        try:
            re.compile(wanted)
        except (re.error, TypeError, OverflowError) as error:
            return f"is no regular expression: {error}"
    if shape == "reference":
        try:
            resolved(wanted, root)
        except (LookupError, TypeError, ValueError):
            return f"refers to {shown(wanted)}; only '#' and '#/…' within this file can be followed"
    return None


def resolved(reference: str, root: Any) -> Any:  # noqa: ANN401 - any JSON
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


def shown(value: object) -> str:
    """Return a value as JSON, cut to a bounded length."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:80]}…"  # noqa: PLR2004 - a line of text
