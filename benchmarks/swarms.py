"""Hubs and agents over a real broker, with roles that do next to nothing: what is left is ours.

`python -m benchmarks.swarms hub|agent …` is one of them in a process of its own; it says `ready` and then answers each
line on its standard input with one of JSON (`about`).
"""

import argparse
import asyncio
import ctypes
import gc
import json
import resource
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Any, ClassVar

from agents.briefing import Briefing
from agents.context import Context, Means
from agents.role import Role
from benchmarks.steps import Instant
from bus import topics
from bus.cards import RoleCard
from bus.envelope import Envelope, Stamp
from bus.event_log import Owner
from bus.events import Fact, GoalAccepted, GoalSubmitted, ResultSubmitted, ReviewGiven, ReviewRequested, SubtaskAssigned
from bus.file_store import MemoryFileStore
from bus.pubsub import Bus
from bus.setup import Limits, RoleSetup, Setup, Subtask
from bus.store import Store, open_store
from bus.transports.mqtt import MqttTransport
from swarm.files.rights import Rights
from swarm.hubs.hub import Hub
from swarm.orchestration.terms import Terms
from swarm.runs.clock import utc_now
from swarm.runs.folding import fewer_collections
from swarm.runs.ownership import this_process
from swarm.runtime import new_id
from swarm.worker import Worker

TEXT = "x" * 700
"""What a request asks, and what a reply says: about 1 KB with all around it."""
ROOM = ("max_inflight_messages 1000", "max_queued_messages 100000")
"""For the broker: by default mosquitto takes only 20 messages of a publisher before it has answered for them."""
CLIENT = "bench/client"


class Quick(Role[SubtaskAssigned, ResultSubmitted]):
    """Takes as long as it is told, and says always the same."""

    name: ClassVar[str] = "worker"
    handles: ClassVar[type[Fact]] = SubtaskAssigned

    def __init__(self, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:  # noqa: ARG002 - always the same
        """Wait, and answer."""
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        return ctx.result(TEXT)


class Content(Role[ReviewRequested, ReviewGiven]):
    """Finds that all is well."""

    name: ClassVar[str] = "critic"
    handles: ClassVar[type[Fact]] = ReviewRequested

    async def handle(self, request: ReviewRequested, ctx: Context) -> ReviewGiven:  # noqa: ARG002 - always the same
        """Accept."""
        return ReviewGiven(accepted=True, feedback="all is well")


@dataclass(frozen=True, slots=True)
class Bench:
    """Meets `swarm.worker.Workshop`: both roles, nothing to open."""

    takes_s: float = 0.0

    def role(self, name: str, spec: RoleSetup) -> Role[Any, Any]:  # noqa: ARG002 - it has no options
        """Make a role."""
        return Content() if name == Content.name else Quick(self.takes_s)

    def means(self, name: str, spec: RoleSetup) -> Means:  # noqa: ARG002 - the same for both
        """Return a model that answers at once."""
        return Means(model=Instant(), tools={})

    def narrowed(self, name: str, briefing: Briefing) -> Briefing:  # noqa: ARG002 - nothing is granted anyway
        """Leave it as it is."""
        return briefing

    def refusal(self, name: str, briefing: Briefing) -> str | None:  # noqa: ARG002 - nothing is refused
        """Take everything."""
        return None


ROLES = (RoleCard(name="worker", handles="SubtaskAssigned"), RoleCard(name="critic", handles="ReviewRequested"))


def goal(subtasks: int, parallel: int) -> GoalSubmitted:
    """Return a run's first event: as many subtasks, side by side, and a look at the outcome."""
    plan = tuple(Subtask(id=f"part-{number}", role="worker", instruction=TEXT) for number in range(subtasks))
    limits = Limits(subtasks=subtasks, parallel=parallel, time_ms=86_400_000)
    roles = {name: RoleSetup(model="instant", agents=max(parallel, 8)) for name in ("worker", "critic")}
    setup = Setup(name="bench", goal="Do nothing, often.", roles=roles, plan=plan, limits=limits)
    return GoalSubmitted(setup=setup, client=CLIENT)


# Parts


@asynccontextmanager
async def a_hub(
    url: str,
    place: Path | str,
    name: str = "hub-1",
    *,
    on_record: Callable[[Envelope], None] = lambda _: None,
    announce: Callable[[str], None] = lambda _: None,
    owner: Owner | None = None,
) -> AsyncIterator[Hub]:
    """Run a hub as `swarm hub` does, but for desk, files and agents of its own."""
    transport = MqttTransport(
        url, source=f"/swarm/hub/{name}", client_id=f"bench-{name}", will_topic=topics.hub_card(name), announce=announce
    )
    async with open_store(place) as store, transport, asyncio.TaskGroup() as group:
        hub = Hub(
            name,
            Bus(transport),
            Store(store.log, store.files),
            owner or this_process(),
            Terms(),
            on_record=on_record,
            announce=announce,
            rights=Rights(),
        )
        with fewer_collections():
            task = group.create_task(hub.run())
            while not hub.present:  # noqa: ASYNC110 - as for `there`
                await asyncio.sleep(0.01)
            yield hub
            task.cancel()


@asynccontextmanager
async def an_agent(
    url: str, work: Path, name: str = "agent-1", *, slots: int = 64, takes_s: float = 0.0
) -> AsyncIterator[Worker]:
    """Attach an agent as `swarm attach` does, but for its workshop and files."""
    transport = MqttTransport(url, receive_maximum=slots + 4, announce=lambda _: None)
    agent = f"{transport.user}/{name}"
    transport = MqttTransport(
        url,
        source=f"/swarm/agent/{agent}",
        receive_maximum=slots + 4,
        will_topic=topics.agent_card(agent),
        announce=lambda _: None,
    )
    files = MemoryFileStore()
    async with transport, asyncio.TaskGroup() as group:
        worker = Worker(
            agent,
            ROLES,
            Bench(takes_s),
            Bus(transport),
            Stamp(f"/swarm/agent/{agent}", new_id, utc_now),
            lambda _: files,
            work,
            slots,
            Terms(),
            nonce=new_id(),
        )
        task = group.create_task(worker.run())
        yield worker
        task.cancel()


class Results:
    """Counts the results that are recorded, over all runs of a hub."""

    def __init__(self) -> None:
        self.count = 0
        self.ended = 0
        self.events = 0
        self._more = asyncio.Event()

    def take(self, envelope: Envelope) -> None:
        """Take in a record."""
        self.events += 1
        if isinstance(envelope.event, ResultSubmitted):
            self.count += 1
            self._more.set()
        elif isinstance(envelope.event, GoalAccepted):
            self.ended += 1
            self._more.set()

    async def until(self, count: int) -> None:
        """Wait for so many results."""
        while self.count < count:
            self._more.clear()
            await self._more.wait()

    async def until_ended(self, runs: int) -> None:
        """Wait until so many runs are accepted."""
        while self.ended < runs:
            self._more.clear()
            await self._more.wait()


async def there(hub: Hub, agents: int) -> None:
    """Wait until the hub has seen so many agents."""
    while len(hub.roster.agents) < agents:  # noqa: ASYNC110 - no event of it is worth having in a hub
        await asyncio.sleep(0.01)


# Processes


@dataclass
class Child:
    """A part in a process of its own."""

    process: asyncio.subprocess.Process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def do(self, what: str) -> dict[str, float]:
        """Give it a command, and return what it says of itself once it has carried it out (`about`)."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("it was started without pipes")
        self.process.stdin.write(what.encode() + b"\n")
        if not (line := await self.process.stdout.readline()):
            raise RuntimeError("the process has ended")
        said: dict[str, float] = json.loads(line)
        return said


@asynccontextmanager
async def child(*arguments: str) -> AsyncIterator[Child]:
    """Start `python -m benchmarks.swarms …`, wait until it is ready, and kill it on leaving."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.swarms", *arguments, stdin=pipe, stdout=pipe
    )
    try:
        if process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{arguments} did not start")
        yield Child(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def resident_mib() -> float:
    """Return how much memory this process has in RAM."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def about(**more: float) -> str:
    """Return what a process says of itself: CPU seconds, MiB in memory, and what else there is."""
    return json.dumps({"cpu_s": process_time(), "mib": resident_mib(), **more})


def settle() -> None:
    """Give back what is free: a measure of memory afterwards is one of what is in use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


async def commands() -> AsyncIterator[str]:
    """Yield the lines of the standard input."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().strip()


async def be_hub(url: str, place: str, name: str) -> None:
    """Be a hub: `begin RUN SUBTASKS PARALLEL`, `results N` (wait for them), `agents N`, `settle`, `?`."""
    results = Results()
    said: list[str] = []
    async with a_hub(url, place, name, on_record=results.take, announce=said.append) as hub:
        print("ready", flush=True)
        async for line in commands():
            match line.split():
                case ["begin", run, subtasks, parallel]:
                    await hub.begin(run, goal(int(subtasks), int(parallel)))
                case ["results", count]:
                    await results.until(int(count))
                case ["ended", count]:
                    await results.until_ended(int(count))
                case ["agents", count]:
                    await there(hub, int(count))
                case ["settle"]:
                    settle()
                case _:
                    pass
            print(about(results=results.count, ended=results.ended, runs=len(hub.runs)), flush=True)


async def be_agent(url: str, place: str, name: str, slots: int, takes_s: float) -> None:
    """Be an agent: `settle`, `?`."""
    async with an_agent(url, Path(place), name, slots=slots, takes_s=takes_s):
        print("ready", flush=True)
        async for line in commands():
            if line == "settle":
                settle()
            print(about(), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("hub", "agent"))
    parser.add_argument("url")
    parser.add_argument("place")
    parser.add_argument("name")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--takes", type=float, default=0.0)
    args = parser.parse_args(arguments)
    if args.kind == "hub":
        asyncio.run(be_hub(args.url, args.place, args.name))
    else:
        asyncio.run(be_agent(args.url, args.place, args.name, args.slots, args.takes))


if __name__ == "__main__":
    main()
