"""Typed publish and subscribe over any transport; which topic is for the caller to say, with `bus/topics.py`.

What travels is either an event in its envelope or a *note*: word between edges that is no fact of a run. A subscription
names the classes it wants and gets only those; what else comes to its topics is acknowledged, dropped and counted.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar, cast, overload

from bus.envelope import Envelope
from bus.errors import BusUnavailable
from bus.events import Fact
from bus.transport import Delivery, Message, Subscription, Transport

NOTHING: Mapping[str, Any] = MappingProxyType({})
AT_ONCE_S = 1.0
"""How long a farewell may take."""


@dataclass(frozen=True, slots=True)
class Note:
    """Word between edges: a card, a grant, a renewal.

    An empty `kind` says that the topic was cleared: whoever had left word there is gone.
    """

    kind: str
    fields: Mapping[str, Any] = field(default_factory=dict)


C = TypeVar("C", bound=Fact | Note)
C2 = TypeVar("C2", bound=Fact | Note)
C3 = TypeVar("C3", bound=Fact | Note)


@dataclass(slots=True, eq=False)  # not frozen: one is made for every message, and that would double its cost
class Received(Generic[C]):
    """What came in; `acknowledge` it once it is dealt with, else it may come again."""

    content: C
    delivery: Delivery

    @property
    def topic(self) -> str:
        """Where it was published; `topics.parse` tells by whom, for which run."""
        return self.delivery.topic

    @property
    def envelope(self) -> Envelope:
        """The circumstances of an event. Raises `ValueError` for a note, which has none."""
        envelope = self.delivery.message.envelope
        if envelope is None:
            raise ValueError(f"{self.content!r} on {self.topic!r} is a note and has no envelope")
        return envelope

    @property
    def attachments(self) -> Mapping[str, Any]:
        """What was sent along with an event."""
        return self.delivery.message.attachments

    def acknowledge(self) -> None:
        """Say that this is dealt with. Twice is the same as once."""
        self.delivery.acknowledge()


class Inbox(Generic[C]):
    """A subscription that yields contents of the classes it was made for."""

    def __init__(self, subscription: Subscription, kinds: frozenset[type[C]] | None) -> None:
        self._subscription = subscription
        self._kinds = kinds
        self.dropped = 0
        """How many deliveries were none of its classes."""

    def __aiter__(self) -> AsyncIterator[Received[C]]:
        return self

    async def get(self) -> Received[C]:
        """Wait for the next. Raises `StopAsyncIteration` once the subscription is closed and empty."""
        while True:
            received = self._open(await self._subscription.get())
            if received is not None:
                return received

    __anext__ = get

    def get_nowait(self) -> Received[C] | None:
        """Return the next if one is there."""
        while (delivery := self._subscription.get_nowait()) is not None:
            if (received := self._open(delivery)) is not None:
                return received
        return None

    def _open(self, delivery: Delivery) -> Received[C] | None:
        envelope = delivery.message.envelope
        content = envelope.event if envelope is not None else _read_note(delivery.message.attachments)
        if content is not None and (self._kinds is None or type(content) in self._kinds):
            return Received(cast("C", content), delivery)
        self.dropped += 1
        delivery.acknowledge()
        return None


class Bus:
    """Says events and notes on topics, over a transport that its owner opens and closes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def publish(
        self, topic: str, envelope: Envelope, attachments: Mapping[str, Any] = NOTHING, *, retain: bool = False
    ) -> Coroutine[Any, Any, None]:
        """Say an event, with what only the way needs. Waits and raises as `Transport.publish` does."""
        # The transport's own coroutine, not one around it: this is the path of every message.
        return self._transport.publish(topic, Message(envelope, attachments), retain=retain)

    async def publish_note(self, topic: str, note: Note, *, retain: bool = False) -> None:
        """Say a note. Raises `ValueError` for one without kind (see `clear`) or with a field called `note`."""
        if not note.kind or "note" in note.fields:
            raise ValueError(f"a note has a kind, and no field called 'note': {note!r}")
        await self._transport.publish(topic, Message(None, {"note": note.kind, **note.fields}), retain=retain)

    async def clear(self, topic: str) -> None:
        """Take back a topic's retained word; those who listen get a `Note` of empty kind."""
        await self._transport.publish(topic, Message(None), retain=True)

    async def leave(self, topic: str) -> None:
        """Take back one's own retained word as one goes, unless the bus is away: then one's last will has said it."""
        with suppress(BusUnavailable):
            await at_once(self.clear(topic))

    @overload
    def subscribe(
        self, *filters: str, kinds: None = None, capacity: int = 1024
    ) -> AbstractAsyncContextManager[Inbox[Fact | Note]]: ...
    @overload
    def subscribe(
        self, *filters: str, kinds: type[C], capacity: int = 1024
    ) -> AbstractAsyncContextManager[Inbox[C]]: ...
    @overload
    def subscribe(
        self, *filters: str, kinds: tuple[type[C], type[C2]], capacity: int = 1024
    ) -> AbstractAsyncContextManager[Inbox[C | C2]]: ...
    @overload
    def subscribe(
        self, *filters: str, kinds: tuple[type[C], type[C2], type[C3]], capacity: int = 1024
    ) -> AbstractAsyncContextManager[Inbox[C | C2 | C3]]: ...
    @overload
    def subscribe(
        self, *filters: str, kinds: tuple[type[C], ...], capacity: int = 1024
    ) -> AbstractAsyncContextManager[Inbox[C]]: ...
    def subscribe(
        self, *filters: str, kinds: type[Any] | tuple[type[Any], ...] | None = None, capacity: int = 1024
    ) -> AbstractAsyncContextManager[Inbox[Any]]:
        """Receive what matches any of the filters and is of one of `kinds` (None: all events and notes).

        `kinds` are the classes themselves, not bases of them. `capacity` and what is raised: `Transport.subscribe`.
        """
        wanted = None if kinds is None else frozenset(kinds if isinstance(kinds, tuple) else (kinds,))
        return self._subscribe(filters, wanted, capacity)

    @asynccontextmanager
    async def _subscribe(
        self, filters: tuple[str, ...], kinds: frozenset[type[Any]] | None, capacity: int
    ) -> AsyncIterator[Inbox[Any]]:
        async with self._transport.subscribe(*filters, capacity=capacity) as subscription:
            yield Inbox(subscription, kinds)


async def at_once(saying: Coroutine[Any, Any, None]) -> None:
    """Say something that a bus which is away is not waited for. Raises `BusUnavailable`, and what saying it does."""
    try:
        async with asyncio.timeout(AT_ONCE_S):
            await saying
    except TimeoutError:
        raise BusUnavailable(f"the bus did not take it within {AT_ONCE_S:g} s") from None


def _read_note(attachments: Mapping[str, Any]) -> Note | None:
    """Return the note, or None for what is none of ours."""
    if not attachments:
        return Note("")
    fields = dict(attachments)
    kind = fields.pop("note", None)
    return Note(kind, fields) if isinstance(kind, str) and kind else None
