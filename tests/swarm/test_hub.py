"""Hubs, attached agents and clients, over a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bus.setup import Endpoint
from swarm import launch
from swarm.attaching import attach, bring
from swarm.client import Client, client_on, state_of
from swarm.core.state import RunState
from swarm.core.apply import apply
from swarm.hub_config import HubConfig
from swarm.scenario.model import Scenario
from swarm.serving import serve
from swarm.settings import Settings
from swarm.submission import SUBMITTING, pack
from swarm.worker_caps import worker_caps
from tests.support.broker import Broker, broker
from tests.support.endpoint import ChatEndpoint
from tests.support.runs import layers, player

pytestmark = pytest.mark.services


@asynccontextmanager
async def running(coroutine: Any) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def settings_of(home: Path, endpoint: ChatEndpoint) -> Settings:
    home.mkdir(parents=True, exist_ok=True)
    return Settings(home=home, model="openai:test-model", openai_key="key-of-the-tests", openai_url=endpoint.url)


def hub(url: str, home: Path, endpoint: ChatEndpoint, **more: Any) -> Any:
    settings = settings_of(home, endpoint)
    return serve(url, settings, place=home, config=HubConfig(), announce=print, **more)


def agent(
    url: str, home: Path, endpoint: ChatEndpoint, *roles: str, slots: int = 4, stopping: asyncio.Event | None = None
) -> Any:
    brought = [bring(one, home) for one in roles]
    caps = {one.name: worker_caps(one.role.tools, folder=home) for one in brought}
    settings = settings_of(home, endpoint)
    return attach(
        url,
        brought,
        caps,
        settings,
        stopping or asyncio.Event(),
        slots=slots,
        model="openai:test-model",
        announce=print,
    )


async def submitted(client: Client, home: Path, **written: Any) -> str:
    scenario = Scenario.from_dict(
        {"name": "storm", "goal": "Make all the files.", **written}, folder=home, around=SUBMITTING
    )
    run = launch.new_run_id(scenario.name)
    submission, _ = pack(scenario, run=run, client=client.name, home=home)

    async def no_files(*_: str) -> None:
        raise AssertionError

    await client.submit(submission, no_files)
    return run


async def test_a_submitted_run_is_done_by_attached_agents(tmp_path: Path) -> None:
    async with ChatEndpoint(player(layers(2, 3))) as endpoint, broker() as there:
        async with (
            running(hub(there.url, tmp_path / "hub", endpoint)),
            running(agent(there.url, tmp_path / "hub", endpoint, "coder", "researcher")),
            client_on(there.url, announce=print) as client,
        ):
            run = await submitted(client, tmp_path)
            state = RunState(run)
            async with asyncio.timeout(40):
                async for envelope in client.follow(run):
                    apply(state, envelope)
                    print(
                        envelope.sequence,
                        envelope.source,
                        type(envelope.event).__name__,
                        envelope.subject,
                        getattr(envelope.event, "why", ""),
                    )
            assert state.status == "accepted", state.ended
            assert (await state_of(client, run)).position == state.position
