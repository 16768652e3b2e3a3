"""The parts of a simulated swarm put together, and one run in it from its first event to its end."""

import asyncio
import contextlib
import contextvars
import datetime as dt
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bus.events import DoubtSettled, Event, GoalSubmitted, RunResumed
from bus.file_store import MemoryFileStore
from bus.setup import FileRef, Setup
from bus.simulation.broker import SimulatedBroker
from bus.simulation.disk import SimulatedDisk, at_once
from bus.simulation.loop import NOBODY, VirtualLoop, process
from swarm.core.doubts import Doubt, doubts
from swarm.core.state import RunState, Verdict
from swarm.runtime import fold
from swarm.simulation.faults import Faults
from swarm.simulation.outside import Answer, Outside
from swarm.simulation.processes import AgentProcess, HubProcess, Process
from swarm.simulation.watch import Watch
from swarm.terms import Terms

RUN = "simulated"
CLIENT = "sim/client"
BEGINS = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
MOST_RESUMED = 50
"""How often a person goes on with a paused run."""
TAIL = 40


@dataclass
class World:
    """One world. `place`: a real folder for attempts that work with files."""

    loop: VirtualLoop
    seed: int
    faults: Faults
    setup: Setup
    answer: Answer
    place: Path
    hubs: int = 2
    agents: int = 3
    slots: int = 2
    latency_s: float = 0.5
    workspace: tuple[FileRef, ...] = ()
    files: MemoryFileStore = field(default_factory=MemoryFileStore)
    terms: Terms = field(default_factory=Terms)
    counts: Counter[str] = field(default_factory=Counter)
    """What befell it, and how often."""
    story: list[str] = field(default_factory=list)
    """The same in words, with the time."""
    dying: "list[asyncio.Task[Any]]" = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - it guards nothing
        self._ids = random.Random(self.seed + 1)  # noqa: S311 - likewise
        draw = self.chance.random
        self.broker = SimulatedBroker(self.faults.network, random.Random(draw()))  # noqa: S311 - likewise
        self.disk = SimulatedDisk(random.Random(draw()), self.faults.disk)  # noqa: S311 - likewise
        self.watch = Watch(self.disk)
        self.outside = Outside(
            self.answer,
            self.watch,
            random.Random(draw()),  # noqa: S311 - likewise
            self.faults.endpoint,
            self.latency_s,
        )
        self.disk.tap = self.watch.durable
        self.broker.tap = self.watch.said
        self.hub_processes = [HubProcess(self, f"hub{number}") for number in range(self.hubs)]
        handles = {
            name: {"planner": "PlanRequested", "critic": "ReviewRequested"}.get(name, "SubtaskAssigned")
            for name in self.setup.roles
        }
        self.agent_processes = [
            AgentProcess(self, f"agent{number}", handles, self.slots) for number in range(self.agents)
        ]
        self._resumed = 0

    # What its parts are given

    def new_id(self) -> str:
        """Return an id that nobody else has."""
        return f"{self._ids.getrandbits(64):016x}"

    def date(self) -> str:
        """Return the time of its day, RFC 3339."""
        at = BEGINS + dt.timedelta(seconds=self.loop.time())
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def seconds(self) -> float:
        """Return seconds since 1970."""
        return BEGINS.timestamp() + self.loop.time()

    def note(self, what: str) -> None:
        """Add to its story."""
        self.story.append(f"{self.loop.time():9.3f}  {what}")

    def later(self, delay_s: float, call: Callable[..., object], *args: object) -> None:
        """Call something that belongs to no process."""
        self.loop.call_later(delay_s, call, *args, context=NOBODY)

    def spawn(self, key: str, call: Coroutine[Any, Any, object]) -> None:
        """Have a process do something."""
        self.dying.append(self.loop.create_task(call, name=f"asked of {key}", context=context_of(key)))

    @property
    def processes(self) -> list[Process]:
        """All its processes."""
        return [*self.hub_processes, *self.agent_processes]

    # A run

    async def live(self, most_s: float) -> None:
        """Begin a run and see it to its end, under a weather that ends; `most_s`: how long it may take after that."""
        from swarm.simulation.weather import Weather  # noqa: PLC0415 - it knows the world

        for one in self.processes:
            one.start()
        weather = Weather(self)
        tasks = [
            self.loop.create_task(self._client(), name="client"),
            self.loop.create_task(weather.run(), name="weather"),
        ]
        try:
            async with asyncio.timeout(self.faults.for_s + most_s):
                while not self.watch.ended:
                    await asyncio.sleep(0.5)
                    self._look_after_parts(tasks)
                await asyncio.sleep(0.5)
        except TimeoutError:
            last = self.watch.log[-1] if self.watch.log else None
            self.watch.breaks(f"promise 4: the run did not end; its last event is {last and last.event!r:.300}")
        finally:
            await self._end(tasks)

    async def _end(self, tasks: "list[asyncio.Task[None]]") -> None:
        self.loop.thaw_all()
        for one in self.processes:
            one.wanted = False
            if one.alive:
                one.kill(seen=True)
        self.dying += tasks
        while any(not task.done() for task in self.dying):
            for task in self.dying:
                task.cancel()
            await asyncio.wait(self.dying)
        for task in self.dying:
            if not task.cancelled():
                task.exception()  # what a process says as it is killed is of no interest

    def _look_after_parts(self, tasks: "list[asyncio.Task[None]]") -> None:
        """See that nothing has ended by a fault of its own."""
        for task in [*tasks, *(one.task for one in self.processes if one.task is not None)]:
            if task.done() and not task.cancelled() and task not in self.dying and (error := task.exception()):
                self.watch.breaks(f"{task.get_name()} broke: {told(error)}")
                self.dying.append(task)

    async def _client(self) -> None:
        """Submit the run until it is there; go on with it whenever it is paused."""
        first = GoalSubmitted(setup=self.setup, workspace=self.workspace, client=CLIENT, software="simulated")
        while True:
            if not self.watch.log:
                await self._try(lambda hub: hub.begin(RUN, first))
            elif self.watch.paused and not self.watch.ended:
                await self._resume()
            await asyncio.sleep(self.chance.uniform(0.5, 4.0))

    async def _try(self, call: Callable[[Any], Any]) -> None:
        """Have a hub do something, if one is there to do it. What it is asked it does itself, as part of it."""
        able = [
            one for one in self.hub_processes if one.alive and one.hub is not None and not self.loop.is_frozen(one.key)
        ]
        if not able:
            return
        asked = self.chance.choice(able)
        task = self.loop.create_task(call(asked.hub), name=f"asked of {asked.key}", context=context_of(asked.key))
        with contextlib.suppress(Exception):  # it is asked again
            await asyncio.wait_for(asyncio.shield(task), 20.0)
        if not task.done():
            self.dying.append(task)
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

        await self._try(resumed)

    def _settled(self, doubt: Doubt) -> DoubtSettled:
        """Look whether it was done, and say what is to become of it, as a person does; one in ten gives it up."""
        call = doubt.call
        done = self.watch.acts[f"{RUN}:{doubt.request}:{call.digest[:32]}"]
        verdict: Verdict = "fail" if self.chance.random() < 0.1 else "skip" if done else "retry"  # noqa: PLR2004 - one in ten
        self.counts[f"doubt settled: {verdict}"] += 1
        return doubt.settled(verdict)

    # Its end

    def held(self) -> RunState | None:
        """Return what the hub held that brought the run to its end, where that can be told."""
        return self.watch.held

    def state(self) -> RunState:
        """Return the fold of its log."""
        return at_once(fold(self.disk.log, RUN))


def context_of(key: str) -> contextvars.Context:
    """Return a context whose tasks belong to a process."""
    context = contextvars.Context()
    context.run(process.set, key)
    return context


def told(error: BaseException) -> str:
    """Return an error in a line, with the place it comes from."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" ({place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno})" if place else ""
    return f"{type(error).__name__}: {error}{where}"
