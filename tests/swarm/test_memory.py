"""Hub and agent over many requests: what they keep of one is let go of when it is over."""

import asyncio
from pathlib import Path

import pytest

from benchmarks.swarms import ROOM, child
from tests.support.broker import broker

RUN = 500
"""Requests a run: runs too come and go."""


async def growth(folder: Path, requests: int, warm: int) -> tuple[float, float]:
    """Return by how many bytes a request hub and agent have grown, once they had done `warm` of them."""
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
            sizes.append(((await hub.do("?"))["mib"], (await agent.do("?"))["mib"]))
        (hub_before, agent_before), (hub_after, agent_after) = sizes
    return (hub_after - hub_before) * 2**20 / requests, (agent_after - agent_before) * 2**20 / requests


@pytest.mark.services
@pytest.mark.timeout(300)
async def test_memory_stays_flat_over_3_000_requests(tmp_path: Path) -> None:
    hub, agent = await growth(tmp_path, 3_000, 2_000)
    assert hub < 2_000, "bytes a request"
    assert agent < 2_000


@pytest.mark.torture
@pytest.mark.timeout(3_600)
async def test_memory_stays_flat_over_50_000_requests(tmp_path: Path) -> None:
    hub, agent = await growth(tmp_path, 50_000, 5_000)
    print(f"\nbytes a request over 50,000: hub {hub:.0f}, agent {agent:.0f}")
    assert hub < 100
    assert agent < 100
