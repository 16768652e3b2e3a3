"""What agents say to a hub, sorted to the runs that it is about."""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bus import topics
from bus.pubsub import Bus, Received

ROOM = 4096
"""Messages of agents that may wait at a hub, where the transport leaves that to us."""


class Line:
    """What comes for one run; meets `swarm.orchestration.intake.Inbox`."""

    def __init__(self) -> None:
        self._waiting: deque[Received[Any]] = deque()
        self._came = asyncio.Event()

    async def get(self) -> Received[Any]:
        """Wait for the next."""
        while not self._waiting:
            self._came.clear()
            await self._came.wait()
        return self._waiting.popleft()

    def get_nowait(self) -> Received[Any] | None:
        """Return the next if one is there."""
        return self._waiting.popleft() if self._waiting else None

    def put(self, received: Received[Any]) -> None:
        """Add one. The transport bounds how many are not acknowledged."""
        self._waiting.append(received)
        self._came.set()

    def close(self) -> None:
        """Let go of what nobody has taken: it comes again, or is said again."""
        while self._waiting:
            self._waiting.popleft().acknowledge()


@dataclass(slots=True)
class Switchboard:
    """The lines of a hub's runs. `unknown`: called with what is about a run that the hub does not carry on."""

    bus: Bus
    hub: str
    unknown: Callable[[Received[Any]], None]
    dropped: Counter[str] = field(default_factory=Counter)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it listens."""
    _lines: dict[str, Line] = field(default_factory=dict)

    async def run(self) -> None:
        """Sort what comes until cancelled."""
        async with self.bus.subscribe(topics.hub_replies(self.hub), capacity=ROOM) as inbox:
            self.started.set()
            async for received in inbox:
                line = self._lines.get(topics.parse(received.topic).run)
                if line is not None:
                    line.put(received)
                else:
                    self.dropped["it is about a run that is not with this hub"] += 1
                    self.unknown(received)
                    received.acknowledge()

    @contextmanager
    def line(self, run: str) -> Iterator[Line]:
        """Open the line of a run for as long as the context lasts."""
        line = self._lines[run] = Line()
        try:
            yield line
        finally:
            del self._lines[run]
            line.close()
