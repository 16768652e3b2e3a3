"""How fast and how compact the event log is, each against what bare SQLite does with the same events.

The reference is durable at each commit too, and encodes the same events with the same codec.
"""

import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from benchmarks.harness import Absolute, Benchmark
from bus.codec import encode
from bus.envelope import Envelope
from bus.event_log import Owner
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import (
    CallGranted,
    Fact,
    ModelAnswered,
    ModelAsked,
    ResultSubmitted,
    SubtaskAssigned,
    ToolCalled,
    ToolReturned,
    Usage,
)
from bus.setup import Subtask

ONE_WRITER = 100
WRITERS, EACH = 64, 50
OWNER = Owner("bench", 1, "now")
DIGEST = "5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"


def kinds() -> list[Fact]:
    """Return the events of one attempt, about as large as real ones without long texts."""
    key = {"attempt": 1, "path": (3,)}
    message = {"role": "user", "content": "Which of the vendors delivers on Sundays, and for how much?"}
    return [
        SubtaskAssigned(
            subtask=Subtask(id="facts", role="researcher", instruction="List every price in material/."),
            attempt=1,
            agent="researcher-1",
            deadline_ms=600_000,
        ),
        ModelAsked(**key, number=1, digest=DIGEST, model="m", messages=(message,), input_bound=900, max_tokens=4096),
        CallGranted(**key, number=1, max_tokens=4096),
        ModelAnswered(**key, number=1, text="The second one does.", usage=Usage(input=431, output=6)),
        ToolCalled(**key, digest=DIGEST, tool="write_file", arguments={"path": "facts.md", "text": "12 EUR"}),
        ToolReturned(**key, digest=DIGEST, tool="write_file", arguments={"path": "facts.md"}, output="1 line written"),
        ResultSubmitted(text="All prices are in facts.md.", effects=5),
    ]


def envelopes(count: int, run: str = "brief-20260101-abcdef") -> list[Envelope]:
    """Return envelopes at positions 1 … count."""
    events = kinds()
    return [
        Envelope(
            id=f"{run}-{position:012x}",
            source="/swarm/hub/5f3a9c01",
            event=events[position % len(events)],
            correlation_id=run,
            time="2026-01-01T00:00:00.000Z",
            subject="facts",
            causation_id=f"{run}-{position - 1:012x}",
            sequence=position,
            elapsed_ms=position * 7,
        )
        for position in range(1, count + 1)
    ]


def bare(folder: Path) -> sqlite3.Connection:
    """Open what somebody in a hurry would write: one table, write-ahead log, durable commits."""
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE events (number INTEGER PRIMARY KEY, run TEXT, position INTEGER, line BLOB)")
    return connection


def bare_appends(folder: Path, records: list[Envelope], each: int) -> float:
    """Insert `each` records a transaction, encoding included."""
    connection = bare(folder)
    begun = time.perf_counter()
    for start in range(0, len(records), each):
        connection.execute("BEGIN IMMEDIATE")
        for record in records[start : start + each]:
            row = (record.correlation_id, record.sequence, encode(record))
            connection.execute("INSERT INTO events (run, position, line) VALUES (?, ?, ?)", row)
        connection.execute("COMMIT")
    seconds = time.perf_counter() - begun
    connection.close()
    return seconds


def one_writer_ours(folder: Path, count: int = ONE_WRITER) -> float:
    """Append `count` records, each awaited before the next."""
    return asyncio.run(_writers(folder, 1, count))


def one_writer_reference(folder: Path, count: int = ONE_WRITER) -> float:
    return bare_appends(folder, envelopes(count), 1)


def many_writers_ours(folder: Path, writers: int = WRITERS, count: int = EACH) -> float:
    """Append to 64 runs at once, each writer awaiting each of its records."""
    return asyncio.run(_writers(folder, writers, count))


def many_writers_reference(folder: Path, writers: int = WRITERS, count: int = EACH) -> float:
    return bare_appends(folder, envelopes(writers * count), 100)


async def _writers(folder: Path, writers: int, count: int) -> float:
    async with SqliteEventLog(folder) as log:
        runs = {
            f"run-20260101-{number:06x}": envelopes(count, f"run-20260101-{number:06x}") for number in range(writers)
        }
        epochs = {run: await log.create(run, OWNER) for run in runs}

        async def write(run: str) -> None:
            for record in runs[run]:
                await log.append(run, record.sequence - 1, epochs[run], [record])

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(write(run), name=run)
        return time.perf_counter() - begun


def read_ours(folder: Path, count: int = 10_000) -> float:
    """Read a log of `count` records as envelopes."""
    return asyncio.run(_read(folder, count))


async def _read(folder: Path, count: int) -> float:
    async with SqliteEventLog(folder) as log:
        epoch = await log.create("run", OWNER)
        await log.append("run", 0, epoch, envelopes(count))
        begun = time.perf_counter()
        total = sum([envelope.sequence > 0 async for envelope in log.read("run")])
        seconds = time.perf_counter() - begun
    if total != count:
        raise RuntimeError(f"{total} of {count} records were read")
    return seconds


def read_reference(folder: Path, count: int = 10_000) -> float:
    """Read the same lines with bare SQLite and `orjson.loads`."""
    bare_appends(folder, envelopes(count), count)
    connection = sqlite3.connect(folder / "bare.db")
    begun = time.perf_counter()
    for (line,) in connection.execute("SELECT line FROM events ORDER BY number"):
        orjson.loads(line)
    seconds = time.perf_counter() - begun
    connection.close()
    return seconds


def size_ours(folder: Path, count: int = 10_000) -> float:
    """Return the bytes on disk of `count` records, index and hashes included."""
    asyncio.run(_read(folder, count))
    return (folder / "log.db").stat().st_size


def size_reference(folder: Path, count: int = 10_000) -> float:
    """Return the bytes of their JSON; `folder` is not used."""
    del folder
    return sum(len(encode(record)) for record in envelopes(count))


def in_a_folder(ask: Callable[[Path], float]) -> Callable[[], float]:
    """Return a measure that has a folder of its own."""

    def measure() -> float:
        with tempfile.TemporaryDirectory() as folder:
            return ask(Path(folder))

    return measure


def size_ratio(folder: Path, count: int = 10_000) -> float:
    return size_ours(folder, count) / size_reference(folder, count)


BENCHMARKS = (
    Benchmark(
        "append awaited by one writer / SQLite, 1 a transaction",
        in_a_folder(one_writer_ours),
        in_a_folder(one_writer_reference),
        0.75,
        ONE_WRITER,
    ),
    Benchmark(
        "append awaited by 64 writers / SQLite, 100 a transaction",
        in_a_folder(many_writers_ours),
        in_a_folder(many_writers_reference),
        0.50,
        WRITERS * EACH,
    ),
    Benchmark(
        "reading 10,000 events / SQLite and JSON",
        in_a_folder(read_ours),
        in_a_folder(read_reference),
        0.25,
        10_000,
    ),
    Absolute("bytes on disk of 10,000 events / their JSON", in_a_folder(size_ratio), "x", 1.25),
)
