"""What a broker does, looked at from where we are, as the user that we would be there.

All that is said to it is either on topics of an agent and a hub that nobody is called like, or cleared again: hubs
and agents at work are not disturbed. It cannot see what the broker does with what others say; that is the access list's
(`swarm/brokers/broker_config.py`).
"""

import asyncio
import datetime as dt
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from bus import topics, wire
from bus.broker_address import BrokerAddress
from bus.broker_link import Arrived, BrokerLink, LinkOptions
from bus.errors import BadEnvelope, BusError, BusUnavailable, NotAllowed
from bus.transport import Message
from swarm.brokers.broker_config import MOST_BYTES
from swarm.diagnosis import Diagnosis

ECHOES = 20
ANSWER_S = 5.0
RETAINED_S = 1.0
"""How long retained messages may take to come: as long as a hub waits for the cards of agents."""
FEWEST_IN_FLIGHT = 100
"""A hub has this many messages on their way at once."""
DELAYED_S = 0.02
"""An echo that takes this much longer than a question to the broker has waited: 40 ms with Nagle's algorithm."""
CLOCK_S = 2.0
_LARGEST_PACKET = 268_435_460  # MQTT 5, section 2.1.4, and the fixed header

_ACL = "Give it the access list: swarm hub --print-broker-config FOLDER"


@dataclass
class _Ear:
    """What comes in on one connection, acknowledged at once."""

    link: BrokerLink | None = None
    came: asyncio.Queue[Arrived] = field(default_factory=asyncio.Queue)

    def hear(self, arrived: Arrived) -> None:
        if self.link is not None:
            self.link.acknowledge(arrived)
        self.came.put_nowait(arrived)

    async def payload(self, topic: str, within_s: float) -> bytes | None:
        """Return what comes on a topic next; None where nothing does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while (arrived := await self.came.get()).topic != topic:
                    pass
                return arrived.payload
        return None


async def look_at_bus(url: str, environ: Mapping[str, str]) -> AsyncIterator[Diagnosis]:
    """Yield a diagnosis for each thing that matters. Raises `BadAddress`."""
    address = BrokerAddress.parse(url, environ)
    user = address.name
    instance = f"doctor-{secrets.token_hex(8)}"
    card = topics.agent_card(f"{user}/{instance}")
    yield _guard(address)
    try:
        async with _connected(address, will_topic=card) as (link, ear):
            yield Diagnosis("connection", good=True, told=f"MQTT 5, as {address.user or 'nobody in particular'}")
            yield _packets(link)
            yield _flight(link)
            allowed, refused = await _writes(link, user, instance)
            yield _rights(address, allowed, refused)
            offers = await _may(link, card, b"")
            yield await _speed(link, ear, card if offers else None)
            if offers:
                yield await _retained(address, link, card)
            async for diagnosis in _hubs(link, ear):
                yield diagnosis
    except BusUnavailable as error:
        yield Diagnosis(
            "connection", good=False, told=str(error), remedy="See docs/deploy.md, or for a try: swarm broker"
        )


@asynccontextmanager
async def _connected(address: BrokerAddress, will_topic: str | None) -> AsyncIterator[tuple[BrokerLink, _Ear]]:
    ear = _Ear()
    client_id = f"swarm-{secrets.token_hex(16)}"
    options = LinkOptions(address, client_id, max_packet=_LARGEST_PACKET, will_topic=will_topic)
    link = ear.link = await BrokerLink.open(options, 1, ear.hear)
    try:
        yield link, ear
    finally:
        if will_topic is not None:
            with suppress(BusError):
                await link.publish(will_topic, b"", qos=1, retain=True, properties=None)
        await link.close()


def _guard(address: BrokerAddress) -> Diagnosis:
    if address.is_local:
        told = "on this machine" + ("" if address.tls else ": nothing leaves it, so it need not be encrypted")
        return Diagnosis("way", good=True, told=told)
    if address.guarded:
        return Diagnosis("way", good=True, told="encrypted, with login")
    missing = "no encryption" if not address.tls else "no login"
    remedy = "Give the broker a certificate and users (docs/deploy.md), and write mqtts://USER@HOST?ca=FILE"
    return Diagnosis(
        "way", good=False, told=f"{missing}: whoever is on the way reads and writes all messages", remedy=remedy
    )


def _packets(link: BrokerLink) -> Diagnosis:
    if link.max_packet >= _LARGEST_PACKET:
        return Diagnosis("largest packet", good=True, told="no limit is said")
    good = link.max_packet >= MOST_BYTES
    told = f"{link.max_packet:,} bytes" + ("" if good else f"; we send up to {MOST_BYTES:,}")
    return Diagnosis("largest packet", good, told, f"mosquitto.conf: max_packet_size {MOST_BYTES}")


def _flight(link: BrokerLink) -> Diagnosis:
    good = link.in_flight >= FEWEST_IN_FLIGHT
    told = f"{link.in_flight:,} messages at once" + ("" if good else ": beyond these a hub waits for the broker")
    return Diagnosis("in flight", good, told, "mosquitto.conf: max_inflight_messages 1000")


# Rights


async def _may(link: BrokerLink, topic: str, payload: bytes) -> bool:
    try:
        await link.publish(topic, payload, qos=1, retain=False, properties=None)
    except NotAllowed:
        return False
    return True


async def _writes(link: BrokerLink, user: str, name: str) -> tuple[list[str], list[str]]:
    """Return what only others should write and this user can, and what it cannot. Nobody is called as these are."""
    other = f"{user}-{name}/{name}"
    tried = {
        "another's card": topics.agent_card(other),
        "requests to others": topics.agent_request(other, name),
        "replies of others": topics.hub_reply(name, other, name),
        "cards of hubs": topics.hub_card(name),
        "outcomes of runs": topics.run_outcome(name),
        "answers to clients": topics.client_answer(other),
    }
    verdicts = {what: await _may(link, topic, b"") for what, topic in tried.items()}
    return [what for what, may in verdicts.items() if may], [what for what, may in verdicts.items() if not may]


def _rights(address: BrokerAddress, allowed: list[str], refused: list[str]) -> Diagnosis:
    if not allowed:
        return Diagnosis("rights", good=True, told="writes only what is its own")
    if refused:
        return Diagnosis("rights", good=False, told=f"may write what is others': {', '.join(allowed)}", remedy=_ACL)
    if address.user is None:
        told = "no access list: whoever connects can write everything"
        return Diagnosis("rights", address.is_local, f"{told}{', for a try' if address.is_local else ''}", _ACL)
    good = address.user.startswith("hub")
    return Diagnosis("rights", good, "may write everything: right for a hub, wrong for all others", _ACL)


# Speed, and what is kept


async def _speed(link: BrokerLink, ear: _Ear, card: str | None) -> Diagnosis:
    asked = [await _timed_question(link) for _ in range(ECHOES)]
    if card is None:
        told = f"{_ms(asked)} for a question to the broker (median of {ECHOES}); this user can send itself nothing"
        return Diagnosis("latency", good=True, told=told)
    await link.subscribe([(card, None)])
    echoed = []
    for _ in range(ECHOES):
        began = time.perf_counter()
        await link.publish(card, b"", qos=1, retain=False, properties=None)
        if await ear.payload(card, ANSWER_S) is None:
            return Diagnosis("latency", good=False, told="what this user sends itself does not come back", remedy=_ACL)
        echoed.append(time.perf_counter() - began)
    await link.unsubscribe([card])
    return _compared(asked, echoed)


def _compared(asked: list[float], echoed: list[float]) -> Diagnosis:
    good = statistics.median(echoed) - statistics.median(asked) < DELAYED_S
    told = f"{_ms(echoed)} for an echo (median of {len(echoed)}), {_ms(asked)} for a question to the broker"
    return Diagnosis("latency", good, told, "Small messages wait at the broker: mosquitto.conf: set_tcp_nodelay true")


async def _timed_question(link: BrokerLink) -> float:
    began = time.perf_counter()
    await link.unsubscribe([topics.hub_cards()])
    return time.perf_counter() - began


def _ms(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f} ms"


async def _retained(address: BrokerAddress, link: BrokerLink, card: str) -> Diagnosis:
    """Say a card, and look from another connection whether it stands there."""
    said = wire.encode(
        Message(None, {"note": "card", "roles": [], "slots": 0}), source="/swarm/doctor", note_id=secrets.token_hex(8)
    )
    await link.publish(card, said, qos=1, retain=True, properties=None)
    async with _connected(address, None) as (other, ear):
        await other.subscribe([(card, None)])
        stands = await ear.payload(card, ANSWER_S) == said
    await link.publish(card, b"", qos=1, retain=True, properties=None)
    if stands:
        told = "cards stand; that they survive a restart of the broker, only a restart shows (persistence true)"
        return Diagnosis("retained", good=True, told=told)
    remedy = "Allow retained messages: hubs find agents by them (mosquitto.conf: retain_available true)"
    return Diagnosis("retained", good=False, told="cards do not stand", remedy=remedy)


# Who is there


async def _hubs(link: BrokerLink, ear: _Ear) -> AsyncIterator[Diagnosis]:
    await link.subscribe([(topics.hub_cards(), None)])
    cards: dict[str, Mapping[str, object]] = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(RETAINED_S):
            while True:
                arrived = await ear.came.get()
                with suppress(ValueError, BadEnvelope):
                    place = topics.parse(arrived.topic)
                    note = wire.decode(arrived.payload).attachments
                    if place.kind == "hub_card" and note:
                        cards[place.hub] = note
    if not cards:
        yield Diagnosis("hubs", good=True, told="none is there now")
        return
    yield Diagnosis("hubs", good=True, told=", ".join(sorted(cards)))
    ahead = max((_ahead_s(card) for card in cards.values()), default=0.0)
    good = ahead <= CLOCK_S
    told = "no sign of a difference to a hub's" if good else f"behind a hub's by {ahead:.0f} s or more"
    yield Diagnosis("clock", good, told, "Set it by NTP: nothing depends on it but the times that people read")


def _ahead_s(card: Mapping[str, object]) -> float:
    """Return by how many seconds a card was written in our future. In the past it may have stood for long."""
    with suppress(ValueError, TypeError):
        written = dt.datetime.fromisoformat(str(card.get("time")))
        return (written - dt.datetime.now(dt.UTC)).total_seconds()
    return 0.0
