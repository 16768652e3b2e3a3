"""Envelope <-> one line of JSON: a CloudEvents 1.0 event in structured mode.

The same line is what stands in the log, what goes over the wire and what the chain of hashes is taken of. Written
lines are canonical (attributes in a fixed order, `data` last, no spaces); on reading any order and spacing will do, and
attributes that are not ours are passed over, as CloudEvents allows. Events of older versions are upgraded on reading.

Both ways are on the path of every message, so each is one call into compiled code: `orjson` around what pydantic wrote,
and one validator for each event class that makes envelope and event from the bytes in a single pass.
"""

import dataclasses
import re
from collections.abc import Callable, Hashable, Mapping
from functools import cache

import orjson
from pydantic import JsonValue, ValidationError
from pydantic_core import CoreSchema, PydanticSerializationError, SchemaValidator, core_schema, from_json, to_json

from bus.envelope import Envelope
from bus.errors import BadEnvelope, TooNew
from bus.events import EVENTS, Fact

Data = dict[str, JsonValue]

UPGRADES: dict[tuple[str, int], Callable[[Data], Data]] = {}
"""(event name, version) -> what makes the next version's `data` of that version's. Old lines stay readable by this."""

LARGEST_EXACT = 2**53 - 1
"""The largest integer that every reader of JSON has exactly (RFC 8785, section 3.2.2.3): some read doubles."""

_TYPE = re.compile(r"swarm\.([A-Za-z]+)\.v([1-9][0-9]{0,5})")
_POSITION = r"^[1-9][0-9]{0,17}$"
_MAX_INTEGER = 10**18

# What the JSON reader bounds (nesting, digits of an integer), and what its writer makes of a lone surrogate in a key.
_MAX_BRACKETS = 150
_MAX_DIGITS = 4_300
_MOST_FAULTS = 1_000
"""In one line, of which it is told what they are."""
_REPLACED = "\ufffd".encode() * 3


def encode(envelope: Envelope) -> bytes:
    """Return the envelope as one line of JSON, without its newline.

    Raises `BadEnvelope` for what could not be read again: lone surrogates, nesting beyond 200 levels, integers beyond
    4,300 digits, empty attributes, negative positions and times.
    """
    event = envelope.event
    try:
        data = event.__pydantic_serializer__.to_json(event)
        line = orjson.dumps(_attributes(envelope))[:-1] + b',"data":' + data + b"}"
    except (PydanticSerializationError, TypeError, ValueError) as error:
        raise BadEnvelope(f"event {envelope.id!r} ({envelope.type}) cannot be written: {error}") from error
    if _is_suspect(data) and decode(line) != envelope:
        raise BadEnvelope(f"event {envelope.id!r} ({envelope.type}) cannot be written: bad Unicode")
    return line


def prove(event: Fact) -> None:
    """Raise `BadEnvelope` for an event that `encode` would not write, whatever its envelope."""
    try:
        data = event.__pydantic_serializer__.to_json(event)
        undone = not _is_suspect(data) or _as_data(data, type(event)) == event
    except (PydanticSerializationError, TypeError, ValueError) as error:
        raise BadEnvelope(f"this {type(event).__name__} cannot be written: {error}") from error
    if not undone:
        raise BadEnvelope(f"this {type(event).__name__} cannot be written: bad Unicode")


def _as_data(data: bytes, kind: type[Fact]) -> Fact:
    from_json(b'{"data":' + data + b"}")  # as deep as it lies in an envelope
    return kind.model_validate_json(data, strict=True)


def in_unicode(text: str) -> str:
    """Return a text as it can be written: lone surrogates, as in names of files that are not UTF-8, become `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _is_suspect(data: bytes) -> bool:
    """Tell what looks as if decoding might not undo it: only that pays for the proof."""
    return len(data) > _MAX_DIGITS or _REPLACED in data or data.count(b"[") + data.count(b"{") > _MAX_BRACKETS


def _attributes(envelope: Envelope) -> dict[str, object]:
    """Return all but `data`, in their order; raise `ValueError` for what `decode` would not take."""
    attributes: dict[str, object] = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
    }
    if envelope.subject is not None:
        attributes["subject"] = envelope.subject
    attributes["time"] = envelope.time
    attributes["datacontenttype"] = "application/json"
    if envelope.sequence:
        attributes["sequence"] = str(envelope.sequence)
    attributes["correlationid"] = envelope.correlation_id
    if envelope.causation_id is not None:
        attributes["causationid"] = envelope.causation_id
    if envelope.traceparent is not None:
        attributes["traceparent"] = envelope.traceparent
    attributes["elapsedms"] = envelope.elapsed_ms
    if envelope.label is not None:
        attributes["label"] = envelope.label
    if "" in attributes.values():
        raise ValueError(f"{next(name for name, value in attributes.items() if value == '')} is empty")
    if not (0 <= envelope.sequence < _MAX_INTEGER and 0 <= envelope.elapsed_ms < _MAX_INTEGER):
        raise ValueError(f"sequence {envelope.sequence} or elapsedms {envelope.elapsed_ms} is out of range")
    return attributes


def decode(line: bytes | bytearray) -> Envelope:
    """Return the envelope that a line of JSON holds.

    Raises `BadEnvelope` with what is wrong; `TooNew` where an event's name or version is unknown to this version.
    """
    try:
        return _any_line().validate_json(line, strict=True)  # type: ignore[no-any-return]
    except ValidationError as error:
        faults = error.error_count()
    if faults > _MOST_FAULTS:  # each costs more than the value that it is about, and again if all are looked for again
        raise BadEnvelope(f"not an event of ours: {faults:,} things are wrong in it")
    return _decode_with_care(line)


def _decode_with_care(line: bytes | bytearray) -> Envelope:
    """Decode what is of another shape, of an older version, or wrong; and then say what is wrong."""
    try:
        attributes = from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise BadEnvelope(f"not JSON: {error}") from error
    if not isinstance(attributes, dict):
        raise BadEnvelope(f"not an event: a JSON object is wanted, this is {type(attributes).__name__}")
    stated = attributes.get("type")
    match = _TYPE.fullmatch(stated) if isinstance(stated, str) else None
    if match is None:
        raise BadEnvelope(f"not an event of ours: its type is {_short(stated)}, not `swarm.NAME.vN`")
    name, version = match[1], int(match[2])
    kind = EVENTS.get(name)
    if kind is None or version > kind.version:
        raise TooNew(f"event type {stated!r} is of a newer version of eventswarm than this one; upgrade to read it")
    try:
        if version < kind.version:
            line = to_json(_upgraded(attributes, kind, version))
        return _line_of(name).validate_json(line, strict=True)  # type: ignore[no-any-return]
    except ValidationError as error:
        raise BadEnvelope(f"bad {stated}: {_reasons(error)}") from error


def _upgraded(attributes: dict[str, JsonValue], kind: type[Fact], version: int) -> dict[str, JsonValue]:
    name, data = kind.__name__, attributes.get("data")
    if not isinstance(data, dict):
        raise BadEnvelope(f"bad swarm.{name}.v{version}: data: a JSON object is wanted")
    for step in range(version, kind.version):
        upgrade = UPGRADES.get((name, step))
        if upgrade is None:
            raise BadEnvelope(f"swarm.{name}.v{step} can no longer be read: nothing upgrades it")
        try:
            data = upgrade(data)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise BadEnvelope(f"bad swarm.{name}.v{step}: cannot be upgraded: {error!r}") from error
    return {**attributes, "type": f"swarm.{name}.v{kind.version}", "data": data}


@cache
def _any_line() -> SchemaValidator:
    """Make what reads a whole line with any event of today's versions: `type` says which."""
    definitions: dict[str, CoreSchema] = {}
    choices: dict[Hashable, CoreSchema] = {}
    for name, kind in EVENTS.items():
        schema = kind.__pydantic_core_schema__
        if schema["type"] == "definitions":  # all share them: the union may hold each once
            definitions |= {_reference(each): each for each in schema["definitions"]}
            schema = schema["schema"]
        choices[f"swarm.{name}.v{kind.version}"] = _schema(name, schema)
    lines = core_schema.tagged_union_schema(choices, discriminator="type")
    return SchemaValidator(core_schema.definitions_schema(lines, [*definitions.values()]))


def _reference(schema: Mapping[str, object]) -> str:
    """Return the name by which others refer to a definition; all that are one have it."""
    return str(schema["ref"])


@cache
def _line_of(name: str) -> SchemaValidator:
    """Make what reads a whole line with this event, and knows best what is wrong with it."""
    return SchemaValidator(_schema(name, EVENTS[name].__pydantic_core_schema__))


def _schema(name: str, event: CoreSchema) -> CoreSchema:
    """Return the schema of a line: pydantic's own schema of the event class inside one of `Envelope`."""
    kind = EVENTS[name]
    text = core_schema.str_schema(min_length=1)
    position = core_schema.no_info_after_validator_function(int, core_schema.str_schema(pattern=_POSITION))
    milliseconds = core_schema.int_schema(ge=0, lt=_MAX_INTEGER)
    stated = core_schema.literal_schema([f"swarm.{name}.v{kind.version}"])
    fields = [
        _field("specversion", "specversion", core_schema.literal_schema(["1.0"]), checked_only=True),
        _field("type", "type", stated, checked_only=True),
        _field("id", "id", text),
        _field("source", "source", text),
        _field("event", "data", event),
        _field("correlation_id", "correlationid", text),
        _field("time", "time", text),
        _field("subject", "subject", core_schema.with_default_schema(text, default=None)),
        _field("causation_id", "causationid", core_schema.with_default_schema(text, default=None)),
        _field("sequence", "sequence", core_schema.with_default_schema(position, default=0)),
        _field("elapsed_ms", "elapsedms", core_schema.with_default_schema(milliseconds, default=0)),
        _field("traceparent", "traceparent", core_schema.with_default_schema(text, default=None)),
        _field("label", "label", core_schema.with_default_schema(text, default=None)),
    ]
    arguments = core_schema.dataclass_args_schema("Envelope", fields, collect_init_only=True)
    names = [field.name for field in dataclasses.fields(Envelope)]
    return core_schema.dataclass_schema(Envelope, arguments, names, slots=True)


def _field(name: str, attribute: str, schema: CoreSchema, *, checked_only: bool = False) -> core_schema.DataclassField:
    return core_schema.dataclass_field(name, schema, validation_alias=attribute, init_only=checked_only)


def _reasons(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}".lstrip(": ") for each in found[:3])
    return told if len(found) <= 3 else f"{told}; and {len(found) - 3} more"  # noqa: PLR2004


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004
