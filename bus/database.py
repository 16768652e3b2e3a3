"""One SQLite file, `log.db`, that event log and file store share: opening it, and writing to it in groups.

All that is to be written within one turn of the event loop, or while another process writes, goes into one transaction
and so waits for the disk once. Nothing here knows of events or files; they hand in functions over the connection.
"""

import asyncio
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

from bus import damage, opened, presence
from bus.database_file import Connect, close, compact, connect, is_busy, open_reader, open_writer, translated
from bus.errors import BusError, Damaged, LogError, StorageFailed

T = TypeVar("T")
Write = Callable[[sqlite3.Connection], T]
"""A part of a transaction. What it refuses (`BusError`) it refuses before it writes; it may be called again."""

_MOST_CHANGES = 256
_MOST_BYTES = 1 << 20
"""One transaction takes no more than this, so that it does not hold the event loop."""
_MOST_BYTES_HELD = 4 << 20
"""Where more waits to ride along, a transaction begins for it, and `room` waits."""
_MOST_BYTES_RIDING = 8 << 20
"""More does not ride along with one transaction: other processes that write wait for it."""
_RETRY_S = 0.004


@dataclass(slots=True)
class _Change:
    write: Write[object]
    bytes: int
    done: "asyncio.Future[object]"


@dataclass(slots=True)
class _Rider:
    write: Write[object]
    bytes: int
    written: Callable[[], object]


@dataclass(slots=True)
class _Group:
    """What goes into one transaction. `until`: loop time after which another process's lock is waited for no more."""

    changes: list[_Change]
    riders: list[_Rider]
    until: float


class Database:
    """One folder's `log.db`, opened and closed by `async with`.

    It commits in the event loop: to hand that to a thread takes as long as a fast disk does. `patience_s`: how long
    another process may hold the write lock before `StorageFailed`. `connect`: opens its connections. After a failed
    commit nothing more is written. A file that was cut can be read as far as it goes, and is not written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        read_only: bool = False,
        patience_s: float = 30.0,
        connect: Connect = connect,
    ) -> None:
        self.folder = folder
        self.damage: str | None = None
        """Once open: what is wrong with the file, so that there may have been more in it than is found."""
        self.forget: Callable[[], None] = lambda: None
        """Called where what was remembered of the database's content may no longer be so."""
        self._read_only = read_only
        self._patience_s = patience_s
        self._connect = connect
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._presence: int | None = None
        self._place: Path | None = None
        self.is_alone = False
        """Nobody else has the folder open for writing: see `alone`."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[_Change] = deque()
        self._riders: deque[_Rider] = deque()
        self._bytes_held = 0
        self._at_work = False
        self._version = -1
        self.failure: LogError | None = None
        """What ended writing."""

    async def __aenter__(self) -> Self:
        """Open the file, made if it is not there.

        Raises `StorageFailed`, `Damaged`, `TooNew`; read-only also `NotFound`.
        """
        self._loop = asyncio.get_running_loop()
        given_up = threading.Event()
        opening = asyncio.create_task(asyncio.to_thread(self._open, given_up))
        try:
            await asyncio.shield(opening)
        except BaseException:
            given_up.set()
            await asyncio.shield(self._close(opening))
            raise
        return self

    def _open(self, given_up: threading.Event) -> None:
        damage.refuse_parted(self.folder)
        place = self.folder.resolve()
        look = partial(damage.cut, self.folder, self._connect, write_back=not self._read_only)
        self.damage = opened.opens(place, look)
        self._place = place
        if not self._read_only and self.damage is None:
            self._writer = open_writer(self.folder, self._connect)
            self._presence = presence.enter(self.folder, given_up)
        try:
            self._reader = open_reader(self.folder, self._connect, damaged=self.damage is not None)
        except BusError as error:
            if self.damage is not None:
                raise Damaged(f"{self.damage}.") from error
            raise

    async def __aexit__(self, *exc: object) -> None:
        try:
            if self._writer is not None and self.failure is None and (self._at_work or self._riders):
                await self.write(lambda _: None)  # what is held goes, and what is under way ends
        finally:
            await asyncio.shield(self._close())

    async def _close(self, opening: "asyncio.Task[None] | None" = None) -> None:
        """Close what is open, and be present no more. `opening`: what may still open it, in a thread."""
        if opening is not None:
            await asyncio.gather(opening, return_exceptions=True)  # whoever opens has its own error by now
        reader, self._reader = self._reader, None
        writer, self._writer = self._writer, None
        try:
            await asyncio.to_thread(close, reader, writer)
        finally:
            descriptor, self._presence = self._presence, None
            if descriptor is not None:
                os.close(descriptor)
            place, self._place = self._place, None
            if place is not None:
                opened.closed(place)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Be the only one that has the folder open for writing. Raises `Conflict` where somebody else has."""
        self.check_writable()
        if self._presence is None:
            raise RuntimeError("the store is not open: use it inside `async with`")
        presence.be_alone(self._presence, self.folder)
        self.is_alone = True
        try:
            yield
        finally:
            self.is_alone = False
            presence.be_present(self._presence)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give the connection for reading, all as of one moment. Not to be held across an `await`.

        Its errors become `StorageFailed` and `Damaged`.
        """
        reader = self._reader
        if reader is None:
            raise RuntimeError("the store is not open: use it inside `async with`")
        try:
            reader.execute("BEGIN")
            try:
                yield reader
            finally:
                with suppress(sqlite3.Error):  # some errors end it
                    reader.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise (Damaged(f"{self.damage}.") if self.damage else translated(error, self.folder)) from error

    def write(self, write: Write[T], size: int = 0) -> "asyncio.Future[T]":
        """Do `write` within the next transaction; the future gives what it returned, once that is durable.

        `size`: about how many bytes it writes. A `BusError` it raises is this caller's alone. One cancelled before its
        transaction has begun is not done. Raises `StorageFailed`.
        """
        loop = self.check_writable()
        done: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Change(write, size, done))  # type: ignore[arg-type]
        self._begin(loop)
        return done

    def ride_along(self, write: Write[object], size: int, written: Callable[[], object]) -> None:
        """Do `write` within the next transaction, whenever that is, and call `written` once it is durable."""
        loop = self.check_writable()
        self._riders.append(_Rider(write, size, written))
        self._bytes_held += size
        if self._bytes_held > _MOST_BYTES_HELD:
            self._begin(loop)

    async def room(self) -> None:
        """Wait while much is held that is to ride along. Raises `StorageFailed`."""
        while self._bytes_held > _MOST_BYTES_HELD:
            await self.write(lambda _: None)

    def check_writable(self) -> asyncio.AbstractEventLoop:
        """Raise `StorageFailed` where writing is over or was never asked for, `Damaged` where it would spoil more.

        Return the event loop.
        """
        if self.failure is not None:
            raise StorageFailed(f"nothing more is written after a failure; open the store again: {self.failure}")
        if self._read_only:
            raise StorageFailed(f"{self.folder} is open for reading only")
        if self.damage is not None:
            raise Damaged(f"nothing is written: {self.damage}.")
        if self._writer is None or self._loop is None:
            raise RuntimeError("the store is not open: use it inside `async with`")
        return self._loop

    async def compact(self) -> int:
        """Give unused pages back to the disk, if they are many; return how many bytes. Only within `alone`."""
        self.check_writable()
        if self._writer is None or not self.is_alone:
            raise RuntimeError("the database is made smaller only within `alone`")
        await self.write(lambda _: None)  # what is under way ends
        return await asyncio.to_thread(compact, self._writer, self.folder)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._at_work:
            self._at_work = True
            loop.call_soon(self._next, loop)

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take what waits, at most a group, and commit it: what rides along before what may name it."""
        riders: list[_Rider] = []
        room = _MOST_BYTES_RIDING
        while self._riders and room >= 0:
            riders.append(self._riders.popleft())
            room -= riders[-1].bytes
        self._bytes_held -= sum(rider.bytes for rider in riders)
        changes: list[_Change] = []
        room = _MOST_BYTES
        while not self._riders and self._waiting and len(changes) < _MOST_CHANGES and room > 0:
            change = self._waiting.popleft()
            if not change.done.cancelled():
                changes.append(change)
                room -= change.bytes
        if changes or riders:
            self._commit(loop, _Group(changes, riders, loop.time() + self._patience_s))
        else:
            self._at_work = False

    def _commit(self, loop: asyncio.AbstractEventLoop, group: _Group) -> None:
        try:
            outcomes = self._transact(group)
        except BaseException:  # nobody may be left waiting, also not where the loop is left and entered again
            self._fail(group, StorageFailed("writing was interrupted."))
            raise
        self._settle(loop, group, outcomes)

    def _transact(self, group: _Group) -> list[object] | Exception:
        """Write a group in one transaction; return each change's outcome, or what ended the transaction."""
        connection = self._writer
        if connection is None:
            return StorageFailed("the store was closed")
        try:
            connection.execute("BEGIN IMMEDIATE")
            version = connection.execute("PRAGMA data_version").fetchone()[0]
            if version != self._version:  # another connection has written since
                self._version = version
                self.forget()
            outcomes: list[object] = []
            for change in group.changes:
                try:
                    outcomes.append(change.write(connection))
                except BusError as refusal:
                    outcomes.append(refusal)
            for rider in group.riders:
                rider.write(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            self.forget()
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            if isinstance(error, Exception):  # also a bug in a `write`
                return error
            raise
        return outcomes

    def _settle(self, loop: asyncio.AbstractEventLoop, group: _Group, outcomes: list[object] | Exception) -> None:
        """Tell those that wait; try again where another process held the lock; go on with what came meanwhile."""
        if isinstance(outcomes, Exception):
            if is_busy(outcomes) and loop.time() < group.until:
                loop.call_later(_RETRY_S, self._commit, loop, group)
            else:
                self._fail(group, outcomes)
            return
        for change, outcome in zip(group.changes, outcomes, strict=True):
            if change.done.cancelled():
                continue
            if isinstance(outcome, BusError):
                change.done.set_exception(outcome)
            else:
                change.done.set_result(outcome)
        for rider in group.riders:
            rider.written()
        if self._waiting or self._bytes_held > _MOST_BYTES_HELD:
            loop.call_soon(self._next, loop)
        else:
            self._at_work = False

    def _fail(self, group: _Group, error: Exception) -> None:
        self.failure = translated(error, self.folder)
        self._at_work = False
        waiting = [*group.changes, *self._waiting]
        self._waiting.clear()
        for change in waiting:
            if not change.done.done():
                failure = type(self.failure)(str(self.failure))
                failure.__cause__ = error
                change.done.set_exception(failure)
