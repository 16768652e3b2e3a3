"""A run of 200 subtasks over 4 workers and 2 hubs, in a storm: all die, halt, are cut off, or say things twice.

A storm is a sequence of blows, one of each kind at least, in an order that its seed draws; they fall as the run goes
on, so that they are spread over it. Their seed repeats that order, not the interleavings of a dozen processes.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bus.events import AssignmentEnded, ModelAnswered, ModelTryFailed, RunMoved, WorkFailed
from tests.support import postgres
from tests.support.broker import Broker, broker
from tests.support.endpoint import ChatEndpoint
from tests.support.fleet import Fleet, Part, Witness, writes_letters
from tests.support.mqtt_proxy import MqttProxy
from tests.support.runs import layers, player
from tests.support.seeds import seeded

HUBS = ("north", "south")
WORKERS = ("one", "two", "three", "four")
FAULTS = {
    "429:0": 0.02,
    "500:0": 0.015,
    "502:0": 0.01,
    "503:0": 0.01,
    "reset": 0.02,
    "reset_midway": 0.01,
    "html": 0.005,
    "truncated": 0.005,
    "empty_choices": 0.005,
    "usage_missing": 0.01,
    "broken_call": 0.005,
    "unknown_tool": 0.005,
}
"""Of the endpoint; in all, one call in eight."""
BLOWS = (
    "kill a worker",
    "kill a worker",
    "halt a worker",
    "halt a worker for long",
    "cut a worker",
    "part a worker",
    "part a worker for long",
    "kill the hub",
    "kill the hub",
    "halt the hub",
    "halt the hub for long",
    "cut the hub",
    "part the hub for long",
    "kill the broker",
    "halt the broker",
)
MOMENT_S, LONG_S = (0.5, 3.0), (9.0, 15.0)
MOST_PAUSES = 25


@dataclass
class Storm:
    """What falls upon a run, and what is put up again after it."""

    fleet: Fleet
    broker: Broker
    roads: dict[str, MqttProxy]
    chance: random.Random
    met: Counter[str] = field(default_factory=Counter)

    async def falls_on(self, run: Witness, blows: list[str], subtasks: int) -> None:
        """Let the blows fall as the run goes on, each when a further part of its subtasks is accepted."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with asyncio.TaskGroup() as group:
            for number, blow in enumerate(blows):
                wanted = (number + 0.5) * subtasks / len(blows)
                while accepted(run) < wanted and run.state.ended is None:
                    await asyncio.sleep(0.05)
                if run.state.ended is not None:
                    return
                self.met[blow] += 1
                print(f"  {loop.time() - began:5.1f} s {len(run.log):5} {accepted(run):3} {blow}", flush=True)
                group.create_task(self._fall(blow, run), name=blow)

    async def _fall(self, blow: str, run: Witness) -> None:
        how, _, whom = blow.partition(" ")
        long = whom.endswith(" for long")
        lasts_s = self.chance.uniform(*(LONG_S if long else MOMENT_S))
        if "broker" in whom:
            await self._broker(how, lasts_s)
            return
        part = self._hub_of(run) if "hub" in whom else self._some(WORKERS)
        if part is None:
            return
        road = self.roads[part.name]
        match how:
            case "kill":
                part.kill9()
                await asyncio.sleep(lasts_s)
                await part.start(persist=True)
            case "halt":
                part.stop()
                await asyncio.sleep(lasts_s)
                part.cont()
            case "cut":
                road.cut()
            case _:
                road.stall()
                await asyncio.sleep(lasts_s)
                road.heal()

    async def _broker(self, how: str, lasts_s: float) -> None:
        if how == "kill":
            self.broker.kill9()
            await asyncio.sleep(lasts_s / 2)
            await self.broker.start()
        else:
            self.broker.stop()
            await asyncio.sleep(lasts_s)
            if self.broker.process is not None:
                self.broker.cont()

    def _some(self, names: tuple[str, ...]) -> Part | None:
        """Return one of those that are neither halted nor down."""
        there = [part for name in names if (part := self.fleet.parts[name]).is_up]
        return self.chance.choice(there) if there else None

    def _hub_of(self, run: Witness) -> Part | None:
        """Return the hub that the run is with, by its log; the other one where that is down already."""
        for envelope in reversed(run.log):
            if envelope.source.startswith("/swarm/hub/"):
                part = self.fleet.parts[envelope.source.rpartition("/")[2]]
                return part if part.is_up else self._some(HUBS)
        return self._some(HUBS)


def accepted(run: Witness) -> int:
    return sum(one.status == "accepted" for one in run.state.subtasks.values())


@asynccontextmanager
async def roads(to: Broker, chance: random.Random) -> AsyncIterator[dict[str, MqttProxy]]:
    """A bad road for each part."""
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(
                MqttProxy(to.port, random.Random(chance.random()), doubled=0.02, late=0.05, slow=0.02)
            )
            for name in (*HUBS, *WORKERS)
        }


async def weather(folder: Path, chance: random.Random, size: tuple[int, int], blows: list[str], within_s: float) -> str:
    """Go through one storm, and return it in a line."""
    loop = asyncio.get_running_loop()
    depth, width = size
    plan = layers(depth, width)
    names = [one["id"] for one in plan]
    letters = chance.sample(names, len(names) // 10)
    place = await asyncio.to_thread(postgres.clean_url)
    async with (
        ChatEndpoint(
            player(plan, writes_letters(letters)),
            chances=FAULTS, seed=chance.randrange(1 << 30), latency_s=0.02, keep=100_000,
        ) as endpoint,
        broker() as there,
        roads(there, chance) as ways,
        Fleet(folder, endpoint, there.url, place=place) as fleet,
    ):  # fmt: skip
        await asyncio.gather(
            *(fleet.hub(name, bus=ways[name].url) for name in HUBS),
            *(fleet.worker(name, bus=ways[name].url, slots=8) for name in WORKERS),
        )
        began = loop.time()
        run = await fleet.submit(
            limits={"subtasks": 2 * len(plan), "parallel": 64, "tokens": "50M", "attempts": 8, "time": "10m"},
            accept=[{"file": f"t{depth - 1}-{number}.txt"} for number in range(width)],
            roles={"planner": {"max_tokens": 32_000}, "coder": {"tools": ["read_file", "write_file", "post_letter"]}},
        )
        storm = Storm(fleet, there, ways, chance)
        falling = asyncio.create_task(storm.falls_on(run, blows, len(plan)), name="storm")
        try:
            state = await fleet.ends(run, within_s, pauses=MOST_PAUSES)
            took = loop.time() - began
            assert state.status == "accepted", state.ended
        finally:
            falling.cancel()
            await asyncio.wait({falling})
            if not falling.cancelled():
                falling.result()
        await fleet.holds(run, [f"{name}.txt" for name in names], letters=letters)
        on_the_way = sum((road.met for road in ways.values()), Counter[str]())
        return (
            f"{took:.0f} s, {len(run.log)} events, {endpoint.count} calls for {len(run.of(ModelAnswered))} answers, "
            f"tries failed {len(run.of(ModelTryFailed))}, attempts failed {len(run.of(WorkFailed))}, "
            f"leases lost {len(run.of(AssignmentEnded))}, moved {len(run.of(RunMoved))}, "
            f"in doubt {fleet.skipped}; {dict(storm.met)}; on the way {dict(on_the_way)}"
        )


def shuffled(chance: random.Random) -> list[str]:
    blows = list(BLOWS)
    chance.shuffle(blows)
    return blows


@pytest.mark.services
@pytest.mark.timeout(200)
async def test_a_run_goes_through_a_storm_of_its_parts(tmp_path: Path) -> None:
    with seeded(short=True) as chance:
        blows = ["kill a worker", "kill the hub", "kill the broker", "halt a worker", "part the hub for long"]
        print(await weather(tmp_path, chance, (4, 10), blows, 120))


@pytest.mark.torture
@pytest.mark.timeout(400)
@pytest.mark.parametrize("number", range(20))
async def test_a_run_goes_through_every_storm_of_its_parts(tmp_path: Path, number: int) -> None:
    with seeded() as chance:
        print(f"storm {number}: {await weather(tmp_path, chance, (5, 40), shuffled(chance), 300)}")
