"""How well a hub spreads work: with an agent that is slow, and as agents are added."""

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from time import perf_counter

from benchmarks.harness import Absolute
from benchmarks.swarms import ROOM, Results, a_hub, an_agent, goal, there
from tests.support.broker import broker

SLOWER = 5


async def makespan(agents: int, subtasks: int, takes_s: float, *, slow: int = 0) -> float:
    """Return the seconds until all subtasks have their results. Of the agents so many take five times as long."""
    results = Results()
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncExitStack() as parts:
            running = await parts.enter_async_context(broker(extra=ROOM))
            hub = await parts.enter_async_context(a_hub(running.url, Path(folder) / "home", on_record=results.take))
            for number in range(agents):
                takes = takes_s * (SLOWER if number < slow else 1)
                work = Path(folder) / f"work-{number}"
                await parts.enter_async_context(an_agent(running.url, work, f"agent-{number}", slots=1, takes_s=takes))
            await there(hub, agents)
            begun = perf_counter()
            await hub.begin("run", goal(subtasks, agents))
            await results.until(subtasks)
            return perf_counter() - begun


async def one_slow() -> float:
    """Return the makespan of 60 subtasks with one agent of four slow, against their work shared by four equal ones."""
    return await makespan(4, 60, 0.25, slow=1) / (60 * 0.25 / 4)


async def scaling() -> float:
    """Return how much more eight agents do in a time than one, against eight times as much."""
    one = await makespan(1, 40, 0.05)
    return one / await makespan(8, 8 * 40, 0.05)


BENCHMARKS = (
    Absolute("makespan with one of 4 agents 5 times slower / work / agents", one_slow, "x", 1.6),
    Absolute("8 agents at 50 ms a subtask / 8 times one", scaling, "x", 0.85, at_least=True),
)
