"""Which hubs are alive: this one says so in the store, and one that was not heard there for long is gone."""

import asyncio
import math
from dataclasses import dataclass

from bus.event_log import EventLog, Heartbeats, Owner
from swarm.runs.ownership import is_gone


@dataclass(slots=True)
class Liveness:
    """What one hub knows of it. `every_s`: how often it says that it is alive; `silent_s`: for how long others may not.

    In a store without `Heartbeats` only processes of this machine are seen to be gone.
    """

    log: EventLog
    owner: Owner
    every_s: float
    silent_s: float
    _said_at: float = math.inf
    """When it last said that it is alive."""
    _believes_from: float = -math.inf
    """From when on silence counts: while the store was away from us nobody may have been heard."""

    async def say(self) -> None:
        """Say that this hub is alive: first of all, before it owns anything. Raises `StorageFailed`."""
        if isinstance(self.log, Heartbeats):
            await self.log.beat(self.owner)
            now = asyncio.get_running_loop().time()
            if now - self._said_at > self.silent_s - self.every_s:
                self._believes_from = now + self.silent_s
            self._said_at = now

    async def gone(self, owners: set[Owner]) -> set[Owner]:
        """Return those owners that do not carry their runs on any more. Raises `StorageFailed`."""
        gone = {owner for owner in owners if is_gone(owner)}
        believes = asyncio.get_running_loop().time() >= self._believes_from
        if isinstance(self.log, Heartbeats) and owners != gone and believes:
            gone |= await self.log.silent(owners - gone, self.silent_s)
        return gone
