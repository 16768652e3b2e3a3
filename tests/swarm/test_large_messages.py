"""Messages too large to travel, over a real broker that takes packets of 1 MiB: they go by claim, and arrive."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agents.briefing import Briefing
from bus import parcels, topics
from bus.courier import Courier, Patience, route_of_agent, route_of_client
from bus.courier_parcels import CourierParcels, lease_of
from bus.envelope import Envelope
from bus.errors import BadEnvelope, BusUnavailable, NotFound
from bus.events import GoalAccepted, ResultSubmitted, SubtaskAssigned, ToolReturned
from bus.file_cache import FileCache
from bus.file_store import MemoryFileStore
from bus.pubsub import Bus, Note, Received
from bus.setup import FileRef, RoleSetup, Subtask
from bus.transports.mqtt import MqttTransport
from swarm.files.parcels import HubParcels
from swarm.files.rights import Rights
from swarm.files.service import FileService
from swarm.files.shelf import Shelf
from tests.support.broker import broker

HUB, AGENT, CLIENT, LEASE, RUN = "hub", "ann/1", "bob/cli", "lease-1", "run-1"


@dataclass
class Sides:
    """A hub, an agent and a client, each with a connection of its own."""

    hub: Bus
    agent: Bus
    client: Bus
    files: Courier
    client_files: Courier
    agents: Shelf
    clients: Shelf
    rights: Rights
    runs: Rights
    store: MemoryFileStore
    transports: dict[str, MqttTransport]
    heard: "asyncio.Queue[Note]"
    """What clients say beside their files."""


@asynccontextmanager
async def sides(tmp_path: Path, *, agent_receives: int = 100) -> AsyncIterator[Sides]:
    store, rights, runs = MemoryFileStore(), Rights(), Rights()
    payloads = FileCache(tmp_path / "payloads")
    agents, clients = Shelf(store, rights, payloads), Shelf(store, runs, payloads, under="run")
    of_agent, of_client = CourierParcels(lease_of), CourierParcels(lambda _: RUN)
    async with broker() as running:
        hub_side = MqttTransport(running.url, source="/swarm/hub/hub", parcels=HubParcels(HUB, agents, clients))
        agent_side = MqttTransport(
            running.url, source=f"/swarm/agent/{AGENT}", parcels=of_agent, receive_maximum=agent_receives
        )
        client_side = MqttTransport(running.url, parcels=of_client)
        async with hub_side, agent_side, client_side, asyncio.TaskGroup() as group:
            hub, agent, client = Bus(hub_side), Bus(agent_side), Bus(client_side)
            service = FileService(hub, HUB, agents)
            patience = Patience(5.0, 5.0, 20.0)
            files = of_agent.courier = Courier(agent, route_of_agent(AGENT), FileCache(tmp_path / "agent"), patience)
            client_files = of_client.courier = Courier(
                client, route_of_client(CLIENT), FileCache(tmp_path / "client"), patience
            )
            listening, heard = asyncio.Event(), asyncio.Queue[Note]()
            tasks = [
                group.create_task(one)
                for one in (
                    service.run(),
                    files.run(),
                    client_files.run(),
                    hear_clients(hub, clients, listening, heard),
                )
            ]
            await asyncio.gather(service.started.wait(), files.listening(), client_files.listening(), listening.wait())
            transports = {"hub": hub_side, "agent": agent_side, "client": client_side}
            yield Sides(
                hub, agent, client, files, client_files, agents, clients, rights, runs, store, transports, heard
            )
            for task in tasks:
                task.cancel()


async def hear_clients(bus: Bus, shelf: Shelf, listening: asyncio.Event, heard: "asyncio.Queue[Note]") -> None:
    async with bus.subscribe(topics.submissions(), kinds=Note) as inbox:
        listening.set()
        async for received in inbox:
            client = topics.parse(received.topic).client
            if received.content.kind not in {"get", "put"}:
                heard.put_nowait(received.content)
            elif (answer := await shelf.answer(client, received.content)) is not None:
                await bus.publish_note(topics.client_files(client), answer)
            received.acknowledge()


def envelope(event, id_: str = "e", cause: str | None = None, source: str = "/swarm/hub/hub") -> Envelope:
    return Envelope(id_, source, event, RUN, "2026-01-01T00:00:00Z", "facts", cause)


def request_with_journal(size: int) -> tuple[Envelope, Briefing]:
    subtask = Subtask(id="facts", role="coder", instruction="Find them.")
    request = envelope(SubtaskAssigned(subtask=subtask, attempt=1, agent=AGENT, deadline_ms=60_000), LEASE)
    output = "x" * 50_000
    journal = tuple(
        envelope(
            ToolReturned(attempt=1, path=(number,), digest="0" * 64, tool="t", arguments={}, output=output),
            f"j{number}",
            LEASE,
        )
        for number in range(-(-size // len(output)))
    )
    return request, Briefing("goal", RoleSetup(model="m"), journal=journal)


async def next_of(inbox) -> Received:
    async with asyncio.timeout(30):
        received = await inbox.get()
    received.acknowledge()
    return received


@pytest.mark.services
async def test_a_request_with_a_journal_of_two_megabytes_arrives(tmp_path: Path) -> None:
    request, briefing = request_with_journal(2_000_000)
    async with sides(tmp_path) as at, at.agent.subscribe(topics.agent_requests(AGENT)) as inbox:
        await at.hub.publish(topics.agent_request(AGENT, RUN), request, {"briefing": briefing})
        received = await next_of(inbox)
        assert received.envelope == request
        assert Briefing.read(received.attachments["briefing"]).journal == briefing.journal


@pytest.mark.services
async def test_a_claim_is_fetched_though_more_stands_behind_it_than_the_agent_receives_at_once(tmp_path: Path) -> None:
    request, briefing = request_with_journal(2_000_000)
    async with (
        sides(tmp_path, agent_receives=2) as at,
        at.agent.subscribe(topics.agent_requests(AGENT), topics.agent_control(AGENT)) as inbox,
    ):
        await at.hub.publish(topics.agent_request(AGENT, RUN), request, {"briefing": briefing})
        for number in range(20):
            await at.hub.publish_note(topics.agent_control(AGENT), Note("confirmed", {"number": number}))
        assert (await next_of(inbox)).envelope.id == LEASE
        assert [(await next_of(inbox)).content.fields["number"] for _ in range(20)] == list(range(20))


@pytest.mark.services
@pytest.mark.parametrize("size", [100_000, 3_000_000])
async def test_a_reply_with_a_long_text_arrives_under_its_lease(tmp_path: Path, size: int) -> None:
    reply = envelope(ResultSubmitted(text="r" * size), cause=LEASE, source=f"/swarm/agent/{AGENT}")
    async with sides(tmp_path) as at, at.hub.subscribe(topics.run_replies(HUB, RUN)) as inbox:
        at.rights.give(AGENT, LEASE, ())
        await at.agent.publish(topics.hub_reply(HUB, AGENT, RUN), reply)
        assert (await next_of(inbox)).envelope == reply
        assert not at.agents.brought(AGENT, LEASE)  # a payload is no file that a result could name
        assert not await at.store.sizes()


@pytest.mark.services
async def test_a_reply_under_a_lease_that_is_lost_is_not_said(tmp_path: Path) -> None:
    reply = envelope(ResultSubmitted(text="r" * 100_000), cause=LEASE, source=f"/swarm/agent/{AGENT}")
    async with sides(tmp_path) as at:
        with pytest.raises(BusUnavailable, match="you hold no such lease"):
            await at.agent.publish(topics.hub_reply(HUB, AGENT, RUN), reply)


@pytest.mark.services
async def test_a_claim_of_what_others_brought_is_dropped_and_counted(tmp_path: Path) -> None:
    async with sides(tmp_path) as at, at.hub.subscribe(topics.run_replies(HUB, RUN)) as inbox:
        sha256 = await at.store.put(b"secret" * 20_000)
        at.rights.give(AGENT, LEASE, [sha256])
        forged = Note("claim", {"sha256": sha256, "bytes": 120_000, "lease": LEASE})
        await at.agent.publish_note(topics.hub_reply(HUB, AGENT, RUN), forged)
        await at.agent.publish_note(topics.hub_reply(HUB, AGENT, RUN), Note("progress", {"lease": LEASE}))
        assert (await next_of(inbox)).content.kind == "progress"
        assert at.transports["hub"].dropped == {"claim_not_there": 1}


@pytest.mark.services
async def test_a_claimed_payload_is_hashed_and_read_where_the_loop_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, threads = parcels.is_claimed, []

    def noted(claim: Mapping[str, Any], payload: bytes) -> bool:
        threads.append(threading.current_thread())
        return real(claim, payload)

    monkeypatch.setattr(parcels, "is_claimed", noted)
    request, briefing = request_with_journal(300_000)
    async with sides(tmp_path) as at, at.agent.subscribe(topics.agent_requests(AGENT)) as inbox:
        await at.hub.publish(topics.agent_request(AGENT, RUN), request, {"briefing": briefing})
        assert (await next_of(inbox)).envelope == request
    assert len(threads) == 1
    assert threading.current_thread() not in threads


@pytest.mark.services
async def test_an_agent_on_the_connection_of_its_hub_gets_and_gives_large_messages_too(tmp_path: Path) -> None:
    request, briefing = request_with_journal(300_000)
    reply = envelope(ResultSubmitted(text="r" * 100_000), cause=LEASE, source="/swarm/agent/own/1")
    async with (
        sides(tmp_path) as at,
        at.hub.subscribe(topics.agent_requests("own/1")) as requests,
        at.hub.subscribe(topics.run_replies(HUB, RUN)) as replies,
    ):
        await at.hub.publish(topics.agent_request("own/1", RUN), request, {"briefing": briefing})
        assert (await next_of(requests)).envelope == request
        await at.hub.publish(topics.hub_reply(HUB, "own/1", RUN), reply)
        assert (await next_of(replies)).envelope == reply


@pytest.mark.services
async def test_only_the_agent_that_a_payload_is_claimed_to_can_fetch_it(tmp_path: Path) -> None:
    async with sides(tmp_path) as at:
        claim = await HubParcels(HUB, at.agents, at.clients).put(topics.agent_request("eve/1", RUN), b"p" * 70_000)
        with pytest.raises(NotFound, match="no lease of yours names it"):
            await at.files.fetch(lambda: HUB, "", str(claim["sha256"]), parcel=True)
        with pytest.raises(NotFound):  # nor is it a file
            await at.files.fetch(lambda: HUB, LEASE, str(claim["sha256"]))


@pytest.mark.services
async def test_clients_get_large_outcomes_and_answers_and_send_large_submissions(tmp_path: Path) -> None:
    outcome = envelope(
        GoalAccepted(reason="good", files=tuple(FileRef(path=f"f{n}", sha256="0" * 64, bytes=1) for n in range(2_000)))
    )
    async with (
        sides(tmp_path) as at,
        at.client.subscribe(topics.run_outcome(RUN)) as outcomes,
        at.client.subscribe(topics.client_answer(CLIENT), kinds=Note) as answers,
    ):
        at.runs.give(CLIENT, RUN, ())
        await at.hub.publish(topics.run_outcome(RUN), outcome, retain=True)
        assert (await next_of(outcomes)).envelope == outcome
        wanted = Note("wanted", {"files": ["0" * 64] * 3_000})
        await at.hub.publish_note(topics.client_answer(CLIENT), wanted)
        assert (await next_of(answers)).content == wanted
        submission = Note("submit", {"run": RUN, "texts": {"prompt": "p" * 2_000_000}})
        await at.client.publish_note(topics.submission(CLIENT), submission)
        async with asyncio.timeout(30):
            assert await at.heard.get() == submission
        sha256 = await at.client_files.files(lambda: HUB, RUN).put(b"workspace" * 50_000)
        assert await at.store.get(sha256) == b"workspace" * 50_000


@pytest.mark.services
async def test_files_go_both_ways_over_a_real_broker(tmp_path: Path) -> None:
    async with sides(tmp_path) as at:
        given = await at.store.put(b"given" * 500_000)
        at.rights.give(AGENT, LEASE, [given])
        files = at.files.files(lambda: HUB, LEASE)
        assert await files.get(given) == b"given" * 500_000
        brought = await files.put(b"brought" * 500_000)
        assert await at.store.get(brought) == b"brought" * 500_000


def test_the_lease_of_a_payload_is_what_its_envelope_says_and_not_its_text() -> None:
    from bus import codec  # noqa: PLC0415 - the wire's own bytes

    text = 'x" "causationid":"forged" "data": "causationid":"forged"'
    line = codec.encode(envelope(ResultSubmitted(text=text), cause=LEASE))
    assert lease_of(line) == LEASE
    for none in (codec.encode(envelope(ResultSubmitted(text=text))), b"", b"{}", b'{"data":{"causationid":"x"}}'):
        with pytest.raises(BadEnvelope, match="answers no lease"):
            lease_of(none)
