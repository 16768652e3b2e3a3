"""How fast and how compact the event log is, each against what bare SQLite does with the same events.

Every question is a pair of functions that return seconds (or bytes): `ours` and `reference`, over the same events.
`python -m benchmarks.event_log` asks them all, interleaved, and prints the ratio of the medians.
"""

import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from bus.codec import decode, encode
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


def one_writer_ours(folder: Path, count: int = 100) -> float:
    """Append `count` records, each awaited before the next."""
    return asyncio.run(_writers(folder, 1, count))


def one_writer_reference(folder: Path, count: int = 100) -> float:
    return bare_appends(folder, envelopes(count), 1)


def many_writers_ours(folder: Path, writers: int = 64, count: int = 50) -> float:
    """Append to 64 runs at once, each writer awaiting each of its records."""
    return asyncio.run(_writers(folder, writers, count))


def many_writers_reference(folder: Path, writers: int = 64, count: int = 50) -> float:
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


def codec_us(count: int = 20_000) -> tuple[float, float]:
    """Return the microseconds that encoding and decoding one small event take."""
    records = envelopes(count)
    begun = time.perf_counter()
    lines = [encode(record) for record in records]
    encoded = time.perf_counter()
    for line in lines:
        decode(line)
    return (encoded - begun) / count * 1e6, (time.perf_counter() - encoded) / count * 1e6


QUESTIONS: dict[str, tuple[Callable[[Path], float], Callable[[Path], float], str]] = {
    "append, one writer, each awaited": (one_writer_ours, one_writer_reference, "at least 0.75x the speed"),
    "append, 64 writers (100 a transaction)": (many_writers_ours, many_writers_reference, "at least 0.50x the speed"),
    "read and decode 10,000 events": (read_ours, read_reference, "at least 0.50x the speed"),
    "bytes on disk to bytes of JSON": (size_ours, size_reference, "at most 1.25x the size"),
}


def measure(ask: Callable[[Path], float]) -> float:
    """Ask one function once, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return ask(Path(folder))


def main(rounds: int = 9) -> None:
    for question, (ours, reference, goal) in QUESTIONS.items():
        pairs = [(measure(ours), measure(reference)) for _ in range(rounds)]
        mine = statistics.median(pair[0] for pair in pairs)
        bare_one = statistics.median(pair[1] for pair in pairs)
        if "size" in goal:
            print(f"{question}: {mine / bare_one:.3f}x ({goal})")
        else:
            print(f"{question}: {bare_one / mine:.2f}x, {mine * 1e3:.0f} ms to {bare_one * 1e3:.0f} ms ({goal})")
    encoding, decoding = min(codec_us() for _ in range(rounds))
    print(f"codec: {encoding:.1f} us to encode, {decoding:.1f} us to decode a small event (each under 15)")


if __name__ == "__main__":
    main()
