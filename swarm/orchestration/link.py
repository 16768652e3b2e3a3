"""How a run's orchestrator reaches its agents: in this very process, or over a broker to wherever they are."""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bus import topics
from bus.errors import NotAllowed
from bus.events import Fact
from bus.file_cache import FileCache
from bus.lookup import load
from bus.pubsub import Bus
from bus.store import Store
from bus.transports import TRANSPORTS
from swarm.files.parcels import HubParcels
from swarm.files.rights import Rights
from swarm.files.service import FileService
from swarm.files.shelf import Shelf, backing
from swarm.orchestration.roster import Roster
from swarm.orchestration.terms import IN_ONE_PROCESS, Terms

if TYPE_CHECKING:
    from bus.transport import Transport

HUB = "local"
CARDS_S = 1.0
"""How long the cards of agents elsewhere may take to come."""


@dataclass(frozen=True, slots=True)
class Link:
    """A way to agents. `user`: of the broker, which agents of this process are named for."""

    bus: Bus
    hub: str
    user: str
    roster: Roster
    terms: Terms | None = IN_ONE_PROCESS
    rights: Rights | None = None
    backed: Callable[[str, str, Fact], bool] = lambda *_: True
    again: "list[Callable[[], Awaitable[None]]]" = field(default_factory=list)
    """Called after each reconnection: what this process has to say again of its roster and its agents."""

    @property
    def elsewhere(self) -> bool:
        """Whether there may be agents that are not of this process."""
        return self.terms is not None

    def agent(self, role: str) -> str:
        """Return the name of this process's agent for a role."""
        return f"{self.user}/{role}" if not self.elsewhere else f"{self.user}/{self.hub}-{role}"


@asynccontextmanager
async def in_one_process() -> AsyncIterator[Link]:
    """Reach agents of this process alone."""
    in_memory = cast("Transport", cast("Any", load("memory", TRANSPORTS))())
    async with in_memory as transport:
        bus = Bus(transport)
        yield Link(bus, HUB, HUB, Roster(bus))


@asynccontextmanager
async def over_broker(
    url: str, store: Store, *, ours: Collection[str], announce: Callable[[str], None]
) -> AsyncIterator[Link]:
    """Reach agents on a bus. Raises `BadAddress`, `BusUnavailable`, `NotAllowed`.

    `ours`: roles whose code is the scenario's own, so that nobody there has them, whatever they call theirs.
    """
    from bus.transports.mqtt import MqttTransport  # noqa: PLC0415 - only runs over a broker need it

    with tempfile.TemporaryDirectory(prefix="swarm-payloads-") as folder:
        hub = f"run-{secrets.token_hex(4)}"
        terms, rights = Terms(), Rights()
        shelf = Shelf(store.files, rights, FileCache(Path(folder)))
        parcels = HubParcels(hub, shelf)
        again: list[Callable[[], Awaitable[None]]] = []

        async def connected() -> None:
            for say in again:
                await say()

        transport = MqttTransport(
            url, source=f"/swarm/hub/{hub}", parcels=parcels, announce=announce, on_connect=connected
        )
        own = f"{transport.user}/{hub}-"
        backed = backing(rights, shelf, lambda agent: agent.startswith(own))

        async with transport:
            bus = Bus(transport)
            await _check_rights(bus, f"{transport.user}/{hub}")
            async with _heard(bus, hub, shelf, terms, ours) as roster:

                async def roster_again() -> None:
                    roster.again()

                again.append(roster_again)
                yield Link(bus, hub, transport.user, roster, terms, rights, backed, again)


@asynccontextmanager
async def _heard(bus: Bus, hub: str, shelf: Shelf, terms: Terms, ours: Collection[str]) -> AsyncIterator[Roster]:
    """Hear who is there, and what agents want of files, as long as the context lasts."""
    async with asyncio.TaskGroup() as group:
        roster = Roster(bus, terms.rejoin_s, may_offer=lambda _, role: role not in ours)
        service = FileService(bus, hub, shelf)
        tasks = [
            group.create_task(roster.run(), name="roster"),
            group.create_task(service.run(), name="files"),
        ]
        await roster.started.wait()
        await service.started.wait()
        await asyncio.sleep(CARDS_S)
        yield roster
        for task in tasks:
            task.cancel()


async def _check_rights(bus: Bus, agent: str) -> None:
    """Raise `NotAllowed` where the broker does not let us write what only hubs do. `agent`: one that is not there."""
    try:
        await bus.clear(topics.agent_control(agent))
    except NotAllowed as error:
        raise NotAllowed(
            f"{error}. A run that is kept here speaks to agents as a hub does: "
            "log in as a user that may, or hand it in: swarm submit SCENARIO --bus URL"
        ) from error
