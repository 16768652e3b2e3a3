"""Hub and agent over many requests: what they keep of one is let go of when it is over."""

import asyncio
import gc
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.swarms import ROLES, ROOM, Bench, child, goal
from bus.envelope import Stamp
from bus.file_store import MemoryFileStore
from bus.pubsub import Bus
from bus.store import memory_store
from swarm.core.state import RunState
from swarm.hubs.hub import Hub
from swarm.orchestration.terms import Terms
from swarm.orchestrator import Orchestrator
from swarm.runs.clock import utc_now
from swarm.runtime import new_id
from swarm.worker import Worker
from tests.support.broker import broker
from tests.support.events import OWNER
from tests.support.wired import WiredTransport

RUN = 500
"""Requests a run: runs too come and go."""


async def growth(folder: Path, requests: int, warm: int) -> tuple[float, float]:
    """Return by how many bytes a request hub and agent have grown, once they had done `warm` of them.

    Each is measured settled: what the allocator holds back for later, and what the collector has not yet come to, are
    up to 3 MiB more or less from one moment to the next, however little is in use.
    """
    async with (
        broker(extra=ROOM) as there,
        child("hub", there.url, str(folder / "home"), "hub-1") as hub,
        child("agent", there.url, str(folder / "work"), "agent-1", "--slots", "64") as agent,
    ):
        await hub.do("agents 1")
        sizes = []
        begun = 0
        for upto in (warm, warm + requests):
            while begun * RUN < upto:
                await hub.do(f"begin run-{begun} {RUN} 32")
                begun += 1
                await hub.do(f"ended {begun - 1}")  # two at once
            await hub.do(f"ended {begun}")
            await asyncio.sleep(1)
            sizes.append(((await hub.do("settle"))["mib"], (await agent.do("settle"))["mib"]))
        (hub_before, agent_before), (hub_after, agent_after) = sizes
    return (hub_after - hub_before) * 2**20 / requests, (agent_after - agent_before) * 2**20 / requests


async def test_a_run_that_has_ended_is_let_go_of_at_once_and_not_at_the_next_collection(tmp_path: Path) -> None:
    gc.collect()
    gc.disable()
    others = of_runs()
    try:
        async with WiredTransport() as transport, memory_store() as store, asyncio.TaskGroup() as group:
            bus, files = Bus(transport), MemoryFileStore()
            stamp = Stamp("/swarm/agent/ada/1", new_id, utc_now)
            hub = Hub("hub-1", bus, store, OWNER, Terms())
            worker = Worker("ada/1", ROLES, Bench(0.0), bus, stamp, lambda _: files, tmp_path, 4, Terms(), "nonce")
            tasks = [group.create_task(hub.run()), group.create_task(worker.run())]
            while not hub.present:
                await asyncio.sleep(0.01)
            await hub.begin("run-1", goal(20, 4))
            assert of_runs() - others == {Orchestrator: 1, RunState: 1}
            while hub.runs:
                await asyncio.sleep(0.01)
            assert not of_runs() - others
            for task in tasks:
                task.cancel()
    finally:
        gc.enable()


def of_runs() -> Counter[type]:
    """Return how many objects there are in memory of what a run in progress needs."""
    return Counter(type(one) for one in gc.get_objects() if isinstance(one, Orchestrator | RunState))


@pytest.mark.services
@pytest.mark.timeout(300)
async def test_memory_stays_flat_over_3_000_requests(tmp_path: Path) -> None:
    hub, agent = await growth(tmp_path, 3_000, 2_000)
    assert hub < 1_000, "bytes a request"
    assert agent < 1_000


@pytest.mark.torture
@pytest.mark.timeout(3_600)
async def test_memory_stays_flat_over_50_000_requests(tmp_path: Path) -> None:
    hub, agent = await growth(tmp_path, 50_000, 5_000)
    print(f"\nbytes a request over 50,000: hub {hub:.0f}, agent {agent:.0f}")
    assert hub < 100
    assert agent < 100
