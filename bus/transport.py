"""Contract: messages on topics, delivered at least once, in order for each publisher and topic.

A transport knows nothing of runs. Names of topics and filters follow MQTT 5, section 4.7. Messages are written by
others: one that comes in below `swarm/v1` on a topic that `bus/topics.py` cannot take apart is dropped and counted. In
one process it is `transports/memory.py`, which hands the frozen message over as it is; a transport that leaves the
process encodes with `bus/wire.py`. One suite (`tests/bus/test_transport.py`) holds for all of them.
"""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

from bus.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Message:
    """An envelope on its way, with what only the way needs.

    `attachments` are derived by the sender (journal so far, results of needs, files' bytes) and never recorded.
    `envelope` is None for a *note*: word between edges that is no fact of a run (cards, grants, renewals), lying in
    `attachments` alone.
    """

    envelope: Envelope | None
    attachments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message as it came in; `acknowledge` it once it is dealt with, else it may come again."""

    topic: str
    message: Message
    subscription: "Subscription"
    number: int

    def acknowledge(self) -> None:
        """Tell the transport that this delivery is dealt with. Twice is the same as once."""
        self.subscription.acknowledge(self.number)


class Subscription(Protocol):
    """A bounded queue of what matches the filters. `async for` gives deliveries; closing it ends the iteration."""

    def __aiter__(self) -> AsyncIterator[Delivery]: ...
    async def get(self) -> Delivery:
        """Wait for the next delivery. Raises `StopAsyncIteration` once closed and empty."""
        ...

    def get_nowait(self) -> Delivery | None:
        """Return the next delivery if one is there."""
        ...

    def acknowledge(self, number: int) -> None:
        """Mark one delivery as dealt with; room for another."""
        ...


class Transport(Protocol):
    """Where envelopes travel. Opened and closed by `async with`."""

    dropped: Counter[str]
    """How many messages were dropped as they came in, by reason."""

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def publish(self, topic: str, message: Message, *, retain: bool = False) -> None:
        """Hand a message to all that subscribe now; waits while one of their queues is full.

        `retain` keeps it as the topic's last word for those that subscribe later; a retained message without envelope
        and attachments clears the topic. Raises `ValueError` for a topic with wildcards.
        """
        ...

    def subscribe(self, *filters: str, capacity: int = 1024) -> AbstractAsyncContextManager[Subscription]:
        """Receive what matches any of the filters (once, also if several match), retained messages first.

        `capacity`: how many deliveries may wait or be un-acknowledged before `publish` has to wait.
        """
        ...
