"""What a subscription over a broker holds: deliveries in order, each held at the broker until it is dealt with.

The queue has no bound of its own: what the broker sends un-acknowledged is bounded by receive maximum. A claim is
redeemed when its turn comes, by whoever takes it; until then it stands at the head, and other subscriptions of the same
connection go on.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bus.broker_link import Arrived
from bus.transport import Delivery, Message


class Hold:
    """A message that the broker keeps for us until all local subscriptions that got it have dealt with it."""

    __slots__ = ("_arrived", "_left")

    def __init__(self, arrived: Arrived, subscriptions: int) -> None:
        self._arrived = arrived
        self._left = subscriptions

    def release(self) -> None:
        """Say that one more subscription has dealt with it."""
        self._left -= 1
        if self._left == 0:
            self._arrived.link.acknowledge(self._arrived)


@dataclass(slots=True)
class Waiting:
    """One place in the queue."""

    topic: str
    message: Message | None
    """None: a claim that is not redeemed yet."""
    hold: Hold | None
    """None: nothing is held at the broker."""
    claim: Mapping[str, Any]


class BrokerSubscription:
    """A queue of deliveries. `redeem` returns what a claim stands for, or None where it stands for nothing."""

    def __init__(self, redeem: Callable[[str, Mapping[str, Any]], Awaitable[Message | None]]) -> None:
        self._redeem = redeem
        self._redeeming = asyncio.Lock()
        self._queue: deque[Waiting] = deque()
        self._unacknowledged: dict[int, Hold] = {}
        self._consumers: deque[asyncio.Future[None]] = deque()
        self._last = 0
        self._closed = False
        self._why: Exception | None = None
        self.claims_held = 0
        """Claims that wait here and at the broker."""

    def __len__(self) -> int:
        return len(self._queue)

    # For consumers

    def __aiter__(self) -> AsyncIterator[Delivery]:
        return self

    async def get(self) -> Delivery:
        """Wait for the next delivery.

        Raises `StopAsyncIteration` once closed and empty, or why where the bus will not come back.
        """
        while True:
            while not self._queue:
                if self._why is not None:
                    raise self._why
                if self._closed:
                    raise StopAsyncIteration
                await self._wait()
            if self._queue[0].message is not None:
                return self._take()
            await self._redeem_head()

    __anext__ = get

    def get_nowait(self) -> Delivery | None:
        """Return the next delivery if one is there; a claim that is not redeemed yet is not, `get` redeems it."""
        return self._take() if self._queue and self._queue[0].message is not None else None

    def acknowledge(self, number: int) -> None:
        """Mark one delivery as dealt with: the broker may forget it."""
        hold = self._unacknowledged.pop(number, None)
        if hold is not None:
            hold.release()

    def _take(self) -> Delivery:
        waiting = self._queue.popleft()
        self._last += 1
        if waiting.hold is not None:
            self._unacknowledged[self._last] = waiting.hold
        if self._queue:
            self._call()  # for one that was called, and cancelled before it could take this
        assert waiting.message is not None  # noqa: S101 - seen by the caller
        return Delivery(waiting.topic, waiting.message, self, self._last)

    async def _redeem_head(self) -> None:
        async with self._redeeming:
            if not self._queue or self._queue[0].message is not None:
                return  # another consumer was here
            head = self._queue[0]
            head.message = await self._redeem(head.topic, head.claim)
            if head.hold is not None:
                self.claims_held -= 1
            if head.message is None:
                self._queue.popleft()
                if head.hold is not None:
                    head.hold.release()

    async def _wait(self) -> None:
        place = asyncio.get_running_loop().create_future()
        self._consumers.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled() and self._queue:
                self._call()
            raise

    def _call(self) -> None:
        while self._consumers:
            place = self._consumers.popleft()
            if not place.done():
                place.set_result(None)
                return

    # For the transport

    def put(self, waiting: Waiting) -> None:
        """Add a delivery at the end."""
        self._queue.append(waiting)
        if waiting.message is None and waiting.hold is not None:
            self.claims_held += 1
        if self._consumers:
            self._call()

    def close(self, why: Exception | None = None, *, forget: bool = True) -> None:
        """Take nothing more; what is queued can still be had. `why`: what `get` raises after that.

        `forget`: the broker need not keep what was not acknowledged, since nobody will get it again; else it stays
        there for the next connection of this session.
        """
        self._closed, self._why = True, why
        holds = [waiting.hold for waiting in self._queue] + [*self._unacknowledged.values()]
        self._unacknowledged.clear()
        for waiting in self._queue:
            waiting.hold = None
        self.claims_held = 0
        for hold in holds:
            if hold is not None and forget:
                hold.release()
        while self._consumers:
            self._call()
