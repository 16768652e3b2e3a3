"""A hub beside a test, over a broker, and what a client does with it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from bus.envelope import Envelope
from swarm import launch
from swarm.attached.attaching import attach, bring
from swarm.attached.worker_caps import worker_caps
from swarm.commands.following import sender
from swarm.hubs.hub_config import HubConfig
from swarm.hubs.serving import serve
from swarm.scenario.model import Scenario
from swarm.settings import Settings
from swarm.submissions.client import Client
from swarm.submissions.packing import SUBMITTING, pack

NOBODY = "http://127.0.0.1:9/v1"
"""Where no model is: plans are the scenarios' own then, and what they accept is checked without one."""


def settings_of(home: Path, model_url: str = NOBODY) -> Settings:
    home.mkdir(parents=True, exist_ok=True)
    return Settings(home=home, model="openai:test-model", openai_key="key-of-the-tests", openai_url=model_url)


@asynccontextmanager
async def beside(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Let it go on as long as the context lasts."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def hub(url: str, home: Path, model_url: str = NOBODY) -> Any:
    """Run the hub `h1`, with a planner and a critic of its own."""
    settings = settings_of(home, model_url)
    return beside(serve(url, settings, place=home, config=HubConfig(), name="h1", announce=print))


def agent(url: str, home: Path, model_url: str, role: str) -> Any:
    """Run an agent with a role of ours."""
    brought = bring(role, home)
    caps = {role: worker_caps(brought.role.tools, folder=home)}
    settings = settings_of(home, model_url)
    model = "openai:test-model"
    return beside(attach(url, [brought], caps, settings, asyncio.Event(), slots=4, model=model, announce=print))


async def submitted(client: Client, folder: Path, **written: Any) -> str:
    """Submit a scenario with its files, and return the run."""
    scenario = Scenario.from_dict({"name": "example", "goal": "Try it.", **written}, folder=folder, around=SUBMITTING)
    run = launch.new_run_id(scenario.name)
    submission, places = pack(scenario, run=run, client=client.name, home=folder / "none")
    await client.submit(submission, sender(client, places))
    return run


async def log_of(client: Client, run: str, within_s: float = 60) -> list[Envelope]:
    """Follow a run until it has ended or is paused."""
    async with asyncio.timeout(within_s):
        return [envelope async for envelope in client.follow(run)]
