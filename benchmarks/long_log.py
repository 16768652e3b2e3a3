"""Logs of a million events: folding does not fall off, and looking costs what is shown, not what was recorded.

A long log has the plan of a short one; its forty subtasks are sent back more often. It is made once, by the rules
themselves, which takes minutes, and kept in the folder for temporary files. So these run only by name:
`python -m benchmarks long_log`.
"""

import asyncio
import hashlib
import sqlite3
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import cast

import orjson

from benchmarks.fold import DIGEST, work
from benchmarks.harness import Absolute, Benchmark
from bus import events, topics
from bus import setup as setups
from bus.envelope import Envelope, Stamp
from bus.event_log import Owner
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import (
    AgentJoined,
    Effect,
    Event,
    GoalSubmitted,
    ResultSubmitted,
    ReviewGiven,
    ReviewRequested,
    RunResumed,
    SubtaskAssigned,
)
from bus.mark_store import MemoryMarkStore
from bus.pubsub import Bus
from bus.setup import FileChange, Limits, RoleSetup, Setup, Subtask
from bus.store import open_store
from bus.transports.memory import MemoryTransport
from swarm.commands.looking import outcome_now
from swarm.core.apply import apply
from swarm.core.decide import decide
from swarm.core.state import RunState
from swarm.orchestrator import Orchestrator
from swarm.runs import finding
from swarm.runs.clock import RunClock
from swarm.runs.folding import fold
from swarm.runs.marks import EVERY, Marker, keep, maker
from swarm.runtime import new_id
from swarm.views.timeline import Timeline

THOUSAND, TEN_THOUSAND, MILLION = 1_000, 10_000, 1_000_000
SUBTASKS, STEPS = 40, 20
RUN = "bench-20260101-abcdef"
OWNER = Owner("bench", 1, "now")
TIME = "2026-01-01T00:00:00.000Z"
BATCH = 500
SHOWN = 100


def setup() -> Setup:
    plan = tuple(
        Subtask(
            id=f"part-{number}",
            role="coder",
            instruction=f"Write part {number} as the goal says it.",
            accept=({"file": f"part-{number}.md"},),
        )
        for number in range(SUBTASKS)
    )
    coder = RoleSetup(model="fake:model", tools=("read_file", "write_file"), agents=64, about="Writes files.")
    critic = RoleSetup(model="fake:model", agents=64)
    limits = Limits(subtasks=SUBTASKS, parallel=16, tokens=10**12, attempts=10**6, time_ms=10**12)
    return Setup(name="bench", goal="Write all.", roles={"coder": coder, "critic": critic}, plan=plan, limits=limits)


def attempt(number: int, at: int) -> list[Event]:
    """Return what one attempt tells: `STEPS` times ask, call a tool, ask again; and a result unlike the one before."""
    told: list[Event] = []
    effects = cast("list[Effect]", work(number)[:-1])
    for step in range(STEPS):
        told += [event.model_copy(update={"path": (step * 3 + event.path[0],)}) for event in effects]
    change = FileChange(path=f"part-{number}.md", base=None, sha256=DIGEST, bytes=1200)
    return [*told, ResultSubmitted(text=f"It is written, as of event {at}.", files=(change,), effects=len(told))]


def history(count: int) -> Iterator[Envelope]:
    """Yield the first `count` events of a run, made by the rules; each attempt is sent back until the last is due."""
    state, requests, ready = RunState(RUN), list[Envelope](), list[Envelope]()

    def record(event: Event, subject: str | None = None, cause: str | None = None) -> None:
        while True:
            at = state.position + 1
            source = "/swarm/agent/local/coder" if subject and cause else "/swarm/hub/local"
            ready.append(
                Envelope(
                    f"{at:032x}",
                    source,
                    event,
                    RUN,
                    TIME,
                    subject,
                    cause or ready[-1].id if ready else None,
                    at,
                    at * 7,
                )
            )
            apply(state, ready[-1])
            if isinstance(event, SubtaskAssigned | ReviewRequested):
                requests.append(ready[-1])
            decision = decide(state)
            if decision is None:
                return
            event, subject, cause = decision.event, decision.subject, decision.cause

    record(GoalSubmitted(setup=setup()))
    for role in ("coder", "critic"):
        record(AgentJoined(agent=f"local/{role}", roles=(role,), slots=64))
    while requests and state.position < count:
        request = requests.pop(0)
        asked = request.event
        if isinstance(asked, SubtaskAssigned):
            for event in attempt(int(asked.subtask.id.partition("-")[2]), request.sequence):
                record(event, request.subject, request.id)
        else:
            record(ReviewGiven(accepted=False, feedback="More of it, please."), request.subject, request.id)
        yield from ready[:-1]
        del ready[:-1]
    yield from ready


@cache
def folder(count: int) -> Path:
    """Return the folder of a log with this many events, made once, with marks that are made anew for other rules."""
    sources = [Path(__file__), Path(events.__file__ or ""), Path(setups.__file__ or "")]
    version = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    place = Path(tempfile.gettempdir()) / "eventswarm-benchmarks" / f"{version}-{count}"
    if not place.exists():
        made = place.with_name(f"new-{place.name}-{new_id()}")
        asyncio.run(_write(made, count))
        made.rename(place)
    asyncio.run(_mark(place))
    return place


async def _mark(place: Path) -> None:
    async with SqliteEventLog(place) as log:
        length, _ = await log.head(RUN)
        mark = await log.marks.newest(RUN, maker())
        if length < EVERY or (mark is not None and mark.position == length):
            return
        state = RunState(RUN)
        marker = Marker(log.marks, state)
        async for envelope in log.read(RUN):
            apply(state, envelope)
            marker.look()
        keep(log.marks, state)


async def _write(place: Path, count: int) -> None:
    async with SqliteEventLog(place) as log:
        epoch = await log.create(RUN, OWNER)
        batch = list[Envelope]()
        for envelope in history(count):
            if envelope.sequence > count:
                break
            batch.append(envelope)
            if len(batch) == BATCH or envelope.sequence == count:
                await log.append(RUN, batch[0].sequence - 1, epoch, batch)
                batch.clear()
        await log.release(RUN, epoch)


def folding(count: int) -> float:
    """Fold a log from its beginning, whatever marks there are."""
    place = folder(count)

    async def read() -> float:
        async with SqliteEventLog(place, read_only=True) as log:
            log.marks = MemoryMarkStore(lambda *_: None)
            begun = perf_counter()
            state = await fold(log, RUN)
            seconds = perf_counter() - begun
        if state.position != count:
            raise RuntimeError(f"{state.position} of {count} events were read")
        return seconds

    return asyncio.run(read())


def decoding(count: int) -> float:
    """Read the same rows and decode their JSON."""
    connection = sqlite3.connect(folder(count) / "log.db")
    begun = perf_counter()
    for (line,) in connection.execute("SELECT line FROM events ORDER BY run, position"):
        orjson.loads(line)
    seconds = perf_counter() - begun
    connection.close()
    return seconds


def showing(count: int, end: int | None = None) -> float:
    """Do what `swarm show [--at N]` does before it prints."""
    place = folder(count)

    async def show() -> float:
        begun = perf_counter()
        async with open_store(place, read_only=True) as store:
            info = await finding.find(store, "last")
            state = await fold(store.log, info.run, end=end)
            (await outcome_now(state, info)).model_dump_json()
        return perf_counter() - begun

    return asyncio.run(show())


def telling(count: int) -> float:
    """Do what `swarm log --from N` does before it prints, for the last hundred events but ten."""
    place = folder(count)

    async def tell() -> float:
        begun = perf_counter()
        async with open_store(place, read_only=True) as store:
            info = await finding.find(store, "last")
            start = info.length - SHOWN - 10
            timeline = Timeline.after(await fold(store.log, info.run, end=start - 1))
            async for envelope in store.log.read(info.run, start, start + SHOWN):
                timeline.tell(envelope).line()
        return perf_counter() - begun

    return asyncio.run(tell())


def resuming(count: int) -> float:
    """Take a run whose process is gone, as `swarm resume` does, until what follows is durable; in milliseconds."""
    place = folder(count)

    async def resume(copy: Path) -> float:
        begun = perf_counter()
        async with open_store(copy) as store:
            info = await finding.find(store, "last")
            state = await fold(store.log, info.run)
            epoch = await store.log.take(info.run, OWNER, previous=None)
            async with MemoryTransport() as transport:
                bus = Bus(transport)
                stamp = Stamp("/swarm/hub/local", new_id, lambda: TIME)
                orchestrator = Orchestrator(
                    state, store.log, store.files, bus, stamp, RunClock(state.elapsed_ms), epoch
                )
                async with bus.subscribe(topics.run_replies("local", info.run)) as inbox:
                    await orchestrator.run(inbox, RunResumed(changes={"time_ms": 1}))  # at its limit: it ends with this
        return (perf_counter() - begun) * 1e3

    with tempfile.TemporaryDirectory() as copy, sqlite3.connect(place / "log.db") as source:
        with sqlite3.connect(Path(copy) / "log.db") as target:
            source.backup(target)
        return asyncio.run(resume(Path(copy)))


BENCHMARKS = (
    Absolute("a run of 300 events resumed, imports not counted", lambda: resuming(300), "ms", 30),
    Benchmark(
        "showing a million events / showing a thousand", lambda: showing(MILLION), lambda: showing(THOUSAND), 0.5
    ),
    Benchmark(
        "showing event 765,432 of a million / showing a thousand",
        lambda: showing(MILLION, 765_432),
        lambda: showing(THOUSAND),
        0.5,
    ),
    Benchmark(
        "the log from an event near the end on / the same of a thousand",
        lambda: telling(MILLION),
        lambda: telling(THOUSAND),
        0.5,
    ),
    Benchmark(
        "10,000 events into RunState / read and decode JSON",
        lambda: folding(TEN_THOUSAND),
        lambda: decoding(TEN_THOUSAND),
        0.25,
        TEN_THOUSAND,
    ),
    Benchmark(
        "1,000,000 events into RunState / read and decode JSON",
        lambda: folding(MILLION),
        lambda: decoding(MILLION),
        0.25,
        MILLION,
    ),
)
