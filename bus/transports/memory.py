"""In one process: the frozen message is handed over as it is, without bytes and without a task for each message.

What the contract leaves open:

- **Room.** A message is handed to all its subscriptions at once or to none: `publish` waits until each has room, and
  holds no room in one while it waits for another (two publishers could then wait for each other for ever). A publisher
  that is cancelled while it waits for room has handed over nothing.
- **Order.** Messages on one topic come in the order in which `publish` was called, whoever called it.
- **Fairness.** With room, `publish` does not give way to other tasks, except once in `PATIENCE` calls, and then after
  handing over: so a publisher that never blocks (nobody subscribed, or endless room) cannot keep its consumers from
  running, and publishers that come meanwhile need not stand in line behind it. Publishers that wait
  for room of one subscription get it first come, first served, for each topic in turn.
- **At least once.** Messages cannot be lost on the way here, so each comes exactly once to each subscription. What was
  delivered and not acknowledged when its subscription closed is delivered again to nobody.
- **Retained messages** stand until they are replaced, cleared, or the transport is closed. A new subscription gets all
  that match at once, even if they are more than its capacity: nobody waits who could be told to.
"""

import asyncio
from asyncio import Future
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Self
from weakref import WeakValueDictionary

from bus.topics import Routes, check_incoming, matches, validate_topic
from bus.transport import Delivery, Message

PATIENCE = 128
"""How many calls of `publish` in a row may pass before one gives way to other tasks."""


class _Line(deque["Future[None]"]):
    """Tasks that wait to be called, first come, first served."""

    async def wait(self, called_in_vain: Callable[[], None]) -> None:
        """Return once called; `called_in_vain` is for the case that this task was called, but cancelled by then."""
        place = asyncio.get_running_loop().create_future()
        self.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                with suppress(ValueError):
                    self.remove(place)
            else:
                called_in_vain()
            raise

    def call(self) -> bool:
        """Call the first; tell whether anybody was there."""
        while self:
            place = self.popleft()
            if not place.done():  # else it was cancelled just now
                place.set_result(None)
                return True
        return False


class MemorySubscription:
    """A queue of deliveries, those still un-acknowledged, and the lines of those that wait for them or for room.

    Nothing here looks at more than the end of a queue: a message costs the same whatever the backlog.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._closed = False
        self._last = 0
        self._queue: deque[Delivery] = deque()
        self._unacknowledged: set[int] = set()
        self._consumers = _Line()
        self._publishers = _Line()
        self._promised = 0  # room for publishers that were called and have not come yet

    # For consumers

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def __anext__(self) -> Delivery:
        return await self.get()

    async def get(self) -> Delivery:
        """Wait for the next delivery. Raises `StopAsyncIteration` once closed and empty."""
        while not self._queue:
            if self._closed:
                raise StopAsyncIteration
            await self._consumers.wait(called_in_vain=self._call_consumer)
        return self._take()

    def get_nowait(self) -> Delivery | None:
        """Return the next delivery if one is there."""
        return self._take() if self._queue else None

    def acknowledge(self, number: int) -> None:
        """Mark one delivery as dealt with; room for another."""
        self._unacknowledged.discard(number)
        if self._publishers:
            self.offer_room()

    def _take(self) -> Delivery:
        delivery = self._queue.popleft()
        self._unacknowledged.add(delivery.number)
        return delivery

    def _call_consumer(self) -> None:
        if self._queue:
            self._consumers.call()

    # For the transport

    def full(self) -> bool:
        """Tell whether a publisher has to wait."""
        return len(self._queue) + len(self._unacknowledged) + self._promised >= self._capacity

    def put(self, topic: str, message: Message) -> None:
        """Add a delivery, whether there is room or not."""
        self._last += 1
        self._queue.append(Delivery(topic, message, self, self._last))
        if self._consumers:
            self._consumers.call()

    async def room(self) -> None:
        """Wait in line for room. It is there on return: fill it before the next `await`, or offer it again."""
        await self._publishers.wait(called_in_vain=self._take_back)
        self._promised -= 1

    def offer_room(self) -> None:
        """Call the publisher that is first in line, if there is room: each place that becomes free is offered once."""
        if not self.full() and self._publishers.call():
            self._promised += 1

    def _take_back(self) -> None:
        self._promised -= 1
        self.offer_room()

    def close(self) -> None:
        """Take nothing more; what is queued can still be had. All that wait are called, to see for themselves."""
        self._closed = True
        while self._consumers.call():
            pass
        while self._publishers.call():
            self._promised += 1


class MemoryTransport:
    """The bus of one process and one event loop.

    `encode`: send each envelope through bytes and back, as transports between processes do; for tests.
    """

    def __init__(self, *, encode: bool = False) -> None:
        self.dropped: Counter[str] = Counter()
        """How many messages were dropped, by reason."""
        self._encode = encode
        self._open = False
        self._routes: Routes[MemorySubscription] = Routes()
        self._subscriptions: set[MemorySubscription] = set()
        self._retained: dict[str, Message] = {}
        self._streak = 0  # publishes since one gave way
        self._waiting = 0  # publishers that stand in a line
        self._lines: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._open = False
        self._retained.clear()
        for subscription in tuple(self._subscriptions):
            self._close(subscription)

    async def publish(self, topic: str, message: Message, *, retain: bool = False) -> None:
        """Hand a message to all that subscribe now; waits while one of their queues is full.

        Cancelled while it waits for room, it has handed over nothing. Raises `ValueError` for no topic, `RuntimeError`
        where the transport is not open, or is closed while this waits.
        """
        try:
            check_incoming(topic)
        except ValueError:
            validate_topic(topic)  # what is no topic is told to the publisher
            self.dropped["topic"] += 1
            return
        if self._encode:
            message = _through_bytes(message)
        if self._waiting or self._hand_over(topic, message, retain=retain):
            await self._hand_over_in_line(topic, message, retain=retain)
        self._streak += 1
        if self._streak > PATIENCE:
            self._streak = 0
            await asyncio.sleep(0)

    @asynccontextmanager
    async def subscribe(self, *filters: str, capacity: int = 1024) -> AsyncIterator[MemorySubscription]:
        """Receive what matches any of the filters, retained messages first.

        Raises `ValueError` for a bad filter, none at all, or no capacity; `RuntimeError` where the transport is not
        open.
        """
        if not filters or capacity < 1:
            raise ValueError(f"a subscription needs a filter and room for one: {filters!r}, capacity {capacity}")
        if not self._open:
            raise _not_open()
        subscription = MemorySubscription(capacity)
        self._routes.add(subscription, filters)
        self._subscriptions.add(subscription)
        for topic, message in self._retained.items():
            if any(matches(pattern, topic) for pattern in filters):
                subscription.put(topic, message)
        try:
            yield subscription
        finally:
            self._close(subscription)

    def _hand_over(self, topic: str, message: Message, *, retain: bool) -> MemorySubscription | None:
        """Hand over to all subscriptions at once, or return one that is full."""
        if not self._open:
            raise _not_open()
        route = self._routes[topic]
        for subscription in route:
            if subscription.full():
                return subscription
        for subscription in route:
            subscription.put(topic, message)
        if retain:
            self._retain(topic, message)
        return None

    async def _hand_over_in_line(self, topic: str, message: Message, *, retain: bool) -> None:
        """Hand over when those who came before with this topic have done so, and there is room."""
        line = self._lines.setdefault(topic, asyncio.Lock())
        self._waiting += 1
        try:
            async with line:
                full = self._hand_over(topic, message, retain=retain)
                while full is not None:
                    await full.room()
                    waited, full = full, self._hand_over(topic, message, retain=retain)
                    waited.offer_room()  # of no use to us if another is full: the next in line may have it
        finally:
            self._waiting -= 1

    def _retain(self, topic: str, message: Message) -> None:
        self._retained.pop(topic, None)
        if message.envelope is not None or message.attachments:
            self._retained[topic] = message

    def _close(self, subscription: MemorySubscription) -> None:
        self._subscriptions.discard(subscription)
        self._routes.remove(subscription)
        subscription.close()


def _not_open() -> RuntimeError:
    return RuntimeError("the transport is not open: publish and subscribe inside `async with transport:`")


def _through_bytes(message: Message) -> Message:
    if message.envelope is None:
        return message
    from bus.codec import decode, encode  # noqa: PLC0415 - only this variant needs it

    return replace(message, envelope=decode(encode(message.envelope)))
