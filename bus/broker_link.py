"""One connection to an MQTT 5 broker, from its begin to its end. Only this and `broker_packets.py` know the client.

What `aiomqtt` leaves undone is done here, in part through private names of it and of `paho`, and nowhere else:
acknowledging by hand, reasons in acknowledgements, properties of the connection, an end that is noticed at once, and
callbacks without a task for each message. `PRIVATE_NAMES` lists them; a test fails when one moves.

A link is used once. A new connection is a new link, so nothing of an old one is sent again behind its owner's back.
"""

import asyncio
import logging
import socket
import ssl
import threading
from asyncio import Future
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import aiomqtt
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import ConnectFlags, DisconnectFlags
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from bus.broker_address import BrokerAddress
from bus.broker_packets import BrokerPackets, Incoming, PackedOnce
from bus.errors import BusUnavailable, NotAllowed, TooLarge

PRIVATE_NAMES = ("_client", "_on_connect", "_on_disconnect")
"""Of `aiomqtt.Client`."""
CONNECT_TIMEOUT_S = 5.0
_SILENT = logging.getLogger("swarm.bus.client")
_SILENT.setLevel(logging.CRITICAL)  # what it would say of lost connections is said here, once and in words
PACKET_OVERHEAD = 1024
"""Room in a packet for the topic and all else that is not payload."""

_MOST_IN_FLIGHT = 1_000
_LOST = -1
_NO_SUBSCRIBERS = 0x10
_FAILURE = 0x80
_TAKEN_OVER = 0x8E
_PACKET_TOO_LARGE = 0x95
_REFUSALS = {
    0x84: "it does not speak MQTT 5",
    0x85: "it does not accept the client id",
    0x86: "user or password is wrong (SWARM_BUS_USER, SWARM_BUS_PASSWORD or SWARM_BUS_PASSWORD_FILE)",
    0x87: "it does not let us in (SWARM_BUS_USER, SWARM_BUS_PASSWORD or SWARM_BUS_PASSWORD_FILE say who we are)",
    0x8A: "it has banned us",
    0x8C: "it wants another way of logging in",
    _TAKEN_OVER: "another process has connected with the same client id",
    0x9A: "it keeps no retained messages, which agents' cards are",
    0x9B: "it does not offer QoS 1",
}
"""Reasons (MQTT 5, section 2.4) that trying again does not change."""
_OTHER_NAME = "Write the name that it is for, or give the broker one that is for this name too."
_CERTIFICATES = {
    9: "Is the clock of this machine right?",
    10: "Whoever runs the broker has to renew it.",
    62: _OTHER_NAME,
    64: _OTHER_NAME,
}
"""What to do about a broker's certificate, by what OpenSSL says of it, where that is not about who signed it."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message as it came in; acknowledge it by its `mid` on the link that brought it, if its `qos` is not 0."""

    link: "BrokerLink"
    mid: int
    qos: int
    retain: bool
    topic: str
    payload: bytes
    filters: tuple[int, ...]
    """Identifiers of the filters that it came by, where they bear any."""


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """How to connect."""

    address: BrokerAddress
    client_id: str
    keepalive_s: int = 5
    session_expiry_s: int = 0
    receive_maximum: int = 100
    max_packet: int = 1 << 20
    clean_start: bool = True
    """Begin a new session, whatever the broker kept for this client id."""
    will_topic: str | None = None
    """A topic that the broker clears when we are gone without a word."""
    qos_of: Callable[[str], int] = lambda _: 1
    """The QoS with which what matches a filter is to come."""


class Refusal(BusUnavailable):
    """A connection that would be refused again: nothing is gained by trying."""


class BrokerLink:
    """One connection. `arrived` is called for each message, in the event loop, and must not raise."""

    def __init__(self, options: LinkOptions, number: int, arrived: Callable[[Arrived], None]) -> None:
        self.number = number
        self.session_present = False
        """The broker kept our session: what was not acknowledged comes again."""
        self.max_packet = options.max_packet
        """The largest packet that both sides take, in bytes."""
        self.in_flight = _MOST_IN_FLIGHT
        """How many messages may be on their way to the broker at once."""
        self.subscription_ids = True
        """The broker tells by which filters a message came."""
        self._options = options
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.lost: Future[BusUnavailable] = self._loop.create_future()
        """Done, with the reason, once the connection has ended."""
        self._window = asyncio.Semaphore(_MOST_IN_FLIGHT)
        self._published: dict[int, Future[int]] = {}
        self._reached = False
        self._connected = False
        self._writing = False
        self._client = self._make_client()
        self._paho: Paho = self._client._client  # noqa: SLF001 - see the module
        self._packets = BrokerPackets(self._paho, self._on_message, self._on_published)
        self._take_over()

    @classmethod
    async def open(cls, options: LinkOptions, number: int, arrived: Callable[[Arrived], None]) -> Self:
        """Connect. Raises `Refusal` where trying again would change nothing, else `BusUnavailable`."""
        link = cls(options, number, arrived)
        entering: Future[Any] = asyncio.ensure_future(link._client.__aenter__())
        try:
            await asyncio.wait({entering, link.lost}, return_when=asyncio.FIRST_COMPLETED)
            link._check()
            entering.result()
        except BaseException as error:
            link._end(BusUnavailable(f"{options.address}: given up"))
            entering.cancel()  # its thread goes on for a while, and what it opens is closed: `_on_open`
            await asyncio.wait({entering})
            if isinstance(error, aiomqtt.MqttError):
                raise link._why_not(error) from error
            raise
        return link

    async def close(self) -> None:
        """Say good-bye, so that the broker does not speak our will."""
        if not self.lost.done():
            with suppress(BusUnavailable):
                await self._race(self._client.__aexit__(None, None, None))
        self._end(BusUnavailable(f"{self._options.address}: closed"))

    async def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties | None
    ) -> bool:
        """Hand a message to the broker; tell whether it knows of anybody who wants it, as far as it says.

        Raises `NotAllowed`, `TooLarge`, or `BusUnavailable` for a connection that ended: the message may have
        been taken or not.
        """
        if len(payload) + len(topic) + PACKET_OVERHEAD > self.max_packet:
            raise TooLarge(
                f"a message of {len(payload):,} bytes to {topic!r} is too large: "
                f"the broker takes packets of {self.max_packet:,} bytes"
            )
        async with self._window:
            self._check()
            if self._paho.socket() is None:
                self._end(BusUnavailable(f"{self._options.address}: the connection is lost"))
                self._check()
            mid = self._packets.publish(topic, payload, qos=qos, retain=retain, properties=properties)
            if qos == 0:
                return True
            published: Future[int] = self._loop.create_future()
            self._published[mid] = published
            try:
                reason = await published
            finally:
                self._published.pop(mid, None)
        self._check(lost=reason == _LOST)
        if reason >= _FAILURE:
            raise NotAllowed(
                f"the broker {self._options.address} refuses what is published to {topic!r}: "
                f"{ReasonCode(PacketTypes.PUBACK, identifier=reason).getName()}"
            )
        return reason != _NO_SUBSCRIBERS

    async def subscribe(self, filters: Sequence[tuple[str, int | None]], *, retained: bool = True) -> None:
        """Subscribe to filters, each with its identifier or None. Raises `BusUnavailable`, `NotAllowed`."""
        handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if retained else SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
        options = [SubscribeOptions(qos=qos, retainAsPublished=True, retainHandling=handling) for qos in (0, 1)]
        if not self.subscription_ids:
            filters = [(pattern, None) for pattern, _ in filters]
        plain = [pattern for pattern, identifier in filters if identifier is None]
        groups: list[tuple[list[str], Properties | None]] = [(plain, None)] if plain else []
        for pattern, identifier in filters:
            if identifier is not None:
                identified = _properties(PacketTypes.SUBSCRIBE)
                identified.SubscriptionIdentifier = identifier
                groups.append(([pattern], identified))
        for patterns, properties in groups:
            wanted = [(pattern, options[self._options.qos_of(pattern)]) for pattern in patterns]
            reasons = await self._race(self._client.subscribe(wanted, properties=properties))
            for pattern, reason in zip(patterns, reasons, strict=True):
                if reason.value >= _FAILURE:
                    raise NotAllowed(
                        f"the broker {self._options.address} does not let us read {pattern!r}: {reason.getName()}"
                    )

    async def unsubscribe(self, filters: list[str]) -> None:
        """Take filters back. Raises `BusUnavailable`."""
        await self._race(self._client.unsubscribe(filters))

    def acknowledge(self, arrived: Arrived) -> None:
        """Tell the broker that a message is dealt with; one of another connection is none of its business."""
        if arrived.qos and arrived.link is self and not self.lost.done():
            self._paho.ack(arrived.mid, arrived.qos)

    # How it is made

    def _make_client(self) -> aiomqtt.Client:
        options, address = self._options, self._options.address
        connect = _properties(PacketTypes.CONNECT)
        connect.ReceiveMaximum = options.receive_maximum
        # No maximum packet size: told of one, mosquitto 2.0 drops what is larger but counts it against receive maximum
        # for ever, so that anybody could make us deaf. What is too large is dropped when it has come.
        if options.session_expiry_s:
            connect.SessionExpiryInterval = options.session_expiry_s
        will = None
        if options.will_topic is not None:
            will = aiomqtt.Will(options.will_topic, b"", qos=1, retain=True)
        return aiomqtt.Client(
            address.host,
            address.port,
            username=address.user,
            password=address.password,
            identifier=options.client_id,
            logger=_SILENT,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=will,
            keepalive=options.keepalive_s,
            clean_start=options.clean_start,
            properties=connect,
            tls_context=address.tls_context(),
            timeout=CONNECT_TIMEOUT_S,
            socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        )

    def _take_over(self) -> None:
        """Put callbacks of our own where messages pass, and manual acknowledgement."""
        paho = self._paho
        paho.manual_ack_set(True)
        paho.max_inflight_messages_set(0)  # the window is ours: that of `paho` walks all messages at each answer
        paho.connect_timeout = CONNECT_TIMEOUT_S
        paho.on_connect = self._on_connect
        paho.on_disconnect = self._on_disconnect
        paho.on_socket_open = self._on_open
        paho.on_socket_close = self._on_close
        paho.on_socket_register_write = self._on_want_write
        paho.on_socket_unregister_write = self._on_written

    # Callbacks

    def _on_connect(self, paho: Paho, data: Any, flags: ConnectFlags, reason: ReasonCode, properties: Any) -> None:  # noqa: ANN401
        if self._connected:
            return
        if reason.value:
            self._end(self._refusal(reason))
            return
        self._connected = True
        self.session_present = flags.session_present
        self.in_flight = min(getattr(properties, "ReceiveMaximum", 65_535), _MOST_IN_FLIGHT)
        self._window = asyncio.Semaphore(self.in_flight)
        self.max_packet = min(self.max_packet, getattr(properties, "MaximumPacketSize", self.max_packet))
        self.subscription_ids = bool(getattr(properties, "SubscriptionIdentifierAvailable", 1))
        self._client._on_connect(paho, data, flags, reason, properties)  # noqa: SLF001 - see the module

    def _on_disconnect(
        self, paho: Paho, data: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Any  # noqa: ANN401
    ) -> None:  # fmt: skip
        if not reason.value and not flags.is_disconnect_packet_from_server:
            self._client._on_disconnect(paho, data, flags, reason, properties)  # noqa: SLF001 - see the module
        elif flags.is_disconnect_packet_from_server:
            self._end(self._refusal(reason))
        elif self._connected:
            self._end(BusUnavailable(f"{self._options.address}: the connection is lost ({reason.getName()})"))
        else:
            self._end(BusUnavailable(self._silence()))

    def _on_message(self, came: Incoming) -> None:
        self._arrived(Arrived(self, came.mid, came.qos, came.retain, came.topic, came.payload, came.filters))

    def _on_published(self, mid: int, reason: int) -> None:
        published = self._published.get(mid)
        if published is not None and not published.done():
            published.set_result(reason)

    # The socket. Callbacks come from the thread that connects, too.

    def _on_open(self, paho: Paho, _data: Any, sock: Any) -> None:  # noqa: ANN401
        self._reached = True
        if self.lost.done():
            sock.close()
        else:
            self._soon(self._watch, paho, sock)

    def _watch(self, paho: Paho, sock: Any) -> None:  # noqa: ANN401
        if self.lost.done():
            sock.close()
        elif sock.fileno() >= 0:
            self._loop.add_reader(sock.fileno(), self._read, sock)
            self._keep_alive(paho, sock)

    def _keep_alive(self, paho: Paho, sock: Any) -> None:  # noqa: ANN401
        if sock.fileno() >= 0 and not self.lost.done():
            paho.loop_misc()
            self._loop.call_later(1.0, self._keep_alive, paho, sock)

    def _read(self, sock: Any) -> None:  # noqa: ANN401
        try:
            self._packets.read()
            while isinstance(sock, ssl.SSLSocket) and sock.fileno() >= 0 and sock.pending():
                self._packets.read()
        except Exception as error:  # noqa: BLE001 - whatever it was, the connection is of no use any more
            self._end(BusUnavailable(f"{self._options.address}: the connection is lost ({error})"))

    def _on_want_write(self, paho: Paho, _data: Any, sock: Any) -> None:  # noqa: ANN401
        # All packets of one round of the loop go at once, without asking the kernel first whether it would take them.
        self._soon(self._write, paho, sock)

    def _write(self, paho: Paho, sock: Any) -> None:  # noqa: ANN401
        if sock.fileno() < 0:
            return
        try:
            self._packets.write()
        except Exception as error:  # noqa: BLE001 - as for reading
            self._end(BusUnavailable(f"{self._options.address}: the connection is lost ({error})"))
            return
        if sock.fileno() >= 0 and paho.want_write() and not self._writing:
            self._writing = True
            self._loop.add_writer(sock.fileno(), self._write, paho, sock)

    def _on_written(self, _paho: Paho, _data: Any, sock: Any) -> None:  # noqa: ANN401
        if self._writing:
            self._writing = False
            self._loop.remove_writer(sock.fileno())

    def _on_close(self, _paho: Paho, _data: Any, sock: Any) -> None:  # noqa: ANN401
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())

    def _soon(self, call: Callable[[Paho, Any], None], paho: Paho, sock: Any) -> None:  # noqa: ANN401
        if threading.get_ident() == self._thread:
            self._loop.call_soon(call, paho, sock)
        else:
            with suppress(RuntimeError):  # the loop is closed: nobody is left
                self._loop.call_soon_threadsafe(call, paho, sock)

    # Ends

    def _end(self, why: BusUnavailable) -> None:
        """Let go of the connection, if that has not happened, and tell all that wait."""
        if self.lost.done():
            return
        self.lost.set_result(why)
        for published in self._published.values():
            if not published.done():
                published.set_result(_LOST)
        sock: Any = self._paho.socket()
        if sock is not None and sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._loop.remove_writer(sock.fileno())
            sock.close()

    def _check(self, *, lost: bool = True) -> None:
        """Raise why the connection has ended, if it has."""
        if lost and self.lost.done():
            why = self.lost.result()
            raise type(why)(str(why))

    async def _race(self, call: Any) -> Any:  # noqa: ANN401 - aiomqtt's own answer
        """Wait for an answer of the broker, or the end of the connection."""
        asked = asyncio.ensure_future(call)
        try:
            await asyncio.wait({asked, self.lost}, return_when=asyncio.FIRST_COMPLETED)
            self._check(lost=not asked.done())
            return asked.result()
        except aiomqtt.MqttError as error:
            raise BusUnavailable(f"{self._options.address}: {error}") from error
        finally:
            asked.cancel()

    # Reasons

    def _why_not(self, error: aiomqtt.MqttError) -> BusUnavailable:
        address, cause = self._options.address, error.__context__
        if isinstance(error, aiomqtt.MqttCodeError) and isinstance(error.rc, ReasonCode):
            return self._refusal(error.rc)
        if isinstance(cause, ssl.SSLCertVerificationError):
            why = cause.verify_message.rstrip(".")
            remedy = _CERTIFICATES.get(cause.verify_code, "Name the file of who signed it: mqtts://…?ca=FILE")
            return Refusal(f"{address}: the broker's certificate is not trusted: {why}. {remedy}")
        if isinstance(cause, ssl.SSLError) or (address.tls and isinstance(cause, ConnectionResetError)):
            return BusUnavailable(
                f"{address}: no encrypted connection came about ({getattr(cause, 'reason', None) or cause}). "
                f"Is the port one for mqtts, and a certificate of ours wanted (?cert=FILE&key=FILE)?"
            )
        if isinstance(cause, socket.gaierror):
            return BusUnavailable(f"{address}: there is no host of this name ({cause.strerror})")
        if isinstance(cause, OSError) and not self._reached:
            return BusUnavailable(f"{address}: no broker answers ({cause.strerror or cause}). Is it running?")
        return BusUnavailable(self._silence())

    def _silence(self) -> str:
        address = self._options.address
        hint = "" if address.tls else " If the port is one for encrypted connections, write mqtts://"
        return f"{address}: something is there, but does not answer as an MQTT 5 broker.{hint}"

    def _refusal(self, reason: ReasonCode) -> BusUnavailable:
        address, told = self._options.address, _REFUSALS.get(reason.value)
        if told is not None:
            return Refusal(f"{address}: the broker refuses us: {told}")
        if reason.value == _PACKET_TOO_LARGE:
            return BusUnavailable(f"{address}: the broker ended the connection over a packet that it finds too large")
        return BusUnavailable(f"{address}: the broker ended the connection: {reason.getName()}")


def _properties(kind: int) -> Properties:
    return Properties(kind)  # type: ignore[no-untyped-call] # paho has no types there


def said_as(content_type: str, *, expires_s: int | None = None) -> Properties:
    """Return the properties of messages of a content type. `expires_s`: a broker need not keep them longer."""
    properties = PackedOnce(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # likewise
    properties.ContentType = content_type
    if expires_s is not None:
        properties.MessageExpiryInterval = expires_s
    return properties
