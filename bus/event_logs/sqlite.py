"""The default event log: SQLite, one file for all runs of a folder, durable on every append.

Each record is stored as exactly its line of JSON, with its hash; `sqlite3 log.db` shows it as it is. Any number of
processes may write different runs in one file, and read while others write.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from bus.chain import START, check_turn, lines_after, link
from bus.codec import decode
from bus.database import Database
from bus.envelope import Envelope
from bus.errors import BadEnvelope, Conflict, Damaged, NotFound
from bus.event_log import Owner, RunInfo
from bus.file_store import SqliteFileStore

_PAGE = 256
_FOREVER = 1 << 62


@dataclass(slots=True)
class _Head:
    """Where a run stands. `epoch` is its owner's, None while nobody owns it."""

    number: int
    epoch: int | None
    position: int
    digest: bytes
    total: int


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one `append` wants written."""

    run: str
    expected: int
    epoch: int
    lines: Sequence[bytes]
    time: str


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Positions of a log that lie in one run's own records."""

    number: int
    start: int
    end: int


class SqliteEventLog:
    """Meets `bus.event_log.EventLog`; `files` is the file store beside it. The arguments are those of `Database`."""

    def __init__(
        self,
        folder: Path | str,
        *,
        commit: Literal["inline", "thread"] = "inline",
        read_only: bool = False,
        patience_s: float = 30.0,
    ) -> None:
        self._database = Database(Path(folder), commit=commit, read_only=read_only, patience_s=patience_s)
        self._heads: dict[str, _Head] = {}
        self._database.forget = self._heads.clear
        self.files = SqliteFileStore(self._database)

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._database.__aexit__(*exc)

    async def create(self, run: str, owner: Owner, *, parent: tuple[str, int] | None = None) -> int:
        """Begin a run. See `EventLog.create`; raises `NotFound` where the parent has no such position."""

        def insert(connection: sqlite3.Connection) -> int:
            if connection.execute("SELECT 1 FROM runs WHERE run = ?", (run,)).fetchone():
                raise Conflict(f"run {run!r} exists already")
            origin, begins = None, 0
            if parent is not None:
                head, begins = _head(connection, parent[0]), parent[1]
                if not 0 <= begins <= head.position:
                    raise NotFound(f"run {parent[0]!r} has no position {begins}: it ends at {head.position}")
                origin = head.number
            connection.execute(
                "INSERT INTO runs (run, epoch, host, pid, started, parent, parent_position)"
                " VALUES (?, 1, ?, ?, ?, ?, ?)",
                (run, owner.host, owner.pid, owner.started, origin, begins),
            )
            return 1

        return await self._database.write(insert)

    async def take(self, run: str, owner: Owner, *, previous: Owner | None) -> int:
        """Become the owner of a run. See `EventLog.take`."""

        def update(connection: sqlite3.Connection) -> int:
            row = connection.execute("SELECT epoch, host, pid, started FROM runs WHERE run = ?", (run,)).fetchone()
            if row is None:
                raise NotFound(f"there is no run {run!r}")
            current = _owner(*row[1:])
            if current != previous:
                raise Conflict(f"run {run!r} belongs to {current} by now, not to {previous}")
            self._heads.pop(run, None)
            connection.execute(
                "UPDATE runs SET epoch = epoch + 1, host = ?, pid = ?, started = ? WHERE run = ?",
                (owner.host, owner.pid, owner.started, run),
            )
            return int(row[0]) + 1

        return await self._database.write(update)

    async def release(self, run: str, epoch: int) -> None:
        """Stop being the owner."""

        def update(connection: sqlite3.Connection) -> None:
            _head(connection, run)
            self._heads.pop(run, None)
            connection.execute(
                "UPDATE runs SET host = NULL, pid = NULL, started = NULL WHERE run = ? AND epoch = ?", (run, epoch)
            )

        await self._database.write(update)

    async def append(self, run: str, expected: int, epoch: int, records: Sequence[Envelope]) -> None:
        """Record envelopes. See `EventLog.append`; raises `BadEnvelope` for what cannot be written."""
        lines = lines_after(expected, records)
        batch = _Batch(run, expected, epoch, lines, records[0].time if records else "")
        await self._database.write(partial(self._insert, batch), sum(map(len, lines)))

    def _insert(self, batch: _Batch, connection: sqlite3.Connection) -> None:
        run = batch.run
        head = self._heads.get(run)
        if head is None:
            head = self._heads[run] = _head(connection, run)
        check_turn(run, owned=head.epoch, length=head.position, epoch=batch.epoch, expected=batch.expected)
        if head.total == 0 and batch.lines:
            connection.execute("UPDATE runs SET created = ? WHERE number = ?", (batch.time, head.number))
        for line in batch.lines:
            head.position += 1
            head.total += len(line)
            head.digest = link(head.digest, line)
            connection.execute(
                "INSERT INTO events (run, position, total, hash, line) VALUES (?, ?, ?, ?, ?)",
                (head.number, head.position, head.total, head.digest, line),
            )

    async def read(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        """Yield a run's envelopes. See `EventLog.read`."""
        position = max(start, 1)
        async for page in self._pages(run, position, end, "line"):
            for stored, line in page:
                if stored != position:
                    raise _gap(run, position)
                try:
                    envelope = decode(line)
                except BadEnvelope as error:
                    raise Damaged(f"run {run!r}: the record at position {position} cannot be read: {error}") from error
                yield envelope
                position += 1

    async def runs(self) -> Sequence[RunInfo]:
        """List the runs, newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT runs.run, epoch, coalesce(position, parent_position), coalesce(total, 0), created,"
                " host, pid, started FROM runs LEFT JOIN events ON events.run = runs.number AND position ="
                " (SELECT max(position) FROM events WHERE events.run = runs.number) ORDER BY runs.number DESC"
            ).fetchall()
        return [RunInfo(row[0], row[1], row[2], row[3], _owner(*row[5:]), row[4]) for row in rows]

    async def head(self, run: str) -> tuple[int, str]:
        """Return the last position and its hash."""
        with self._database.reading() as connection:
            head = _head(connection, run)
        return head.position, head.digest.hex()

    async def verify(self, run: str) -> int:
        """Recompute the chain of hashes and return the length."""
        position, digest = 0, START
        async for page in self._pages(run, 1, None, "line, hash"):
            for stored, line, digest_stored in page:
                position += 1
                if stored != position:
                    raise _gap(run, position)
                digest = link(digest, line)
                if digest != digest_stored:
                    raise Damaged(f"run {run!r}: the record at position {position} is not the one that was written")
        return position

    async def _pages(self, run: str, start: int, end: int | None, columns: str) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Yield rows of (position, *columns) in pages: small reads, between which others have their turn."""
        with self._database.reading() as connection:
            stretches = _stretches(connection, run)
        for stretch in stretches:
            position = max(start, stretch.start)
            last = min(stretch.end, _FOREVER if end is None else end)
            while position <= last:
                with self._database.reading() as connection:
                    page = _page(connection, columns, stretch.number, position, last)
                if not page:
                    if stretch.end == _FOREVER:
                        return
                    raise _gap(run, position)
                yield page
                position = page[-1][0] + 1
                await asyncio.sleep(0)


def _page(connection: sqlite3.Connection, columns: str, number: int, start: int, last: int) -> list[tuple[Any, ...]]:
    query = f"SELECT position, {columns} FROM events WHERE run = ? AND position BETWEEN ? AND ?"  # noqa: S608 - ours
    return connection.execute(f"{query} ORDER BY position LIMIT ?", (number, start, last, _PAGE)).fetchall()


_ORIGIN = "SELECT number, parent, parent_position FROM runs WHERE "


def _head(connection: sqlite3.Connection, run: str) -> _Head:
    row = connection.execute("SELECT number, epoch, host, parent_position FROM runs WHERE run = ?", (run,)).fetchone()
    if row is None:
        raise NotFound(f"there is no run {run!r}")
    number, epoch, host, begins = row
    last = connection.execute(
        "SELECT position, hash, total FROM events WHERE run = ? ORDER BY position DESC LIMIT 1", (number,)
    ).fetchone()
    position, digest, total = last or (begins, _hash_at(connection, run, begins), 0)
    return _Head(number, None if host is None else epoch, position, digest, total)


def _hash_at(connection: sqlite3.Connection, run: str, position: int) -> bytes:
    """Return the hash at a position of a run's log, be it in a forebear's records."""
    if position == 0:
        return START
    number = next(it.number for it in _stretches(connection, run) if it.start <= position <= it.end)
    row = connection.execute("SELECT hash FROM events WHERE run = ? AND position = ?", (number, position)).fetchone()
    if row is None:
        raise _gap(run, position)
    return bytes(row[0])


def _stretches(connection: sqlite3.Connection, run: str) -> list[_Stretch]:
    """Return where a run's records lie, from position 1 on: its forebears' first, its own last."""
    row = connection.execute(f"{_ORIGIN} run = ?", (run,)).fetchone()
    if row is None:
        raise NotFound(f"there is no run {run!r}")
    stretches: list[_Stretch] = []
    end = _FOREVER
    while row is not None:
        number, parent, begins = row
        stretches.insert(0, _Stretch(number, begins + 1, end))
        end = min(end, begins)
        row = connection.execute(f"{_ORIGIN} number = ?", (parent,)).fetchone()
    return stretches


def _owner(host: str | None, pid: int, started: str) -> Owner | None:
    return None if host is None else Owner(host, pid, started)


def _gap(run: str, position: int) -> Damaged:
    return Damaged(f"run {run!r}: the record at position {position} is missing")
