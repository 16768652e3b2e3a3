"""The composition root of `swarm attach`: roles of this host, brought to hubs over a broker."""

import asyncio
import hashlib
import inspect
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from agents.errors import ModelUnavailable
from agents.role import Role
from agents.roles import ROLES
from bus import topics
from bus.broker_address import BrokerAddress
from bus.cards import RoleCard
from bus.courier import Courier, route_of_agent
from bus.courier_parcels import CourierParcels, lease_of
from bus.envelope import Stamp
from bus.errors import BusError
from bus.event_log import Files
from bus.file_cache import FileCache
from bus.parcels import Parcels
from bus.pubsub import Bus
from bus.transports.mqtt import MqttTransport
from swarm.attached.worker_caps import WorkerCaps
from swarm.attached.workshop import Craft, OwnWorkshop
from swarm.errors import UsageError
from swarm.orchestration.terms import Terms
from swarm.preparation.model_choice import find
from swarm.preparation.parts import role_class
from swarm.runs.clock import utc_now
from swarm.runtime import new_id
from swarm.scenario import own_code
from swarm.settings import Settings
from swarm.worker import Worker
from swarm.working.assignment import Assignment
from swarm.working.attempt import REPLIES
from swarm.working.work_folder import work_folder


@dataclass(frozen=True, slots=True)
class Brought:
    """A role as it was named: its class, and the name that requests call it by."""

    name: str
    role: type[Role[Any, Any]]

    def card(self, tools: Sequence[str]) -> RoleCard:
        """Return what is said of it. `tools`: those that it may use here."""
        return RoleCard(
            name=self.name,
            handles=self.role.handles.__name__,
            answers=_answers(self.role),
            about=self.role.about()[:400],
            tools=tuple(tools),
            version=version_of(self.role),
        )


def _answers(role: type[Role[Any, Any]]) -> str:
    reply = REPLIES.get(role.handles)
    return f"swarm.{reply.__name__}.v{reply.version}" if reply else ""


def bring(written: str, folder: Path) -> Brought:
    """Return the role that `ROLE`, `FILE.py:CLASS` or `package.module:CLASS` names.

    Raises `UsageError`, `NotFound`, `MissingPart`.
    """
    if not own_code.is_reference(written) and written not in ROLES:
        known = ", ".join(sorted(ROLES))
        raise UsageError(f"role {written!r} is unknown (known: {known}). One of your own is written FILE.py:CLASS.")
    found = role_class(written, None if written in ROLES else written, folder)
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        hint = "Give its arguments defaults: nobody says `with:` to a role that is attached."
        raise UsageError(f"{written}: its class cannot be made: {error}. {hint}") from error
    return Brought(found.name, found)


def version_of(role: type[Role[Any, Any]]) -> str:
    """Return what stands for a role's code and prompt: of another version an attempt may ask otherwise."""
    digest = hashlib.sha256(inspect.getsource(inspect.getmodule(role) or role).encode())
    if ROLES.get(role.name) == f"{role.__module__}:{role.__qualname__}":
        digest.update(resources.files("agents.roles").joinpath(f"{role.name}.md").read_bytes())
    return digest.hexdigest()[:16]


async def default_model(settings: Settings) -> str:
    """Return the model for requests that name none; "" where there is none."""
    if settings.model:
        return settings.model
    try:
        return (await find(settings)).model
    except ModelUnavailable:
        return ""


async def attach(
    url: str,
    brought: Sequence[Brought],
    caps: Mapping[str, WorkerCaps],
    settings: Settings,
    stopping: asyncio.Event,
    *,
    slots: int,
    model: str,
    name: str | None = None,
    announce: Callable[[str], None],
) -> None:
    """Work until `stopping` is set; then finish what is held, as far as `Terms.drain_s` allows, and hand back the rest.

    Raises `BusUnavailable`, `NotAllowed`, `ModelUnavailable`, `StorageFailed`.
    """
    terms = Terms()
    instance = topics.check_name(name or f"{brought[0].name}-{secrets.token_hex(4)}")
    agent = f"{BrokerAddress.parse(url).name}/{instance}"
    crafts = {one.name: Craft(one.role, model=model) for one in brought}
    claims = CourierParcels(lease_of)
    async with (
        work_folder(settings.home, instance) as work,
        OwnWorkshop(crafts, caps, settings, folder=Path.cwd(), announce=announce) as workshop,
        at_work(
            url,
            agent,
            roles=tuple(one.card(sorted(caps[one.name].tools)) for one in brought),
            workshop=workshop,
            claims=claims,
            cache=FileCache(settings.home / "fetched"),
            work=work,
            slots=slots,
            terms=terms,
            announce=announce,
        ) as worker,
    ):
        announce(f"{agent} is there for {', '.join(one.name for one in brought)}, {slots} at once")
        await stopping.wait()
        announce("finishes what it holds, and takes nothing more (again: stops at once)")
        try:
            await worker.drain(terms.drain_s)
        except BusError as error:
            announce(f"leaves without a word: {error}")


@asynccontextmanager
async def at_work(
    url: str,
    agent: str,
    *,
    roles: tuple[RoleCard, ...],
    workshop: OwnWorkshop,
    claims: CourierParcels,
    cache: Files,
    work: Path,
    slots: int,
    terms: Terms,
    announce: Callable[[str], None],
    parcels: Parcels | None = None,
    files_here: Callable[[Assignment], Files | None] = lambda _: None,
) -> AsyncIterator[Worker]:
    """Have an agent at work on a bus, over a connection of its own, as long as the context lasts.

    `claims`: what brings and fetches large payloads for it, alone or as a part of `parcels`. `cache`: where files are
    kept that came over the bus. `files_here`: the files of assignments for which they need not. Raises what
    `MqttTransport` does on opening, and `ModelUnavailable`.
    """
    await workshop.prepare()
    worker: Worker | None = None

    async def connected() -> None:
        if worker is not None:
            await worker.reconnected()

    transport = MqttTransport(
        url,
        source=f"/swarm/agent/{agent}",
        parcels=parcels or claims,
        receive_maximum=slots + 4,
        will_topic=topics.agent_card(agent),
        announce=announce,
        on_connect=connected,
    )
    bus = Bus(transport)
    courier = claims.courier = Courier(bus, route_of_agent(agent), cache)

    def files(assignment: Assignment) -> Files:
        return files_here(assignment) or courier.files(lambda: assignment.hub, assignment.lease)

    async with transport, asyncio.TaskGroup() as group:
        worker = Worker(
            agent=agent,
            roles=roles,
            workshop=workshop,
            bus=bus,
            stamp=Stamp(f"/swarm/agent/{agent}", new_id, utc_now),
            files=files,
            work=work,
            slots=slots,
            terms=terms,
            nonce=new_id(),
        )
        tasks = [
            group.create_task(courier.run(), name=f"{agent} and its files"),
            group.create_task(worker.run(), name=agent),
        ]
        try:
            yield worker
        finally:
            for task in tasks:
                task.cancel()
