"""Reading a log of 10,000 events into `RunState`, against reading the same rows and decoding their JSON.

The log is that of one run: subtasks side by side, each with two calls of its model and one of a tool. It is made once,
by the rules themselves, so that it folds.
"""

import asyncio
import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from time import perf_counter

import orjson

from benchmarks.harness import Benchmark
from bus.envelope import Envelope
from bus.event_log import Owner
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import (
    AgentJoined,
    Event,
    GoalSubmitted,
    ModelAnswered,
    ModelAsked,
    ResultSubmitted,
    SubtaskAssigned,
    ToolCalled,
    ToolReturned,
    Usage,
)
from bus.setup import FileChange, Limits, RoleSetup, Setup, Subtask
from swarm.core.apply import apply
from swarm.core.decide import decide
from swarm.core.state import RunState
from swarm.runs.folding import fold

EVENTS = 10_000
RUN = "bench-20260101-abcdef"
DIGEST = "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"
FOLDER = tempfile.TemporaryDirectory(prefix="fold-")


def setup(subtasks: int) -> Setup:
    plan = tuple(
        Subtask(id=f"part-{number}", role="coder", instruction=f"Write part {number} as the goal says it.")
        for number in range(subtasks)
    )
    coder = RoleSetup(model="fake:model", tools=("read_file", "write_file"), agents=64, about="Writes files.")
    return Setup(
        name="bench",
        goal="Write all the parts.",
        roles={"coder": coder, "critic": RoleSetup(model="fake:model")},
        plan=plan,
        limits=Limits(subtasks=subtasks, parallel=64, tokens=10**9),
    )


def work(number: int) -> list[Event]:
    """Return what one attempt tells: eight events with those that the orchestrator adds."""
    key = {"attempt": 1}
    asked = {"digest": DIGEST, "model": "fake:model", "input_bound": 900, "max_tokens": 4096, "number": 1}
    text = f"Your subtask:\nWrite part {number} as the goal says it, with all that belongs to it, and try it."
    path = f"part-{number}.md"
    change = FileChange(path=path, base=None, sha256=DIGEST, bytes=1200)
    tool = {"digest": DIGEST, "tool": "write_file", "arguments": {"path": path, "content": "A line of text.\n" * 8}}
    usage = Usage(input=431, output=60)
    return [
        ModelAsked(**key, path=(0,), **asked, messages=({"role": "user", "content": text},)),
        ModelAnswered(**key, path=(0,), number=1, text=None, usage=usage, finish="tool_calls"),
        ToolCalled(**key, path=(1,), **tool),
        ToolReturned(**key, path=(1,), **tool, output=f"{path} written", files=(change,)),
        ModelAsked(**key, path=(2,), **asked, messages=({"role": "tool", "content": f"{path} written"},)),
        ModelAnswered(**key, path=(2,), number=1, text="It is written.", usage=usage),
        ResultSubmitted(text="It is written.", files=(change,), effects=6),
    ]


def history(count: int) -> list[Envelope]:
    """Return the first `count` events of a run, made by the rules."""
    state, records = RunState(RUN), []

    def record(event: Event, subject: str | None = None, cause: str | None = None) -> None:
        at = state.position + 1
        source = "/swarm/hub/local" if subject is None else "/swarm/agent/local/coder"
        time = "2026-01-01T00:00:00.000Z"
        records.append(Envelope(f"{at:032x}", source, event, RUN, time, subject, cause, at, at * 7))
        apply(state, records[-1])
        while (decision := decide(state)) is not None:
            at = state.position + 1
            records.append(
                Envelope(
                    f"{at:032x}",
                    "/swarm/hub/local",
                    decision.event,
                    RUN,
                    time,
                    decision.subject,
                    decision.cause or records[-1].id,
                    at,
                    at * 7,
                )
            )
            apply(state, records[-1])

    record(GoalSubmitted(setup=setup(count // 8)))
    record(AgentJoined(agent="local/coder", roles=("coder",), slots=64))
    done = 0
    while done < len(records) < count:
        request = records[done]
        done += 1
        if isinstance(request.event, SubtaskAssigned):
            for event in work(int(request.event.subtask.id.partition("-")[2])):
                record(event, request.subject, request.id)
    return records[:count]


@cache
def folder(count: int) -> Path:
    """Return the folder of a log with this many events; it is made once."""
    place = Path(FOLDER.name) / str(count)
    records = history(count)
    if len(records) < count:
        raise RuntimeError(f"the run has {len(records)} events, not {count}")

    async def write() -> None:
        async with SqliteEventLog(place) as log:
            epoch = await log.create(RUN, Owner("bench", 1, "now"))
            await log.append(RUN, 0, epoch, records)

    asyncio.run(write())
    return place


def ours(count: int = EVENTS) -> float:
    place = folder(count)

    async def read() -> float:
        async with SqliteEventLog(place, read_only=True) as log:
            begun = perf_counter()
            state = await fold(log, RUN)
            seconds = perf_counter() - begun
        if state.position != count:
            raise RuntimeError(f"{state.position} of {count} events were read")
        return seconds

    return asyncio.run(read())


def reference(count: int = EVENTS) -> float:
    connection = sqlite3.connect(folder(count) / "log.db")
    begun = perf_counter()
    for (line,) in connection.execute("SELECT line FROM events ORDER BY run, position"):
        orjson.loads(line)
    seconds = perf_counter() - begun
    connection.close()
    return seconds


BENCHMARKS = (Benchmark("10,000 events into RunState / read and decode JSON", ours, reference, 0.25, EVENTS),)
