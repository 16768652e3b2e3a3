"""What a request and its reply cost through a hub: decided, recorded durably, said; against a bare `aiomqtt` echo.

The echo keeps nothing. At one in flight, where nothing else fills the time of a commit, it is shown as well with a
durable commit in each trip: right after one another, without the trips between them, commits take half as long. Hub
and agent are in one process, as the two sides of the echo are, and mosquitto beside it.
"""

import asyncio
import tempfile
from contextlib import closing
from pathlib import Path
from time import perf_counter

from benchmarks import mqtt
from benchmarks.event_log import bare as bare_log
from benchmarks.harness import Absolute, Benchmark
from benchmarks.swarms import ROOM, TEXT, Results, a_hub, an_agent, child, goal, there
from tests.support.broker import broker

TRIPS = mqtt.TRIPS
MESSAGES = 3


async def through_hub(in_flight: int, runs: int = 1) -> float:
    """Return the seconds that so many subtasks take, each given to an agent, answered and recorded."""
    results = Results()
    warm = 2 * in_flight
    with tempfile.TemporaryDirectory() as folder:
        async with (
            broker(extra=ROOM) as running,
            a_hub(running.url, Path(folder) / "home", on_record=results.take) as hub,
            an_agent(running.url, Path(folder) / "work", slots=in_flight),
        ):
            await there(hub, 1)
            size = TRIPS + 2 * warm if runs == 1 else 2 * TRIPS  # those that begin first go on while others begin
            each = goal(-(-size // runs), in_flight // runs)
            await asyncio.gather(*(hub.begin(f"run-{number}", each) for number in range(runs)))
            await results.until(warm)
            begun, before = perf_counter(), results.count
            await results.until(before + TRIPS)
            return (perf_counter() - begun) * TRIPS / (results.count - before)


async def bare_and_kept(in_flight: int) -> float:
    """Return the seconds of as many bare echoes, each with a durable commit of what it carries."""
    with tempfile.TemporaryDirectory() as folder, closing(bare_log(Path(folder))) as connection:
        rows = [("run", position, TEXT.encode()) for position in range(2)]

        def keep() -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT INTO events (run, position, line) VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")

        return await mqtt.bare(in_flight, keep)


async def cpu() -> float:
    """Return the CPU time of a hub in a process of its own for a message, 64 in flight, in us.

    For a request there are three that are acknowledged: it, its reply, and the word that this is recorded.
    """
    with tempfile.TemporaryDirectory() as folder:
        async with (
            broker(extra=ROOM) as running,
            child("hub", running.url, f"{folder}/home", "hub-1") as hub,
            child("agent", running.url, f"{folder}/work", "agent-1"),
        ):
            await hub.do("agents 1")
            await hub.do(f"begin run {2 * TRIPS + 300} 64")
            before = await hub.do("results 200")
            after = await hub.do(f"results {200 + TRIPS}")
            return (after["cpu_s"] - before["cpu_s"]) / (after["results"] - before["results"]) / MESSAGES * 1e6


BENCHMARKS = (
    Benchmark(
        "a request and its reply through a hub, 64 in flight / bare echo",
        lambda: through_hub(64),
        lambda: mqtt.bare(64),
        0.40,
        TRIPS,
    ),
    Benchmark(
        "the same, 64 runs with one in flight each / bare echo",
        lambda: through_hub(64, 64),
        lambda: mqtt.bare(64),
        0.40,
        TRIPS,
    ),
    Benchmark("the same, 1 in flight / bare echo", lambda: through_hub(1), lambda: mqtt.bare(1), 0.40, TRIPS),
    Benchmark(
        "the same, 1 in flight / bare echo and a durable commit",
        lambda: through_hub(1),
        lambda: bare_and_kept(1),
        0.40,
        TRIPS,
    ),
    Absolute("CPU of the hub a message, 64 in flight", cpu, "us", 500),
)
