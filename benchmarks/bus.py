"""What the bus costs in one process, against a bare `asyncio.Queue`.

Events and envelopes are made before the clock starts: both sides carry the same ones. Ours names the topic of each
message by its agent and run, routes it, checks its class and acknowledges it; the queue does none of that.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import perf_counter

from benchmarks.harness import Benchmark
from bus import topics
from bus.envelope import Envelope
from bus.events import GoalAccepted, TimePassed
from bus.pubsub import Bus
from bus.transport import Delivery, Message, Subscription
from bus.transports.memory import MemoryTransport

TRIPS = 5_000
BURST = 10_000
BACKLOG = 20_000
HUB, AGENT, RUN = "hub-1", "ada/1", "run-1"

REQUEST = Envelope("1", f"/swarm/hub/{HUB}", TimePassed(), RUN, "2026-01-01T00:00:00Z")
REPLY = Envelope("2", f"/swarm/agent/{AGENT}", GoalAccepted(reason="done"), RUN, "2026-01-01T00:00:00Z")


async def ping_pong() -> float:
    """One request in flight: hub to agent, and its reply back."""
    async with MemoryTransport() as transport:
        bus = Bus(transport)
        async with (
            bus.subscribe(topics.agent_requests(AGENT), kinds=TimePassed) as requests,
            bus.subscribe(topics.hub_replies(HUB), kinds=GoalAccepted) as replies,
        ):

            async def agent() -> None:
                for _ in range(TRIPS):
                    request = await requests.get()
                    await bus.publish(topics.hub_reply(HUB, AGENT, RUN), REPLY)
                    request.acknowledge()

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(agent())
                start = perf_counter()
                for _ in range(TRIPS):
                    await bus.publish(topics.agent_request(AGENT, RUN), REQUEST)
                    (await replies.get()).acknowledge()
                return perf_counter() - start


async def queue_ping_pong() -> float:
    requests: asyncio.Queue[Envelope] = asyncio.Queue()
    replies: asyncio.Queue[Envelope] = asyncio.Queue()

    async def agent() -> None:
        for _ in range(TRIPS):
            await requests.get()
            await replies.put(REPLY)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(agent())
        start = perf_counter()
        for _ in range(TRIPS):
            await requests.put(REQUEST)
            await replies.get()
        return perf_counter() - start


async def burst() -> float:
    """Publish as fast as back-pressure lets one, while one consumer takes."""
    async with MemoryTransport() as transport:
        bus = Bus(transport)
        async with bus.subscribe(topics.agent_requests(AGENT), kinds=TimePassed) as requests:

            async def agent() -> None:
                for _ in range(BURST):
                    (await requests.get()).acknowledge()

            start = perf_counter()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(agent())
                for _ in range(BURST):
                    await bus.publish(topics.agent_request(AGENT, RUN), REQUEST)
            return perf_counter() - start


async def queue_burst() -> float:
    requests: asyncio.Queue[Envelope] = asyncio.Queue()

    async def agent() -> None:
        for _ in range(BURST):
            await requests.get()

    start = perf_counter()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(agent())
        for _ in range(BURST):
            await requests.put(REQUEST)
    return perf_counter() - start


@asynccontextmanager
async def backlog(size: int) -> AsyncIterator[tuple[MemoryTransport, Subscription]]:
    """Open a transport with so many messages waiting on topic `a`."""
    async with MemoryTransport() as transport, transport.subscribe("a", capacity=10**9) as subscription:
        for _ in range(size):
            await transport.publish("a", Message(REQUEST))
        yield transport, subscription


async def fill_and_drain() -> float:
    """Let so many wait, then take them all; at the transport, which is where they wait."""
    async with backlog(0) as (transport, subscription):
        start = perf_counter()
        for _ in range(BACKLOG):
            await transport.publish("a", Message(REQUEST))
        for _ in range(BACKLOG):
            (await subscription.get()).acknowledge()
        return perf_counter() - start


async def queue_fill_and_drain() -> float:
    """Put and take the same objects: a message and its delivery each."""
    async with backlog(0) as (_, subscription):
        queue: asyncio.Queue[Delivery] = asyncio.Queue()
        start = perf_counter()
        for number in range(BACKLOG):
            await queue.put(Delivery("a", Message(REQUEST), subscription, number))
        for _ in range(BACKLOG):
            await queue.get()
        return perf_counter() - start


async def through_a_backlog(size: int) -> float:
    """Publish one and take one, again and again, while so many wait."""
    async with backlog(size) as (transport, subscription):
        start = perf_counter()
        for _ in range(BURST):
            await transport.publish("a", Message(REQUEST))
            (await subscription.get()).acknowledge()
        return perf_counter() - start


BENCHMARKS = (
    Benchmark("request and reply, one in flight / queue", ping_pong, queue_ping_pong, 0.50, TRIPS),
    Benchmark("burst of 10,000 to one consumer / queue", burst, queue_burst, 0.15, BURST),
    Benchmark(
        "20,000 wait, then are taken / queue of the same objects", fill_and_drain, queue_fill_and_drain, 0.80, BACKLOG
    ),
    Benchmark(
        "in and out behind 20,000 / behind none",
        lambda: through_a_backlog(BACKLOG),
        lambda: through_a_backlog(0),
        0.50,
        BURST,
    ),
)
