import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus import codec
from bus.codec import decode, encode, prove
from bus.envelope import Envelope
from bus.errors import BadEnvelope, TooNew
from bus.events import EVENTS, CallGranted, Fact, ResultSubmitted, ToolCalled, ValueDrawn
from tests.support.events import JSON, envelopes, record
from tests.support.golden import GOLDEN, fingerprint

GRANTED = CallGranted(attempt=1, path=(1, 2), number=1, max_tokens=4096)


def call(arguments: Any) -> ToolCalled:
    return ToolCalled(attempt=1, path=(1,), digest="d", tool="t", arguments=arguments)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def line(**changes: Any) -> bytes:
    """Return the line of a small event with attributes changed, or dropped where the value is `...`."""
    attributes = orjson.loads(encode(record(7, GRANTED))) | changes
    return json.dumps({name: value for name, value in attributes.items() if value is not ...}).encode()


@given(envelopes())
def test_decoding_undoes_encoding(envelope: Envelope) -> None:
    encoded = encode(envelope)
    assert decode(encoded) == envelope
    assert encode(decode(encoded)) == encoded
    assert b"\n" not in encoded


@given(envelopes())
def test_key_order_and_spacing_do_not_matter(envelope: Envelope) -> None:
    attributes = orjson.loads(encode(replace(envelope, event=GRANTED)))
    shuffled = dict(reversed(attributes.items())) | {"tracestate": "another's extension"}
    assert decode(json.dumps(shuffled, indent=1).encode()) == replace(envelope, event=GRANTED)


def test_a_line_is_a_cloud_event_with_what_is_absent_left_out() -> None:
    envelope = Envelope("e-1", "/swarm/hub/1", GRANTED, "run-1", "2026-01-01T00:00:00Z")
    assert orjson.loads(encode(envelope)) == {
        "specversion": "1.0",
        "id": "e-1",
        "source": "/swarm/hub/1",
        "type": "swarm.CallGranted.v1",
        "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json",
        "correlationid": "run-1",
        "elapsedms": 0,
        "data": {"attempt": 1, "path": [1, 2], "number": 1, "max_tokens": 4096},
    }
    full = replace(
        envelope, subject="s", causation_id="c", sequence=12, elapsed_ms=5, traceparent="00-a-b-01", label="private"
    )
    assert (
        orjson.loads(encode(full)).items()
        >= {
            "subject": "s",
            "causationid": "c",
            "sequence": "12",
            "elapsedms": 5,
            "traceparent": "00-a-b-01",
            "label": "private",
        }.items()
    )


@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_an_envelope_or_refused(junk: bytes) -> None:
    with pytest.raises(BadEnvelope):
        decode(junk)


@given(envelopes(), st.data())
def test_a_damaged_line_is_an_envelope_or_refused(envelope: Envelope, data: st.DataObject) -> None:
    damaged = bytearray(encode(envelope))
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode(bytes(damaged))
    except (BadEnvelope, TooNew):
        return
    assert decode(encode(decoded)) == decoded


@given(st.sampled_from(sorted(codec.decode(line()).__slots__)), JSON)
def test_an_attribute_of_any_value_is_taken_or_refused(name: str, value: Any) -> None:
    name = {"event": "data"}.get(name, name.replace("_", ""))
    try:
        decoded = decode(line(**{name: value}))
    except (BadEnvelope, TooNew):
        return
    assert decode(encode(decoded)) == decoded


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (b"", "not JSON"),
        (b"[]", "list"),
        (b"[" * 100_000, "not JSON"),
        (b'{"type":"swarm.CallGranted.v1"}', "specversion: Field required"),
        (line(specversion="0.3"), "specversion"),
        (line(id=""), "id: String should have at least 1 character"),
        (line(id=...), "id: Field required"),
        (line(source=5), "source"),
        (line(type=...), "type is None"),
        (line(type="com.example.made"), "com.example.made"),
        (line(type=["swarm.CallGranted.v1"]), "type is ['swarm"),
        (line(type="swarm.CallGranted.v0"), "type is"),
        (line(type="swarm." + "x" * 100_000), "..."),
        (line(sequence=7), "sequence"),
        (line(sequence="0"), "sequence"),
        (line(sequence="\u0667"), "sequence"),
        (line(sequence="9" * 5000), "sequence"),
        (line(elapsedms="7"), "elapsedms"),
        (line(elapsedms=-1), "elapsedms"),
        (line(elapsedms=10**400), "elapsedms"),
        (line(elapsedms=True), "elapsedms"),
        (line(data=...), "data: Field required"),
        (line(data=[]), "data"),
        (line(data={}), "data.attempt: Field required; data.path: Field required"),
        (line(data={"attempt": "1", "path": [1], "number": 1, "max_tokens": 1}), "data.attempt"),
        (line(data={"attempt": 1, "path": [1], "number": 1, "max_tokens": 1, "more": 1}), "data.more"),
        (line(subject="\ud800"), "not JSON"),
        (line().replace(b": 4096", b": NaN"), "not JSON"),
        (line().replace(b": 4096", b": " + b"9" * 100_000), "not JSON"),
        (line().replace(b": 4096", b": " + b"[" * 300 + b"]" * 300), "not JSON"),
        (line() + line(), "not JSON"),
        (line().replace(b"run", b"\xff\xfe"), "not JSON"),
    ],
    ids=str,
)
def test_hostile_lines_are_refused_with_what_is_wrong(bad: bytes, told: str) -> None:
    with pytest.raises(BadEnvelope) as caught:
        decode(bad)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 400


def test_of_a_key_given_twice_the_last_counts() -> None:
    twice = line().replace(b'{"specversion"', b'{"id": "first", "type": "swarm.GoalAccepted.v1", "specversion"')
    assert decode(twice) == decode(line())


@pytest.mark.parametrize("name", ["swarm.CallGranted.v2", "swarm.CallGranted.v99999", "swarm.RunTeleported.v1"])
def test_an_event_of_a_newer_version_is_too_new(name: str) -> None:
    with pytest.raises(TooNew, match=f"{name}.*upgrade"):
        decode(line(type=name))


@pytest.mark.parametrize(
    "event",
    [
        call({"a": "\ud800"}),
        call({"\ud800": 1}),
        call({"a": nested(199)}),
        call({"a": nested(250)}),
        call({"a": 10**4300}),
        ResultSubmitted(text="x", data=10**9000),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_could_not_be_read_again_is_not_written(event: Fact) -> None:
    with pytest.raises(BadEnvelope):
        encode(record(1, event))
    with pytest.raises(BadEnvelope, match=f"this {type(event).__name__} cannot be written"):
        prove(event)


@pytest.mark.parametrize(
    "event", [call({"a": nested(190)}), call({"a": "\ufffd" * 5}), call({"a": 10**4000}), call({"a": "x" * 10**6})]
)
def test_what_only_looks_suspicious_is_written(event: Fact) -> None:
    assert decode(encode(record(1, event))).event == event
    prove(event)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "\udfff"},
        {"source": ""},
        {"subject": ""},
        {"sequence": -1},
        {"sequence": 10**18},
        {"elapsed_ms": -1},
        {"elapsed_ms": 2**64},
    ],
)
def test_attributes_that_could_not_be_read_again_are_not_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadEnvelope, match="cannot be written"):
        encode(replace(record(1), **wrong))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_event_holds_what_json_cannot_say(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        ValueDrawn(attempt=1, path=(1,), kind="now", value=value)
    with pytest.raises(ValueError, match="finite"):
        call({"a": [value]})


def forget() -> None:
    """Let the events be looked at anew."""
    codec._any_line.cache_clear()
    codec._line_of.cache_clear()


@pytest.fixture
def third_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `CallGranted` be at version 3, which renamed `tokens` of 1 to `most` of 2, and that to `max_tokens`."""
    newest = type("CallGranted", (CallGranted,), {"version": 3, "__module__": __name__})
    monkeypatch.setitem(EVENTS, "CallGranted", newest)

    def rename(old: str, new: str) -> Any:
        return lambda data: {new if name == old else name: value for name, value in data.items()}

    monkeypatch.setitem(codec.UPGRADES, ("CallGranted", 1), rename("tokens", "most"))
    monkeypatch.setitem(codec.UPGRADES, ("CallGranted", 2), rename("most", "max_tokens"))
    forget()
    yield
    forget()


def old(version: int, **data: Any) -> bytes:
    return line(type=f"swarm.CallGranted.v{version}", data={"attempt": 1, "path": [1, 2], "number": 1} | data)


@pytest.mark.usefixtures("third_version")
@pytest.mark.parametrize("lineage", [old(1, tokens=4096), old(2, most=4096), old(3, max_tokens=4096)])
def test_older_versions_are_upgraded_step_by_step(lineage: bytes) -> None:
    envelope = decode(lineage)
    assert envelope.event.model_dump() == GRANTED.model_dump()
    assert envelope.type == "swarm.CallGranted.v3"
    assert decode(encode(envelope)) == envelope


@pytest.mark.usefixtures("third_version")
@pytest.mark.parametrize("bad", [old(1), old(1, tokens="many"), line(type="swarm.CallGranted.v1", data=[])])
def test_a_bad_event_of_an_older_version_is_refused(bad: bytes) -> None:
    with pytest.raises(BadEnvelope, match=r"bad swarm\.CallGranted"):
        decode(bad)


@pytest.mark.usefixtures("third_version")
def test_an_upgrade_that_stumbles_over_bad_data_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codec.UPGRADES, ("CallGranted", 1), lambda data: {"max_tokens": data["tokens"]})
    with pytest.raises(BadEnvelope, match="cannot be upgraded"):
        decode(old(1))


@pytest.mark.usefixtures("third_version")
def test_a_version_that_nothing_upgrades_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(codec.UPGRADES, ("CallGranted", 2))
    with pytest.raises(BadEnvelope, match=r"swarm\.CallGranted\.v2 can no longer be read"):
        decode(old(1, tokens=1))


def test_the_golden_log_of_version_1_is_still_read_and_written_the_same() -> None:
    lines = (GOLDEN / "v1.jsonl").read_bytes().splitlines()
    decoded = [decode(each) for each in lines]
    assert [envelope.sequence for envelope in decoded] == list(range(1, len(lines) + 1))
    for each, envelope in zip(lines, decoded, strict=True):
        if envelope.type == orjson.loads(each)["type"]:  # an upgraded event is written as what it is now
            assert encode(envelope) == each


def test_every_event_stands_in_a_golden_log_in_its_present_version() -> None:
    golden = {orjson.loads(each)["type"] for log in GOLDEN.glob("*.jsonl") for each in log.read_bytes().splitlines()}
    assert golden >= {f"swarm.{name}.v{kind.version}" for name, kind in EVENTS.items()}


def test_an_event_changes_its_shape_only_with_its_version() -> None:
    committed = json.loads((GOLDEN / "schemas.json").read_text())
    for name, kind in EVENTS.items():
        version = f"{name}.v{kind.version}"
        assert committed.get(version) == fingerprint(kind), (
            f"{name} changed its shape. Raise its `version`, add what upgrades the one before to `bus.codec.UPGRADES`, "
            f"add a golden log, and add {version!r}: {fingerprint(kind)!r} to tests/golden/schemas.json."
        )


def test_the_fingerprint_sees_a_changed_shape_and_no_changed_prose() -> None:
    reworded = type("CallGranted", (CallGranted,), {"__doc__": "Other words.", "__module__": __name__})
    wider = type("CallGranted", (CallGranted,), {"__annotations__": {"more": str}, "more": "", "__module__": __name__})
    assert fingerprint(reworded) == fingerprint(CallGranted)
    assert fingerprint(wider) != fingerprint(CallGranted)
