"""The composition root of a hub: puts its parts together over a broker and a store, and owns their lifetimes."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bus import presence, topics
from bus.envelope import Envelope
from bus.file_cache import FileCache
from bus.private_folder import make_private_folder
from bus.pubsub import Bus, Note
from bus.store import open_store
from bus.transports.mqtt import MqttTransport
from swarm.errors import MissingPart, UsageError
from swarm.files.parcels import HubParcels
from swarm.files.rights import Rights
from swarm.files.service import FileService
from swarm.files.shelf import Shelf, backing
from swarm.hubs.client_files import ClientFiles
from swarm.hubs.desk import Desk
from swarm.hubs.hub import Hub
from swarm.hubs.hub_config import HubConfig
from swarm.hubs.namesake import check_alone, keep_card
from swarm.hubs.own_agents import own_agents
from swarm.orchestration.terms import Terms
from swarm.runs.folding import fewer_collections
from swarm.runs.ownership import this_process
from swarm.settings import Settings

KEPT_IN = "hub.json"
"""Where a home keeps who its hub is."""
SETTLES_S = 20.0
"""How long a hub that starts leaves calls for files open that it cannot judge yet: it takes its runs up meanwhile."""
SESSION_S = 3600
"""How long a broker keeps what comes for a hub that is away."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a hub is to others, the same after a restart. `client_id` is a secret: who knows it can throw the hub off."""

    name: str
    client_id: str
    kept: bool
    """Whether it is the one that its home keeps."""


def identity(home: Path, name: str | None = None) -> Identity:
    """Return who the hub of a home is; made up and kept on first use.

    Raises `MissingPart`, and `ValueError` for a name that cannot stand in a topic.
    """
    path = home / KEPT_IN
    called = topics.check_name(name or f"hub-{secrets.token_hex(4)}")
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        found = Identity(topics.check_name(str(known["name"])), str(known["client_id"]), kept=True)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        found = Identity(called, f"swarm-{secrets.token_hex(16)}", kept=True)
        try:
            make_private_folder(home)  # with a log on a server nobody else makes it
            path.touch(mode=0o600)
            path.write_text(json.dumps({"name": found.name, "client_id": found.client_id}), encoding="utf-8")
        except OSError as error:
            raise MissingPart(f"{path} cannot be written: {error.strerror}.") from error
    return found if name in {None, found.name} else Identity(called, f"swarm-{secrets.token_hex(16)}", kept=False)


@asynccontextmanager
async def only_hub(home: Path, name: str | None = None) -> AsyncIterator[Identity]:
    """Be the hub of a home, as `identity` says, and the only one as long as the context lasts.

    The kernel lets go of what a killed one held. Where the file system has no such locks, nobody can tell. Raises
    `UsageError` where another one is at work, and as `identity`.
    """
    who = identity(home, name)
    if not who.kept:
        yield who  # its `client_id` is its own, and throws nobody off
        return
    with (home / KEPT_IN).open("rb") as file:
        try:
            alone = presence.take(file.fileno())
        except OSError:
            alone = True  # as ever there: who starts two has two
        if not alone:
            raise UsageError(
                f"hub {who.name} of {home} is at work already, and two would throw one another off the broker. "
                "Stop that one, or name another folder in SWARM_HOME."
            )
        yield who


async def serve(
    url: str,
    settings: Settings,
    *,
    place: Path | str,
    config: HubConfig,
    name: str | None = None,
    agents: bool = True,
    on_record: Callable[[Envelope], None] = lambda _: None,
    announce: Callable[[str], None],
) -> None:
    """Be a hub until cancelled. `place`: the folder or URL of its store.

    Raises `BusUnavailable`, `StorageFailed` …, `UsageError` where its home has a hub at work already, or its bus one of
    its name, and `MissingPart` where its store takes nothing more.
    """
    terms = Terms()
    async with only_hub(settings.home, name) as who, open_store(place) as store:
        hub: Hub
        payloads = FileCache(settings.home / "payloads")
        agents_rights, clients_rights = Rights(), Rights()
        for_agents = Shelf(store.files, agents_rights, payloads, settles_s=SETTLES_S)
        for_clients = Shelf(store.files, clients_rights, payloads, under="run")
        parcels = HubParcels(who.name, for_agents, for_clients)
        transport = _transport(url, who, parcels, lambda: hub, announce)
        bus = Bus(transport)
        own_agent = f"{transport.user}/{who.name}"
        hub = Hub(
            who.name,
            bus,
            store,
            this_process(),
            terms,
            on_record=on_record,
            announce=announce,
            rights=agents_rights,
            may_offer=partial(config.may_offer, own=transport.user if agents else None),
            backed=backing(agents_rights, for_agents, lambda agent: agent == own_agent),
        )
        desk = Desk(hub, config, settings, ClientFiles(for_clients, clients_rights))
        service = FileService(bus, who.name, for_agents)
        async with transport, bus.subscribe(topics.hub_card(who.name), kinds=Note) as cards:
            await check_alone(bus, who.name, cards)
            announce(f"hub {who.name} is ready on {url}")
            with fewer_collections():
                async with asyncio.TaskGroup() as group:
                    group.create_task(hub.run(desk.started, service.started), name="hub")
                    group.create_task(keep_card(hub, cards, announce), name="its card")
                    group.create_task(desk.run(), name="desk")
                    group.create_task(service.run(), name="files")
                    if agents:
                        at_work = own_agents(url, who.name, parcels, store, config, settings, terms, announce)
                        group.create_task(at_work, name="own agents")


def _transport(
    url: str, who: Identity, parcels: HubParcels, hub: Callable[[], Hub], announce: Callable[[str], None]
) -> MqttTransport:
    """Return a hub's way to its broker. `hub`: returns the hub, which is made after it and there once it is open."""

    async def connected() -> None:
        await hub().reconnected()

    return MqttTransport(
        url,
        source=f"/swarm/hub/{who.name}",
        client_id=who.client_id,
        session_expiry_s=SESSION_S,
        clean_start=False,
        will_topic=topics.hub_card(who.name),
        announce=announce,
        on_connect=connected,
        on_unread=lambda topic, why: hub().unread(topic, why),
        parcels=parcels,
    )
