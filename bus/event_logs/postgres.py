"""An event log in PostgreSQL, for several hosts: any number of processes write different runs, durable on every append.

Each record is stored as exactly its line of JSON, with its hash. Who owns a run is decided by its epoch alone, in the
transaction that appends: one that was stopped, cut off or taken for dead and comes back cannot write.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from bus.chain import START, check_head, check_name, check_owner, is_text, lines_after, link, read_lines, read_only
from bus.codec import decode
from bus.envelope import Envelope
from bus.errors import BadEnvelope, Conflict, Damaged, LogError, NotFound
from bus.event_log import MarkStore, Owned, Owner, RunInfo
from bus.postgres.appends import Batch, storable
from bus.postgres.files import PostgresFileStore
from bus.postgres.marks import PostgresMarkStore
from bus.postgres.reader import Reader
from bus.postgres.schema import check_readable
from bus.postgres.server import Connect, Connection, Row, Server
from bus.postgres.writer import Again, Writer

_PAGE = 256
_PAGE_BYTES = 1 << 20
_FOREVER = 1 << 62
_BEAT_S = 2.0
"""A heartbeat that takes longer is tried over another connection: others wait for a few seconds only."""
_SWEPT = 2_000
"""Records removed in one transaction: others that write wait for no more."""

_STRETCHES = """
WITH RECURSIVE line AS (
  SELECT 0 AS depth, number, parent, parent_position AS begins, length AS last
  FROM runs WHERE run = $1 AND NOT removed
  UNION ALL
  SELECT depth + 1, runs.number, runs.parent, runs.parent_position, least(line.last, line.begins)
  FROM line JOIN runs ON runs.number = line.parent
)
SELECT number, begins + 1, last FROM line ORDER BY depth DESC
"""
"""Where a run's records lie, from position 1 on: its forebears' first, its own last."""
_READ = """
SELECT position, hash, line FROM events WHERE run = $1 AND position BETWEEN $2 AND $3
AND (position = $2 OR total <= (SELECT total FROM events WHERE run = $1 AND position = $2) + $4)
ORDER BY position LIMIT $5
"""
_ALL = "SELECT run, position, line FROM events WHERE (run, position) > ($1, $2) ORDER BY run, position LIMIT $3"
_OWNED = """
SELECT run, epoch, host, pid, started FROM runs
WHERE host IS NOT NULL AND NOT removed AND (host, pid, started) <> ($1, $2, $3)
"""
_INFO = "SELECT run, epoch, length, total, host, pid, started, created, imported FROM runs WHERE NOT removed"
_BEAT = """
WITH forgotten AS (DELETE FROM hubs WHERE seen < clock_timestamp() - interval '1 day')
INSERT INTO hubs (host, pid, started, seen) VALUES ($1, $2, $3, clock_timestamp())
ON CONFLICT (host, pid, started) DO UPDATE SET seen = excluded.seen
"""
# Nobody is heard while the server is down: those it had heard of have their time again from when it started.
_HEARD = """
SELECT host, pid, started FROM hubs JOIN unnest($1::text[], $2::bigint[], $3::text[]) AS asked (host, pid, started)
USING (host, pid, started)
WHERE greatest(seen, pg_postmaster_start_time()) > clock_timestamp() - make_interval(secs => $4)
"""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Positions of a log that lie in one run's own records."""

    number: int
    start: int
    end: int


class PostgresEventLog:
    """Meets `bus.event_log.EventLog` and `Heartbeats`; `files` is the file store beside it.

    `patience_s`: how long a lost connection may take to come back before `StorageFailed`. `connect`: opens its
    connections, in place of asyncpg's `connect`.
    """

    def __init__(
        self, url: str, *, read_only: bool = False, patience_s: float = 30.0, connect: Connect | None = None
    ) -> None:
        server = Server(url)
        connect = connect or server.connect
        self._server = server
        self._writer = None if read_only else Writer(server, connect, patience_s=patience_s)
        self._reader = Reader(server, connect, self._look, patience_s=patience_s, read_only=read_only)
        self.files = PostgresFileStore(server, self._reader, self._writer)
        self.marks: MarkStore = PostgresMarkStore(self._reader, self._writer)

    async def __aenter__(self) -> Self:
        """Connect; make or upgrade the tables. Raises `StorageFailed`, `TooNew`; read-only also `NotFound`."""
        if self._writer is not None:
            await self._writer.open()
        try:
            await self._reader.open()
        except BaseException:
            if self._writer is not None:
                await self._writer.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        try:
            if self._writer is not None:
                await self._writer.close()
        finally:
            await self._reader.close()

    async def _look(self, connection: Connection) -> None:
        if self._writer is None:
            await check_readable(connection, self._server.name)

    @property
    def failure(self) -> LogError | None:
        """What ended writing. See `EventLog.failure`."""
        return self._writer.failure if self._writer is not None else None

    async def create(self, run: str, owner: Owner, *, parent: tuple[str, int] | None = None) -> int:
        """Begin a run. See `EventLog.create`; raises `NotFound` where the parent has no such position."""
        check_name(run)

        async def insert(connection: Connection, again: Again) -> int:
            number, begins, digest = None, 0, START
            if not again and await connection.fetchval("SELECT 1 FROM runs WHERE run = $1", run):
                raise Conflict(f"run {run!r} exists already")
            if parent is not None:
                begins = parent[1]
                number, digest = await _origin(connection, *parent)
            made = await connection.fetchval(
                "INSERT INTO runs (run, host, pid, started, parent, parent_position, length, head)"
                " VALUES ($1, $2, $3, $4, $5, $6, $6, $7) ON CONFLICT (run) DO NOTHING RETURNING number",
                run, owner.host, owner.pid, owner.started, number, begins, digest,
            )  # fmt: skip
            if made is None and not (again and await _is_as_made(connection, run, owner, digest)):
                raise Conflict(f"run {run!r} exists already")
            return 1

        return await self._writable().transact(insert)

    async def take(self, run: str, owner: Owner, *, previous: Owner | None) -> int:
        """Become the owner of a run. See `EventLog.take`."""

        async def update(connection: Connection, again: Again) -> int:
            _, imported, found = await _locked(connection, run)
            if imported:
                raise read_only(run)
            if not (again and found == owner):  # then it was ours already when the connection was lost
                check_owner(run, found, previous)
            return int(
                await connection.fetchval(
                    "UPDATE runs SET epoch = epoch + 1, host = $2, pid = $3, started = $4 WHERE run = $1"
                    " RETURNING epoch",
                    run, owner.host, owner.pid, owner.started,
                )
            )  # fmt: skip

        writer = self._writable()
        epoch = await writer.transact(update)
        writer.appends.forget(run)
        return epoch

    async def release(self, run: str, epoch: int) -> None:
        """Stop being the owner."""

        async def update(connection: Connection, _: Again) -> None:
            await _locked(connection, run)
            query = "UPDATE runs SET host = NULL, pid = NULL, started = NULL WHERE run = $1 AND epoch = $2"
            await connection.execute(query, run, epoch)

        writer = self._writable()
        await writer.transact(update)
        writer.appends.forget(run)

    async def adopt(self, run: str, lines: Iterable[bytes]) -> tuple[int, str]:
        """Take in a whole run from elsewhere. See `EventLog.adopt`."""
        check_name(run)

        async def insert(connection: Connection, again: Again) -> tuple[int, str]:
            number = await connection.fetchval(
                "INSERT INTO runs (run, imported, length, head) VALUES ($1, true, 0, $2)"
                " ON CONFLICT (run) DO NOTHING RETURNING number",
                run, START,
            )  # fmt: skip
            if number is None and not again:
                raise Conflict(f"run {run!r} exists already")
            position, digest, total, created = 0, START, 0, ""
            page: list[tuple[object, ...]] = []
            for position, (envelope, line) in enumerate(read_lines(lines), 1):
                created = created or storable(envelope.time)
                digest = link(digest, line)
                total += len(line)
                page.append((number, position, total, digest, line))
                if len(page) == _PAGE and number is not None:
                    await _insert(connection, page)
                    page.clear()
            if number is None:
                if not await _is_as_made(connection, run, None, digest):
                    raise Conflict(f"run {run!r} exists already")
            else:
                await _insert(connection, page)
                query = "UPDATE runs SET length = $2, head = $3, total = $4, created = $5 WHERE number = $1"
                await connection.execute(query, number, position, digest, total, created)
            return position, digest.hex()

        return await self._writable().transact(insert)

    async def remove(self, run: str, *, previous: Owner | None) -> None:
        """Remove a run. See `EventLog.remove`. What a crash in the middle leaves goes with the next."""

        async def unlist(connection: Connection, again: Again) -> None:
            try:
                number, _, found = await _locked(connection, run)
            except NotFound:
                if again:
                    return  # it was removed when the connection was lost
                raise
            check_owner(run, found, previous)
            await connection.execute(  # under a name that no run can have, so that its own is free
                "UPDATE runs SET removed = true, run = '/removed/' || number, host = NULL, pid = NULL, started = NULL"
                " WHERE number = $1",
                number,
            )

        writer = self._writable()
        await writer.transact(unlist)
        writer.appends.forget(run)
        while await writer.transact(_sweep):
            pass

    async def append(self, run: str, expected: int, epoch: int, records: Sequence[Envelope]) -> None:
        """Record envelopes. See `EventLog.append`; raises `BadEnvelope` for what cannot be written."""
        lines = lines_after(expected, records)
        await self._writable().append(Batch(run, expected, epoch, lines, records[0].time if records else ""))

    async def read(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        """Yield a run's envelopes. See `EventLog.read`."""
        async for page in self._pages(run, start, end):
            for position, _, line in page:
                try:
                    envelope = decode(line)
                except BadEnvelope as error:
                    raise Damaged(f"run {run!r}: the event at position {position} cannot be read: {error}") from error
                yield envelope

    async def lines(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield a run's records as they were written. See `EventLog.lines`."""
        async for page in self._pages(run, start, end):
            for _, _, line in page:
                yield line

    async def all_lines(self) -> AsyncIterator[bytes]:
        """Yield every line there is. See `EventLog.all_lines`."""
        last = (0, 0)
        while True:
            page = await self._reader.fetch(_ALL, *last, _PAGE)
            if not page:
                return
            for _, _, line in page:
                yield line
            last = (page[-1][0], page[-1][1])

    async def runs(self) -> Sequence[RunInfo]:
        """List the runs, newest first."""
        return [_info(row) for row in await self._reader.fetch(f"{_INFO} ORDER BY number DESC")]

    async def info(self, run: str) -> RunInfo:
        """Return what the list of runs says of one."""
        rows = await self._reader.fetch(f"{_INFO} AND run = $1", run) if is_text(run) else []
        if not rows:
            raise _no_run(run)
        return _info(rows[0])

    async def owned(self, *, besides: Owner | None = None) -> Sequence[Owned]:
        """List the runs that somebody owns. See `EventLog.owned`."""
        but = (besides.host, besides.pid, besides.started) if besides is not None else ("", 0, "")
        rows = await self._reader.fetch(_OWNED, *but)
        return [Owned(row[0], row[1], Owner(row[2], row[3], row[4])) for row in rows]

    async def head(self, run: str) -> tuple[int, str]:
        """Return the last position and its hash."""
        query = "SELECT length, head FROM runs WHERE run = $1 AND NOT removed"
        rows = await self._reader.fetch(query, run) if is_text(run) else []
        if not rows:
            raise _no_run(run)
        return rows[0][0], rows[0][1].hex()

    async def verify(self, run: str, *, head: str | None = None) -> int:
        """Recompute the chain of hashes and return the length. See `EventLog.verify`."""
        length, digest, known = 0, START, {START.hex()}
        async for page in self._pages(run, 1, None):
            for position, stored, line in page:
                length, digest = position, link(digest, line)
                if digest != stored:
                    raise Damaged(f"run {run!r}: the event at position {position} is not the one that was written")
                if head is not None and digest.hex() == head:
                    known.add(head)
        check_head(run, head, known, length)
        position, stored = await self.head(run)
        if position == length and stored != digest.hex():
            raise Damaged(f"run {run!r}: the hash kept with the run is not that of its last event, at {length}")
        return length

    async def beat(self, owner: Owner) -> None:
        """Say that an owner is alive. See `Heartbeats.beat`; raises `StorageFailed`."""
        self._writable()
        await self._reader.fetch(_BEAT, owner.host, owner.pid, owner.started, timeout=_BEAT_S)

    async def silent(self, run_owners: Iterable[Owner], after_s: float) -> set[Owner]:
        """Return those that were not heard for some time. See `Heartbeats.silent`; raises `StorageFailed`."""
        asked = set(run_owners)
        columns = [it.host for it in asked], [it.pid for it in asked], [it.started for it in asked]
        rows = await self._reader.fetch(_HEARD, *columns, after_s)
        return asked - {Owner(*row) for row in rows}

    async def _pages(self, run: str, start: int, end: int | None) -> AsyncIterator[list[Row]]:
        """Yield rows of (position, hash, line) in pages: small reads, between which others have their turn.

        No position is left out: where one is missing, `Damaged` is raised after those before it.
        """
        position, most = max(start, 1), _FOREVER if end is None else end
        stretches: list[_Stretch] = []
        while position <= most:
            if not stretches or position > stretches[-1].end:
                stretches = await self._stretches(run)
            stretch = next((it for it in stretches if position <= it.end), None)
            if stretch is None:
                return
            last = min(stretch.end, most)
            rows = await self._reader.fetch(_READ, stretch.number, position, last, _PAGE_BYTES, _PAGE)
            whole = next((at for at, row in enumerate(rows) if row[0] != position + at), len(rows))
            if whole:
                yield rows[:whole]
                position += whole
            if not whole or whole < len(rows):
                await self._stretches(run)  # unless it was removed meanwhile
                raise Damaged(f"run {run!r}: the event at position {position} is missing")
        if not stretches:
            await self._stretches(run)  # it must be there, whatever is asked for

    async def _stretches(self, run: str) -> list[_Stretch]:
        rows = await self._reader.fetch(_STRETCHES, run) if is_text(run) else []
        if not rows:
            raise _no_run(run)
        return [_Stretch(*row) for row in rows]

    def _writable(self) -> Writer:
        return self.files.writable()


async def _locked(connection: Connection, run: str) -> tuple[int, bool, Owner | None]:
    """Return number, whether it is imported, and owner of a run that nobody else changes from here on."""
    query = "SELECT number, imported, host, pid, started FROM runs WHERE run = $1 AND NOT removed FOR UPDATE"
    row = await connection.fetchrow(query, run) if is_text(run) else None
    if row is None:
        raise _no_run(run)
    return row[0], row[1], _owner(row[2:])


async def _origin(connection: Connection, parent: str, begins: int) -> tuple[int, bytes]:
    """Return number and hash for a fork of a run, which is not removed from here on."""
    query = "SELECT number, length FROM runs WHERE run = $1 AND NOT removed FOR KEY SHARE"
    row = await connection.fetchrow(query, parent) if is_text(parent) else None
    if row is None:
        raise _no_run(parent)
    if not 0 <= begins <= row[1]:
        raise NotFound(f"run {parent!r} has no position {begins}: it ends at {row[1]}")
    if begins == 0:
        return row[0], START
    stretches = [_Stretch(*each) for each in await connection.fetch(_STRETCHES, parent)]
    number = next(it.number for it in stretches if it.start <= begins <= it.end)
    digest = await connection.fetchval("SELECT hash FROM events WHERE run = $1 AND position = $2", number, begins)
    if digest is None:
        raise Damaged(f"run {parent!r}: the event at position {begins} is missing")
    return row[0], digest


async def _is_as_made(connection: Connection, run: str, owner: Owner | None, head: bytes) -> bool:
    """Tell whether a run is what we were making when the connection was lost: still at its first epoch and head."""
    query = "SELECT host, pid, started FROM runs WHERE run = $1 AND epoch = 1 AND head = $2 AND imported = $3"
    row = await connection.fetchrow(query, run, head, owner is None)
    return row is not None and _owner(row) == owner


async def _insert(connection: Connection, rows: Sequence[Sequence[object]]) -> None:
    columns = [[row[at] for row in rows] for at in range(5)]
    await connection.execute(
        "INSERT INTO events (run, position, total, hash, line)"
        " SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[])",
        *columns,
    )


async def _sweep(connection: Connection, _: Again) -> bool:
    """Take away some of what removed runs hold and no fork needs; tell whether there was any.

    Nobody forks a removed run, so what its forks need of it only becomes less.
    """
    removed = await connection.fetch(
        "SELECT number, parent_position,"
        " (SELECT max(parent_position) FROM runs AS forks WHERE forks.parent = runs.number)"
        " FROM runs WHERE removed ORDER BY number FOR UPDATE SKIP LOCKED"
    )
    for number, begins, needed in removed:
        gone = await connection.execute(
            "DELETE FROM events WHERE run = $1 AND position IN"
            " (SELECT position FROM events WHERE run = $1 AND position > $2 ORDER BY position DESC LIMIT $3)",
            number, needed or 0, _SWEPT,
        )  # fmt: skip
        if gone != "DELETE 0":
            return True
        if needed is None:
            await connection.execute("DELETE FROM runs WHERE number = $1", number)
            return True  # its own parent may have lost its last fork
        if needed < begins:  # all that its forks still need of it is its parent's
            await connection.execute("UPDATE runs SET parent_position = $2 WHERE number = $1", number, needed)
            return True
    return False


def _info(row: Row) -> RunInfo:
    return RunInfo(row[0], row[1], row[2], row[3], _owner(row[4:7]), row[7], row[8])


def _owner(row: Row) -> Owner | None:
    return None if row[0] is None else Owner(row[0], row[1], row[2])


def _no_run(run: str) -> NotFound:
    return NotFound(f"there is no run {run!r}")
