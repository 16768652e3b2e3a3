"""One run that a hub carries on, over failures of its store, for as long as the hub owns it."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bus.errors import Conflict, Damaged, LogError, NotFound, StorageFailed
from bus.event_log import Owner
from bus.events import Event, RunMoved
from bus.store import Store
from swarm.core.state import RunState
from swarm.hubs.switchboard import Switchboard
from swarm.orchestration.roster import Roster
from swarm.orchestrator import Orchestrator
from swarm.runs.folding import fold

LONGEST_RETRY_S = 10.0

log = logging.getLogger("swarm.hub")


class Carrier(Protocol):
    """What a run needs of the hub that carries it on."""

    name: str
    owner: Owner
    store: Store
    roster: Roster
    board: Switchboard

    def announce(self, told: str, /) -> None:
        """Tell whoever runs the hub."""
        ...

    def orchestrator_of(self, state: RunState, epoch: int, begun: asyncio.Event) -> Orchestrator:
        """Make an orchestrator that goes on from a state. `begun` is set once it has recorded something."""
        ...


@dataclass(slots=True)
class Running:
    """A run that a hub carries on: by one orchestrator, and by another each time that the store has failed it."""

    hub: Carrier
    client: str
    orchestrator: Orchestrator
    begun: asyncio.Event
    """Set once something of it is recorded here, or it is not with this hub any more."""
    task: "asyncio.Task[None]" = field(init=False)
    """In which the hub carries it on."""

    @classmethod
    def begin(cls, hub: Carrier, state: RunState, epoch: int, *, client: str) -> "Running":
        """Return a run that a hub owns, in an epoch, and that is to go on from a state."""
        begun = asyncio.Event()
        return cls(hub, client, hub.orchestrator_of(state, epoch, begun), begun)

    @property
    def run(self) -> str:
        """Its id."""
        return self.orchestrator.state.run

    async def carry_on(self, first: Sequence[Event], *, moved: bool) -> bool:
        """Carry it on to its end or pause; tell whether it came to that here, and nobody else has it.

        `first`: what is recorded first. `moved`: whether its agents knew another hub, or another epoch. Raises
        `Conflict` where another hub owns it by now, and what is no failure of the store.
        """
        begins = self.orchestrator.state.position
        while True:
            try:
                await self._orchestrate(first, moved=moved)
                await self.hub.store.log.release(self.run, self.orchestrator.epoch)
            except (StorageFailed, Damaged) as error:
                self.hub.announce(f"{self.run} waits for the store: {error}")
            else:
                return True
            if not await self._retake(begins):
                return False
            if self.orchestrator.state.running:  # else nothing of `first` is recorded
                moved, first = True, [RunMoved(hub=self.hub.name, epoch=self.orchestrator.epoch)]

    def let_go(self) -> None:
        """Give up what is held for it, and let nobody wait for its beginning any more."""
        self.orchestrator.let_go()
        self.begun.set()

    async def _orchestrate(self, first: Sequence[Event], *, moved: bool) -> None:
        orchestrator, roster = self.orchestrator, self.hub.roster
        with self.hub.board.line(self.run) as line, roster.told(orchestrator.take_agent):
            if moved:
                await orchestrator.moved()
                for agent in list(orchestrator.state.agents):
                    if agent not in roster.agents:
                        orchestrator.take_agent(agent, None, "its card was gone when another hub took over")
            await orchestrator.run(line, *first)

    async def _retake(self, begins: int) -> bool:
        """Own it anew once the store is back; tell whether it goes on: no hub has it by then, nor has it ended.

        A store that does not come back ends the hub: see `Hub.run`.
        `begins`: the position at which this hub began: as long as it stands there, it is still to go on.
        """
        run, store = self.run, self.hub.store
        delay_s = 0.5
        while True:
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_RETRY_S)
            try:
                epoch = await store.log.take(run, self.hub.owner, previous=self.hub.owner)
                state = await fold(store.log, run)
            except (Conflict, NotFound):
                return False
            except LogError as error:
                log.warning("%s still waits for the store: %s", run, error)
                continue
            if not state.running and state.position != begins:
                await store.log.release(run, epoch)
                return False
            self.orchestrator = self.hub.orchestrator_of(state, epoch, self.begun)
            return True
