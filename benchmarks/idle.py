"""What a hub costs that carries on a thousand runs in which nothing happens."""

import asyncio
import tempfile

from benchmarks.harness import Absolute
from benchmarks.swarms import ROOM, child
from tests.support.broker import broker

RUNS = 1_000
WATCHED_S = 10.0


async def idle(watched_s: float, runs: int = RUNS) -> tuple[float, float]:
    """Return how much of a CPU a hub takes while its runs wait for an agent, in %, and KiB of memory for a run."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            broker(extra=ROOM) as running,
            child("hub", running.url, f"{folder}/home", "hub-1") as hub,
        ):
            empty = await hub.do("?")
            for number in range(runs):
                await hub.do(f"begin run-{number} 4 4")
            await asyncio.sleep(3.0)
            before = await hub.do("?")
            await asyncio.sleep(watched_s)
            after = await hub.do("?")
    if after["runs"] != runs:
        raise RuntimeError(f"{after['runs']} runs are open, not {runs}")
    return (after["cpu_s"] - before["cpu_s"]) / watched_s * 100, (after["mib"] - empty["mib"]) * 1024 / runs


async def cpu() -> float:
    return (await idle(WATCHED_S))[0]


async def memory() -> float:
    return (await idle(0.1))[1]


BENCHMARKS = (
    Absolute("CPU of a hub with 1,000 idle runs", cpu, "%", 1.0),
    Absolute("memory of a hub for an idle run", memory, "KiB", 100),
)
