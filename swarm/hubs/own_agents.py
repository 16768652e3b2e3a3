"""The planner and the critic that a hub brings itself: agents like any other, in its process, at its store.

They have a connection of their own, so that they come and go as others do: the broker takes their card back when the
process dies, and they say it again after a reconnection, whatever the broker forgot meanwhile. Hubs on one bus use one
another's.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from agents.tools import TOOLS
from bus import topics
from bus.broker_address import BrokerAddress
from bus.courier_parcels import CourierParcels, lease_of
from bus.store import Store
from swarm.attached.attaching import Brought, at_work, default_model
from swarm.attached.worker_caps import WorkerCaps, worker_caps
from swarm.attached.workshop import Craft, OwnWorkshop
from swarm.core.plan import NOT_WORKERS
from swarm.files.parcels import HubParcels
from swarm.hubs.hub_config import HubConfig, HubRole
from swarm.orchestration.terms import Terms
from swarm.preparation.parts import role_class
from swarm.settings import Settings
from swarm.working.work_folder import work_folder

SLOTS = 64
"""Requests that they work on at once."""


@dataclass(frozen=True, slots=True)
class OwnParcels:
    """Meets `bus.parcels.Parcels`: large payloads between us and our hub lie with it; others' come over the bus."""

    here: HubParcels
    elsewhere: CourierParcels

    async def put(self, topic: str, payload: bytes) -> Mapping[str, JsonValue]:
        """Keep a payload for our hub, or bring it to the hub of the topic. Raises what these do."""
        kept = self.here if topics.parse(topic).hub == self.here.hub else self.elsewhere
        return await kept.put(topic, payload)

    async def get(self, topic: str, claim: Mapping[str, JsonValue]) -> bytes:
        """Return what is claimed to us. Raises what `HubParcels.get` and `CourierParcels.get` do."""
        kept = self.here if claim.get("hub") == self.here.hub else self.elsewhere
        return await kept.get(topic, claim)


async def own_agents(  # noqa: PLR0917 - all that its parts share
    url: str,
    hub: str,
    parcels: HubParcels,
    store: Store,
    config: HubConfig,
    settings: Settings,
    terms: Terms,
    announce: Callable[[str], None],
) -> None:
    """Be a planner and a critic until cancelled. `parcels`: the hub's. Raises `BusUnavailable`, `MissingPart`."""
    found = await default_model(settings)
    crafts = {name: _craft(config, name, found) for name in NOT_WORKERS}
    if not found and not all(craft.model for craft in crafts.values()):
        announce("no model was found for the hub's own planner and critic: name one by SWARM_MODEL or --config")
    caps = {name: _caps(config, name, craft) for name, craft in crafts.items()}
    claims = CourierParcels(lease_of)
    async with (
        OwnWorkshop(
            crafts, caps, settings, folder=settings.home, endpoints=config.endpoints, announce=announce
        ) as workshop,
        work_folder(settings.home, hub) as work,
        at_work(
            url,
            f"{BrokerAddress.parse(url).name}/{hub}",
            roles=tuple(Brought(name, craft.role).card(sorted(caps[name].tools)) for name, craft in crafts.items()),
            workshop=workshop,
            claims=claims,
            cache=store.files,
            work=work,
            slots=SLOTS,
            terms=terms,
            announce=lambda _: None,  # the hub's own connection says it
            parcels=OwnParcels(parcels, claims),
            files_here=lambda assignment: store.files if assignment.hub == hub else None,
        ),
    ):
        await asyncio.get_running_loop().create_future()  # until cancelled, or something of it fails


def _craft(config: HubConfig, name: str, found: str) -> Craft:
    """Return a role of the hub's own as its configuration says it; `found`: the model where that names none."""
    said = config.roles.get(name, HubRole())
    return Craft(role_class(name, said.uses, config.folder), said.options, said.model or config.model or found)


def _caps(config: HubConfig, name: str, craft: Craft) -> WorkerCaps:
    """Return what a role of the hub's own may have: what its class declares, and all that the configuration names."""
    granted = [tool for tool in config.roles.get(name, HubRole()).tools or () if tool in TOOLS]
    caps = worker_caps([*craft.role.tools, *granted], network="public", folder=config.folder)
    return replace(caps, tools=caps.tools | config.tools.keys(), own={**caps.own, **config.tools})
