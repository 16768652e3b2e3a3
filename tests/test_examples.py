"""The roles of examples/: each finishes a subtask of a submitted run over a real broker, with nothing of ours in it."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agents.briefing import Briefing
from bus import topics, wire
from bus.envelope import Envelope
from bus.events import AssignmentEnded, GoalAccepted, ResultSubmitted, SubtaskAssigned, ValueDrawn
from bus.setup import RoleSetup, Subtask
from bus.transport import Message
from swarm.submissions.client import client_on
from tests.support.broker import Broker, broker
from tests.support.hubs import hub, log_of, submitted
from tests.support.mqtt_client import PlainClient
from tests.support.wire_schema import Checker

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
    for number in range(500):  # so many that the request is too large to travel, and comes as a claim
        (material / f"other-{number}.txt").write_text("# Not this\n")
    plan = [{"id": "list", "role": "contents", "do": "List them.", "accept": [{"file": "contents.md"}]}]
    async with (
        broker() as there,
        hub(there.url, tmp_path / "hub"),
        program(*javascript(there.url), folder=tmp_path),
        client_on(there.url, announce=print) as client,
    ):
        run = await submitted(client, tmp_path, plan=plan, workspace="./material", accept=[{"file": "contents.md"}])
        log = await log_of(client, run)
        end = log[-1].event
        assert isinstance(end, GoalAccepted)
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


@pytest.mark.services
@pytest.mark.parametrize("language", ["javascript", "shell"])
async def test_a_role_says_its_result_until_it_is_recorded_wherever_the_run_is(
    tmp_path: Path, language: str, javascript
) -> None:
    """Nobody confirms what it says, the request comes twice, and then the run is with another hub."""
    async with broker() as there:
        command = javascript(there.url) if language == "javascript" else shell(there)
        with PlainClient(there.port) as hubs:
            hubs.subscribe("swarm/v1/agent/+/+/card")
            hubs.subscribe("swarm/v1/hub/+/reply/#")
            hubs.subscribe("swarm/v1/hub/+/files/#")
            hubs.publish(topics.hub_card("old"), said("card", nonce="1"), retain=True)
            async with program(*command, folder=tmp_path):
                await asyncio.to_thread(play_hubs, hubs)


def play_hubs(hubs: PlainClient) -> None:
    hubs.wait(lambda: hubs.got)
    agent = topics.parse(hubs.got[0].topic).agent
    request = request_of(agent, topics.hub_reply("old", agent, "run-1"))
    for _ in range(2):
        hubs.publish(topics.agent_request(agent, "run-1"), request)
    store(hubs, agent, "old")
    first = answers(hubs, "old")[0]
    assert [first[name] for name in ("subject", "causationid", "correlationid", "sequence")] == [
        "facts", "lease-1", "run-1", "1"
    ]  # fmt: skip
    assert first["data"]["effects"] == 1, "those of the journal"
    moved = topics.hub_reply("new", agent, "run-1")
    hubs.publish(topics.agent_control(agent), said("moved", run="run-1", lease="lease-1", epoch=2, reply_to=moved))
    store(hubs, agent, "new")
    assert answers(hubs, "new")[0] == first, "the very same, since it is known by its number"
    hubs.publish(topics.agent_control(agent), said("recorded", lease="lease-1", through=1, over=True))
    hubs.publish(topics.hub_card("new"), said("card", nonce="2"), retain=True)
    hubs.publish(topics.agent_request(agent, "run-2"), request.replace(b"lease-1", b"lease-2"))
    store(hubs, agent, "old", lease="lease-2")
    checker = Checker()
    for message in hubs.got:
        checker.check(message.topic, message.payload)
    at = next(place for place, one in enumerate(hubs.got) if b"lease-2" in one.payload)
    assert not [one for one in hubs.got[at:] if b"lease-1" in one.payload], "what is recorded is not said again"


def answers(hubs: PlainClient, hub_name: str, lease: str = "lease-1") -> list[Any]:
    """Return the results that came to a hub."""
    told = [
        json.loads(one.payload) for one in list(hubs.got) if one.topic.startswith(f"swarm/v1/hub/{hub_name}/reply/")
    ]
    return [one for one in told if one["type"] == "swarm.ResultSubmitted.v1" and one["causationid"] == lease]


def store(hubs: PlainClient, agent: str, hub_name: str, lease: str = "lease-1") -> None:
    """Take the files that the agent brings to a hub, until its result is there."""
    done = 0
    while not answers(hubs, hub_name, lease):
        place = f"swarm/v1/hub/{hub_name}/files/"
        calls = [json.loads(one.payload)["data"] for one in list(hubs.got) if one.topic.startswith(place)]
        for call in calls[done:]:
            hubs.publish(topics.agent_files(agent), said("stored", lease=call["lease"], sha256=call["sha256"]))
        if done == len(calls):
            count = len(hubs.got)
            hubs.wait(lambda count=count: len(hubs.got) > count)
        done = len(calls)


def said(kind: str, **fields: Any) -> bytes:
    """Return a note as a payload."""
    return wire.encode(Message(None, {"note": kind, **fields}), source="/swarm/hub/h", note_id="n")


def request_of(agent: str, reply_to: str) -> bytes:
    """Return a request for an attempt of which another agent has recorded one effect."""
    subtask = Subtask(id="facts", role="any", instruction="Do it.")
    assigned = SubtaskAssigned(subtask=subtask, attempt=1, agent=agent, deadline_ms=60_000)
    about = ("run-1", "2026-01-01T00:00:00Z", "facts")
    drawn = Envelope("e1", "/swarm/agent/a/b", ValueDrawn(attempt=1, path=(0,), kind="now", value=1.0), *about, "l0", 4)
    attachments = {
        "briefing": Briefing("goal", RoleSetup(model=""), journal=(drawn,)),
        "reply_to": reply_to, "remaining_ms": 60_000, "epoch": 1, "lease_s": 30.0,
    }  # fmt: skip
    envelope = Envelope("lease-1", "/swarm/hub/old", assigned, *about, None, 5)
    return wire.encode(Message(envelope, attachments), source="", note_id="")
