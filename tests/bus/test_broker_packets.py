"""The packets that pass with every message: read as `paho` reads them, written as it writes them."""

import inspect
import re
import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import CallbackAPIVersion, MQTTv5
from paho.mqtt.client import Client as Paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bus import broker_packets
from bus.broker_packets import BrokerPackets, Incoming, PackedOnce, read_publish

TOPIC = "swarm/v1/agent/ada/1/request/run-1"


def content_type() -> PackedOnce:
    properties = PackedOnce(PacketTypes.PUBLISH)
    properties.ContentType = "application/cloudevents+json"
    return properties


class Wire:
    """A client of `paho` with a socket to us, and what came of what we sent it."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.ours.setblocking(False)
        self.paho: Any = Paho(CallbackAPIVersion.VERSION2, protocol=MQTTv5)
        self.paho._sock = theirs
        self.paho.manual_ack_set(True)
        self.paho.on_socket_register_write = lambda *_: None  # it does not write by itself
        self.came: list[Incoming] = []
        self.confirmed: list[tuple[int, int]] = []
        self.packets = BrokerPackets(self.paho, self.came.append, lambda *one: self.confirmed.append(one))

    def close(self) -> None:
        self.ours.close()
        if self.paho.socket() is not None:
            self.paho._sock.close()
            self.paho._sock = None


@pytest.fixture
def wire() -> Any:
    made = Wire()
    yield made
    made.close()


def test_the_private_names_that_we_put_others_for_are_there() -> None:
    source = inspect.getsource(broker_packets)
    for name in broker_packets.PRIVATE_NAMES:
        assert name in inspect.getsource(Paho)
    assert set(re.findall(r"self\._paho\.(_[a-z]\w*)", source)) <= set(broker_packets.PRIVATE_NAMES)


@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [0, 1, 90, 127, 128, 16_384, 70_000])
@pytest.mark.parametrize("plain", [True, False])
def test_a_message_is_written_as_paho_writes_it(wire: Wire, qos: int, size: int, *, plain: bool) -> None:
    properties = None if plain else content_type()
    mid = wire.packets.publish(TOPIC, b"x" * size, qos=qos, retain=True, properties=properties)
    ours = bytes(wire.paho._out_packet.popleft()["packet"])
    wire.paho._send_publish(mid, TOPIC.encode(), b"x" * size, qos, True, False, None, properties)
    assert ours == bytes(wire.paho._out_packet.popleft()["packet"])


def test_messages_that_wait_leave_together_and_in_order(wire: Wire) -> None:
    for number in range(5):
        wire.packets.publish(TOPIC, b"%d" % number, qos=number % 2, retain=False, properties=None)
    written = b"".join(bytes(one["packet"]) for one in wire.paho._out_packet)
    wire.packets.write()
    assert wire.ours.recv(65_536) == written
    assert not wire.paho.want_write()


def test_what_the_kernel_does_not_take_leaves_later(wire: Wire) -> None:
    for _ in range(100):
        wire.packets.publish(TOPIC, b"y" * 10_000, qos=1, retain=False, properties=None)
    written = b"".join(bytes(one["packet"]) for one in wire.paho._out_packet)
    got = b""
    while len(got) < len(written):
        wire.packets.write()
        wire.packets.publish(TOPIC, b"z", qos=1, retain=False, properties=None) if not got else None
        got += wire.ours.recv(1 << 20)
    assert got.startswith(written)


def packet(
    properties: Properties | None, *, qos: int = 1, topic: bytes = TOPIC.encode(), payload: bytes = b"{}"
) -> bytes:
    packed = b"\0" if properties is None else bytes(properties.pack())
    body = len(topic).to_bytes(2) + topic + (b"\x12\x34" if qos else b"") + packed + payload
    assert len(body) < 128
    return bytes((0x30 | qos << 1, len(body))) + body


def test_messages_come_one_by_one_however_the_bytes_come(wire: Wire) -> None:
    sent = (
        packet(None) + packet(content_type(), qos=0) + packet(content_type()) + b"\x40\x02\x00\x07\x40\x03\x00\x08\x87"
    )
    for at in range(0, len(sent), 7):
        wire.ours.send(sent[at : at + 7])
        wire.packets.read()
    assert [(one.mid, one.qos, one.topic, one.payload) for one in wire.came] == [
        (0x1234, 1, TOPIC, b"{}"),
        (0, 0, TOPIC, b"{}"),
        (0x1234, 1, TOPIC, b"{}"),
    ]
    assert wire.confirmed == [(7, 0), (8, 0x87)]
    wire.came.clear()
    wire.ours.send(sent)
    wire.packets.read()
    assert len(wire.came) == 3


def test_the_filters_that_a_message_came_by_are_told(wire: Wire) -> None:
    numbered = Properties(PacketTypes.PUBLISH)
    numbered.SubscriptionIdentifier = [5, 300]
    wire.ours.send(packet(numbered))
    wire.packets.read()
    assert wire.came[0].filters == (5, 300)


def test_what_nobody_may_send_us_is_left_to_paho() -> None:
    alias = Properties(PacketTypes.PUBLISH)
    alias.TopicAlias = 5
    assert read_publish(0x32, bytearray(packet(alias)[2:])) is None
    assert read_publish(0x34, bytearray(packet(None)[2:])) is None, "QoS 2"


def test_a_topic_that_is_no_text_is_empty() -> None:
    found = read_publish(0x32, bytearray(packet(None, topic=b"swarm/\xff")[2:]))
    assert found is not None
    assert found.topic == ""


def test_a_connection_that_ends_in_the_middle_is_noticed(wire: Wire) -> None:
    lost: list[Any] = []
    wire.paho.on_disconnect = lambda *told: lost.append(told)
    wire.ours.send(packet(None)[:9])
    wire.ours.close()
    wire.packets.read()
    wire.packets.read()
    assert lost
    assert not wire.came


@given(st.binary(max_size=80), st.integers(0, 15))
def test_no_packet_is_read_otherwise_than_paho_would_or_breaks_us(data: bytes, flags: int) -> None:
    from paho.mqtt._packet import decode_publish  # noqa: PLC0415 - its own reading, to compare with
    from paho.mqtt.exception import MalformedPacket  # noqa: PLC0415 - likewise

    try:
        found = read_publish(0x30 | flags, bytearray(data))
    except IndexError:
        found = None
    if found is None:
        return
    try:
        theirs = decode_publish(0x30 | flags, bytearray(data), MQTTv5)
    except MalformedPacket:
        return  # a content type that is no text: nobody asks for it
    assert (found.mid, found.qos, found.retain, found.payload) == (
        theirs.mid,
        theirs.qos,
        theirs.retain,
        bytes(theirs.payload),
    )
    assert found.topic in {"", theirs.topic.decode(errors="replace")}


@given(
    payload_format=st.none() | st.integers(0, 1),
    expiry=st.none() | st.integers(0, 2**32 - 1),
    response_topic=st.none() | st.text("abc/", min_size=1, max_size=300),
    correlation=st.none() | st.binary(max_size=300),
    users=st.lists(st.tuples(st.text("abc", max_size=200), st.text("abcä", max_size=200)), max_size=3),
    subscriptions=st.lists(st.integers(1, 2**28 - 1), max_size=2),
)
def test_a_message_comes_whatever_properties_its_sender_gave_it(  # noqa: PLR0917 - one for each kind
    payload_format, expiry, response_topic, correlation, users, subscriptions
) -> None:
    given_ = Properties(PacketTypes.PUBLISH)
    given_.ContentType = "application/cloudevents+json"
    for name, value in (
        ("PayloadFormatIndicator", payload_format),
        ("MessageExpiryInterval", expiry),
        ("ResponseTopic", response_topic),
        ("CorrelationData", correlation),
    ):
        if value is not None:
            setattr(given_, name, value)
    for pair in users:
        given_.UserProperty = pair
    for number in subscriptions:
        given_.SubscriptionIdentifier = number
    packet = bytearray(len(TOPIC).to_bytes(2) + TOPIC.encode() + b"\0\7" + given_.pack() + b"what is said")
    came = read_publish(0x32, packet)
    assert came == Incoming(7, 1, False, TOPIC, b"what is said", tuple(subscriptions))
