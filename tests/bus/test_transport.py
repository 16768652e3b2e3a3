"""The contract of `bus/transport.py`, over every transport: add a line to `TRANSPORTS` and it holds for yours.

What only a transport inside one process can promise (that `publish` waits for those who read) is marked `in_process`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from bus.envelope import Envelope
from bus.events import RunPaused
from bus.transport import Message, Subscription, Transport
from bus.transports.memory import MemoryTransport
from bus.transports.mqtt import MqttTransport
from bus.transports.simulated import SimulatedTransport
from tests.support.broker import broker

Opened = AbstractAsyncContextManager[Transport]


@asynccontextmanager
async def over_a_broker() -> AsyncIterator[Transport]:
    async with broker() as running, MqttTransport(running.url) as opened:
        yield opened


IN_PROCESS: dict[str, Callable[[], Opened]] = {
    "memory": MemoryTransport,
    "memory, encoded": lambda: MemoryTransport(encode=True),
}
SIMULATED: dict[str, Callable[[], Opened]] = {"simulated": SimulatedTransport}
BETWEEN_PROCESSES: dict[str, Callable[[], Opened]] = {"mqtt": over_a_broker}
TRANSPORTS = IN_PROCESS | SIMULATED | BETWEEN_PROCESSES

in_process = pytest.mark.parametrize("transport", IN_PROCESS, indirect=True)


WITH_SERVICES = [pytest.param(name, marks=pytest.mark.services) for name in BETWEEN_PROCESSES]


@pytest.fixture(params=[*IN_PROCESS, *SIMULATED, *WITH_SERVICES])
async def transport(request: pytest.FixtureRequest) -> AsyncIterator[Transport]:
    async with TRANSPORTS[request.param]() as opened:
        yield opened


def message(text: object, **attachments: object) -> Message:
    event = RunPaused(reason=str(text), kind="person")
    return Message(Envelope(f"id-{text}", "/swarm/hub/h", event, "run", "2026-01-01T00:00:00Z"), attachments)


def text_of(received: Message) -> str:
    assert received.envelope is not None
    assert isinstance(received.envelope.event, RunPaused)
    return received.envelope.event.reason


async def take(subscription: Subscription, count: int) -> list[str]:
    """Return the next texts, acknowledged."""
    texts = []
    for _ in range(count):
        delivery = await subscription.get()
        texts.append(text_of(delivery.message))
        delivery.acknowledge()
    return texts


def take_all(subscription: Subscription) -> list[str]:
    texts = []
    while (delivery := subscription.get_nowait()) is not None:
        texts.append(text_of(delivery.message))
        delivery.acknowledge()
    return texts


async def settle() -> None:
    """Let every task go as far as it can without help."""
    for _ in range(20):
        await asyncio.sleep(0)


async def publish_all(transport: Transport, topic: str, texts: Iterable[object]) -> None:
    for text in texts:
        await transport.publish(topic, message(text))


async def test_what_is_published_arrives_as_it_was(transport: Transport) -> None:
    sent = message("hello", needs={"facts": ["\x00", 1.5, None, {"ä": True}]})
    async with transport.subscribe("a/b") as subscription:
        await transport.publish("a/b", sent)
        delivery = await subscription.get()
    assert delivery.topic == "a/b"
    assert delivery.message == sent


@in_process
async def test_whatever_is_attached_is_handed_over(transport: Transport) -> None:
    sent = message("hello", needs={"facts": b"\x00bytes"})
    async with transport.subscribe("a/b") as subscription:
        await transport.publish("a/b", sent)
        assert (await subscription.get()).message == sent


async def test_a_note_travels_without_an_envelope(transport: Transport) -> None:
    async with transport.subscribe("card") as subscription:
        await transport.publish("card", Message(None, {"note": "card", "slots": 2}))
        assert (await subscription.get()).message == Message(None, {"note": "card", "slots": 2})


async def test_filters_choose_what_arrives(transport: Transport) -> None:
    async with (
        transport.subscribe("a/+/c") as one_level,
        transport.subscribe("a/#") as below,
        transport.subscribe("a/b/c", "x") as exact,
    ):
        for topic in ("a/b/c", "a/c", "a", "x", "a/b/c/d"):
            await transport.publish(topic, message(topic))
        assert await take(one_level, 1) == ["a/b/c"]
        assert await take(below, 4) == ["a/b/c", "a/c", "a", "a/b/c/d"]
        assert await take(exact, 2) == ["a/b/c", "x"]
        assert [s.get_nowait() for s in (one_level, below, exact)] == [None, None, None]


async def test_several_matching_filters_deliver_once(transport: Transport) -> None:
    async with transport.subscribe("a/b", "a/+", "#", "a/b") as subscription:
        await publish_all(transport, "a/b", [1, 2, 3])
        assert await take(subscription, 3) == ["1", "2", "3"]
        assert subscription.get_nowait() is None


async def test_each_subscription_gets_its_own(transport: Transport) -> None:
    async with transport.subscribe("a") as first, transport.subscribe("a") as second:
        await publish_all(transport, "a", range(3))
        assert await take(first, 3) == await take(second, 3) == ["0", "1", "2"]


async def test_subscriptions_that_overlap_get_each_message_once(transport: Transport) -> None:
    async with (
        transport.subscribe("a/+") as first,
        transport.subscribe("+/b") as second,
        transport.subscribe("a/#", "+/+") as third,
    ):
        await publish_all(transport, "a/b", [1, 2, 3])
        assert await take(first, 3) == await take(second, 3) == await take(third, 3) == ["1", "2", "3"]
    async with transport.subscribe("+/b") as second:
        await publish_all(transport, "a/b", [4, 5])
        assert await take(second, 2) == ["4", "5"]
        assert second.get_nowait() is None


async def test_what_nobody_wants_goes_nowhere(transport: Transport) -> None:
    await transport.publish("a", message("early"))
    async with transport.subscribe("a") as subscription:
        await transport.publish("b", message("elsewhere"))
        await transport.publish("a", message("here"))
        assert await take(subscription, 1) == ["here"]
    await transport.publish("a", message("late"))
    async with transport.subscribe("a") as subscription:
        await transport.publish("a", message("again"))
        assert await take(subscription, 1) == ["again"]


async def test_iterating_gives_deliveries_until_it_is_closed(transport: Transport) -> None:
    seen = []

    async def consume(subscription: Subscription) -> None:
        async for delivery in subscription:
            seen.append(text_of(delivery.message))
            delivery.acknowledge()

    async with asyncio.TaskGroup() as tasks:
        async with transport.subscribe("a", capacity=2) as subscription:
            consumer = tasks.create_task(consume(subscription))
            await publish_all(transport, "a", range(5))
            while len(seen) < 5:
                await asyncio.sleep(0)
        await consumer
    assert seen == ["0", "1", "2", "3", "4"]


async def test_what_was_queued_can_still_be_had_after_closing(transport: Transport) -> None:
    async with transport.subscribe("a") as subscription, transport.subscribe("a") as other:
        await publish_all(transport, "a", [1, 2])
        await take(other, 2)
        await take(subscription, 1)
    assert await take(subscription, 1) == ["2"]
    assert subscription.get_nowait() is None
    with pytest.raises(StopAsyncIteration):
        await subscription.get()


async def test_closing_the_transport_ends_its_subscriptions(transport: Transport) -> None:
    async with asyncio.TaskGroup() as tasks, transport.subscribe("a") as subscription:
        waiting = tasks.create_task(anext(aiter(subscription), None))
        await settle()
        await transport.__aexit__(None, None, None)
        assert await waiting is None


async def test_messages_of_one_publisher_and_topic_come_in_order(transport: Transport) -> None:
    async with transport.subscribe("+", capacity=3) as subscription, asyncio.TaskGroup() as tasks:
        for number in range(500):
            tasks.create_task(transport.publish("ab"[number % 2], message(number)))
        texts = [int(text) for text in await take(subscription, 500)]
    assert [number for number in texts if number % 2 == 0] == list(range(0, 500, 2))
    assert [number for number in texts if number % 2 == 1] == list(range(1, 500, 2))


@in_process
async def test_a_newcomer_does_not_overtake_those_who_wait(transport: Transport) -> None:
    async with asyncio.TaskGroup() as tasks, transport.subscribe("a", capacity=2) as subscription:
        for number in range(5):
            tasks.create_task(transport.publish("a", message(number)))
        await settle()
        for delivery in (await subscription.get(), await subscription.get()):
            delivery.acknowledge()
        tasks.create_task(transport.publish("a", message(5)))
        assert await take(subscription, 4) == ["2", "3", "4", "5"]


@in_process
async def test_publishing_waits_while_a_queue_is_full(transport: Transport) -> None:
    async with asyncio.TaskGroup() as tasks, transport.subscribe("a", capacity=2) as subscription:
        publisher = tasks.create_task(publish_all(transport, "a", range(4)))
        await settle()
        assert not publisher.done()
        assert take_all(subscription) == ["0", "1"]
        await publisher
        assert await take(subscription, 2) == ["2", "3"]


@in_process
async def test_what_is_not_acknowledged_takes_up_room(transport: Transport) -> None:
    async with asyncio.TaskGroup() as tasks, transport.subscribe("a", capacity=2) as subscription:
        await publish_all(transport, "a", range(2))
        first, second = await subscription.get(), await subscription.get()
        publisher = tasks.create_task(publish_all(transport, "a", [2, 3]))
        await settle()
        assert subscription.get_nowait() is None
        second.acknowledge()
        assert text_of((await subscription.get()).message) == "2"
        second.acknowledge()  # once more: no room for another
        await settle()
        assert not publisher.done()
        assert subscription.get_nowait() is None
        first.acknowledge()
        assert await take(subscription, 1) == ["3"]
        await publisher


@in_process
async def test_a_full_queue_holds_up_only_its_own_topics(transport: Transport) -> None:
    async with (
        asyncio.TaskGroup() as tasks,
        transport.subscribe("slow", capacity=1) as slow,
        transport.subscribe("quick") as quick,
    ):
        blocked = tasks.create_task(publish_all(transport, "slow", range(3)))
        await settle()
        await publish_all(transport, "quick", range(5))
        assert await take(quick, 5) == ["0", "1", "2", "3", "4"]
        assert not blocked.done()
        assert await take(slow, 3) == ["0", "1", "2"]


@in_process
async def test_all_subscriptions_of_a_topic_need_room(transport: Transport) -> None:
    async with (
        asyncio.TaskGroup() as tasks,
        transport.subscribe("a", capacity=1) as slow,
        transport.subscribe("a") as quick,
    ):
        publisher = tasks.create_task(publish_all(transport, "a", range(3)))
        await settle()
        assert not publisher.done()
        assert await take(slow, 3) == ["0", "1", "2"]
        await publisher
        assert take_all(quick) == ["0", "1", "2"]


@in_process
async def test_closing_a_full_subscription_frees_its_publishers(transport: Transport) -> None:
    async with asyncio.TaskGroup() as tasks, transport.subscribe("a", capacity=1):
        publishers = [tasks.create_task(publish_all(transport, topic, range(3))) for topic in ("a", "a")]
        await settle()
        assert not any(publisher.done() for publisher in publishers)


@in_process
async def test_a_cancelled_publisher_loses_nothing_and_doubles_nothing(transport: Transport) -> None:
    async with asyncio.TaskGroup() as tasks, transport.subscribe("a", "b", capacity=1) as subscription:
        await transport.publish("a", message("first"))
        waiting = {
            text: tasks.create_task(transport.publish(topic, message(text)))
            for topic, text in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")]
        }
        await settle()
        waiting["a1"].cancel()
        waiting["b2"].cancel()
        texts = await take(subscription, 4)
        assert take_all(subscription) == []
    assert texts[0] == "first"
    assert sorted(texts[1:]) == ["a2", "a3", "b1"]
    assert texts.index("a2") < texts.index("a3")


@in_process
async def test_a_publisher_cancelled_as_room_appears_passes_it_on(transport: Transport) -> None:
    async with asyncio.TaskGroup() as tasks, transport.subscribe("a", "b", capacity=1) as subscription:
        await transport.publish("a", message("first"))
        called = tasks.create_task(transport.publish("a", message("called")))
        await settle()
        patient = tasks.create_task(transport.publish("b", message("patient")))
        await settle()
        (await subscription.get()).acknowledge()  # calls the first in line, who is then cancelled before it can run
        called.cancel()
        assert await take(subscription, 1) == ["patient"]
        await patient
        assert called.cancelled()
        assert take_all(subscription) == []


@in_process  # over a broker, the message may be there before the consumer is cancelled
async def test_a_cancelled_consumer_loses_nothing(transport: Transport) -> None:
    async with asyncio.TaskGroup() as tasks, transport.subscribe("a") as subscription:
        gone, staying = (tasks.create_task(take(subscription, 1)) for _ in range(2))
        await settle()
        await transport.publish("a", message("only"))  # calls the first in line, who is then cancelled
        gone.cancel()
        assert await staying == ["only"]


async def test_consumers_of_one_subscription_share_its_deliveries(transport: Transport) -> None:
    async with transport.subscribe("a") as subscription:
        async with asyncio.TaskGroup() as tasks:
            consumers = [tasks.create_task(take(subscription, 5)) for _ in range(4)]
            await publish_all(transport, "a", range(20))
        taken = [text for consumer in consumers for text in consumer.result()]
    assert sorted(taken, key=int) == [str(number) for number in range(20)]


async def test_a_retained_message_greets_those_who_come_later(transport: Transport) -> None:
    await transport.publish("card/1", message("old"), retain=True)
    await transport.publish("card/1", message("new"), retain=True)
    await transport.publish("card/2", message("two"), retain=True)
    await transport.publish("card/2", message("not kept"))
    async with transport.subscribe("card/+", "card/1") as subscription:
        await transport.publish("card/3", message("live"))
        assert sorted(await take(subscription, 2)) == ["new", "two"]
        assert await take(subscription, 1) == ["live"]
        assert subscription.get_nowait() is None


async def test_clearing_a_topic_is_seen_and_leaves_nothing(transport: Transport) -> None:
    await transport.publish("card", message("here"), retain=True)
    async with transport.subscribe("card") as subscription:
        await transport.publish("card", Message(None), retain=True)
        assert await take(subscription, 1) == ["here"]
        assert (await subscription.get()).message == Message(None)
    async with transport.subscribe("card") as later:
        await transport.publish("card", message("live"))
        assert await take(later, 1) == ["live"]


async def test_an_empty_message_that_is_not_retained_clears_nothing(transport: Transport) -> None:
    await transport.publish("card", message("here"), retain=True)
    await transport.publish("card", Message(None))
    async with transport.subscribe("card") as subscription:
        assert await take(subscription, 1) == ["here"]


async def test_what_comes_on_a_topic_of_ours_that_cannot_be_taken_apart_is_dropped_and_counted(
    transport: Transport,
) -> None:
    bad = ["swarm/v1/agent/mallory/\u202eb/card", "swarm/v1/agent/m m/1/card", "swarm/v1/agent/mallory//card"]
    for topic in bad:
        await transport.publish(topic, message(topic), retain=True)
    await transport.publish("swarm/v1/agent/ada/1/card", message("stands"), retain=True)
    async with transport.subscribe("swarm/v1/agent/+/+/card", "swarm/#") as subscription:
        await publish_all(transport, bad[0], ["live"])
        await publish_all(transport, "swarm/v1/agent/ada/2/card", ["good"])
        assert await take(subscription, 2) == ["stands", "good"]
        async with transport.subscribe("swarm/v1/agent/+/+/card") as later:
            assert take_all(later) in (["stands"], []), "retained words, where they are there at once"
        assert subscription.get_nowait() is None
    assert transport.dropped["topic"] == len(bad) + 1


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0"])
async def test_one_cannot_publish_to_a_filter(transport: Transport, topic: str) -> None:
    async with transport.subscribe("#") as subscription:
        with pytest.raises(ValueError, match=r"\S"):
            await transport.publish(topic, message("x"))
        assert subscription.get_nowait() is None


@pytest.mark.parametrize(
    ("filters", "capacity"), [([], 1), (["a+"], 1), (["a", "#/b"], 1), (["$share/g/a"], 1), (["a"], 0)]
)
async def test_a_bad_subscription_is_refused(transport: Transport, filters: list[str], capacity: int) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        async with transport.subscribe(*filters, capacity=capacity):
            pass
    async with transport.subscribe("a") as subscription:
        await transport.publish("a", message("still works"))
        assert await take(subscription, 1) == ["still works"]
