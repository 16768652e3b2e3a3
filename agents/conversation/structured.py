"""Structured answers: one JSON object read liberally out of a text, validated strictly, repaired once. Pure.

Endpoints may ignore the schema they were given, so nothing here trusts that they kept it. `loads` is also the one way
in which anything that a model wrote becomes data: what it lets through can be encoded again by every encoder we meet.
"""

import functools
import json
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import pydantic
from pydantic import JsonValue

from bus.codec import LARGEST_EXACT

_DEPTH = 64
"""Levels of nesting; far below where parsers give up, so that the answer never depends on the stack."""
_SHOWN_DEPTH = 4
"""References followed when a schema is told in words; it may refer to itself."""
_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*+"?|,(?=\s*[}\]])', re.DOTALL)
_OBJECT = re.compile(r"""\{\s*(?:["'}]|\Z)""")
"""Where an object begins, or one that is cut off; other braces are prose."""
_FENCE = re.compile(r"```\w*\s*")
_THOUGHTS_BEGIN = re.compile(r"\s*<think>")
_THOUGHTS_END = re.compile(r"(?<=\n)</think>|</think>(?=[ \t]*(?:\n|\Z))")
"""Where thoughts end whose beginning the endpoint kept; amid a line it is only spoken of."""
_DECODER = json.JSONDecoder(strict=False)
_ENCODERS = {
    sort: json.JSONEncoder(ensure_ascii=False, sort_keys=sort, separators=(",", ":"), allow_nan=False)
    for sort in (False, True)
}
"""Made once: `json.dumps` makes one for every call with other than its own settings."""


def loads(text: str) -> JsonValue:
    """Parse JSON text, unescaped line breaks in strings allowed.

    Raises `ValueError` where other programs could not take the value: NaN and infinities, integers over 2^53, lone
    surrogates, more than 64 levels.
    """
    try:
        value: JsonValue = _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError(f"nested deeper than {_DEPTH} levels") from error
    _check(value)
    return value


def dumps(value: object, *, sort: bool = False) -> str:
    """Encode without spaces; `sort` the keys where equal values must give equal text."""
    return _ENCODERS[sort].encode(value)


def read_object(text: str) -> dict[str, JsonValue]:
    """Return the one JSON object in `text`: bare, in a code fence or amid prose, trailing commas forgiven.

    A text that begins with an object means that one, whatever was made up after it. Amid prose there must be just one,
    and none that is broken or cut off: a model that quotes an object from a file before its own must not be taken at
    the quote. Raises `ValueError`.
    """
    rest = spoken(text)
    end_is_quoted = rest != text and not _THOUGHTS_BEGIN.match(text)  # or could be
    text = rest.strip()
    if fence := _FENCE.match(text):
        text = text[fence.end() :]
    start = max(text.find("{"), 0)
    found = _objects(_STRING_OR_COMMA.sub(lambda match: "" if match[0] == "," else match[0], text[start:]))
    at, value = next(found, (0, None))
    if value is None:
        raise ValueError("there is no complete JSON object in the reply")
    if start + at > 0 or end_is_quoted:
        others = [other for _, other in found]
        if any(other != value for other in others):
            raise ValueError(f"there are {1 + len(others)} JSON objects in the reply, where exactly one is wanted")
    _check(value)
    return value


def spoken(text: str) -> str:
    """Return the text without the thoughts that some models put before it; not all endpoints show where these begin."""
    if _THOUGHTS_BEGIN.match(text):
        end = text.find("</think>")
    elif text.lstrip().startswith(("{", "```")):
        return text
    else:
        found = _THOUGHTS_END.search(text)
        end = found.start() if found and "<think>" not in text[: found.start()] else -1
    return text if end < 0 else text[end + len("</think>") :].lstrip()


def is_thinking(text: str) -> bool:
    """Tell whether a text is nothing but thoughts that have no end yet."""
    return bool(_THOUGHTS_BEGIN.match(text)) and "</think>" not in text


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer must be: an object that fits `schema`, and that `validate` takes."""

    schema: Mapping[str, JsonValue]
    validate: Callable[[object], object]
    """Gets the parsed JSON and returns the value that the caller wants; raises `ValueError` with the faults."""

    @classmethod
    def of(cls, kind: type[object]) -> "Answer":
        """Make one of a pydantic model, or of any type that pydantic knows; one that is no object is a field of one."""
        return _of_class(cast("Hashable", kind)) if isinstance(kind, type) else _made(kind)

    @property
    def instruction(self) -> str:
        """How the schema is told to the model, for endpoints that do not keep to it by themselves."""
        told = shape(self.schema)
        return f"Your answer is one JSON object of this shape, and nothing else (`?`: may be left out):\n{told}"


def _made(kind: type[object]) -> Answer:
    adapter = pydantic.TypeAdapter(kind)
    schema = adapter.json_schema()
    if not _is_object(schema, schema.get("$defs", {})):
        whole = _made(pydantic.create_model("Whole", answer=(kind, ...)))
        return Answer(whole.schema, lambda value: cast("Any", whole.validate(value)).answer)

    def validate(value: object) -> object:
        try:
            return adapter.validate_json(json.dumps(value))
        except pydantic.ValidationError as error:
            raise ValueError(faults(error)) from error

    return Answer(bare(schema), validate)


def _is_object(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> bool:
    """Tell whether all that fits a schema of pydantic's is an object."""
    if "$ref" in schema:
        return _is_object(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    kinds = schema.get("anyOf") or schema.get("oneOf")
    return all(_is_object(one, definitions) for one in kinds) if kinds else schema.get("type") == "object"


_of_class = functools.lru_cache(maxsize=256)(_made)
"""A role asks for the same class each time, and making a schema takes longer than all else in a call of a model."""


def bare(schema: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Drop the titles that pydantic adds to a schema: a model pays for them in tokens and learns nothing."""
    kept: dict[str, JsonValue] = {}
    for key, value in schema.items():
        if key in ("properties", "$defs"):  # their keys are names, of which one may be `title`
            kept[key] = {name: bare(inner) for name, inner in value.items()}
        elif key in ("default", "const", "enum", "examples"):  # values, not schemas
            kept[key] = value
        elif isinstance(value, dict):
            kept[key] = bare(value)
        elif isinstance(value, list):
            kept[key] = [bare(inner) if isinstance(inner, dict) else inner for inner in value]
        elif key != "title":
            kept[key] = value
    return kept


def shape(schema: Mapping[str, JsonValue]) -> str:
    """Tell a schema in few words: a third of its tokens, and whoever validates knows the rest."""
    return _shape(schema, schema.get("$defs"))


def _shape(schema: object, definitions: JsonValue, depth: int = 0) -> str:  # noqa: PLR0911 - one case a kind
    match schema:
        case {"$ref": str(name)} if isinstance(definitions, dict) and depth < _SHOWN_DEPTH:
            return _shape(definitions.get(name.rpartition("/")[2]), definitions, depth + 1)
        case {"enum": list(values)}:
            return " | ".join(dumps(value) for value in values)
        case {"const": value}:
            return dumps(value)
        case {"anyOf": list(kinds)}:
            return " | ".join(_shape(kind, definitions, depth) for kind in kinds)
        case {"type": "array", "items": items}:
            return f"[{_shape(items, definitions, depth)}, ...]"
        case {"type": "object", "properties": dict(properties), **rest}:
            required = rest.get("required")
            optional = [name for name in properties if not (isinstance(required, list) and name in required)]
            fields = (
                f"{dumps(name)}{'?' if name in optional else ''}: {_shape(part, definitions, depth)}{_about(part)}"
                for name, part in properties.items()
            )
            return f"{{{', '.join(fields)}}}"
        case {"type": str(kind)}:
            return kind
    return "any"


def _about(part: JsonValue) -> str:
    return f" ({part['description']})" if isinstance(part, dict) and "description" in part else ""


def faults(error: pydantic.ValidationError) -> str:
    """Say each fault with its field, without the values: they may be long, and the model has them."""
    return "; ".join(
        f"{'.'.join(str(part) for part in fault['loc']) or 'the answer'}: {fault['msg']}"
        for fault in error.errors(include_url=False, include_input=False, include_context=False)
    )


def repair(error: ValueError) -> str:
    """Ask for the answer again with the fault shown."""
    return f"This answer cannot be used: {error}. Give the whole answer again, as one JSON object without this fault."


def _objects(text: str) -> Iterator[tuple[int, dict[str, JsonValue]]]:
    """Give the outermost objects and where they begin.

    Raises `ValueError` at one that is broken or cut off: neither its parts nor what stands beside it are the answer.
    """
    end = 0
    while begin := _OBJECT.search(text, end):
        try:
            value, end = _DECODER.raw_decode(text, begin.start())
        except (ValueError, RecursionError) as error:
            raise ValueError(f"there is no complete JSON object in the reply where one begins: {error}") from error
        yield begin.start(), cast("dict[str, JsonValue]", value)


def _check(value: JsonValue) -> None:
    """Raise `ValueError` for what could not be encoded again."""
    level = [value]
    for _ in range(_DEPTH):
        if any(type(item) is int and abs(item) > LARGEST_EXACT for item in level):
            raise ValueError("an integer is over 2^53, write it as a string")
        level = [part for item in level for part in _parts(item)]
        if not level:
            break
    else:
        raise ValueError(f"nested deeper than {_DEPTH} levels")
    try:
        dumps(value).encode()
    except UnicodeEncodeError as error:
        raise ValueError("a string holds half a character (a lone surrogate)") from error
    except ValueError as error:
        raise ValueError("a number is not finite") from error


def _parts(value: JsonValue) -> list[JsonValue]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
