"""The packets that pass with every message, read and written without what `paho` does around them.

Sending, its acknowledgement, receiving, its acknowledgement: `paho` spends on these four what we spend on all else. It
asks the kernel three times for each packet that comes and once for each that goes; it makes objects with locks for
each message and reads properties that nobody asks for. Here packets are read ahead and leave together, and what is
usual in them is read directly; what is not is left to `paho` as before.

`PRIVATE_NAMES` lists what this puts in place of `paho`'s own, or uses; a test fails when one moves.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple, cast

from paho.mqtt.client import Client as Paho
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.properties import Properties

PRIVATE_NAMES = (
    "_sock_recv",
    "_handle_publish",
    "_handle_pubackcomp",
    "_in_packet",
    "_out_packet",
    "_mid_generate",
    "_packet_queue",
)
"""Of `paho.mqtt.client.Client`."""
READ_BYTES = 65_536

_PUBLISH, _DISCONNECT = 0x30, 0xE0
_SUBSCRIPTION = 0x0B
_FIXED = {0x01: 1, 0x02: 4}
"""Properties of a PUBLISH that have so many bytes: payload format, expiry (MQTT 5, section 3.3.2.3)."""
_TEXTS = {0x03: 1, 0x08: 1, 0x09: 1, 0x26: 2}
"""Those that are so many texts: content type, response topic, correlation data, user property."""
_SUCCESS = 0


class Incoming(NamedTuple):
    """A message as its packet has it. `topic` is empty where it is no text: no topic is."""

    mid: int
    qos: int
    retain: bool
    topic: str
    payload: bytes
    filters: tuple[int, ...]
    """Identifiers of the filters that it came by, where they bear any."""


class PackedOnce(Properties):
    """Properties that are the same for every message: packed the first time, not each time."""

    @cached_property
    def _packed(self) -> bytes:
        return bytes(super().pack())  # type: ignore[no-untyped-call] # paho has no types there

    def pack(self) -> bytes:
        """Return them as they stand in a packet."""
        return self._packed


class BrokerPackets:
    """Stands in for parts of one `paho` client. `arrived` and `confirmed` are called in its event loop."""

    def __init__(self, paho: Paho, arrived: Callable[[Incoming], None], confirmed: Callable[[int, int], None]) -> None:
        self._paho = cast("Any", paho)
        self._arrived = arrived
        self._confirmed = confirmed
        self._ahead = b""
        self._at = 0
        self._asked = False
        """Whether the kernel was asked in this round: it calls again for what it has by then."""
        self._receive, self._unusual = self._paho._sock_recv, self._paho._handle_publish
        self._paho._sock_recv = self._read_ahead
        self._paho._handle_publish = self._take_message
        self._paho._handle_pubackcomp = self._take_confirmation

    # Coming

    def read(self) -> None:
        """Take in all that is there."""
        self._asked = False
        while True:
            self._paho.loop_read()
            if self._at >= len(self._ahead) or self._paho.socket() is None:
                return

    def _read_ahead(self, size: int) -> bytes:
        if self._at >= len(self._ahead):
            if self._asked:
                raise BlockingIOError
            self._asked = True
            self._ahead, self._at = self._receive(READ_BYTES), 0
        part = self._ahead[self._at : self._at + size]
        self._at += len(part)
        return part

    def _take_message(self) -> int:
        packet = self._paho._in_packet
        try:
            message = read_publish(packet["command"], packet["packet"])
        except IndexError:
            message = None
        if message is None:
            return int(self._unusual())
        self._arrived(message)
        return _SUCCESS

    def _take_confirmation(self, _kind: str) -> int:
        packet = self._paho._in_packet["packet"]
        if len(packet) < 2:  # noqa: PLR2004 - the number of the message
            raise MalformedPacket("an acknowledgement without a number")
        self._confirmed(packet[0] << 8 | packet[1], packet[2] if len(packet) > 2 else _SUCCESS)  # noqa: PLR2004
        return _SUCCESS

    # Going

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties | None) -> int:
        """Put a message where the next `write` finds it, and return its number."""
        mid: int = self._paho._mid_generate()
        name = topic.encode()
        packed = b"\0" if properties is None else properties.pack()  # type: ignore[no-untyped-call] # paho has no types
        head = bytearray((_PUBLISH | qos << 1 | retain,))
        left = 2 + len(name) + (2 if qos else 0) + len(packed) + len(payload)
        while left > 0x7F:  # noqa: PLR2004 - seven bits to a byte
            head.append(left & 0x7F | 0x80)
            left >>= 7
        head.append(left)
        head += len(name).to_bytes(2)
        head += name
        if qos:
            head += mid.to_bytes(2)
        head += packed
        head += payload
        self._paho._packet_queue(_PUBLISH, head, mid, 1)  # of QoS 0 it would say that it has left; nobody listens
        return mid

    def write(self) -> None:
        """Send what waits, as one."""
        waiting = self._paho._out_packet
        if len(waiting) > 1 and not any(one["command"] & 0xF0 == _DISCONNECT for one in waiting):
            data = b"".join([one["packet"][one["pos"] :] for one in waiting])
            first = waiting[0]
            waiting.clear()
            waiting.append(first | {"command": 0, "qos": 1, "pos": 0, "to_process": len(data), "packet": data})
        self._paho.loop_write()


def read_publish(command: int, packet: bytearray) -> Incoming | None:
    """Return what a PUBLISH packet brings; None for one that nobody may send us: QoS 2, an alias, what is no property.

    Raises `IndexError` for one that is cut off.
    """
    qos = command >> 1 & 0x03
    if qos > 1:
        return None
    at = 2 + (packet[0] << 8 | packet[1])
    name, mid = bytes(packet[2:at]), 0
    if qos:
        mid = packet[at] << 8 | packet[at + 1]
        at += 2
    length, at = _number(packet, at)
    end = at + length
    filters: list[int] = []
    while at < end:
        kind = packet[at]
        if kind == _SUBSCRIPTION:
            number, at = _number(packet, at + 1)
            filters.append(number)
        elif kind in _FIXED:
            at += 1 + _FIXED[kind]
        elif kind in _TEXTS:
            at += 1
            for _ in range(_TEXTS[kind]):
                at += 2 + (packet[at] << 8 | packet[at + 1])
        else:
            return None
    if at != end or end > len(packet):
        return None
    try:
        topic = name.decode()
    except UnicodeDecodeError:
        topic = ""
    return Incoming(mid, qos, bool(command & 1), topic, bytes(packet[end:]), tuple(filters))


def _number(packet: bytearray, at: int) -> tuple[int, int]:
    """Return a number of variable length, and where it ends. Raises `IndexError` for none."""
    value = shift = 0
    while shift < 28:  # noqa: PLR2004 - four bytes of seven bits
        byte = packet[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7
    raise IndexError(at)
