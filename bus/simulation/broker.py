"""A broker as brokers are: what it does, and everything that `docs/decisions/0018-simulation.md` says it does badly.

- An acknowledgement says that a message is in the broker's memory, no more: it may be dropped a moment later, because
  a queue is full, because the session of its receiver ends, because the broker is killed.
- Killed, it loses all sessions and queues, and the retained words unless they are kept on disk.
- A client that is silent is taken for dead after one and a half keepalives, and its will is spoken; until then all
  that it is sent goes nowhere. A client that is reset is seen at once.
- What a client sent before its connection ended may still arrive; what it could not learn the fate of it sends again.
- On one connection messages come in their order; not across two, and not where `overtaken` says otherwise.

All delays and chances are drawn from one source, so a seed repeats them.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from bus.errors import BusUnavailable
from bus.simulation.loop import NOBODY
from bus.topics import Routes, matches
from bus.transport import Message

TICK_S = 1e-6
"""Between two packets of one connection: timers for the same moment have no order."""


@dataclass(frozen=True, slots=True)
class NetworkFaults:
    """How messages fare. Chances are of each message to each receiver."""

    delay_s: float = 0.0
    """Mean time that a packet takes one way."""
    lost: float = 0.0
    """Taken by the broker, and never handed on."""
    doubled: float = 0.0
    overtaken: float = 0.0
    """Late by some seconds, while what was said after it comes in time."""
    queue: int = 1000
    """Messages that the broker keeps for a client; what comes then is dropped silently."""


CALM = NetworkFaults()


class Port(Protocol):
    """The client's end of its connections."""

    def arrived(self, link: "Link", packet: int, topic: str, message: Message, *, retained: bool) -> None:
        """Take a message; `packet` 0 is not to be acknowledged."""
        ...


@dataclass(slots=True, eq=False)
class Link:
    """One connection: each end may take it for alive while the other knows better."""

    port: Port
    client: str
    lost: asyncio.Future[str]
    """Done with the reason once the client knows that it has ended."""
    at_broker: bool = True
    blocked_until: float = 0.0
    """Until then nothing passes; what is sent waits."""
    pending: dict["asyncio.Future[bool]", None] = field(default_factory=dict)
    """What the client sent and has no acknowledgement of."""
    sent_until: float = 0.0
    """When the last packet to the broker arrives."""
    received_until: float = 0.0

    @property
    def at_client(self) -> bool:
        """Whether the client takes it for alive."""
        return not self.lost.done()

    def end_at_client(self, why: str) -> None:
        """Let the client know; what it sent may have arrived or not."""
        if not self.lost.done():
            self.lost.set_result(why)
        pending, self.pending = self.pending, {}
        for one in pending:
            if not one.done():
                one.set_result(False)


@dataclass(slots=True, eq=False)
class Session:
    """What a broker knows of a client."""

    client: str
    will_topic: str | None
    keeps: bool
    """Whether it outlives its connection."""
    receive_maximum: int
    link: Link | None = None
    filters: dict[str, None] = field(default_factory=dict)
    queue: deque[tuple[str, Message, bool]] = field(default_factory=deque)
    unacknowledged: dict[int, tuple[str, Message, bool]] = field(default_factory=dict)
    packets: int = 0


class SimulatedBroker:
    """The broker, and the network around it."""

    def __init__(
        self, faults: NetworkFaults = CALM, chance: random.Random | None = None, *, keepalive_s: float = 5.0
    ) -> None:
        self.faults = faults
        self.chance = chance or random.Random(0)  # noqa: S311 - it guards nothing
        self.keepalive_s = keepalive_s
        self.up = True
        self.counts: Counter[str] = Counter()
        """What it did badly, and how often."""
        self.tap: Callable[[str, str, Message], None] | None = None
        """Told (client, topic, message) of all that is handed to it, before it can be lost."""
        self._sessions: dict[str, Session] = {}
        self._routes: Routes[Session] = Routes()
        self._retained: dict[str, Message] = {}
        self._unreachable: dict[str, float] = {}
        """Client -> until when no packet of it passes."""

    # What clients do

    async def connect(
        self, port: Port, client: str, *, will_topic: str | None, keeps: bool, receive_maximum: int
    ) -> tuple[Link, bool]:
        """Return a connection, and whether the session of an earlier one goes on. Raises `BusUnavailable`."""
        if self.faults.delay_s:
            await asyncio.sleep(self._delay())
        self._reach(client)
        known = self._sessions.get(client)
        if known is not None and known.link is not None:
            self._end(known.link, "another connection took its place")
            known = self._sessions.get(client)
        goes_on = known is not None and keeps
        if known is None or not keeps:
            if known is not None:
                self._routes.remove(known)
            known = self._sessions[client] = Session(client, will_topic, keeps, receive_maximum)
        link = Link(port, client, asyncio.get_running_loop().create_future())
        known.link = link
        for packet in known.unacknowledged.values():
            self.counts["delivered again"] += 1
            known.queue.appendleft(packet)
        known.unacknowledged.clear()
        self._send_on(known)
        return link, goes_on

    def publish(
        self, link: Link, topic: str, message: Message, *, retain: bool, assured: bool
    ) -> "asyncio.Future[bool] | None":
        """Take a packet on its way; the future tells whether it was acknowledged. None: at once, or not assured."""
        if self.tap is not None:
            self.tap(link.client, topic, message)
        if not assured:
            if self._routes[topic]:  # else nobody wants it, and it need not be carried
                self._to_broker(link, lambda: self._take(topic, message, retain=retain, assured=False))
            return None
        if link.at_broker and not self.faults.delay_s and not link.blocked_until:  # nothing has to be waited for
            self._take(topic, message, retain=retain, assured=True)
            return None
        acknowledged: asyncio.Future[bool] = link.lost.get_loop().create_future()
        link.pending[acknowledged] = None

        def came() -> None:
            self._take(topic, message, retain=retain, assured=True)
            self._acknowledged(link, acknowledged)

        self._to_broker(link, came)
        return acknowledged

    async def subscribe(self, link: Link, filters: Iterable[str]) -> bool:
        """Let a client receive what matches, retained words first; tell whether the connection held so long."""
        patterns = tuple(filters)
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        link.pending[done] = None

        def came() -> None:
            session = self._session(link)
            session.filters.update(dict.fromkeys(patterns))
            self._route(session)
            for topic, message in self._retained.items():
                if any(matches(pattern, topic) for pattern in patterns):
                    session.queue.append((topic, message, True))
            self._send_on(session)
            self._acknowledged(link, done)

        self._to_broker(link, came)
        return await done

    def unsubscribe(self, link: Link, filters: Iterable[str]) -> None:
        """Send a client no more of what matches."""
        patterns = tuple(filters)

        def came() -> None:
            for pattern in patterns:
                self._session(link).filters.pop(pattern, None)
            self._route(self._session(link))

        self._to_broker(link, came)

    def acknowledge(self, link: Link, packet: int) -> None:
        """Forget a packet that its receiver has dealt with."""
        if link.at_client and link.at_broker:
            session = self._session(link)
            if session.unacknowledged.pop(packet, None) is not None:
                self._send_on(session)

    def disconnect(self, link: Link) -> None:
        """End a connection as clients do that go: its will is not spoken."""
        if link.at_broker:
            self._session(link).will_topic = None
            self._end(link, "it said good-bye")
        link.end_at_client("closed")

    # What befalls it

    def reset(self, client: str) -> None:
        """End a client's connection so that both ends see it at once."""
        session = self._sessions.get(client)
        if session is not None and session.link is not None:
            link = session.link
            self._end(link, "it was reset")
            link.end_at_client("the connection was reset")

    def vanish(self, client: str, *, seen: bool) -> None:
        """Let a client's process be gone; `seen`: its machine says so, else only its silence does."""
        session = self._sessions.get(client)
        if session is None or session.link is None:
            return
        link = session.link
        link.end_at_client("the process has ended")
        if seen:
            self._end(link, "its machine closed it")
        else:
            self._silent_for(link, 1.5 * self.keepalive_s)

    def fall_silent(self, client: str, for_s: float) -> None:
        """Let nothing pass between the broker and a client for a while; longer than keepalive, both give up."""
        until = asyncio.get_running_loop().time() + for_s
        self._unreachable[client] = max(until, self._unreachable.get(client, 0.0))
        session = self._sessions.get(client)
        if session is None or session.link is None:
            return
        link = session.link
        link.blocked_until = max(until, link.blocked_until)
        patience = 1.5 * self.keepalive_s
        if for_s > patience:
            self._silent_for(link, patience)
            loop = asyncio.get_running_loop()
            loop.call_later(patience, link.end_at_client, "the broker does not answer", context=NOBODY)

    def be_deaf_to(self, client: str, for_s: float) -> None:
        """Take a client for dead if it says nothing for so long: its process is frozen."""
        session = self._sessions.get(client)
        if session is not None and session.link is not None and for_s > 1.5 * self.keepalive_s:
            link = session.link
            self._silent_for(link, 1.5 * self.keepalive_s)
            asyncio.get_running_loop().call_later(for_s, link.end_at_client, "the broker hung up", context=NOBODY)

    def reachable_again(self) -> None:
        """Heal all that is between the broker and its clients."""
        now = asyncio.get_running_loop().time()
        self._unreachable.clear()
        for session in self._sessions.values():
            if session.link is not None:
                session.link.blocked_until = min(now, session.link.blocked_until)

    def crash(self) -> None:
        """Be killed: all connections are reset, all sessions and queues forgotten."""
        self.up = False
        self.counts["broker killed"] += 1
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            self._routes.remove(session)
            self.counts["forgotten as the broker was killed"] += len(session.queue) + len(session.unacknowledged)
            if session.link is not None:
                session.link.at_broker = False
                session.link.end_at_client("the broker is gone")

    def restart(self, *, keeps_words: bool) -> None:
        """Be there again. `keeps_words`: its retained words were on disk."""
        self.up = True
        if not keeps_words:
            self._retained.clear()

    # On the way

    def _reach(self, client: str) -> None:
        if not self.up:
            raise BusUnavailable("no broker answers. Is it running?")
        if asyncio.get_running_loop().time() < self._unreachable.get(client, 0.0):
            raise BusUnavailable("the broker cannot be reached")

    def _delay(self) -> float:
        mean = self.faults.delay_s
        return min(self.chance.expovariate(1 / mean), 20 * mean) if mean else 0.0

    def _to_broker(self, link: Link, came: Callable[[], None]) -> None:
        def arrive() -> None:
            if link.at_broker:
                came()

        link.sent_until = self._pass(link, link.sent_until, arrive)

    def _to_client(self, link: Link, came: Callable[[], None]) -> None:
        def arrive() -> None:
            if link.at_client:
                came()

        link.received_until = self._pass(link, link.received_until, arrive)

    def _pass(self, link: Link, until: float, arrive: Callable[[], None]) -> float:
        """Let a packet pass after all those that went before it; return when."""
        if not self.faults.delay_s and not link.blocked_until and not until:
            arrive()
            return 0.0
        loop = asyncio.get_running_loop()
        at = max(until + TICK_S, max(loop.time(), link.blocked_until) + self._delay())
        loop.call_at(at, arrive, context=NOBODY)
        return at

    def _silent_for(self, link: Link, patience_s: float) -> None:
        asyncio.get_running_loop().call_later(patience_s, self._end, link, "nothing was heard of it", context=NOBODY)

    def _acknowledged(self, link: Link, what: "asyncio.Future[bool]") -> None:
        """Tell a client that a packet was taken: with no delay of its own, since the packet had one."""
        if link.pending.pop(what, 0) is None and not what.done():
            what.set_result(True)

    # At the broker

    def _route(self, session: Session) -> None:
        self._routes.remove(session)
        if session.filters:
            self._routes.add(session, session.filters)

    def _session(self, link: Link) -> Session:
        return self._sessions[link.client]

    def _end(self, link: Link, why: str) -> None:
        """See that a connection has ended."""
        if not link.at_broker:
            return
        link.at_broker = False
        session = self._session(link)
        session.link = None
        self.counts[why] += 1
        will = session.will_topic
        if not session.keeps:
            self.counts["forgotten as a session ended"] += len(session.queue) + len(session.unacknowledged)
            del self._sessions[link.client]
            self._routes.remove(session)
        if will is not None:
            self._take(will, Message(None), retain=True, assured=True)

    def _take(self, topic: str, message: Message, *, retain: bool, assured: bool) -> None:
        empty = message.envelope is None and not message.attachments
        if retain:
            self._retained.pop(topic, None)
            if not empty:
                self._retained[topic] = message
        for session in self._routes[topic]:
            self._offer(session, topic, message, retain=retain, assured=assured)

    def _offer(self, session: Session, topic: str, message: Message, *, retain: bool, assured: bool) -> None:
        faults, chance = self.faults, self.chance
        times = 1
        if assured and not retain:
            if faults.lost and chance.random() < faults.lost:
                self.counts["lost"] += 1
                return
            if faults.doubled and chance.random() < faults.doubled:
                self.counts["doubled"] += 1
                times = 2
            if faults.overtaken and chance.random() < faults.overtaken:
                self.counts["overtaken"] += 1
                loop = asyncio.get_running_loop()
                loop.call_later(chance.uniform(0.0, 8.0), self._enqueue, session, topic, message, False, context=NOBODY)
                times -= 1
        for _ in range(times):
            self._enqueue(session, topic, message, retain)

    def _enqueue(self, session: Session, topic: str, message: Message, retain: bool) -> None:  # noqa: FBT001
        if self._sessions.get(session.client) is not session:
            self.counts["forgotten as a session ended"] += 1
            return
        if len(session.queue) >= self.faults.queue:
            self.counts["dropped: the queue is full"] += 1
            return
        session.queue.append((topic, message, retain))
        self._send_on(session)

    def _send_on(self, session: Session) -> None:
        link = session.link
        while link is not None and session.queue and len(session.unacknowledged) < session.receive_maximum:
            topic, message, retained = session.queue.popleft()
            session.packets += 1
            session.unacknowledged[session.packets] = topic, message, retained
            self._hand(link, session.packets, topic, message, retained=retained)

    def _hand(self, link: Link, packet: int, topic: str, message: Message, *, retained: bool) -> None:
        self._to_client(link, lambda: link.port.arrived(link, packet, topic, message, retained=retained))
