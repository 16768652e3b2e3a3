"""One connection that writes, and the one task that uses it.

Batches that arrive together, or while a commit is under way, share one transaction; whatever else is written has a
transaction of its own, in order of arrival. Where the connection is lost in the middle nobody knows what the server has
done: what was under way is then done again over a new connection, by code that finds out first.

The connection holds a shared advisory lock, which is how the server knows who has the store open for writing. No lock
guards a run: that is the epoch's part.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from bus.errors import BusError, Conflict, LogError, StorageFailed
from bus.event_log import Mark
from bus.postgres.appends import Appends, Batch, Riders
from bus.postgres.reader import MOST_RETRY_S, RETRY_S
from bus.postgres.schema import LOCKS, bring_up_to_date
from bus.postgres.server import Connect, Connection, Server, is_passing

T = TypeVar("T")
Again: TypeAlias = bool
"""It was tried before, over a connection that was lost, and may have been done."""
Transaction = Callable[[Connection, Again], Awaitable[T]]
"""What is done within a transaction. What it refuses (`BusError`) leaves nothing."""

_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
_PRESENT = 2
_MOST_CHANGES = 256
_MOST_BYTES = 1 << 20
_MOST_BYTES_HELD = 4 << 20
"""Where more is held, it is written without waiting for what it is to go with, and `hold_file` waits."""
_MOST_BYTES_RIDING = 8 << 20
"""More does not go along with one transaction."""
_CLOSING_S = 5.0


@dataclass(slots=True)
class _Change:
    what: Batch | Transaction[object]
    done: "asyncio.Future[Any]"


class Writer:
    """Writes to a server, opened and closed by `open` and `close`.

    `patience_s`: how long a lost connection may take to come back before `StorageFailed`. Then, and after whatever
    else the server refuses, nothing more is written.
    """

    def __init__(self, server: Server, connect: Connect, *, patience_s: float) -> None:
        self._server = server
        self._connect = connect
        self._patience_s = patience_s
        self.appends = Appends()
        self._connection: Connection | None = None
        self._waiting: deque[_Change] = deque()
        self._files: dict[bytes, bytes] = {}
        self._marks: list[Mark] = []
        self._bytes_held = 0
        self._wanted = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.failure: LogError | None = None
        """What ended writing."""
        self._cleanings: int | None = None
        self._alone: Connection | None = None

    async def open(self) -> None:
        """Connect, make or upgrade the tables. Raises `StorageFailed`, `TooNew`."""
        try:
            await self._again(_reached, self._server.is_starting)
        except Exception as error:
            raise self._server.translated(error) from error
        self._task = asyncio.create_task(self._run(), name="log-writer")

    async def close(self) -> None:
        """Write what is held, end what is under way, close the connection. Raises `StorageFailed`."""
        try:
            if self._task is not None:
                self._closing = True
                self._wanted.set()
                await self._task
        finally:
            connection, self._connection = self._connection, None
            if connection is not None:
                try:
                    await connection.close(timeout=_CLOSING_S)
                except Exception:  # noqa: BLE001 - all that was to be written is
                    connection.terminate()

    async def append(self, batch: Batch) -> None:
        """Write a batch; durable on return. Raises what `EventLog.append` does."""
        await self._put(batch)

    async def transact(self, transaction: Transaction[T]) -> T:
        """Do something within a transaction; durable on return. Raises `StorageFailed`."""
        return await self._put(transaction)  # type: ignore[no-any-return]

    async def flush(self) -> None:
        """Write what is held. Raises `StorageFailed`."""
        await self.transact(_reached)

    async def hold_file(self, digest: bytes, data: bytes) -> None:
        """Write a file with whatever is written next; wait while much is held. Raises `StorageFailed`."""
        self.check_writable()
        while digest not in self._files and self._bytes_held > _MOST_BYTES_HELD:
            await self.flush()
        if digest not in self._files:
            self._files[digest] = data
            self._hold(len(data))

    def hold_mark(self, mark: Mark) -> None:
        """Write a mark with whatever is written next."""
        self.check_writable()
        self._marks.append(mark)
        self._hold(len(mark.data))

    @property
    def held(self) -> dict[bytes, bytes]:
        """The files that are not in the database yet."""
        return self._files

    def check_writable(self) -> None:
        """Raise `StorageFailed` where writing is over."""
        if self.failure is not None:
            raise StorageFailed(f"nothing more is written after a failure; open the store again: {self.failure}")
        if self._task is None or self._closing:
            raise RuntimeError("the store is not open: use it inside `async with`")

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the only one that has the store open for writing. Raises `Conflict` where somebody else has."""

        async def lock(connection: Connection, _: Again) -> tuple[int, Connection]:
            if not await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", LOCKS, _PRESENT):
                raise Conflict(
                    f"{self._server.name} is open for writing elsewhere: a run is under way there, or about to begin"
                )
            query = "UPDATE state SET cleanings = cleanings + 1 RETURNING cleanings"
            return await connection.fetchval(query), connection

        self._cleanings, self._alone = await self.transact(lock)
        try:
            yield
        finally:
            connection, self._alone = self._alone, None
            if connection is self._connection and self.failure is None:
                await self.transact(_unlock)

    def check_alone(self) -> None:
        """Raise unless we are within `alone`, and the connection that made us so is there."""
        if self._alone is None:
            raise RuntimeError("files are removed only within `alone`: others may be about to name them")
        if self._alone is not self._connection:
            raise StorageFailed(f"{self._server.name} was lost while it was being cleaned up; begin again")

    def _put(self, what: Batch | Transaction[Any]) -> "asyncio.Future[Any]":
        self.check_writable()
        change = _Change(what, asyncio.get_running_loop().create_future())
        self._waiting.append(change)
        self._wanted.set()
        return change.done

    def _hold(self, size: int) -> None:
        self._bytes_held += size
        if self._bytes_held > _MOST_BYTES_HELD:
            self._wanted.set()

    async def _run(self) -> None:
        """Write what there is to write until it is closed, or fails."""
        changes: list[_Change] = []
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                while self._waiting or self._bytes_held > _MOST_BYTES_HELD:
                    changes = self._taken()
                    await self._write(changes)
                if self._closing:
                    await self._write([])
                    return
        except BaseException as error:
            self.failure = StorageFailed(str(self._server.translated(error)))
            self._fail([*changes, *self._waiting], error)
            self._waiting.clear()
            if not isinstance(error, Exception):
                raise
            if self._closing and self._riders():
                raise self.failure from error

    def _fail(self, changes: Sequence[_Change], error: BaseException) -> None:
        for change in changes:
            if not change.done.done():
                failure = StorageFailed(str(self.failure))
                failure.__cause__ = error
                change.done.set_exception(failure)

    def _taken(self) -> list[_Change]:
        """Take what shares the next transaction: batches, or one other."""
        taken: list[_Change] = []
        room = _MOST_BYTES
        while self._waiting and len(taken) < _MOST_CHANGES and room > 0:
            what = self._waiting[0].what
            if not isinstance(what, Batch) and taken:
                break
            change = self._waiting.popleft()
            if change.done.cancelled():
                continue
            taken.append(change)
            if not isinstance(what, Batch):
                break
            room -= sum(map(len, what.lines))
        return taken

    def _riders(self) -> Riders:
        """Return what is held, the files first, as much as goes along with one transaction."""
        files: dict[bytes, bytes] = {}
        marks: list[Mark] = []
        room = _MOST_BYTES_RIDING
        for digest, data in self._files.items():
            if room >= 0:
                files[digest] = data
                room -= len(data)
        for mark in self._marks:
            if room >= 0:
                marks.append(mark)
                room -= len(mark.data)
        return Riders(files, marks)

    async def _write(self, changes: list[_Change]) -> None:
        """Write what shares a transaction, and all that is held: with it, and before it what is too much for one."""
        while self._bytes_held > _MOST_BYTES_RIDING:
            await self._append([])
        await self._append([change for change in changes if isinstance(change.what, Batch)])
        if changes and not isinstance(changes[0].what, Batch):
            await self._transact(changes[0])

    async def _append(self, changes: list[_Change]) -> None:
        """Write batches in one transaction, and what goes along."""
        riders = self._riders()
        batches = [change.what for change in changes if isinstance(change.what, Batch)]

        async def append(connection: Connection, again: Again) -> list[object]:
            for batch in batches:
                batch.uncertain |= again
            return list(await self.appends.write(connection, batches, riders))

        if not batches and not riders:
            return
        outcomes = await self._again(append)
        for digest in riders.files:
            del self._files[digest]
        del self._marks[: len(riders.marks)]
        self._bytes_held -= riders.bytes
        told = list(zip(changes, outcomes, strict=True))
        missed = [change for change, outcome in told if outcome == "missed"]
        self._waiting.extendleft(reversed(missed))
        _settle([(change, outcome) for change, outcome in told if outcome != "missed"])

    async def _transact(self, change: _Change) -> None:
        transaction = change.what
        if isinstance(transaction, Batch):
            raise TypeError(transaction)

        async def within(connection: Connection, again: Again) -> object:
            async with connection.transaction():
                return await transaction(connection, again)

        try:
            outcome = await self._again(within)
        except BusError as refusal:
            outcome = refusal
        _settle([(change, outcome)])

    async def _again(self, job: Transaction[T], passing: Callable[[BaseException], bool] | None = None) -> T:
        """Do a job, again where the connection is lost or the server asks for it, for as long as patience lasts.

        `passing`: which errors of the connection are waited out, all if None.
        """
        passing = passing or self._server.is_lost
        loop = asyncio.get_running_loop()
        until, pause_s, again = loop.time() + self._patience_s, RETRY_S, False
        while True:
            connection = None
            try:
                connection = await self._connected()
                return await job(connection, again)
            except BusError:
                raise
            except BaseException as error:
                self.appends.forget()
                lost = self._server.is_lost(error) or not isinstance(error, Exception)
                if lost:
                    again = again or connection is not None
                    self._drop()
                if (
                    not (passing(error) or is_passing(error))
                    or not isinstance(error, Exception)
                    or loop.time() + pause_s > until
                ):
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MOST_RETRY_S)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _connected(self) -> Connection:
        """Return the connection, a new one where it was lost. Raises `StorageFailed` where that comes too late."""
        if self._connection is not None:
            return self._connection
        connection = await self._connect(read_only=False)
        try:
            await bring_up_to_date(connection, self._server.name)
            # Where the server's settings would acknowledge what is not durable, ours do not.
            await connection.execute(_DURABLE)
            await self._be_present(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    async def _be_present(self, connection: Connection) -> None:
        """Have the store open for writing; wait for one that is alone with it."""
        try:
            lock = "SELECT pg_advisory_lock_shared($1, $2)"
            await connection.execute(lock, LOCKS, _PRESENT, timeout=self._patience_s)
        except TimeoutError as error:
            raise StorageFailed(
                f"{self._server.name} is being cleaned up (`swarm gc`); try again when that has ended."
            ) from error
        cleanings = await connection.fetchval("SELECT cleanings FROM state")
        if self._cleanings not in (None, cleanings) or self._alone is not None:
            raise StorageFailed(
                f"{self._server.name} was cleaned up while the connection to it was lost: files that no event names yet"
                " may be gone"
            )
        self._cleanings = cleanings


def _settle(outcomes: Sequence[tuple[_Change, object]]) -> None:
    """Tell those that wait."""
    for change, outcome in outcomes:
        if change.done.cancelled():
            continue
        if isinstance(outcome, BusError):
            change.done.set_exception(outcome)
        else:
            change.done.set_result(outcome)


async def _reached(*_: object) -> None:
    """Be connected: nothing else is to be done."""


async def _unlock(connection: Connection, _: Again) -> None:
    await connection.fetchval("SELECT pg_advisory_unlock($1, $2)", LOCKS, _PRESENT)
