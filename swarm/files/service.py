"""Edge of a hub's files: agents without a disk in common with it get them, and bring theirs, over the bus.

Calls of one agent are answered in their order, those of many agents in turn. An agent that asks for more than its few
parts at a time is not heard: what it lost it asks for again.
"""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field

from bus import topics
from bus.errors import BusError
from bus.pubsub import Bus, Note, Received
from swarm.files.shelf import Shelf, keep_sweeping

MOST_WAITING = 64
"""Calls of one agent that may wait; an agent has a few files on the way, a few parts of each."""
HANDS = 8
"""Agents that are answered at once."""
SWEPT_S = 15.0


@dataclass(slots=True)
class FileService:
    """Answers what agents ask of one hub's files."""

    bus: Bus
    hub: str
    shelf: Shelf
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it listens."""
    _waiting: dict[str, deque[Note]] = field(default_factory=dict)
    _turns: "asyncio.Queue[str]" = field(default_factory=asyncio.Queue)
    """Agents with calls that wait and that nobody is answering."""

    @property
    def dropped(self) -> Counter[str]:
        """Why calls were passed over or refused, and how often."""
        return self.shelf.dropped

    async def run(self) -> None:
        """Answer until cancelled."""
        calls = topics.hub_file_calls(self.hub)
        async with self.bus.subscribe(calls, kinds=Note, capacity=1024) as inbox, asyncio.TaskGroup() as group:
            group.create_task(keep_sweeping(self.shelf, SWEPT_S), name=f"{self.hub} sweeps its shelf")
            for number in range(HANDS):
                group.create_task(self._answer_in_turn(), name=f"{self.hub} gives and takes files ({number})")
            self.started.set()
            async for received in inbox:
                self._take(received)
                received.acknowledge()

    def _take(self, received: Received[Note]) -> None:
        agent = topics.parse(received.topic).agent
        waiting = self._waiting.get(agent)
        if waiting is None:
            waiting = self._waiting[agent] = deque()
            self._turns.put_nowait(agent)
        if len(waiting) >= MOST_WAITING:
            self.dropped["too many at once"] += 1
        else:
            waiting.append(received.content)

    async def _answer_in_turn(self) -> None:
        while True:
            agent = await self._turns.get()
            waiting = self._waiting[agent]
            if waiting:
                await self._answer(agent, waiting.popleft())
            if waiting:
                self._turns.put_nowait(agent)
            else:
                del self._waiting[agent]

    async def _answer(self, agent: str, note: Note) -> None:
        answer = await self.shelf.answer(agent, note)
        if answer is None:
            return
        try:
            await self.bus.publish_note(topics.agent_files(agent), answer)
        except BusError as error:
            self.dropped[f"not sent: {type(error).__name__}"] += 1  # it asks again
