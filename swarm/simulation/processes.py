"""Hubs and agents as processes of a simulated world: started, killed, frozen, drained, started again."""

import asyncio
import contextlib
import contextvars
import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.briefing import Briefing
from agents.context import Means
from agents.model import EndpointHealth
from agents.role import Role
from bus import topics
from bus.cards import RoleCard
from bus.envelope import Envelope, Stamp
from bus.errors import BusError, LogError
from bus.event_log import Owner
from bus.events import GoalAccepted, GoalFailed
from bus.pubsub import Bus
from bus.setup import RoleSetup
from bus.simulation.disk import DiskOfOne
from bus.simulation.loop import process
from bus.store import Store
from bus.transports.simulated import SimulatedTransport
from swarm.hubs.hub import Hub
from swarm.preparation.parts import load_tool, role_class
from swarm.simulation.outside import SimulatedModel, counted
from swarm.simulation.watch import told
from swarm.simulation.world import World
from swarm.worker import Worker

load_once = functools.cache(load_tool)
class_once = functools.cache(role_class)


class Process(ABC):
    """One process. Killed, it is gone without a word; whoever wants it back starts it again."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.incarnation = 0
        self.transport: SimulatedTransport | None = None
        self.task: asyncio.Task[None] | None = None
        self.wanted = True
        """Whether it is to be started again."""

    @property
    def alive(self) -> bool:
        """Whether it runs (or is frozen)."""
        return self.task is not None and not self.task.done()

    @property
    def client(self) -> str:
        """Who it is to the broker."""
        return self.transport.client_id if self.transport is not None else ""

    def start(self) -> None:
        """Begin anew, with nothing of what it knew."""
        if self.alive:
            return
        self.incarnation += 1
        self.world.note(f"start {self.name} {self.incarnation}")
        context = contextvars.Context()
        context.run(process.set, self.key)
        self.task = asyncio.get_running_loop().create_task(self._main(), name=self.key, context=context)

    @property
    def key(self) -> str:
        """Which incarnation of it runs."""
        return f"{self.name}#{self.incarnation}"

    def kill(self, *, seen: bool) -> None:
        """End it at once. `seen`: its machine tells the broker."""
        self.world.loop.thaw(self.key)
        if self.transport is not None:
            self.transport.vanish(seen=seen)
        self._vanish()
        if self.task is not None:
            self.world.dying.append(self.task)
            self.task.cancel()

    def freeze(self, for_s: float) -> None:
        """Stop it for a while, as SIGSTOP does."""
        if not self.alive or self.world.loop.is_frozen(self.key):
            return
        self.world.loop.freeze(self.key)
        self.world.broker.be_deaf_to(self.client, for_s)
        self.world.later(for_s, self.world.loop.thaw, self.key)

    def _vanish(self) -> None:  # noqa: B027 - most hold nothing else
        """Let go of what else it holds."""

    async def _main(self) -> None:
        """Live; one that ends for want of its broker or disk is started again by whoever watches over it."""
        task, key = self.task, self.key
        try:
            await self._live()
        except* (BusError, LogError) as group:
            self.world.counts[f"ended by itself: {type(group.exceptions[0]).__name__}"] += 1
        finally:
            if self.task is task and key == self.key:
                self.world.later(self.world.chance.uniform(0.5, 3.0), self._back)

    def _back(self) -> None:
        if self.wanted:
            self.start()

    @abstractmethod
    async def _live(self) -> None:
        """Be what it is."""


class HubProcess(Process):
    """A hub."""

    hub: Hub | None = None
    disk: DiskOfOne | None = None

    async def _live(self) -> None:
        world = self.world
        self.hub = None
        self.disk = DiskOfOne(world.disk)

        task = asyncio.current_task()

        def broke(run: str, error: Exception) -> None:
            if task not in world.dying:  # what a process says as it is killed is of no interest
                world.watch.breaks(f"{self.key} cannot carry {run} on: {told(error)}")

        async def connected() -> None:
            if self.hub is not None:
                await self.hub.reconnected()

        self.transport = SimulatedTransport(
            world.broker,
            client_id=self.name,
            keeps_session=True,
            will_topic=topics.hub_card(self.name),
            on_connect=connected,
        )
        async with self.transport:
            self.hub = Hub(
                self.name,
                Bus(self.transport),
                Store(self.disk, world.files),
                Owner(self.name, self.incarnation, "simulated"),
                world.terms,
                nonce=world.new_id(),
                on_record=self._recorded,
                announce=world.note,
                on_broken=broke,
                stamp=Stamp(f"/swarm/hub/{self.name}", world.new_id, world.date),
            )
            await self.hub.run()

    def _recorded(self, envelope: Envelope) -> None:
        """Keep what the hub holds as the run ends: it has to be the fold of the log."""
        if isinstance(envelope.event, GoalAccepted | GoalFailed) and self.hub is not None:
            self.world.watch.held = self.hub.runs[envelope.correlation_id].orchestrator.state

    def _vanish(self) -> None:
        if self.disk is not None:
            self.disk.vanish()


class AgentProcess(Process):
    """An agent with its roles."""

    def __init__(self, world: World, name: str, roles: Mapping[str, str], slots: int) -> None:
        super().__init__(world, name)
        self.roles = roles
        self.slots = slots
        self.worker: Worker | None = None

    @property
    def agent(self) -> str:
        """Its name on the bus."""
        return f"sim/{self.name}"

    async def _live(self) -> None:
        world = self.world
        self.worker = None

        async def connected() -> None:
            if self.worker is not None:
                await self.worker.reconnected()

        self.transport = SimulatedTransport(
            world.broker,
            client_id=self.key,
            receive_maximum=self.slots + 4,
            will_topic=topics.agent_card(self.agent),
            on_connect=connected,
        )
        async with self.transport:
            self.worker = Worker(
                agent=self.agent,
                roles=tuple(RoleCard(name=name, handles=handles) for name, handles in self.roles.items()),
                workshop=SimulatedWorkshop(world),
                bus=Bus(self.transport),
                stamp=Stamp(f"/swarm/agent/{self.agent}", world.new_id, world.date),
                files=lambda _: world.files,
                work=world.place / self.key,
                slots=self.slots,
                terms=world.terms,
                nonce=world.new_id(),
            )
            await self.worker.run()

    async def drain(self) -> None:
        """Finish what it holds, or hand it back, and go."""
        worker, task = self.worker, self.task
        if worker is None or task is None:
            return
        with contextlib.suppress(BusError, RuntimeError):  # it leaves without a word
            await worker.drain(self.world.chance.uniform(0.5, 10.0))
        task.cancel()
        self.world.dying.append(task)


class SimulatedWorkshop:
    """Meets `swarm.worker.Workshop`: the scenario's own roles and tools, and a model of the simulated endpoint."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._health = EndpointHealth()
        self._means: dict[str, Means] = {}

    def role(self, name: str, spec: RoleSetup) -> Role[Any, Any]:
        """Make a role. Raises `NotFound`, `MissingPart`."""
        return class_once(name, spec.uses, self._folder)(**spec.options)

    def means(self, name: str, spec: RoleSetup) -> Means:
        """Return what an agent of a role works with. Raises `NotFound`, `MissingPart`."""
        if name not in self._means:
            tools = [counted(load_once(tool, self._folder), self._world.watch) for tool in spec.tools]
            model = SimulatedModel(self._world.outside, spec.model, self._health)
            self._means[name] = Means.of(spec, model, tools, now=self._world.seconds)
        return self._means[name]

    def narrowed(self, name: str, briefing: Briefing) -> Briefing:  # noqa: ARG002 - `Workshop` has it
        """Return a briefing as it is."""
        return briefing

    def refusal(self, name: str, briefing: Briefing) -> str | None:  # noqa: ARG002 - `Workshop` has it
        """Return None: nothing is refused."""
        return None

    @property
    def _folder(self) -> Path:
        return Path(self._world.setup.folder)
