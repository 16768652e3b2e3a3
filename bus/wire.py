"""Message <-> payload: what goes over a broker, in any language. Pure.

A payload is one CloudEvent in structured mode. An event is the line of `bus/codec.py`; what only the way needs stands
in its `data` under `attachments`, and is taken out again before the event is validated. A note is a CloudEvent of type
`swarm.note.KIND.v1` whose `data` are its fields. An empty payload is the empty message, which clears a retained topic.

Whatever comes in was written by others: it is bounded before it is read, and what is wrong with it is a `BadEnvelope`.
"""

import re
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import orjson
from pydantic import JsonValue
from pydantic_core import from_json, to_json

from bus import codec
from bus.envelope import Envelope
from bus.errors import BadEnvelope, TooLarge, TooNew
from bus.transport import Message

CONTENT_TYPE = "application/cloudevents+json"
MOST_BYTES = 1 << 20
"""The largest payload by default; larger ones go by claim (`bus/parcels.py`)."""
MOST_VALUES = 250_000
"""Values in a larger payload, those in texts not counted: ten thousand files have some fifty thousand. Few bytes become
many objects, and reading them must not take as long as the broker waits to hear of us."""
ATTACHMENTS = "attachments"
"""Where attachments stand in an event's `data`; no event has a field of this name."""
NOTE_VERSION = 1

_NOTE = re.compile(r"swarm\.note\.([a-z_]{1,64})\.v([1-9][0-9]{0,5})")
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""One that does not end goes to the end: none is looked for within another."""
_KIND = re.compile(r"[a-z_]{1,64}")
_NOTE_MARK = b"swarm.note."
_ATTACHMENTS_MARK = b'"attachments"'
_EMPTY_DATA = b'"data":{}}'
_SUSPECT_BRACKETS = 150
"""The reader bounds nesting at about 200 levels."""


@runtime_checkable
class Wired(Protocol):
    """A value of an attachment that is not plain JSON, but can be said in it."""

    def on_wire(self) -> Any:  # noqa: ANN401 - JSON, or what holds more of these
        """Return what stands for this on the wire: JSON, in which envelopes and further such values may stand."""
        ...


def encode(message: Message, *, source: str, note_id: str, most: int = MOST_BYTES) -> bytes:
    """Return the payload of a message; `source` and `note_id` are those of a note, which brings none.

    Envelopes in attachments become CloudEvents; numbers that JSON has no word for (NaN) become null. Raises
    `BadEnvelope` for what cannot be written or could not be read again, `TooLarge` above `most` bytes.
    """
    if message.envelope is None:
        payload = _note(message.attachments, source, note_id) if message.attachments else b""
    else:
        payload = codec.encode(message.envelope)
        if message.attachments:
            payload = _with_attachments(payload, message)
    if len(payload) > most:
        raise TooLarge(f"a message of {len(payload):,} bytes is too large for the bus, which carries {most:,}")
    _check_values(payload)
    return payload


def decode(payload: bytes | bytearray, *, most: int = MOST_BYTES) -> Message:
    """Return the message that a payload holds.

    Raises `BadEnvelope` with what is wrong, also for too many values, `TooLarge` for more than `most` bytes, `TooNew`
    for an event or a note of a newer version.
    """
    if not payload:
        return Message(None)
    if len(payload) > most:
        raise TooLarge(f"a message of {len(payload):,} bytes came in; {most:,} is the most that is read")
    _check_values(payload)
    if _ATTACHMENTS_MARK not in payload and _NOTE_MARK not in payload:
        return Message(codec.decode(payload))
    try:
        event = from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise BadEnvelope(f"not JSON: {error}") from error
    if not isinstance(event, dict):
        raise BadEnvelope(f"not an event: a JSON object is wanted, this is {type(event).__name__}")
    stated, data = event.get("type"), event.get("data")
    note = _NOTE.fullmatch(stated) if isinstance(stated, str) else None
    if note is not None:
        return _read_note(event, note[1], int(note[2]))
    if not (isinstance(data, dict) and ATTACHMENTS in data):
        return Message(codec.decode(payload))
    attachments = data.pop(ATTACHMENTS)
    if not isinstance(attachments, dict):
        raise BadEnvelope(f"bad {str(stated)[:80]!r}: data.attachments: a JSON object is wanted")
    return Message(codec.decode(to_json(event)), attachments)


def _check_values(payload: bytes | bytearray) -> None:
    """Raise `BadEnvelope` where reading a large payload would make too many objects of it. It is not read for that."""
    if len(payload) <= MOST_BYTES or _values(payload) <= MOST_VALUES:
        return
    texts = payload.count(b'"') - payload.count(b'\\"')  # about two each; a value has one, and one as its key
    if texts > 4 * MOST_VALUES or _values(_TEXT.sub(b"", payload)) > MOST_VALUES:
        raise BadEnvelope(
            f"a message of {len(payload):,} bytes holds more than {MOST_VALUES:,} values: too many to read"
        )


def _values(payload: bytes | bytearray) -> int:
    return payload.count(b",") + payload.count(b"[") + payload.count(b"{")


def _with_attachments(line: bytes, message: Message) -> bytes:
    """Write attachments as the last field of the event's data, which is the last attribute of its line."""
    comma = b"" if line.endswith(_EMPTY_DATA) else b","
    what = f"attachments of {message.envelope.type if message.envelope else 'a note'}"
    return line[:-2] + comma + _ATTACHMENTS_MARK + b":" + _json(message.attachments, what) + b"}}"


def _note(attachments: Mapping[str, Any], source: str, note_id: str) -> bytes:
    fields = dict(attachments)
    kind = fields.pop("note", None)
    if not (isinstance(kind, str) and _KIND.fullmatch(kind)):
        raise BadEnvelope(f"a note has a kind of small letters and '_' under 'note', this has {kind!r:.80}")
    event = {
        "specversion": "1.0",
        "id": note_id,
        "source": source,
        "type": f"swarm.note.{kind}.v{NOTE_VERSION}",
        "datacontenttype": "application/json",
        "data": fields,
    }
    return _json(event, f"note {kind!r}")


def _read_note(event: dict[str, JsonValue], kind: str, version: int) -> Message:
    """Return the note that a CloudEvent holds. Kinds that nobody knows pass: whoever listens decides."""
    if version > NOTE_VERSION:
        raise TooNew(f"note {kind!r} has version {version}: of a newer version of eventswarm than this one")
    fields = event.get("data", {})
    if event.get("specversion") != "1.0":
        raise BadEnvelope(f"bad note {kind!r}: specversion: '1.0' is wanted")
    if not all(isinstance(event.get(name), str) and event[name] for name in ("id", "source")):
        raise BadEnvelope(f"bad note {kind!r}: id and source: a text each is wanted")
    if not isinstance(fields, dict) or "note" in fields:
        raise BadEnvelope(f"bad note {kind!r}: data: a JSON object without a field 'note' is wanted")
    return Message(None, {"note": kind, **fields})


def _json(value: object, what: str) -> bytes:
    try:
        line = orjson.dumps(value, default=_plain, option=orjson.OPT_PASSTHROUGH_DATACLASS)
        # Only what looks as if it could be nested too deeply pays for the proof.
        if line.count(b"[") + line.count(b"{") > _SUSPECT_BRACKETS:
            from_json(b'{"data":{"attachments":' + line + b"}}")
    except (TypeError, ValueError, RecursionError) as error:
        raise BadEnvelope(f"{what} cannot be written: {error}") from error
    return line


def _plain(value: object) -> object:
    """Return JSON for what `orjson` does not know."""
    if isinstance(value, Envelope):
        return orjson.Fragment(codec.encode(value))
    if isinstance(value, Wired):
        return value.on_wire()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not JSON, and has no `on_wire` to say how it would be")
