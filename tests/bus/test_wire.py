"""Payloads: decoding undoes encoding, and whatever comes in is read or refused, never more."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import codec, wire
from bus.envelope import Envelope
from bus.errors import BadEnvelope, TooLarge, TooNew
from bus.events import EVENTS, RunPaused, TimePassed
from bus.transport import Message
from tests.support.events import FLOATS, TEXTS, envelopes

KINDS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=20)
SMALL = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
"""JSON with integers of 64 bits, which is what attachments may hold outside of events."""


def encode(message: Message, most: int = wire.MOST_BYTES) -> bytes:
    return wire.encode(message, source="/swarm/hub/h", note_id="n-1", most=most)


def pause(**attachments: Any) -> Message:
    event = RunPaused(reason="why", kind="person")
    return Message(Envelope("id-1", "/swarm/hub/h", event, "run", "2026-01-01T00:00:00Z"), attachments)


@given(envelopes(), st.dictionaries(TEXTS, SMALL, max_size=4))
def test_decoding_undoes_encoding_of_an_event(envelope: Envelope, attachments: Mapping[str, Any]) -> None:
    message = Message(envelope, attachments)
    assert wire.decode(encode(message)) == message


@given(KINDS, st.dictionaries(TEXTS.filter(lambda name: name != "note"), SMALL, max_size=4))
def test_decoding_undoes_encoding_of_a_note(kind: str, fields: dict[str, Any]) -> None:
    message = Message(None, {"note": kind, **fields})
    assert wire.decode(encode(message)) == message


def test_an_empty_message_is_an_empty_payload() -> None:
    assert encode(Message(None)) == b""
    assert wire.decode(b"") == Message(None)


@given(envelopes())
def test_an_event_without_attachments_is_the_line_of_the_log(envelope: Envelope) -> None:
    assert encode(Message(envelope)) == codec.encode(envelope)


@given(envelopes(), st.dictionaries(TEXTS, SMALL, min_size=1, max_size=3))
def test_attachments_stand_in_the_data_of_a_cloudevent(envelope: Envelope, attachments: dict[str, Any]) -> None:
    sent = json.loads(encode(Message(envelope, attachments)))
    plain = json.loads(codec.encode(envelope))
    assert sent["data"].pop("attachments") == attachments
    assert sent == plain


def test_no_event_has_a_field_where_attachments_stand() -> None:
    assert not [name for name, kind in EVENTS.items() if wire.ATTACHMENTS in kind.model_fields]


def test_a_note_is_a_cloudevent_of_its_own_type() -> None:
    assert json.loads(encode(Message(None, {"note": "card", "slots": 2}))) == {
        "specversion": "1.0",
        "id": "n-1",
        "source": "/swarm/hub/h",
        "type": "swarm.note.card.v1",
        "datacontenttype": "application/json",
        "data": {"slots": 2},
    }


def test_order_and_spacing_are_free() -> None:
    sent = json.loads(encode(pause(a=1)))
    assert wire.decode(json.dumps(dict(reversed(sent.items())), indent=2).encode()) == pause(a=1)
    note = {"type": "swarm.note.x.v1", "source": "s", "id": "1", "specversion": "1.0", "other": 1}
    assert wire.decode(json.dumps(note).encode()) == Message(None, {"note": "x"})


def test_an_event_may_speak_of_attachments_and_notes() -> None:
    event = RunPaused(reason='"attachments" swarm.note.card.v1', kind="person")
    message = Message(Envelope("1", "/s", event, "run", "2026-01-01T00:00:00Z"))
    assert wire.decode(encode(message)) == message
    message = Message(Envelope("1", "/s", TimePassed(), "attachments", "2026-01-01T00:00:00Z"))
    assert wire.decode(encode(message)) == message


@dataclass(frozen=True)
class Briefing:
    """A value as senders attach them: not JSON, but with a word for it."""

    text: str
    journal: tuple[Envelope, ...]

    def on_wire(self) -> Any:
        return {"text": self.text, "journal": self.journal, "needs": MappingProxyType({"a": 1})}


def test_attached_values_say_what_they_are_on_the_wire() -> None:
    inside = pause().envelope
    assert inside is not None
    found = wire.decode(encode(pause(briefing=Briefing("do", (inside,)), past=[inside])))
    as_event = json.loads(codec.encode(inside))
    assert found.attachments == {
        "briefing": {"text": "do", "journal": [as_event], "needs": {"a": 1}},
        "past": [as_event],
    }


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [b"bytes", {1, 2}, 2**64, -(2**63) - 1, "\ud800", {1: 2}, {"\udc00": 1}, nested(205), nested(5000), object(),
     TimePassed()],
)  # fmt: skip
def test_what_cannot_be_read_again_is_not_written(value: Any) -> None:
    with pytest.raises(BadEnvelope, match="cannot be written"):
        encode(pause(it=value))
    with pytest.raises(BadEnvelope, match="cannot be written"):
        encode(Message(None, {"note": "card", "it": value}))


@pytest.mark.parametrize("levels", range(180, 206))
def test_whatever_depth_is_written_can_be_read(levels: int) -> None:
    message = pause(it=nested(levels))
    try:
        payload = encode(message)
    except BadEnvelope:
        assert levels > 190
    else:
        assert wire.decode(payload) == message


@pytest.mark.parametrize("kind", [None, "", "Card", "card 2", 7, "x" * 65, "card.v2"])
def test_a_note_without_a_proper_kind_is_not_written(kind: Any) -> None:
    with pytest.raises(BadEnvelope, match="a note has a kind"):
        encode(Message(None, {"note": kind, "slots": 2}))


def test_sizes_are_bounded_both_ways() -> None:
    payload = encode(pause(it="x" * 100))
    with pytest.raises(TooLarge, match="too large for the bus, which carries 200"):
        encode(pause(it="x" * 100), most=200)
    with pytest.raises(TooLarge, match="200 is the most that is read"):
        wire.decode(payload, most=200)
    assert wire.decode(payload, most=len(payload)) == pause(it="x" * 100)


NOTE = {"specversion": "1.0", "id": "1", "source": "/s", "type": "swarm.note.card.v1", "data": {}}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"type": "swarm.note.card.v2"}, TooNew),
        ({"type": "swarm.note.Card.v1"}, BadEnvelope),
        ({"type": "swarm.note.card"}, BadEnvelope),
        ({"type": ["swarm.note.card.v1"]}, BadEnvelope),
        ({"specversion": "2.0"}, BadEnvelope),
        ({"id": ""}, BadEnvelope),
        ({"source": 7}, BadEnvelope),
        ({"data": [1]}, BadEnvelope),
        ({"data": None}, BadEnvelope),
        ({"data": {"note": "other"}}, BadEnvelope),
    ],
)
def test_a_wrong_note_is_refused(change: dict[str, Any], error: type[Exception]) -> None:
    assert wire.decode(json.dumps(NOTE).encode()) == Message(None, {"note": "card"})
    with pytest.raises(error):
        wire.decode(json.dumps(NOTE | change).encode())


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xfe",
        b'"attachments"',
        b'{"attachments":1}',
        b'["attachments", "swarm.note."]',
        b'{"data":{"attachments":{}}}',
        b'{"type":"swarm.note.card.v1","data":{"n":NaN}}',
        b'{"type":"swarm.note.card.v1","data":{"n":' + b"9" * 5000 + b"}}",
        b'{"type":"swarm.note.card.v1","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"type":"swarm.note.card.v1","data":"\\ud800"}',
        b'{"type":"swarm.note.card.v1","data":{"a":1',
        encode(pause()).replace(b'"data":{', b'"data":{"attachments":[],'),
        encode(pause(a=1)).replace(b'"data"', b'"attachments"'),
        encode(pause(a=1)).replace(b'"reason":"why"', b'"reason":7'),
        encode(pause(a=1)).replace(b'"reason"', b'"unknown":1,"reason"'),
    ],
)
def test_hostile_payloads_are_refused(payload: bytes) -> None:
    with pytest.raises(BadEnvelope):
        wire.decode(payload)


@pytest.mark.parametrize("item", [b"[],", b"{},", b'"a",', b'"\\\\",', b"1,", b'{"a":1},', b'{"a":"b"},'])
def test_a_large_payload_of_many_values_is_refused_before_it_is_read(
    item: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    head, tail = b'{"type":"swarm.note.submit.v1","specversion":"1.0","id":"1","source":"x","data":{"x":[', b"0]}}"
    payload = head + item * (4 * wire.MOST_VALUES) + tail
    monkeypatch.setattr("bus.wire.from_json", None)
    with pytest.raises(BadEnvelope, match="too many to read"):
        wire.decode(payload, most=len(payload))


@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_large_text_that_does_not_end_is_refused_without_going_through_it_again_and_again(end: bytes) -> None:
    payload = b"," * (wire.MOST_VALUES + 1) + b'"' + b'\\"' * (4 << 20) + end
    with pytest.raises(BadEnvelope, match="too many to read"):
        wire.decode(payload, most=len(payload))


def test_what_stands_in_texts_is_no_value_of_a_large_payload() -> None:
    most = 16 * wire.MOST_BYTES
    note = Message(None, {"note": "submit", "table": '1,2,{"a": [3]},\\\n' * wire.MOST_VALUES})
    assert wire.decode(encode(note, most), most=most) == note
    with pytest.raises(BadEnvelope, match="too many to read"):
        encode(Message(None, {"note": "submit", "table": [[]] * (2 * wire.MOST_VALUES)}), most)


def test_of_an_event_with_many_faults_it_is_told_only_how_many() -> None:
    head = (
        b'{"specversion":"1.0","id":"1","source":"/a","type":"swarm.ResultSubmitted.v1","correlationid":"r","time":"t",'
    )
    with pytest.raises(BadEnvelope, match=r"[0-9,]{7} things are wrong in it"):
        wire.decode(head + b'"data":{"files":[' + b"{}," * 100_000 + b"{}]}}")


def test_of_a_key_that_comes_twice_one_counts() -> None:
    payload = encode(pause(a=1)).replace(b'"data":{', b'"data":{"attachments":{"b":2},')
    assert wire.decode(payload).attachments in ({"a": 1}, {"b": 2})


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(payload: bytes) -> None:
    try:
        wire.decode(payload)
    except (BadEnvelope, TooNew):
        return
    assert not payload


@given(st.data(), envelopes(), st.sampled_from([{}, {"a": [1, {"b": "c"}]}]))
def test_a_spoilt_payload_is_read_or_refused(data: st.DataObject, envelope: Envelope, attachments: Any) -> None:
    payload = bytearray(encode(Message(envelope, attachments)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(payload) - 1))
        payload[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        found = wire.decode(bytes(payload))
    except (BadEnvelope, TooNew):
        return
    assert isinstance(found, Message)
