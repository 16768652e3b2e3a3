"""Between processes and machines: an MQTT 5 broker carries the messages.

What the contract leaves open:

- **Room.** `publish` waits for the broker to take the message, not for those who read it. What a subscriber has not
  dealt with is bounded by receive maximum; more waits at the broker, within the broker's own limits. A `capacity`
  bounds only what comes at QoS 0 (the live events of runs): beyond it the newest are dropped and counted.
- **At least once.** A message is acknowledged at the broker once every local subscription that got it has acknowledged
  it. After a reconnect messages may come again, and `publish` sends again what was not confirmed. When a broker loses
  its memory, or a session ends, messages are lost all the same: who needs an answer keeps asking (leases, outboxes).
- **Claims** that wait to be redeemed take up half of receive maximum at most, else the files that they stand for could
  not come over the same connection; those beyond it are acknowledged as they come, and lie only here.
- **Order.** Messages of one publisher on one topic come in order on one connection, not across reconnects.
- **Retained words** are kept here while a filter here covers them, so that a later subscription gets them at once.
  After a reconnect they are taken anew; one that is not there any more is reported as cleared.
- **Reconnecting** goes on by itself until the transport is closed. What trying again would not change (a login that is
  refused, a certificate that is not trusted) ends every subscription with `BusUnavailable`.
"""

import asyncio
import itertools
import logging
import os
import random
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Self
from weakref import WeakValueDictionary

from bus import parcels, wire
from bus.broker_address import BrokerAddress
from bus.broker_filters import BrokerFilter, BrokerFilters
from bus.broker_link import Arrived, BrokerLink, LinkOptions, Refusal, said_as
from bus.broker_queue import BrokerSubscription, Hold, Waiting
from bus.errors import BadEnvelope, BusError, BusUnavailable, TooLarge, TooNew
from bus.file_notes import KINDS as FILE_NOTES
from bus.parcels import CLAIM, INLINE_BYTES, Parcels
from bus.retained_words import RetainedWords
from bus.topics import ROOT, Routes, check_incoming, validate_filter, validate_topic
from bus.transport import Message

FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 10.0
"""Between attempts to reconnect: doubled each time, less up to a half by chance."""
WORDS_WAIT_S = 1.0
"""After a reconnect: how long retained words may take to come, before those that have not are cleared."""
EARLY_S = 10.0
"""How long messages that a session kept for us wait for somebody here to subscribe to them."""
STABLE_S = 5.0
"""A connection that lives shorter than this does not start the delays anew."""
SUSPECT = 3
"""So many short connections in a row, and somebody else may be using our client id."""
MOST_WAITING = 1_000
"""Deliveries that wait here, beyond which claims too are left waiting at the broker."""

_PLAIN = said_as(wire.CONTENT_TYPE)
_OUTCOME = said_as(wire.CONTENT_TYPE, expires_s=24 * 3600)
"""A run's end stands for those who come later, but not for ever."""

_REASONS: dict[type[Exception], str] = {TooLarge: "too_large", BadEnvelope: "malformed", TooNew: "too_new"}

logger = logging.getLogger("swarm.bus")


class MqttTransport:
    """The bus of many processes.

    - `url`: `bus/broker_address.py`; raises `BadAddress`.
    - `source`: who we are, in notes: `/swarm/hub/ID` or `/swarm/agent/ID`.
    - `client_id`: by default random; one that stays, with `session_expiry_s` and `clean_start=False`, lets the broker
      keep what comes while we are away.
    - `will_topic`: cleared by the broker when we vanish, and by us when we go.
    - `patience_s`: how long `publish` and `subscribe` wait for a lost connection to come back.
    - `parcels`: where payloads above 64 KiB go, and are fetched from.
    - `on_connect`: called after each connection, once all is subscribed to again; what it raises ends the transport.
    - `on_unread`: called with the topic of a message that cannot be read, and why.
    - `on_unheard`: called with the topic of a message that nobody was subscribed to, if the broker says so.
    - `announce`: told in words when the connection is lost and back; by default the logger `swarm.bus`.
    """

    def __init__(
        self,
        url: str,
        *,
        source: str = "/swarm/client",
        client_id: str | None = None,
        keepalive_s: int = 5,
        session_expiry_s: int = 0,
        clean_start: bool = True,
        receive_maximum: int = 100,
        will_topic: str | None = None,
        max_packet: int = wire.MOST_BYTES,
        patience_s: float = 10.0,
        parcels: Parcels | None = None,
        on_connect: Callable[[], Awaitable[None]] | None = None,
        on_unread: Callable[[str, str], None] | None = None,
        on_unheard: Callable[[str], None] | None = None,
        announce: Callable[[str], None] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._address = BrokerAddress.parse(url, environ)
        self.user = self._address.name
        """The broker's user, as it stands in topics."""
        self.dropped: Counter[str] = Counter()
        """How many messages were dropped, by reason."""
        self._options = LinkOptions(
            self._address,
            client_id or f"swarm-{secrets.token_hex(16)}",
            keepalive_s,
            session_expiry_s,
            receive_maximum,
            max_packet,
            clean_start,
            None if will_topic is None else validate_topic(will_topic),
            _qos_wanted,
        )
        self._source = source
        self._patience_s = patience_s
        self._parcels = parcels
        self._on_connect = on_connect
        self._on_unread = on_unread
        self._on_unheard = on_unheard
        self._announce = announce or logger.warning
        self._note_ids = itertools.count(1)
        self._nonce = secrets.token_hex(8)
        self._open = False
        self._failed: Exception | None = None
        self._link: BrokerLink | None = None
        self._links = 0
        self._back = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._routes: Routes[BrokerSubscription] = Routes()
        self._subscriptions: dict[BrokerSubscription, int] = {}  # -> capacity
        self._filters = BrokerFilters()
        self._changing = asyncio.Lock()
        self._words = RetainedWords(self._filters.cover)
        self._early: deque[tuple[Arrived, Message]] = deque()
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # Opened and closed

    async def __aenter__(self) -> Self:
        """Connect; a broker that does not answer now is not waited for. Raises `BusUnavailable`, `BadAddress`."""
        if not self._address.guarded:
            self._announce(
                f"{self._address}: the broker is not on this machine, and the connection has no "
                "encryption or no login: whoever is on the way can read and write all messages",
            )
        link = await self._connect(first=True)
        self._open = True
        self._use(link)
        self._keeper = asyncio.create_task(self._keep(link), name=f"bus connection to {self._address}")
        try:
            if self._on_connect is not None:
                await self._on_connect()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if not self._open:
            return
        self._open = False
        self._back.set()
        link, self._link = self._link, None
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        for subscription in tuple(self._subscriptions):
            self._close(subscription)
        if link is not None:
            if self._options.will_topic is not None:
                with suppress(BusError, TimeoutError):
                    async with asyncio.timeout(1.0):
                        await link.publish(self._options.will_topic, b"", qos=1, retain=True, properties=None)
            await link.close()

    # Publishing

    async def publish(self, topic: str, message: Message, *, retain: bool = False) -> None:
        """Hand a message to the broker and wait until it has taken it, over a lost connection for a while.

        Raises `ValueError` for no topic, `RuntimeError` where the transport is not open, `BadEnvelope` for what cannot
        be written, `TooLarge` for what the broker does not take, `NotAllowed`, `BusUnavailable`.
        """
        validate_topic(topic)
        carries_files = _carries_files(topic, message)
        by_claim = self._parcels is not None and not carries_files
        payload = wire.encode(
            message,
            source=self._source,
            note_id=f"{self._nonce}-{next(self._note_ids)}",
            most=parcels.MOST_BYTES if by_claim else self._options.max_packet,
        )
        large = by_claim and len(payload) > INLINE_BYTES
        if large or (topic in self._lines and not carries_files):
            async with self._lines.setdefault(topic, asyncio.Lock()):  # none overtakes one that is put into the store
                if large:
                    payload = await self._claim_for(topic, payload)
                await self._send(topic, payload, retain=retain)
        else:
            await self._send(topic, payload, retain=retain)

    async def _send(self, topic: str, payload: bytes, *, retain: bool) -> None:
        qos = 0 if _is_live(topic) else 1
        said = (_OUTCOME if topic.endswith("/outcome") else _PLAIN) if payload else None
        until: float | None = None
        while True:
            link = self._link
            if link is None or link.lost.done():
                until = until or asyncio.get_running_loop().time() + self._patience_s
                link = await self._connected(until)
            try:
                heard = await link.publish(topic, payload, qos=qos, retain=retain, properties=said)
            except BusUnavailable:
                continue
            if not heard and self._on_unheard is not None:
                self._on_unheard(topic)
            return

    async def _claim_for(self, topic: str, payload: bytes) -> bytes:
        assert self._parcels is not None  # noqa: S101 - only large payloads come here, and only where there is a store
        claim = await self._parcels.put(topic, payload)
        note = Message(None, {"note": CLAIM, **claim})
        return wire.encode(
            note, source=self._source, note_id=f"{self._nonce}-{next(self._note_ids)}", most=INLINE_BYTES
        )

    async def _connected(self, until: float) -> BrokerLink:
        """Wait for the connection. Raises `BusUnavailable`, `RuntimeError` where the transport is closed."""
        try:
            async with asyncio.timeout_at(until):
                while True:
                    self._check_open()
                    link = self._link
                    if link is not None and not link.lost.done():
                        return link
                    self._back.clear()
                    await self._back.wait()
        except TimeoutError:
            raise BusUnavailable(
                f"{self._address}: the connection is lost and did not come back within {self._patience_s:g} s"
            ) from None

    def _check_open(self) -> None:
        if self._failed is not None:
            raise self._failed
        if not self._open:
            raise RuntimeError("the transport is not open: publish and subscribe inside `async with transport:`")

    # Subscribing

    @asynccontextmanager
    async def subscribe(self, *filters: str, capacity: int = 1024) -> AsyncIterator[BrokerSubscription]:
        """Receive what matches any of the filters, retained messages first.

        Raises `ValueError` for a bad filter, none at all, or no capacity; `RuntimeError` where the transport is not
        open; `NotAllowed`, `BusUnavailable`.
        """
        if not filters or capacity < 1:
            raise ValueError(f"a subscription needs a filter and room for one: {filters!r}, capacity {capacity}")
        for pattern in filters:
            validate_filter(pattern)
        self._check_open()
        subscription = BrokerSubscription(self._redeem)
        held: list[BrokerFilter] = []
        try:
            async with self._changing:
                new = self._filters.hold(filters, held)
                self._routes.add(subscription, filters)
                self._subscriptions[subscription] = capacity
                self._catch_up(subscription, filters)
                if new:
                    try:
                        await self._ask_for(new)
                    except BaseException:  # before the next one's turn, who would take them for known to the broker
                        gone, held = self._filters.let_go(held), []
                        await asyncio.shield(self._take_back(gone))
                        raise
            yield subscription
        finally:
            self._close(subscription)
            await asyncio.shield(self._let_go(held))

    def _catch_up(self, subscription: BrokerSubscription, filters: tuple[str, ...]) -> None:
        """Give a new subscription what is known here already."""
        for topic, message in self._words.matching(filters):
            subscription.put(self._waiting(topic, message, None))
        early, self._early = self._early, deque()
        for arrived, message in early:
            self._hand_out(arrived, message)

    async def _ask_for(self, new: list[BrokerFilter]) -> None:
        until = asyncio.get_running_loop().time() + self._patience_s
        while True:
            link = await self._connected(until)
            again = self._filters.number_overlapping(new) if link.subscription_ids else []
            try:
                if again:
                    await link.subscribe([(it.pattern, it.identifier) for it in again], retained=False)
                await link.subscribe([(it.pattern, it.identifier) for it in new])
            except BusUnavailable:
                continue
            return

    async def _let_go(self, held: list[BrokerFilter]) -> None:
        async with self._changing:
            await self._take_back(self._filters.let_go(held))

    async def _take_back(self, gone: list[str]) -> None:
        """Tell the broker of filters that nobody wants any more."""
        if gone:
            self._words.forget_unwanted()
        link = self._link
        # A session that outlives the connection is to gather what comes while we are away.
        if gone and link is not None and not self._options.session_expiry_s:
            with suppress(BusUnavailable):
                await link.unsubscribe(gone)

    def _close(self, subscription: BrokerSubscription) -> None:
        self._subscriptions.pop(subscription, None)
        self._routes.remove(subscription)
        subscription.close(self._failed, forget=not self._options.session_expiry_s)

    # Receiving

    def _on_arrived(self, arrived: Arrived) -> None:
        """Sort in one message. It was written by others: whatever is wrong with it, it is dropped and counted."""
        if (arrived.filters and self._filters.is_copy(arrived.topic, arrived.filters)) or (
            arrived.retain and self._words.is_known(arrived.topic, arrived.payload, arrived.link.number)
        ):
            arrived.link.acknowledge(arrived)
            return
        try:
            check_incoming(arrived.topic)
            message = wire.decode(arrived.payload, most=self._options.max_packet)
        except (BadEnvelope, TooNew, ValueError) as error:
            self._drop(arrived, _REASONS.get(type(error), "topic"))
            if self._on_unread is not None:
                self._on_unread(arrived.topic, str(error))
            return
        if arrived.retain:
            self._words.keep(arrived.topic, arrived.payload, message, arrived.link.number)
        self._hand_out(arrived, message)

    def _hand_out(self, arrived: Arrived, message: Message) -> None:
        topic = arrived.topic
        route = self._routes[topic]
        if not route:
            if arrived.link.session_present and arrived.qos:
                self._early.append((arrived, message))
            else:
                self._drop(arrived, "nobody")
            return
        hold = Hold(arrived, len(route)) if arrived.qos else None
        if hold is not None and _is_claim(message) and self._claims_are_many():
            arrived.link.acknowledge(arrived)
            hold = None
        for subscription in route:
            if not arrived.qos and len(subscription) >= self._subscriptions[subscription]:
                self.dropped["slow"] += 1
            else:
                subscription.put(self._waiting(topic, message, hold))

    def _claims_are_many(self) -> bool:
        """Tell whether a further claim is to leave room at the broker for the files that those here wait for."""
        held = sum(it.claims_held for it in self._subscriptions)
        waiting = sum(map(len, self._subscriptions))
        return held * 2 >= self._options.receive_maximum and waiting < MOST_WAITING

    def _waiting(self, topic: str, message: Message, hold: Hold | None) -> Waiting:
        if _is_claim(message):
            return Waiting(topic, None, hold, message.attachments)
        return Waiting(topic, message, hold, {})

    def _drop(self, arrived: Arrived, reason: str) -> None:
        self.dropped[reason] += 1
        arrived.link.acknowledge(arrived)

    def _drop_early(self) -> None:
        while self._early:
            self._drop(self._early.popleft()[0], "nobody")

    def _clear_unseen(self, link: BrokerLink) -> None:
        """Report what an earlier connection brought and this one did not: it is not there any more."""
        for topic in self._words.take_unseen(link.number):
            for subscription in self._routes[topic]:
                subscription.put(Waiting(topic, Message(None), None, {}))

    # Claims

    async def _redeem(self, topic: str, claim: Mapping[str, Any]) -> Message | None:
        """Return what a claim stands for. None, and counted, where that cannot be had or is something else."""
        found = await self._unpack(topic, claim)
        if isinstance(found, Message):
            return found
        self.dropped[found] += 1
        return None

    async def _unpack(self, topic: str, claim: Mapping[str, Any]) -> Message | str:
        """Return the message, or the reason why there is none."""
        if self._parcels is None:
            return "claim_without_store"
        try:
            parcels.check_claim(claim)
            payload = await self._parcels.get(topic, {name: it for name, it in claim.items() if name != "note"})
            message = await asyncio.to_thread(_opened, claim, payload)  # they are large, and others wait for the loop
        except (BadEnvelope, TooNew):
            return "claim_malformed"
        except (BusError, OSError) as error:
            logger.info("a claim on %s cannot be redeemed: %s", topic, error)
            return "claim_not_there"
        if message is None:
            return "claim_forged"
        return "claim_malformed" if _is_claim(message) else message

    # The connection

    async def _connect(self, *, first: bool) -> BrokerLink:
        self._links += 1
        options = self._options
        if not first and options.session_expiry_s:
            options = replace(options, clean_start=False)
        return await BrokerLink.open(options, self._links, self._on_arrived)

    def _use(self, link: BrokerLink) -> None:
        self._link = link
        self._back.set()
        if link.session_present:
            asyncio.get_running_loop().call_later(EARLY_S, self._drop_early)

    async def _keep(self, link: BrokerLink) -> None:
        """Connect again whenever the connection is lost, until that is of no use."""
        loop = asyncio.get_running_loop()
        back: asyncio.Task[None] | None = None
        short = 0
        try:
            while True:
                began = loop.time()
                why = await asyncio.shield(link.lost)
                self._link = None
                if back is not None:
                    back.cancel()
                if isinstance(why, Refusal):
                    raise why
                short = short + 1 if loop.time() - began < STABLE_S else 0
                hint = f" (does another process use the client id {self._options.client_id!r}?)"
                self._announce(f"{why}; connecting again{hint if short >= SUSPECT else ''}")
                link = await self._reconnect(short)
                back = asyncio.create_task(self._come_back(link), name="bus: after a reconnect")
        except BusError as error:
            self._fail(error)
        finally:
            if back is not None:
                back.cancel()
                await asyncio.wait({back})

    async def _come_back(self, link: BrokerLink) -> None:
        """Do what a new connection asks for. A failure ends the transport, unless the connection is lost again."""
        try:
            if self._on_connect is not None:
                await self._on_connect()
        except BusUnavailable:
            return
        except Exception as error:  # noqa: BLE001 - it is raised again where somebody waits for the bus
            self._fail(error)
            return
        await asyncio.sleep(WORDS_WAIT_S)
        if not link.lost.done():
            self._clear_unseen(link)

    async def _reconnect(self, short: int) -> BrokerLink:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for attempt in itertools.count(max(0, short - 1)):
            delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 16))
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients, guards nothing
            try:
                link = await self._connect(first=False)
                await link.subscribe([(it.pattern, it.identifier) for it in self._filters])
            except Refusal:
                raise
            except BusUnavailable as error:
                logger.info("attempt %d: %s", attempt + 1, error)
                continue
            self._use(link)
            self._announce(f"{self._address}: connected again after {loop.time() - began:.1f} s")
            return link
        raise AssertionError  # pragma: no cover - one counts for ever

    def _fail(self, error: Exception) -> None:
        """Give up: whoever waits, here and from now on, gets the error."""
        self._failed = error
        self._back.set()
        for subscription in tuple(self._subscriptions):
            self._close(subscription)


def _opened(claim: Mapping[str, Any], payload: bytes) -> Message | None:
    """Return the message of a payload, None where it is not the one claimed. Raises `BadEnvelope`, `TooNew`."""
    return wire.decode(payload, most=parcels.MOST_BYTES) if parcels.is_claimed(claim, payload) else None


def _is_claim(message: Message) -> bool:
    return message.envelope is None and message.attachments.get("note") == CLAIM


def _is_live(topic: str) -> bool:
    """Tell whether a topic is that of a run's live events: many, gone when missed, and filled from the log."""
    return topic.startswith(f"{ROOT}/run/") and "/event/" in topic


def _qos_wanted(pattern: str) -> int:
    """Return the QoS with which what matches a filter is to come.

    The bytes of files come at 0, so that receive maximum does not hold them up behind the very claim that they are
    fetched for; what is lost of them is asked for again.
    """
    levels = pattern.split("/")
    return 0 if pattern.startswith((f"{ROOT}/agent/", f"{ROOT}/client/")) and levels[5:] == ["files"] else 1


def _carries_files(topic: str, message: Message) -> bool:
    """Tell whether a message brings the very bytes that claims stand for; a client's go beside its other words."""
    match topic.split("/")[2:]:
        case ["hub", _, "files", _, _] | ["agent" | "client", _, _, "files"]:
            return True
        case ["submit", _, _]:
            return message.envelope is None and message.attachments.get("note") in FILE_NOTES
    return False
