"""The bus of a simulated world: a client of `bus/simulation/broker.py`, which keeps and loses messages as brokers do.

What the contract leaves open is left open as over MQTT (`bus/transports/mqtt.py`): `publish` waits for the broker and
not for those who read; a lost connection comes back by itself; retained words are taken anew after it, and one that is
not there any more is reported as cleared. Without a broker of its owner's it brings one that does everything well.
"""

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

from bus.errors import BusUnavailable
from bus.simulation.broker import Link, SimulatedBroker
from bus.topics import ROOT, Routes, check_incoming, matches, validate_filter, validate_topic
from bus.transport import Delivery, Message

FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 10.0
"""Between attempts to reconnect: doubled each time, less up to a half by chance."""
WORDS_WAIT_S = 1.0
"""After a reconnect: how long retained words may take to come, before those that have not are cleared."""


class _Hold:
    """A message that the broker keeps until all subscriptions that got it have dealt with it."""

    __slots__ = ("left", "link", "packet")

    def __init__(self, link: Link, packet: int, left: int) -> None:
        self.link, self.packet, self.left = link, packet, left


class SimulatedSubscription:
    """A queue of deliveries; what bounds it is the broker's receive maximum."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self._broker = broker
        self._queue: deque[tuple[Delivery, _Hold | None]] = deque()
        self._unacknowledged: dict[int, _Hold] = {}
        self._consumers: deque[asyncio.Future[None]] = deque()
        self._last = 0
        self._closed = False
        self._failed: Exception | None = None

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def get(self) -> Delivery:
        """Wait for the next delivery. Raises `StopAsyncIteration` once closed and empty, or what closed it."""
        while not self._queue:
            if self._closed:
                raise self._failed or StopAsyncIteration
            place = asyncio.get_running_loop().create_future()
            self._consumers.append(place)
            try:
                await place
            except asyncio.CancelledError:
                if not place.cancelled() and self._queue:
                    self._call()
                raise
        return self._take()

    __anext__ = get

    def get_nowait(self) -> Delivery | None:
        """Return the next delivery if one is there."""
        return self._take() if self._queue else None

    def acknowledge(self, number: int) -> None:
        """Mark one delivery as dealt with."""
        hold = self._unacknowledged.pop(number, None)
        if hold is not None:
            hold.left -= 1
            if hold.left == 0:
                self._broker.acknowledge(hold.link, hold.packet)

    def put(self, topic: str, message: Message, hold: _Hold | None) -> None:
        """Add a delivery."""
        self._last += 1
        self._queue.append((Delivery(topic, message, self, self._last), hold))
        self._call()

    def close(self, failed: Exception | None = None) -> None:
        """Take nothing more; what is queued can still be had. `failed`: what whoever waits then gets."""
        self._closed = True
        self._failed = failed
        while self._consumers:
            self._call()

    def _take(self) -> Delivery:
        delivery, hold = self._queue.popleft()
        if hold is not None:
            self._unacknowledged[delivery.number] = hold
        if self._queue:
            self._call()  # for one that was called, and cancelled before it could take this
        return delivery

    def _call(self) -> None:
        while self._consumers:
            place = self._consumers.popleft()
            if not place.done():
                place.set_result(None)
                return


class SimulatedTransport:
    """A client of a simulated broker. The arguments are those of `MqttTransport` that have a meaning here."""

    def __init__(
        self,
        broker: SimulatedBroker | None = None,
        *,
        client_id: str = "client",
        keeps_session: bool = False,
        receive_maximum: int = 100,
        will_topic: str | None = None,
        patience_s: float = 10.0,
        on_connect: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.broker = broker or SimulatedBroker()
        self.client_id = client_id
        self.on_connect = on_connect
        """Called after each connection, once all is subscribed to again; what it raises ends the transport."""
        self.dropped: Counter[str] = Counter()
        self._keeps_session = keeps_session
        self._receive_maximum = receive_maximum
        self._will_topic = will_topic
        self._patience_s = patience_s
        self._open = False
        self._failed: Exception | None = None
        self._link: Link | None = None
        self._links: dict[Link, int] = {}
        self._back = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._routes: Routes[SimulatedSubscription] = Routes()
        self._subscriptions: dict[SimulatedSubscription, tuple[str, ...]] = {}
        self._filters: dict[str, int] = {}
        self._words: dict[str, tuple[Message, Link]] = {}

    async def __aenter__(self) -> Self:
        """Connect. Raises `BusUnavailable`."""
        self._link = await self._connect()
        self._open = True
        self._back.set()
        self._keeper = asyncio.create_task(self._keep(self._link), name=f"bus connection of {self.client_id}")
        if self.on_connect is not None:
            await self.on_connect()
        return self

    async def __aexit__(self, *exc: object) -> None:
        if not self._open:
            return
        self._open = False
        self._back.set()
        link, self._link = self._link, None
        if self._keeper is not None:
            self._keeper.cancel()
        for subscription in tuple(self._subscriptions):
            self._close(subscription)
        if link is not None:
            if self._will_topic is not None:
                self.broker.publish(link, self._will_topic, Message(None), retain=True, assured=False)
            self.broker.disconnect(link)

    def vanish(self, *, seen: bool) -> None:
        """Be gone without a word, as a killed process is. `seen`: its machine closes the connection."""
        self._open = False
        self._link = None
        self._back.set()
        if self._keeper is not None:
            self._keeper.cancel()
        self.broker.vanish(self.client_id, seen=seen)

    async def publish(self, topic: str, message: Message, *, retain: bool = False) -> None:
        """Hand a message to the broker and wait until it has taken it, over a lost connection for a while.

        Raises `ValueError` for no topic, `RuntimeError` where the transport is not open, `BusUnavailable`.
        """
        validate_topic(topic)
        assured = not _is_live(topic)
        until: float | None = None
        while True:
            link = self._link
            if link is None or not link.at_client:
                until = until or asyncio.get_running_loop().time() + self._patience_s
                link = await self._connected(until)
            taken = self.broker.publish(link, topic, message, retain=retain, assured=assured)
            if taken is None or await taken:
                return

    @asynccontextmanager
    async def subscribe(self, *filters: str, capacity: int = 1024) -> AsyncIterator[SimulatedSubscription]:
        """Receive what matches any of the filters, retained messages first.

        Raises `ValueError` for a bad filter, none at all, or no capacity; `RuntimeError` where the transport is not
        open; `BusUnavailable`.
        """
        if not filters or capacity < 1:
            raise ValueError(f"a subscription needs a filter and room for one: {filters!r}, capacity {capacity}")
        for pattern in filters:
            validate_filter(pattern)
        self._check_open()
        subscription = SimulatedSubscription(self.broker)
        new = [pattern for pattern in dict.fromkeys(filters) if pattern not in self._filters]
        for pattern in filters:
            self._filters[pattern] = self._filters.get(pattern, 0) + 1
        self._routes.add(subscription, filters)
        self._subscriptions[subscription] = filters
        for topic, (message, _) in self._words.items():
            if any(matches(pattern, topic) for pattern in filters):
                subscription.put(topic, message, None)
        try:
            until = asyncio.get_running_loop().time() + self._patience_s
            while new and not await self.broker.subscribe(await self._connected(until), new):
                pass
            yield subscription
        finally:
            self._close(subscription)

    def arrived(self, link: Link, packet: int, topic: str, message: Message, *, retained: bool) -> None:
        """Take a message from the broker. It was written by others: on a topic that is none of ours it is dropped."""
        try:
            check_incoming(topic)
        except ValueError:
            self.dropped["topic"] += 1
            self.broker.acknowledge(link, packet)
            return
        if retained:
            known = self._words.pop(topic, None)
            if message.attachments or message.envelope is not None:
                self._words[topic] = message, link
            if known is not None and known[0] == message:  # all subscriptions here have it
                self.broker.acknowledge(link, packet)
                return
        route = self._routes[topic]
        if not route:
            self.dropped["nobody"] += 1
            self.broker.acknowledge(link, packet)
            return
        hold = _Hold(link, packet, len(route))
        for subscription in route:
            subscription.put(topic, message, hold)

    def _close(self, subscription: SimulatedSubscription) -> None:
        self._routes.remove(subscription)
        subscription.close(self._failed)
        gone = []
        for pattern in self._subscriptions.pop(subscription, ()):
            self._filters[pattern] -= 1
            if not self._filters[pattern]:
                del self._filters[pattern]
                gone.append(pattern)
        if gone and self._link is not None:
            self.broker.unsubscribe(self._link, gone)
        for topic in [one for one in self._words if not any(matches(pattern, one) for pattern in self._filters)]:
            del self._words[topic]

    async def _connect(self) -> Link:
        link, _ = await self.broker.connect(
            self,
            self.client_id,
            will_topic=self._will_topic,
            keeps=self._keeps_session,
            receive_maximum=self._receive_maximum,
        )
        return link

    async def _connected(self, until: float) -> Link:
        """Wait for the connection. Raises `BusUnavailable`, `RuntimeError` where the transport is closed."""
        try:
            async with asyncio.timeout_at(until):
                while True:
                    self._check_open()
                    if self._link is not None and self._link.at_client:
                        return self._link
                    self._back.clear()
                    await self._back.wait()
        except TimeoutError:
            raise BusUnavailable(f"the connection did not come back within {self._patience_s:g} s") from None

    def _check_open(self) -> None:
        if self._failed is not None:
            raise self._failed
        if not self._open:
            raise RuntimeError("the transport is not open: publish and subscribe inside `async with transport:`")

    async def _keep(self, link: Link) -> None:
        """Connect again whenever the connection is lost."""
        back: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.shield(link.lost)
                self._link = None
                if back is not None:
                    back.cancel()
                link = await self._reconnect()
                self._link = link
                self._back.set()
                back = asyncio.create_task(self._come_back(link), name="bus: after a reconnect")
        finally:
            if back is not None:
                back.cancel()

    async def _reconnect(self) -> Link:
        for attempt in itertools.count():
            delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 16))
            await asyncio.sleep(delay * self.broker.chance.uniform(0.5, 1.0))
            try:
                link = await self._connect()
            except BusUnavailable:
                continue
            if not self._filters or await self.broker.subscribe(link, self._filters):
                return link
        raise AssertionError("one counts for ever")

    async def _come_back(self, link: Link) -> None:
        try:
            if self.on_connect is not None:
                await self.on_connect()
        except BusUnavailable:
            return
        except Exception as error:  # noqa: BLE001 - it is raised again where somebody waits for the bus
            self._failed = error
            self._back.set()
            for subscription in tuple(self._subscriptions):
                self._close(subscription)
            return
        await asyncio.sleep(WORDS_WAIT_S)
        if link.at_client:
            self._clear_unseen(link)

    def _clear_unseen(self, link: Link) -> None:
        """Report what an earlier connection brought and this one did not: it is not there any more."""
        for topic in [topic for topic, (_, brought) in self._words.items() if brought is not link]:
            del self._words[topic]
            for subscription in self._routes[topic]:
                subscription.put(topic, Message(None), None)


def _is_live(topic: str) -> bool:
    """Tell whether a topic is that of a run's live events: sent without assurance."""
    return topic.startswith(f"{ROOT}/run/") and "/event/" in topic
