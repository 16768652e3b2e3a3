"""Events and notes through `Bus`, typed, over memory with and without encoding."""

import asyncio
from collections.abc import AsyncIterator
from typing import assert_type

import pytest

from bus import topics
from bus.envelope import Envelope
from bus.events import Fact, GoalAccepted, RunPaused, TimePassed
from bus.pubsub import Bus, Note, Received
from bus.transport import Message
from bus.transports.memory import MemoryTransport

AGENT = "ada/1"


@pytest.fixture(params=[False, True], ids=["memory", "encoded"])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[MemoryTransport]:
    async with MemoryTransport(encode=request.param) as opened:
        yield opened


@pytest.fixture
def bus(transport: MemoryTransport) -> Bus:
    return Bus(transport)


def wrap(event: Fact) -> Envelope:
    return Envelope("id-1", "/swarm/hub/h", event, "run", "2026-01-01T00:00:00Z")


async def test_a_request_and_its_reply_cross_the_bus(bus: Bus) -> None:
    async def agent() -> None:
        async with bus.subscribe(topics.agent_requests(AGENT), kinds=TimePassed) as inbox:
            ready.set()
            received = await inbox.get()
            run = topics.parse(received.topic).run
            reply = wrap(GoalAccepted(reason=received.attachments["briefing"]))
            await bus.publish(topics.hub_reply("h", AGENT, run), reply)
            received.acknowledge()

    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, bus.subscribe(topics.hub_replies("h"), kinds=GoalAccepted) as replies:
        tasks.create_task(agent())
        await ready.wait()
        await bus.publish(topics.agent_request(AGENT, "r7"), wrap(TimePassed()), {"briefing": "do it"})
        received = await replies.get()
        received.acknowledge()
    assert received.content == GoalAccepted(reason="do it")
    assert received.envelope == wrap(received.content)
    assert topics.parse(received.topic).agent == AGENT


async def test_an_inbox_gives_only_the_kinds_it_was_made_for(bus: Bus) -> None:
    async with bus.subscribe("a", kinds=(RunPaused, Note), capacity=2) as inbox:
        await bus.publish("a", wrap(RunPaused(reason="first", kind="person")))
        first = await inbox.get()
        for _ in range(5):  # more than there is room for: what is dropped is acknowledged
            await bus.publish("a", wrap(TimePassed()))
            assert inbox.get_nowait() is None
        await bus.publish_note("a", Note("renewal", {"lease": "x"}))
        second = await inbox.get()
    assert first.content == RunPaused(reason="first", kind="person")
    assert second.content == Note("renewal", {"lease": "x"})
    assert inbox.dropped == 5


async def test_without_kinds_everything_of_ours_comes_in(bus: Bus, transport: MemoryTransport) -> None:
    async with bus.subscribe("a") as inbox:
        await bus.publish("a", wrap(TimePassed()))
        await transport.publish("a", Message(None, {"neither": "event nor note"}))
        await transport.publish("a", Message(None, {"note": 7}))
        await bus.publish_note("a", Note("grant"))
        assert [(await inbox.get()).content for _ in range(2)] == [TimePassed(), Note("grant")]
        assert inbox.get_nowait() is None
        assert inbox.dropped == 2


async def test_a_card_stands_until_it_is_cleared(bus: Bus) -> None:
    card = topics.agent_card(AGENT)
    await bus.publish_note(card, Note("card", {"roles": ("coder",), "slots": 2}), retain=True)
    async with bus.subscribe(topics.agent_cards(), kinds=Note) as hub:
        assert (await hub.get()).content == Note("card", {"roles": ("coder",), "slots": 2})
        await bus.clear(card)
        gone = await hub.get()
        assert (gone.topic, gone.content) == (card, Note(""))
    async with bus.subscribe(topics.agent_cards(), kinds=Note) as later:
        assert later.get_nowait() is None


async def test_a_retained_event_greets_a_late_watcher(bus: Bus) -> None:
    await bus.publish(topics.run_outcome("r7"), wrap(GoalAccepted(reason="done")), retain=True)
    async with bus.subscribe(topics.run_outcome("r7"), kinds=GoalAccepted) as watcher:
        assert (await watcher.get()).content.reason == "done"


@pytest.mark.parametrize("note", [Note(""), Note("", {"x": 1}), Note("card", {"note": 1})])
async def test_a_note_that_could_not_be_read_back_is_refused(bus: Bus, note: Note) -> None:
    with pytest.raises(ValueError, match="a note has a kind"):
        await bus.publish_note("a", note)


async def test_a_note_has_no_envelope(bus: Bus) -> None:
    async with bus.subscribe("a", kinds=Note) as inbox:
        await bus.publish_note("a", Note("grant"))
        received = await inbox.get()
        with pytest.raises(ValueError, match=r"'grant'.* on 'a' is a note"):
            _ = received.envelope


async def test_what_is_not_acknowledged_holds_up_the_publisher(bus: Bus) -> None:
    async with asyncio.TaskGroup() as tasks, bus.subscribe("a", kinds=TimePassed, capacity=1) as inbox:
        await bus.publish("a", wrap(TimePassed()))
        received = await inbox.get()
        second = tasks.create_task(bus.publish("a", wrap(TimePassed())))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not second.done()
        received.acknowledge()
        await second


async def test_iteration_ends_when_the_subscription_closes(bus: Bus) -> None:
    async with bus.subscribe("a") as inbox:
        await bus.publish("a", wrap(TimePassed()))
    assert [received.content async for received in inbox] == [TimePassed()]


async def types_are_known_to_the_checker(bus: Bus) -> None:  # never called: mypy and pyright read it
    async with (
        bus.subscribe("a") as everything,
        bus.subscribe("a", kinds=TimePassed) as one,
        bus.subscribe("a", kinds=(TimePassed, Note)) as two,
        bus.subscribe("a", kinds=(TimePassed, GoalAccepted, Note)) as three,
    ):
        assert_type(await everything.get(), Received[Fact | Note])
        assert_type(await one.get(), Received[TimePassed])
        assert_type(await two.get(), Received[TimePassed | Note])
        assert_type(await three.get(), Received[TimePassed | GoalAccepted | Note])
