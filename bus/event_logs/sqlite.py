"""The default event log: SQLite, one file for all runs of a folder, durable on every append.

Each record is stored as exactly its line of JSON, with its hash; `sqlite3 log.db` shows it as it is. Any number of
processes may write different runs in one file, and read while others write.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from bus.chain import (
    START,
    check_head,
    check_name,
    check_owner,
    check_turn,
    is_text,
    lines_after,
    link,
    read_lines,
    read_only,
)
from bus.codec import decode
from bus.damage import unindexed
from bus.database import Database
from bus.database_file import NAME, RECOVER, Connect, connect
from bus.envelope import Envelope
from bus.errors import BadEnvelope, BusError, Conflict, Damaged, LogError, NotFound
from bus.event_log import MarkStore, Owned, Owner, RunInfo
from bus.file_store import SqliteFileStore
from bus.mark_store import SqliteMarkStore

_PAGE = 256
_FOREVER = 1 << 62
_LINE = "CAST(coalesce(line, x'') AS BLOB)"
"""Bytes, also where a damaged file has something else in its place."""
_SWEPT = 2_000
"""Records removed in one transaction: others that write wait for no more."""


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
    """Meets `bus.event_log.EventLog` and `Heartbeats`; `files` is the file store beside it.

    The arguments are those of `Database`.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        read_only: bool = False,
        patience_s: float = 30.0,
        connect: Connect = connect,
    ) -> None:
        self._database = Database(Path(folder), read_only=read_only, patience_s=patience_s, connect=connect)
        self._heads: dict[str, _Head] = {}
        self._database.forget = self._heads.clear
        self.files = SqliteFileStore(self._database)
        self.marks: MarkStore = SqliteMarkStore(self._database, read_only=read_only)

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        try:
            with self._database.reading() as connection:
                self._database.damage = self._database.damage or unindexed(connection)
        except Damaged as error:
            self._database.damage = self._database.damage or str(error)
        except BaseException:
            await self._database.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._database.__aexit__(*exc)

    @property
    def failure(self) -> LogError | None:
        """What ended writing. See `EventLog.failure`."""
        return self._database.failure

    async def create(self, run: str, owner: Owner, *, parent: tuple[str, int] | None = None) -> int:
        """Begin a run. See `EventLog.create`; raises `NotFound` where the parent has no such position."""
        check_name(run)

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
            epoch, imported, *found = _row(connection, "epoch, imported, host, pid, started", run)
            if imported:
                raise read_only(run)
            check_owner(run, _owner(*found), previous)
            self._heads.pop(run, None)
            connection.execute(
                "UPDATE runs SET epoch = epoch + 1, host = ?, pid = ?, started = ? WHERE run = ?",
                (owner.host, owner.pid, owner.started, run),
            )
            return int(epoch) + 1

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

    async def adopt(self, run: str, lines: Iterable[bytes]) -> tuple[int, str]:
        """Take in a whole run from elsewhere. See `EventLog.adopt`."""
        check_name(run)

        def insert(connection: sqlite3.Connection) -> tuple[int, str]:
            if connection.execute("SELECT 1 FROM runs WHERE run = ?", (run,)).fetchone():
                raise Conflict(f"run {run!r} exists already")
            connection.execute("SAVEPOINT adopted")  # a refusal in the middle leaves nothing
            try:
                row = connection.execute("INSERT INTO runs (run, epoch, imported) VALUES (?, 1, 1)", (run,))
                head = _Head(row.lastrowid or 0, None, 0, START, 0)
                for envelope, line in read_lines(lines):
                    _add(connection, head, envelope.time, [line])
            except BusError:
                connection.execute("ROLLBACK TO adopted")
                connection.execute("RELEASE adopted")
                raise
            connection.execute("RELEASE adopted")
            return head.position, head.digest.hex()

        return await self._database.write(insert)

    async def remove(self, run: str, *, previous: Owner | None) -> None:
        """Remove a run. See `EventLog.remove`. What a crash in the middle leaves goes with the next."""

        def unlist(connection: sqlite3.Connection) -> None:
            number, *found = _row(connection, "number, host, pid, started", run)
            check_owner(run, _owner(*found), previous)
            self._heads.pop(run, None)
            connection.execute(  # under a name that no run can have, so that its own is free
                "UPDATE runs SET removed = 1, run = '/removed/' || number, host = NULL, pid = NULL, started = NULL"
                " WHERE number = ?",
                (number,),
            )

        await self._database.write(unlist)
        more = True
        while more:
            more = await self._database.write(_sweep)

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
        _add(connection, head, batch.time, batch.lines)

    async def read(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        """Yield a run's envelopes. See `EventLog.read`."""
        position = max(start, 1)
        async for page in self._pages(run, position, end, _LINE):
            for stored, line in page:
                if stored != position:
                    raise _gap(run, position)
                try:
                    envelope = decode(line)
                except BadEnvelope as error:
                    raise _unreadable(run, position, self._with_damage(error)) from error
                yield envelope
                position += 1

    async def lines(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield a run's records as they were written. See `EventLog.lines`."""
        position = max(start, 1)
        async for page in self._pages(run, position, end, _LINE):
            for stored, line in page:
                if stored != position:
                    raise _gap(run, position)
                yield line
                position += 1

    async def all_lines(self) -> AsyncIterator[bytes]:
        """Yield every line there is. See `EventLog.all_lines`."""
        last = 0
        while True:
            with self._database.reading() as connection:
                query = "SELECT number, line FROM events WHERE number > ? ORDER BY number LIMIT ?"
                page = connection.execute(query, (last, _PAGE)).fetchall()
            if not page:
                return
            for last, line in page:  # noqa: B007 - the last one read is where the next page begins
                yield line
            await asyncio.sleep(0)

    async def runs(self) -> Sequence[RunInfo]:
        """List the runs, newest first."""
        with self._database.reading() as connection:
            if self._database.damage is not None:
                return _readable_runs(connection)
            rows = connection.execute(f"{_INFO} ORDER BY runs.number DESC").fetchall()
        if not all(isinstance(row[0], str) for row in rows):
            raise Damaged(f"the list of runs in {NAME} cannot be read; {RECOVER}.")
        return [_info(*row) for row in rows]

    async def info(self, run: str) -> RunInfo:
        """Return what the list of runs says of one."""
        with self._database.reading() as connection:
            if self._database.damage is not None:
                row = next((one for one in _readable_runs(connection) if one.run == run), None)
            elif not is_text(run):
                row = None
            else:
                found = connection.execute(f"{_INFO} AND runs.run = ?", (run,)).fetchone()
                row = found and _info(*found)
        if row is None:
            raise NotFound(f"there is no run {run!r}")
        return row

    async def owned(self, *, besides: Owner | None = None) -> Sequence[Owned]:
        """List the runs that somebody owns. See `EventLog.owned`."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT run, epoch, host, pid, started FROM runs WHERE host IS NOT NULL AND NOT removed"
            ).fetchall()
        held = (Owned(run, epoch, Owner(host, pid, started)) for run, epoch, host, pid, started in rows)
        return [one for one in held if one.owner != besides]

    async def head(self, run: str) -> tuple[int, str]:
        """Return the last position and its hash."""
        with self._database.reading() as connection:
            head = _head(connection, run)
        return head.position, head.digest.hex()

    async def verify(self, run: str, *, head: str | None = None) -> int:
        """Recompute the chain of hashes and return the length. See `EventLog.verify`."""
        position, digest, known = 0, START, {START.hex()}
        async for page in self._pages(run, 1, None, f"{_LINE}, hash"):
            for stored, line, digest_stored in page:
                position += 1
                if stored != position:
                    raise _gap(run, position)
                digest = link(digest, line)
                if digest != digest_stored:
                    raise Damaged(f"run {run!r}: the event at position {position} is not the one that was written")
                if head is not None and digest.hex() == head:
                    known.add(head)
        check_head(run, head, known, position)
        return position

    async def beat(self, owner: Owner) -> None:
        """Say that an owner is alive. See `Heartbeats.beat`; raises `StorageFailed`."""

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(_HUBS)
            query = "INSERT OR REPLACE INTO hubs (host, pid, started, seen) VALUES (?, ?, ?, julianday('now'))"
            connection.execute(query, (owner.host, owner.pid, owner.started))

        await self._database.write(insert)

    async def silent(self, run_owners: Iterable[Owner], after_s: float) -> set[Owner]:
        """Return those that were not heard for some time. See `Heartbeats.silent`; raises `StorageFailed`."""
        with self._database.reading() as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'hubs'").fetchone():
                return set(run_owners)
            query = "SELECT host, pid, started FROM hubs WHERE (julianday('now') - seen) * 86400 < ?"
            heard = {Owner(*row) for row in connection.execute(query, (after_s,))}
        return set(run_owners) - heard

    def _with_damage(self, error: Exception) -> str:
        """Return an error's text, and what is known to be wrong with the file."""
        damage = self._database.damage
        return str(error) if damage is None or damage in str(error) else f"{error}; {damage}"

    async def _pages(self, run: str, start: int, end: int | None, columns: str) -> AsyncIterator[list[tuple[Any, ...]]]:
        """Yield rows of (position, *columns) in pages: small reads, between which others have their turn."""
        position, most = start, _FOREVER if end is None else end
        while True:
            try:
                with self._database.reading() as connection:
                    # Asked for each page: should the run be removed meanwhile, its number may be another's.
                    stretch = next((it for it in _stretches(connection, run) if position <= it.end), None)
                    if stretch is None:
                        return
                    last = min(stretch.end, most)
                    page = _page(connection, columns, stretch.number, position, last) if position <= last else []
            except (Damaged, NotFound) as error:
                if isinstance(error, NotFound) and self._database.damage is None:
                    raise
                raise _unreadable(run, position, self._with_damage(error)) from error
            if not page:
                if position > last:
                    return
                if stretch.end < _FOREVER:
                    raise _gap(run, position)
                if self._database.damage is not None:
                    raise Damaged(f"run {run!r}: what stood from position {position} on: {self._database.damage}.")
                return
            yield page
            position = page[-1][0] + 1
            await asyncio.sleep(0)


def _page(connection: sqlite3.Connection, columns: str, number: int, start: int, last: int) -> list[tuple[Any, ...]]:
    query = f"SELECT position, {columns} FROM events WHERE run = ? AND position BETWEEN ? AND ?"  # noqa: S608 - ours
    rows = []
    try:
        for row in connection.execute(f"{query} ORDER BY position LIMIT ?", (number, start, last, _PAGE)):
            rows.append(row)  # noqa: PERF402 - those before a record that cannot be read are good
    except sqlite3.DatabaseError:
        if not rows:
            raise
    return rows


def _add(connection: sqlite3.Connection, head: _Head, time: str, lines: Sequence[bytes]) -> None:
    """Write lines after the head, which moves on. `time`: that of the first of them."""
    if head.total == 0 and lines:
        connection.execute("UPDATE runs SET created = ? WHERE number = ?", (time, head.number))
    rows = []
    for line in lines:
        head.position += 1
        head.total += len(line)
        head.digest = link(head.digest, line)
        rows.append((head.number, head.position, head.total, head.digest, line))
    connection.executemany("INSERT INTO events (run, position, total, hash, line) VALUES (?, ?, ?, ?, ?)", rows)


def _sweep(connection: sqlite3.Connection) -> bool:
    """Take away some of what removed runs hold and no fork needs; tell whether there was any."""
    removed = connection.execute(
        "SELECT number, parent, parent_position, (SELECT max(number) FROM runs),"
        " (SELECT max(parent_position) FROM runs AS forks WHERE forks.parent = runs.number) FROM runs WHERE removed"
    ).fetchall()
    for number, parent, begins, highest, needed in removed:
        gone = connection.execute(
            "DELETE FROM events WHERE number IN"
            " (SELECT number FROM events WHERE run = ? AND position > ? ORDER BY position DESC LIMIT ?)",
            (number, needed or 0, _SWEPT),
        )
        if gone.rowcount:
            return True
        if needed is None and number < highest:
            connection.execute("DELETE FROM runs WHERE number = ?", (number,))
            return True  # its own parent may have lost its last fork
        if needed is None and parent is not None:  # the highest number stays: SQLite would give it out again
            connection.execute("UPDATE runs SET parent = NULL, parent_position = 0 WHERE number = ?", (number,))
            return True
        if needed is not None and needed < begins:  # all that its forks still need of it is its parent's
            connection.execute("UPDATE runs SET parent_position = ? WHERE number = ?", (needed, number))
            return True
    return False


# Made with the first heartbeat, like the marks: it is in no version of the schema, and may be dropped at any time.
_HUBS = (
    "CREATE TABLE IF NOT EXISTS hubs (host TEXT NOT NULL, pid INTEGER NOT NULL, started TEXT NOT NULL,"
    " seen REAL NOT NULL, PRIMARY KEY (host, pid, started)) STRICT"
)
_LAST = "SELECT position, hash, total FROM events WHERE run = ? ORDER BY position DESC LIMIT 1"
_INFO = (
    "SELECT runs.run, epoch, coalesce(position, parent_position), coalesce(total, 0), created, imported,"
    " host, pid, started FROM runs LEFT JOIN events ON events.run = runs.number AND position ="
    " (SELECT max(position) FROM events WHERE events.run = runs.number) WHERE NOT removed"
)
_RUNS = (
    "SELECT number, run, epoch, parent_position, created, imported, host, pid, started FROM runs"
    " WHERE NOT removed ORDER BY number DESC"
)
_ORIGIN = "SELECT number, parent, parent_position FROM runs WHERE number = ?"


def _info(  # noqa: PLR0917 - a row
    run: str,
    epoch: int,
    length: int,
    size: int,
    created: str,
    imported: int,
    *owner: Any,  # noqa: ANN401 - a row
) -> RunInfo:
    return RunInfo(run, epoch, length, size, _owner(*owner), created, bool(imported))


def _readable_runs(connection: sqlite3.Connection) -> list[RunInfo]:
    """Return the runs of a damaged file, as far as they are to be found."""
    found = []
    for number, run, epoch, begins, created, imported, *owner in connection.execute(_RUNS).fetchall():
        try:
            last = connection.execute(_LAST, (number,)).fetchone() or (begins, b"", 0)
        except sqlite3.DatabaseError:
            last = begins, b"", 0
        if isinstance(run, str):
            found.append(RunInfo(run, epoch, last[0], last[2], _owner(*owner), created, bool(imported)))
    return found


def _row(connection: sqlite3.Connection, columns: str, run: str) -> tuple[Any, ...]:
    """Return what is kept of a run. Raises `NotFound`."""
    query = f"SELECT {columns} FROM runs WHERE run = ? AND NOT removed"  # noqa: S608 - ours
    row: tuple[Any, ...] | None = connection.execute(query, (run,)).fetchone() if is_text(run) else None
    if row is None:
        raise NotFound(f"there is no run {run!r}")
    return row


def _head(connection: sqlite3.Connection, run: str) -> _Head:
    number, epoch, host, begins = _row(connection, "number, epoch, host, parent_position", run)
    last = connection.execute(_LAST, (number,)).fetchone()
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
    row: tuple[Any, ...] | None = _row(connection, "number, parent, parent_position", run)
    stretches: list[_Stretch] = []
    end = _FOREVER
    while row is not None:
        number, parent, begins = row
        stretches.insert(0, _Stretch(number, begins + 1, end))
        end = min(end, begins)
        row = connection.execute(_ORIGIN, (parent,)).fetchone()
    return stretches


def _owner(host: str | None, pid: int, started: str) -> Owner | None:
    return None if host is None else Owner(host, pid, started)


def _unreadable(run: str, position: int, why: object) -> Damaged:
    return Damaged(f"run {run!r}: the event at position {position} cannot be read: {why}")


def _gap(run: str, position: int) -> Damaged:
    return Damaged(f"run {run!r}: the event at position {position} is missing")
