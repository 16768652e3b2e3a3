"""The roles of examples/: each finishes a subtask of a submitted run, over a real broker, with nothing of ours in it."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bus.envelope import Envelope
from bus.events import AssignmentEnded, GoalAccepted, ResultSubmitted
from swarm.client import client_on
from tests.support.broker import Broker, broker
from tests.support.hubs import hub, log_of, submitted
from tests.support.mqtt_client import PlainClient

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
NEEDS = {"node": "nodejs", "npm": "npm", "jq": "jq", "mosquitto_pub": "mosquitto-clients"}


def needs(*commands: str) -> None:
    """Fail where a program is missing, and say what to install: what cannot be tried is not known to work."""
    missing = [NEEDS[command] for command in commands if not shutil.which(command)]
    assert not missing, f"missing: apt-get install {' '.join(missing)}"


@asynccontextmanager
async def program(*command: str, folder: Path, env: dict[str, str] | None = None) -> AsyncIterator[Any]:
    """Run a program, and end it as a person would; what it began itself has to end with it."""
    there = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ} | (env or {})
    process = await asyncio.create_subprocess_exec(*command, cwd=folder, env=there, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await asyncio.wait_for(process.wait(), 10)


def results(log: Sequence[Envelope]) -> dict[str, ResultSubmitted]:
    """Return the results by who made them."""
    return {
        one.source.split("/")[-1].partition("-")[0]: one.event for one in log if isinstance(one.event, ResultSubmitted)
    }


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[str]]:
    """Install what the JavaScript role needs; return what makes its command line."""
    needs("node", "npm")
    folder = tmp_path_factory.mktemp("javascript")
    for name in ("package.json", "role.mjs"):
        shutil.copy(EXAMPLES / "javascript" / name, folder)
    status = os.system(f"cd {folder} && npm install --silent --no-audit --no-fund --no-package-lock >&2")
    assert status == 0, "npm install fails: is a registry in reach?"
    return lambda url: ["node", str(folder / "role.mjs"), url]


def shell(there: Broker) -> list[str]:
    needs("jq", "mosquitto_pub")
    return [str(EXAMPLES / "shell" / "role.sh"), "-h", "127.0.0.1", "-p", str(there.port)]


@pytest.mark.services
async def test_a_role_in_javascript_takes_files_and_gives_one(tmp_path: Path, javascript) -> None:
    material = tmp_path / "material"
    material.mkdir()
    (material / "one.md").write_text("# One\n\ntext\n\n## Two\n")
    (material / "long.md").write_text("x\n" * 150_000 + "# The end\n")
    (material / "other.txt").write_text("# Not this\n")
    plan = [{"id": "list", "role": "contents", "do": "List them.", "accept": [{"file": "contents.md"}]}]
    async with (
        broker() as there,
        hub(there.url, tmp_path / "hub"),
        program(*javascript(there.url), folder=tmp_path),
        client_on(there.url, announce=print) as client,
    ):
        run = await submitted(client, tmp_path, plan=plan, workspace="./material", accept=[{"file": "contents.md"}])
        log = await log_of(client, run)
        assert isinstance(end := log[-1].event, GoalAccepted)
        made = next(ref for ref in end.files if ref.path == "contents.md")
        content = await client.files(client.hub_of(run), run).get(made.sha256)
    assert content.decode() == "- [The end](material/long.md)\n- [One](material/one.md)\n  - [Two](material/one.md)\n"
    assert results(log)["contents"].text == "contents.md lists 3 headings."
    assert not [one for one in log if isinstance(one.event, AssignmentEnded)], "accepted at once, heard all the time"


@pytest.mark.services
async def test_a_role_in_shell_finishes_a_subtask_that_builds_on_one_in_javascript(tmp_path: Path, javascript) -> None:
    plan = [
        {"id": "list", "role": "contents", "do": "List them."},
        {"id": "count", "role": "counter", "do": "Count them.", "needs": ["list"]},
    ]
    (tmp_path / "notes.md").write_text("# Notes\n")
    more = {"plan": plan, "workspace": ["./notes.md"], "accept": [{"file": "contents.md"}]}
    async with (
        broker() as there,
        hub(there.url, tmp_path / "hub"),
        program(*shell(there), folder=tmp_path),
        program(*javascript(there.url), folder=tmp_path),
        client_on(there.url, announce=print) as client,
    ):
        log = await log_of(client, await submitted(client, tmp_path, **more))
    assert isinstance(log[-1].event, GoalAccepted)
    assert results(log)["counter"].text == "The results have 4 words."
    assert not [one for one in log if isinstance(one.event, AssignmentEnded)], "accepted at once, heard all the time"


@pytest.mark.services
@pytest.mark.parametrize("language", ["javascript", "shell"])
async def test_a_role_that_is_ended_takes_its_card_back(tmp_path: Path, language: str, javascript) -> None:
    async with broker() as there, hub(there.url, tmp_path / "hub"):
        with PlainClient(there.port) as watcher:
            watcher.subscribe("swarm/v1/agent/+/+/card")
            command = javascript(there.url) if language == "javascript" else shell(there)
            async with program(*command, folder=tmp_path):
                await asyncio.to_thread(
                    watcher.wait, lambda: any(b'"roles"' in one.payload for one in of_others(watcher))
                )
            await asyncio.to_thread(watcher.wait, lambda: of_others(watcher)[-1].payload == b"")


def of_others(watcher: PlainClient) -> list[Any]:
    """Return the cards that came of agents that are not the hub's own."""
    return [one for one in watcher.got if not one.topic.endswith("/h1/card")]
