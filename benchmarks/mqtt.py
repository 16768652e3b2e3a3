"""What a request and its reply cost over a broker, against a bare `aiomqtt` echo at QoS 1 over the same broker.

Ours goes through topics, envelopes, codec, validation and acknowledgement by hand; the reference sends the same bytes,
reads none of them, and acknowledges as it receives. Both have the two sides in one process, and mosquitto beside it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter

import aiomqtt

from benchmarks.harness import Benchmark
from bus import topics
from bus.codec import encode
from bus.envelope import Envelope
from bus.events import GoalAccepted, RunPaused
from bus.pubsub import Bus
from bus.transports.mqtt import MqttTransport
from tests.support.broker import Broker, broker

TRIPS = 1_000
HUB, AGENT, RUN = "hub-1", "ada/1", "run-1"
REQUEST = Envelope("1", f"/swarm/hub/{HUB}", RunPaused(reason="x" * 700, kind="person"), RUN, "2026-01-01T00:00:00Z")
REPLY = Envelope("2", f"/swarm/agent/{AGENT}", GoalAccepted(reason="x" * 700), RUN, "2026-01-01T00:00:00Z")


async def ours(in_flight: int) -> float:
    """Request and reply through `Bus`."""
    async with broker() as running, MqttTransport(running.url) as hub_side, MqttTransport(running.url) as agent_side:
        hub, agent = Bus(hub_side), Bus(agent_side)
        async with (
            agent.subscribe(topics.agent_requests(AGENT), kinds=RunPaused) as requests,
            hub.subscribe(topics.hub_replies(HUB), kinds=GoalAccepted) as replies,
        ):

            async def answer() -> None:
                async for request in requests:
                    await agent.publish(topics.hub_reply(HUB, AGENT, RUN), REPLY)
                    request.acknowledge()

            async def ask() -> None:
                await hub.publish(topics.agent_request(AGENT, RUN), REQUEST)
                (await replies.get()).acknowledge()

            return await timed(ask, answer, in_flight)


async def bare(in_flight: int, keep: Callable[[], None] = lambda: None) -> float:
    """Send the same bytes to and fro by `aiomqtt` alone; `keep`: done once each trip."""
    async with broker() as running, client(running) as hub, client(running) as agent:
        await agent.subscribe("request", qos=1)
        await hub.subscribe("reply", qos=1)
        request, reply = encode(REQUEST), encode(REPLY)
        replies = aiter(hub.messages)
        turn = asyncio.Lock()

        async def answer() -> None:
            async for _ in agent.messages:
                await agent.publish("reply", reply, qos=1)

        async def ask() -> None:
            await hub.publish("request", request, qos=1)
            async with turn:  # its iterator takes one reader at a time
                await anext(replies)
            keep()

        return await timed(ask, answer, in_flight)


@asynccontextmanager
async def client(running: Broker) -> AsyncIterator[aiomqtt.Client]:
    nodelay = [(6, 1, 1)]  # IPPROTO_TCP, TCP_NODELAY: without it the reference would be 20 times slower
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client("127.0.0.1", running.port, protocol=version, socket_options=nodelay) as connected:
        connected.pending_calls_threshold = 1_000
        yield connected


async def timed(ask: Callable[[], Awaitable[None]], answer: Callable[[], Awaitable[None]], in_flight: int) -> float:
    """Return how long so many trips take, with as many at once, after some that do not count."""

    async def one_of_many(trips: int) -> None:
        for _ in range(trips):
            await ask()

    async def all_of_them(trips: int) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(in_flight):
                tasks.create_task(one_of_many(trips // in_flight))

    async with asyncio.TaskGroup() as tasks:
        answering = [tasks.create_task(go_on(answer)) for _ in range(in_flight)]
        await all_of_them(in_flight * 2)
        start = perf_counter()
        await all_of_them(TRIPS)
        took = perf_counter() - start
        for task in answering:
            task.cancel()
    return took


async def go_on(answer: Callable[[], Awaitable[None]]) -> None:
    await answer()


BENCHMARKS = (
    Benchmark("request and reply over MQTT, 1 in flight / bare echo", lambda: ours(1), lambda: bare(1), 0.70, TRIPS),
    Benchmark("request and reply over MQTT, 64 in flight / bare echo", lambda: ours(64), lambda: bare(64), 0.70, TRIPS),
)
