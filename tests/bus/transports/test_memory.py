"""What memory promises beyond the contract: no copies, no needless turns of the loop, room that is never held back."""

import asyncio
import gc
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.envelope import Envelope
from bus.events import RunPaused
from bus.transport import Message, Subscription
from bus.transports.memory import PATIENCE, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Callable

NOTE = Message(None, {"note": "hello"})


def goes_through_at_once(transport: MemoryTransport, topic: str, message: Message = NOTE) -> bool:
    """Tell whether publishing ends without giving way to the loop."""
    publishing = transport.publish(topic, message)
    try:
        publishing.send(None)
    except StopIteration:
        return True
    publishing.close()
    return False


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_message_itself_is_handed_over() -> None:
    message = Message(Envelope("1", "/swarm/hub/h", RunPaused(reason="x", kind="person"), "run", ""), {})
    async with MemoryTransport() as transport, transport.subscribe("a") as one, transport.subscribe("+") as two:
        await transport.publish("a", message)
        assert (await one.get()).message is (await two.get()).message is message


async def test_with_encoding_another_but_equal_one_arrives() -> None:
    files = {"a": object()}
    sent = Envelope("1", "/swarm/hub/h", RunPaused(reason="x", kind="person"), "run", "2026-01-01T00:00:00Z")
    async with MemoryTransport(encode=True) as transport, transport.subscribe("a") as subscription:
        await transport.publish("a", Message(sent, files))
        got = (await subscription.get()).message
    assert got.envelope == sent
    assert got.envelope is not sent
    assert got.attachments["a"] is files["a"]


async def test_publishing_with_room_gives_way_once_in_a_while_only() -> None:
    async with MemoryTransport() as transport, transport.subscribe("a", capacity=10**6) as subscription:
        immediate = [goes_through_at_once(transport, "a") for _ in range(PATIENCE)]
        assert all(immediate)
        assert not goes_through_at_once(transport, "a")
        assert goes_through_at_once(transport, "a")
        assert len([None for _ in iter(subscription.get_nowait, None)]) == PATIENCE + 2


@pytest.mark.parametrize("topic", ["wanted", "unwanted"])
async def test_a_publisher_that_never_waits_cannot_starve_others(topic: str) -> None:
    async with MemoryTransport() as transport, transport.subscribe("wanted", capacity=10**9):
        turns = 0

        async def others() -> None:
            nonlocal turns
            while turns < 10:
                turns += 1
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            other = tasks.create_task(others())
            published = 0
            while not other.done():
                await transport.publish(topic, NOTE)
                published += 1
                assert published <= 20 * PATIENCE


async def test_a_publisher_cancelled_as_it_gives_way_has_said_its_message_once() -> None:
    async with MemoryTransport() as transport, transport.subscribe("a", capacity=10**6) as subscription:
        for _ in range(PATIENCE):
            await transport.publish("b", NOTE)
        publisher = asyncio.create_task(transport.publish("a", NOTE))
        await asyncio.sleep(0)
        publisher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publisher
        assert subscription.get_nowait() is not None
        assert subscription.get_nowait() is None


async def test_while_one_publisher_gives_way_the_others_go_on() -> None:
    async with MemoryTransport() as transport, transport.subscribe("a", capacity=10**6) as subscription:
        for _ in range(PATIENCE):
            await transport.publish("a", NOTE)
        giving_way = transport.publish("a", NOTE)
        giving_way.send(None)
        assert all(goes_through_at_once(transport, "a") for _ in range(PATIENCE))
        giving_way.close()
        assert len([None for _ in iter(subscription.get_nowait, None)]) == 2 * PATIENCE + 1


async def test_no_room_is_held_in_one_queue_while_waiting_for_another() -> None:
    """The consumer of `slow` says something on `both` before it acknowledges: it must find room in `quick`."""
    async with (
        asyncio.TaskGroup() as tasks,
        MemoryTransport() as transport,
        transport.subscribe("both", "quick", capacity=1) as quick,
        transport.subscribe("both", capacity=1) as slow,
    ):
        await transport.publish("both", NOTE)
        (await quick.get()).acknowledge()
        waiting = tasks.create_task(transport.publish("both", NOTE))
        await settle()
        assert not waiting.done()
        async with asyncio.timeout(5):
            await transport.publish("quick", NOTE)
        (await quick.get()).acknowledge()
        (await slow.get()).acknowledge()
        await waiting


async def test_room_that_one_publisher_cannot_use_is_the_next_ones() -> None:
    async with (
        asyncio.TaskGroup() as tasks,
        MemoryTransport() as transport,
        transport.subscribe("both", "first", capacity=1) as first,
        transport.subscribe("both", "second", capacity=1) as second,
    ):
        await transport.publish("first", NOTE)
        await transport.publish("second", NOTE)
        picky = tasks.create_task(transport.publish("both", NOTE))
        modest = tasks.create_task(transport.publish("first", NOTE))
        await settle()
        (await first.get()).acknowledge()
        async with asyncio.timeout(5):
            await modest
        assert not picky.done()
        (await second.get()).acknowledge()
        (await first.get()).acknowledge()
        await picky


async def test_those_who_wait_for_room_are_served_in_their_order() -> None:
    served: list[str] = []

    async def publish(transport: MemoryTransport, topic: str) -> None:
        await transport.publish(topic, NOTE)
        served.append(topic)

    async with (
        asyncio.TaskGroup() as tasks,
        MemoryTransport() as transport,
        transport.subscribe("#", capacity=1) as subscription,
    ):
        await transport.publish("x", NOTE)
        for topic in "abcde":
            tasks.create_task(publish(transport, topic))
        await settle()
        newcomer = None
        for _ in range(6):
            (await subscription.get()).acknowledge()
            newcomer = newcomer or tasks.create_task(publish(transport, "newcomer"))
        await settle()
        (await subscription.get()).acknowledge()
    assert served == ["a", "b", "c", "d", "e", "newcomer"]


async def test_room_is_kept_for_the_publisher_that_was_called() -> None:
    async with MemoryTransport() as transport, transport.subscribe("#", capacity=1) as subscription:
        await transport.publish("a", NOTE)
        called = asyncio.create_task(transport.publish("b", NOTE))
        await settle()
        (await subscription.get()).acknowledge()
        assert not goes_through_at_once(transport, "c")
        await called


async def test_what_was_not_acknowledged_comes_to_nobody_again() -> None:
    async with MemoryTransport() as transport:
        async with transport.subscribe("a") as first:
            await transport.publish("a", NOTE)
            delivery = await first.get()
        async with transport.subscribe("a") as second:
            assert second.get_nowait() is None
        delivery.acknowledge()


async def test_retained_messages_may_exceed_a_capacity_but_publishers_wait() -> None:
    async with asyncio.TaskGroup() as tasks, MemoryTransport() as transport:
        for number in range(3):
            await transport.publish(f"card/{number}", NOTE, retain=True)
        async with transport.subscribe("card/+", capacity=2) as subscription:
            live = tasks.create_task(transport.publish("card/live", NOTE))
            for expected in ("card/0", "card/1", "card/2", "card/live"):
                assert not live.done()
                delivery = await subscription.get()
                assert delivery.topic == expected
                delivery.acknowledge()


async def test_a_transport_that_is_not_open_says_so() -> None:
    transport = MemoryTransport()
    with pytest.raises(RuntimeError, match="not open"):
        await transport.publish("a", NOTE)
    with pytest.raises(RuntimeError, match="not open"):
        async with transport.subscribe("a"):
            pass


async def test_a_publisher_that_waits_when_the_transport_closes_is_told() -> None:
    async with MemoryTransport() as transport, transport.subscribe("a", capacity=1):
        await transport.publish("a", NOTE)
        waiting = [asyncio.create_task(transport.publish("a", NOTE)) for _ in range(3)]
        await settle()
    for task in waiting:
        with pytest.raises(RuntimeError, match="not open"):
            await task


async def test_waiting_leaves_nothing_behind() -> None:
    """Publishers that give up again and again, each on a topic of its own, must not pile up."""
    async with MemoryTransport() as transport, transport.subscribe("#", capacity=1) as subscription:
        await transport.publish("x", NOTE)
        for number in range(50):
            publisher = asyncio.create_task(transport.publish(f"run/{number}", NOTE))
            await settle()
            publisher.cancel()
            await asyncio.wait([publisher])
        del publisher
        gc.collect()
        assert len(transport._lines) == transport._waiting == len(subscription._publishers) == 0


class Storm:
    """Publishers, consumers and cancellations in any order, with a record of what was said and what was heard."""

    def __init__(self, transport: MemoryTransport, subscriptions: list[Subscription], capacities: list[int]) -> None:
        self.transport = transport
        self.subscriptions = subscriptions
        self.capacities = capacities
        self.said: list[tuple[str, asyncio.Task[None]]] = []
        self.heard: list[list[tuple[str, str]]] = [[] for _ in subscriptions]
        self.held: list[list[Callable[[], None]]] = [[] for _ in subscriptions]

    async def publish(self, choice: int) -> None:
        topic, name = "abc"[choice % 3], str(len(self.said))
        publishing = self.transport.publish(topic, Message(None, {"note": name}))
        self.said.append((topic, asyncio.create_task(publishing, name=name)))

    async def get(self, choice: int) -> None:
        which = choice % len(self.subscriptions)
        if (delivery := self.subscriptions[which].get_nowait()) is not None:
            self.heard[which].append((delivery.topic, delivery.message.attachments["note"]))
            self.held[which].append(delivery.acknowledge)
            assert len(self.held[which]) <= self.capacities[which]

    async def acknowledge(self, choice: int) -> None:
        if held := self.held[choice % len(self.held)]:
            held.pop(choice % len(held))()

    async def cancel(self, choice: int) -> None:
        if self.said:
            self.said[-1 - choice % len(self.said)][1].cancel()

    async def turn(self, choice: int) -> None:
        for _ in range(choice % 3):
            await asyncio.sleep(0)

    async def drain(self) -> None:
        """Take whatever comes until every publisher has ended and every queue is empty."""
        before = None
        while before != (before := (sum(map(len, self.heard)), sum(task.done() for _, task in self.said))):
            await settle()
            for which in range(len(self.subscriptions)):
                await self.acknowledge(which)
                await self.get(which)
            await settle()

    def expected(self, topics: str) -> list[tuple[str, str]]:
        return [(topic, task.get_name()) for topic, task in self.said if topic in topics and not task.cancelled()]


steps = st.lists(
    st.tuples(st.sampled_from(["publish", "publish", "get", "acknowledge", "cancel", "turn"]), st.integers(0, 11)),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps=steps, capacities=st.lists(st.integers(1, 3), min_size=3, max_size=3))
def test_whatever_the_order_of_things_each_message_arrives_once(
    steps: list[tuple[str, int]], capacities: list[int]
) -> None:
    asyncio.run(weather(steps, capacities))


async def weather(steps: list[tuple[str, int]], capacities: list[int]) -> None:
    filters = [("+",), ("a",), ("a", "b")]
    async with AsyncExitStack() as stack:
        transport = await stack.enter_async_context(MemoryTransport())
        subscriptions: list[Subscription] = [
            await stack.enter_async_context(transport.subscribe(*wanted, capacity=capacity))
            for wanted, capacity in zip(filters, capacities, strict=True)
        ]
        storm = Storm(transport, subscriptions, capacities)
        for what, choice in steps:
            await getattr(storm, what)(choice)
        await storm.drain()
        assert all(task.done() for _, task in storm.said), "a publisher waits although there is room"
        for heard, topics in zip(storm.heard, ["abc", "a", "ab"], strict=True):
            for topic in topics:
                assert [pair for pair in heard if pair[0] == topic] == storm.expected(topic)
            assert len(heard) == len(storm.expected(topics))
