"""One run in a simulated world, from its first event to its end: hubs, agents, a client, and a weather over them."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bus.events import DoubtSettled, Event, GoalSubmitted, RunResumed
from bus.setup import FileRef
from swarm.core.doubts import Doubt, doubts
from swarm.runs.folding import fold
from swarm.simulation.processes import AgentProcess, HubProcess, Process
from swarm.simulation.watch import told
from swarm.simulation.weather import Weather
from swarm.simulation.world import RUN, World, context_of

if TYPE_CHECKING:
    from swarm.core.state import Verdict

CLIENT = "sim/client"
MOST_RESUMED = 50
"""How often a person goes on with a paused run."""


class SimulatedRun:
    """The parts of a swarm in a world, and what they do there."""

    def __init__(
        self, world: World, *, hubs: int, agents: int, slots: int, workspace: tuple[FileRef, ...] = ()
    ) -> None:
        self.world = world
        self.workspace = workspace
        self.hubs = [HubProcess(world, f"hub{number}") for number in range(hubs)]
        handles = {
            name: {"planner": "PlanRequested", "critic": "ReviewRequested"}.get(name, "SubtaskAssigned")
            for name in world.setup.roles
        }
        self.agents = [AgentProcess(world, f"agent{number}", handles, slots) for number in range(agents)]
        self._resumed = 0

    @property
    def processes(self) -> list[Process]:
        """All that can be struck."""
        return [*self.hubs, *self.agents]

    async def live(self, most_s: float) -> None:
        """Begin a run and see it to its end, under a weather that ends; `most_s`: how long it may take after that."""
        for one in self.processes:
            one.start()
        weather = Weather(self.world, self.hubs, self.agents)
        tasks = [
            self.world.loop.create_task(self._client(), name="client"),
            self.world.loop.create_task(weather.run(), name="weather"),
        ]
        try:
            async with asyncio.timeout(self.world.faults.for_s + most_s):
                while not self.world.watch.ended:
                    await asyncio.sleep(0.5)
                    self._look_after_parts(tasks)
                await asyncio.sleep(0.5)
        except TimeoutError:
            last = self.world.watch.log[-1] if self.world.watch.log else None
            self.world.watch.breaks(f"promise 4: the run did not end; its last event is {last and last.event!r:.300}")
        finally:
            await self._end(tasks)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        self.world.loop.thaw_all()
        for one in self.processes:
            one.wanted = False
            if one.alive:
                one.kill(seen=True)
        self.world.dying += tasks
        while any(not task.done() for task in self.world.dying):
            for task in self.world.dying:
                task.cancel()
            await asyncio.wait(self.world.dying)
        for task in self.world.dying:
            if not task.cancelled():
                task.exception()  # what a process says as it is killed is of no interest

    def _look_after_parts(self, tasks: list[asyncio.Task[None]]) -> None:
        """See that nothing has ended by a fault of its own."""
        for task in [*tasks, *(one.task for one in self.processes if one.task is not None)]:
            if task.done() and not task.cancelled() and task not in self.world.dying and (error := task.exception()):
                self.world.watch.breaks(f"{task.get_name()} broke: {told(error)}")
                self.world.dying.append(task)

    async def _client(self) -> None:
        """Submit the run until it is there; go on with it whenever it is paused."""
        first = GoalSubmitted(setup=self.world.setup, workspace=self.workspace, client=CLIENT, software="simulated")
        while True:
            if not self.world.watch.log:
                await self._ask(lambda hub: hub.begin(RUN, first))
            elif self.world.watch.paused and not self.world.watch.ended:
                await self._resume()
            await asyncio.sleep(self.world.chance.uniform(0.5, 4.0))

    async def _ask(self, call: Callable[[Any], Any]) -> None:
        """Have a hub do something, if one is there to do it. What it is asked it does itself, as part of it."""
        able = [
            one for one in self.hubs if one.alive and one.hub is not None and not self.world.loop.is_frozen(one.key)
        ]
        if not able:
            return
        asked = self.world.chance.choice(able)
        task = self.world.loop.create_task(call(asked.hub), name=f"asked of {asked.key}", context=context_of(asked.key))
        with contextlib.suppress(Exception):  # it is asked again
            await asyncio.wait_for(asyncio.shield(task), 20.0)
        if not task.done():
            self.world.dying.append(task)
            task.cancel()

    async def _resume(self) -> None:
        if self._resumed >= MOST_RESUMED:
            return
        self._resumed += 1

        async def resumed(hub: Any) -> None:  # noqa: ANN401 - a `Hub`
            info = await hub.store.log.info(RUN)
            if info.owner is not None or info.run in hub.runs:
                return
            state = await fold(hub.store.log, RUN)
            settled: list[Event] = [self._settled(one) for one in doubts(state, leases_end=True)]
            await hub.go_on(info, [*settled, RunResumed()])

        await self._ask(resumed)

    def _settled(self, doubt: Doubt) -> DoubtSettled:
        """Look whether it was done, and say what is to become of it, as a person does; one in ten gives it up."""
        call = doubt.call
        done = self.world.watch.acts[f"{RUN}:{doubt.request}:{call.digest[:32]}"]
        verdict: Verdict = "fail" if self.world.chance.random() < 0.1 else "skip" if done else "retry"  # noqa: PLR2004 - one in ten
        self.world.counts[f"doubt settled: {verdict}"] += 1
        return doubt.settled(verdict)
