"""A road to the broker that is bad: it delays, cuts, stalls; doubles messages, and lets those of other topics overtake.

    async with MqttProxy(broker.port, chance=random.Random(7), doubled=0.02, late=0.05) as road: ...

It knows as much of MQTT 5 as it needs: where a packet ends (section 2.1), and of PUBLISH its topic and packet id
(section 3.3). Messages of one topic keep their order, which the standard promises (section 4.6); those of different
topics have none. A doubled one comes as it does after a resend, with DUP set; its second PUBACK is swallowed, since the
sender knows of one alone.
"""

import asyncio
import random
import socket
import struct
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

PUBLISH, PUBACK = 3, 4
DUP = 0x08
LONGEST_HOLD_S = 0.25


@dataclass(eq=False)
class MqttProxy:
    """One road, on a port of its own. `doubled`, `late`, `slow`: chances of a message, or of a piece of the stream."""

    to_port: int
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    doubled: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    host: str = "127.0.0.1"
    """Where it listens."""
    plain: bool = False
    """Whether it carries something else than MQTT, as it is."""
    port: int = 0
    met: Counter[str] = field(default_factory=Counter)
    """What was done to messages and connections, and how often."""
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _connections: set["asyncio.Task[None]"] = field(default_factory=set)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The broker's address over this road."""
        return f"mqtt://{self.host}:{self.port}"

    async def __aenter__(self) -> Self:
        self._open.set()
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        for writer in tuple(self._writers):  # of connections that were only just accepted
            writer.transport.abort()

    # What is done to the whole road

    def stall(self) -> None:
        """Let nothing through, and tell nobody: as a partition does."""
        self.met["stalled"] += 1
        self._open.clear()

    def heal(self) -> None:
        """Let through again what waits."""
        self._open.set()

    def cut(self) -> None:
        """Reset all connections."""
        for writer in tuple(self._writers):
            self.met["cut"] += 1
            endpoint: socket.socket = writer.transport.get_extra_info("socket")
            with suppress(OSError):
                endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    # Connections

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.create_task(self._carry(reader, writer), name="road")
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._open.wait()
            try:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
            except OSError:
                return
            self._writers.add(far_writer)
            there, back = _Way(self, far_writer), _Way(self, writer)
            there.back, back.back = back, there
            ways = [asyncio.create_task(there.pump(reader)), asyncio.create_task(back.pump(far_reader))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                self._writers.discard(far_writer)
                far_writer.close()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _piece(self) -> None:
        """Wait as long as the road wants before a piece of the stream."""
        if self.slow and self.chance.random() < self.slow:
            self.met["slow"] += 1
            await asyncio.sleep(self.chance.uniform(0.0, LONGEST_HOLD_S))
        await self._open.wait()


class _Way:
    """One direction of a connection."""

    back: "_Way"

    def __init__(self, road: MqttProxy, writer: asyncio.StreamWriter) -> None:
        self.road = road
        self.writer = writer
        self.twice: dict[bytes, int] = {}
        """Packet id of a message that went the other way twice -> its PUBACKs that are still to come."""
        self.held: dict[bytes, list[bytes]] = {}
        """By topic: what waits, so that others overtake it."""

    async def pump(self, reader: asyncio.StreamReader) -> None:
        rest = b""
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                await self.road._piece()
                if self.writer.is_closing():
                    return
                if self.road.plain:
                    self.writer.write(data)
                    await self.writer.drain()
                    continue
                packets, rest = split(rest + data)
                for packet in packets:
                    self._take(packet)
                await self.writer.drain()

    def _take(self, packet: bytes) -> None:
        road, kind = self.road, packet[0] >> 4
        if kind == PUBACK and self._is_second(packet_id(packet)):
            return
        if kind != PUBLISH:
            self.writer.write(packet)
            return
        topic, number = topic_and_id(packet)
        if topic in self.held:
            self.held[topic].append(packet)
        elif topic and road.late and road.chance.random() < road.late:
            road.met["late"] += 1
            self.held[topic] = [packet]
            asyncio.get_running_loop().call_later(road.chance.uniform(0.0, LONGEST_HOLD_S), self._release, topic)
        else:
            self.writer.write(packet)
            if number and road.doubled and road.chance.random() < road.doubled:
                road.met["doubled"] += 1
                self.back.twice[number] = 2
                self.writer.write(bytes([packet[0] | DUP]) + packet[1:])

    def _release(self, topic: bytes) -> None:
        for packet in self.held.pop(topic):
            if not self.writer.is_closing():
                self.writer.write(packet)

    def _is_second(self, number: bytes) -> bool:
        left = self.twice.get(number)
        if left is None:
            return False
        if left == 1:
            del self.twice[number]
            return True
        self.twice[number] = 1
        return False


def split(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the whole packets at the beginning of a stream, and what is left of it."""
    found = []
    at = 0
    while (end := _end(data, at)) is not None:
        found.append(data[at:end])
        at = end
    return found, data[at:]


def _end(data: bytes, at: int) -> int | None:
    length = 0
    for place, byte in enumerate(data[at + 1 : at + 5]):
        length |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            end = at + 2 + place + length
            return end if end <= len(data) else None
    return None


def topic_and_id(packet: bytes) -> tuple[bytes, bytes]:
    """Return the topic of a PUBLISH, and its packet id; none at QoS 0."""
    at = _body(packet)
    size = int.from_bytes(packet[at : at + 2], "big")
    topic = packet[at + 2 : at + 2 + size]
    return topic, packet[at + 2 + size : at + 4 + size] if packet[0] & 0x06 else b""


def packet_id(packet: bytes) -> bytes:
    """Return the packet id of a PUBACK."""
    at = _body(packet)
    return packet[at : at + 2]


def _body(packet: bytes) -> int:
    return next(place for place in range(1, 5) if packet[place] < 0x80) + 1
