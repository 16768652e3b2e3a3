"""What is recorded together: an outcome, and what its role does at once about it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic

import pytest

from agents.turns import turns
from bus.envelope import Envelope, Stamp
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import Event, Fact, ModelAnswered, ModelAsked, ToolCalled, ToolReturned, Usage
from bus.pubsub import Bus
from bus.transports.memory import MemoryTransport
from swarm.core.state import RunState, Work
from swarm.orchestration.intake import LINGER_S, together
from tests.support.endpoint import ChatEndpoint
from tests.support.runs import player, scenario, start

KEY = {"attempt": 1, "path": (0,)}
CALL = {"digest": "0" * 64, "tool": "post", "arguments": {}}
ASKED = ModelAsked(attempt=1, path=(1,), number=1, digest="0" * 64, model="m", messages=(), input_bound=9, max_tokens=9)
ANSWERED = ModelAnswered(**KEY, number=1, text="yes", usage=Usage(input=1, output=1))
CALLED = ToolCalled(**KEY, **CALL, outward=True)
RETURNED = ToolReturned(**KEY, **CALL, output="posted")

Take = Callable[[Event], Awaitable[list[Fact]]]
Publish = Callable[[Event], Awaitable[None]]


@asynccontextmanager
async def taking(*outward: ToolCalled) -> AsyncIterator[tuple[Publish, Take]]:
    """Give what sends an event, and what sends one and returns all that is taken in with it."""
    state = RunState("run")
    work = Work(kind="subtask", request="facts", role="coder", attempt=1)
    work.outward = {call.path: call for call in outward}
    state.leases["lease"] = work
    stamp = Stamp("/swarm/agent/local/coder", lambda: "id", lambda: "2026-01-01T00:00:00.000Z")
    async with MemoryTransport() as transport:
        bus = Bus(transport)
        async with bus.subscribe("replies") as inbox:

            async def publish(event: Event) -> None:
                await bus.publish("replies", stamp("run", event, subject="facts", causation_id="lease"))

            async def take(event: Event) -> list[Fact]:
                await publish(event)
                return [item.content for item in await together(await inbox.get(), inbox, state)]

            yield publish, take


async def test_an_outcome_waits_for_what_its_role_does_at_once() -> None:
    async with taking() as (publish, take), asyncio.TaskGroup() as group:

        async def role() -> None:
            for _ in range(5):
                await asyncio.sleep(0)
            await publish(ASKED)

        turns().call_at(turns().now + 99, lambda _: group.create_task(role()))
        assert await take(ANSWERED) == [ANSWERED, ASKED]


async def test_an_outcome_does_not_wait_for_a_role_that_waits_for_something_else() -> None:
    async with taking() as (publish, take), asyncio.TaskGroup() as group:
        answered = asyncio.Event()

        async def role() -> None:
            await answered.wait()
            await publish(ASKED)

        group.create_task(role())
        assert await take(ANSWERED) == [ANSWERED]
        answered.set()


async def test_an_intent_waits_for_nothing() -> None:
    async with taking() as (publish, take):
        turn = turns().now
        await publish(ANSWERED)
        assert await take(ASKED) == [ANSWERED, ASKED]
        assert turns().now == turn


async def test_what_would_be_in_doubt_without_its_outcome_waits_for_nothing() -> None:
    async with taking(CALLED) as (_, take):
        turn = turns().now
        assert await take(RETURNED) == [RETURNED]
        assert turns().now == turn


async def test_in_a_busy_loop_an_outcome_waits_no_longer_than_a_commit_takes() -> None:
    async def restless() -> None:
        while True:
            await asyncio.sleep(0)

    async with taking() as (_, take):
        task = asyncio.create_task(restless())
        begun = monotonic()
        assert await take(ANSWERED) == [ANSWERED]
        assert LINGER_S <= monotonic() - begun < 50 * LINGER_S
        task.cancel()


async def test_a_step_of_a_role_is_one_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[str]] = []
    append = SqliteEventLog.append

    async def noted(log: SqliteEventLog, run: str, expected: int, epoch: int, records: Sequence[Envelope]) -> None:
        batches.append([type(record.event).__name__ for record in records])
        await append(log, run, expected, epoch, records)

    monkeypatch.setattr(SqliteEventLog, "append", noted)
    plan = [{"id": "a", "role": "coder", "do": "TASK a: write a.txt"}]
    async with ChatEndpoint(player()) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, plan=plan, accept=[{"file": "a.txt"}]))
    assert outcome.outcome == "accepted"
    assert ["ModelAnswered", "ToolCalled"] in batches
    assert ["ToolReturned", "ModelAsked"] in batches
    assert batches.count(["ModelAnswered"]) <= 1, "the last one, whose role goes for its files to the disk"
