"""What an agent says of itself, and what it lets go of at a hub's word: over a bus, without a broker."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agents.briefing import Briefing
from agents.context import Means
from agents.model import EndpointHealth
from bus import topics
from bus.cards import RoleCard, read_agent_card
from bus.envelope import Envelope, Stamp
from bus.events import SubtaskAssigned
from bus.file_store import MemoryFileStore
from bus.pubsub import Bus, Note
from bus.setup import RoleSetup, Subtask
from bus.transports.memory import MemoryTransport
from swarm.orchestration.terms import Terms
from swarm.runtime import new_id
from swarm.worker import Worker

AGENT = "u/a"


class Waits:
    """A workshop whose role waits for ever."""

    health = EndpointHealth()

    def role(self, *_: Any) -> Any:
        return self

    async def handle(self, *_: Any) -> None:
        await asyncio.Event().wait()

    def means(self, *_: Any) -> Means:
        return Means(model=self, tools={})  # type: ignore[arg-type]

    def narrowed(self, _: str, briefing: Briefing) -> Briefing:
        return briefing

    def refusal(self, *_: Any) -> None:
        return None


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[Bus]:
    async with MemoryTransport() as transport:
        bus = Bus(transport)
        store = MemoryFileStore()
        worker = Worker(
            AGENT, (RoleCard(name="busy"),), Waits(), bus, Stamp("/swarm/agent/u/a", new_id, lambda: "now"),
            lambda _: store, tmp_path, slots=1, terms=Terms(),
        )  # fmt: skip
        at_work = asyncio.create_task(worker.run())
        yield bus
        at_work.cancel()
        await asyncio.wait({at_work})


async def test_an_agent_whose_card_is_cleared_by_others_says_it_again_as_another_word(bus: Bus) -> None:
    async with bus.subscribe(topics.agent_card(AGENT), kinds=Note) as cards:
        first = read_agent_card((await cards.get()).content)
        await bus.clear(topics.agent_card(AGENT))
        assert (await cards.get()).content.kind == ""
        again = read_agent_card((await cards.get()).content)
    assert again.said == first.said + 1
    assert again.model_copy(update={"said": first.said}) == first


async def test_an_agent_lets_go_of_what_it_is_told_that_it_does_not_hold(bus: Bus) -> None:
    reply_to = topics.hub_reply("hub", AGENT, "run")

    async def request(lease: str, position: int) -> None:
        event = SubtaskAssigned(
            subtask=Subtask(id="s", role="busy", instruction="wait"), attempt=1, agent=AGENT, deadline_ms=1000
        )
        envelope = Envelope(lease, "/swarm/hub/hub", event, "run", "now", "s", None, position)
        briefing = Briefing("goal", RoleSetup(model="m:m"))
        attachments = {"briefing": briefing, "reply_to": reply_to, "remaining_ms": 60_000, "epoch": 1}
        await bus.publish(topics.agent_request(AGENT, "run"), envelope, attachments)

    async def holds(*leases: str, through: int) -> None:
        fields = {"run": "run", "epoch": 2, "leases": list(leases), "through": through}
        await bus.publish_note(topics.agent_control(AGENT), Note("holds", fields))

    async with bus.subscribe(reply_to, kinds=Note) as replies:

        async def heard() -> tuple[str, str]:
            note = (await replies.get()).content
            return note.kind, note.fields["lease"]

        await request("first", 10)
        assert await heard() == ("accepted", "first")
        await request("second", 20)
        assert await heard() == ("declined", "second")
        await holds("first", through=20)
        await request("third", 30)
        assert await heard() == ("declined", "third"), "it holds the first"
        await holds(through=9)
        await request("fourth", 40)
        assert await heard() == ("declined", "fourth"), "that word is older than the first lease"
        await holds(through=40)
        await request("fifth", 50)
        assert await heard() == ("accepted", "fifth")
