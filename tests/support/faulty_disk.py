"""A disk under SQLite that gets full, gives errors, tears writes: a VFS of APSW, handed in as the store's `connect`.

    disk = FaultyDisk()
    async with SqliteEventLog(folder, connect=disk.connect) as log:
        disk.fail(Fault.FULL, after=3)  # three more writes succeed
        ...
        disk.mend()

The SQLite of APSW is another one than Python's: the file is real, so what it left is then read by Python's.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from enum import Enum
from itertools import count
from typing import Any, Self

import apsw

_numbers = count()


class Fault(Enum):
    """What the disk does, from a write on, until it is mended (`ONCE`: at that write only)."""

    FULL = "full"
    IO = "io"
    ONCE = "once"
    TORN = "torn"
    """The first half of the write is done; it and all that follows fails."""
    SYNC = "sync"
    """Writes succeed, and making them durable fails."""
    READ = "read"


class FaultyDisk:
    """Counts what is done to the files of its connections, and fails when told."""

    def __init__(self, *, checkpoint_pages: int = 1000) -> None:
        self.done = {"write": 0, "sync": 0, "read": 0}
        """Calls so far, of each kind."""
        self._fault: Fault | None = None
        self._left = 0
        self._broken = False
        self._checkpoint_pages = checkpoint_pages
        self._name = f"faulty-{next(_numbers)}"
        self._vfs = _Vfs(self._name, self)

    def fail(self, fault: Fault, *, after: int) -> None:
        """Fail once so many more calls of the fault's kind have succeeded."""
        self._fault, self._left, self._broken = fault, after, False

    def mend(self) -> None:
        """Be a good disk again."""
        self._fault, self._broken = None, False

    @property
    def failed(self) -> bool:
        """Whether a fault was shown since the last `fail`."""
        return self._broken

    def connect(self, uri: str) -> Any:
        """Open a connection on this disk; meets `bus.database_file.Connect`."""
        connection = Connection(f"{uri}&vfs={self._name}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {self._checkpoint_pages}")
        return connection

    def meets(self, kind: str) -> Fault | None:
        """Count a call; return the fault that it meets."""
        self.done[kind] += 1
        fault = self._fault
        wanted = {Fault.SYNC: "sync", Fault.READ: "read"}.get(fault, "write") if fault else ""
        if fault is None or kind != wanted or (fault is Fault.ONCE and self._broken):
            return None
        if not self._broken and self._left > 0:
            self._left -= 1
            return None
        first, self._broken = not self._broken, True
        return Fault.IO if fault is Fault.TORN and not first else fault


class Connection:
    """As much of `sqlite3.Connection` as the store uses, over APSW."""

    def __init__(self, uri: str) -> None:
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
        try:
            self._connection = apsw.Connection(uri, flags=flags)
        except apsw.Error as error:
            raise _as_sqlite3(error) from error
        self._connection.set_busy_timeout(10_000)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> "Cursor":
        try:
            return Cursor(self._connection.execute(statement, values))
        except apsw.Error as error:
            raise _as_sqlite3(error) from error

    def executemany(self, statement: str, rows: Iterable[Sequence[Any]]) -> "Cursor":
        try:
            return Cursor(self._connection.executemany(statement, rows))
        except apsw.Error as error:
            raise _as_sqlite3(error) from error

    def close(self) -> None:
        with suppress(apsw.Error):  # the file is closed all the same, and Python's SQLite says nothing either
            self._connection.close()


class Cursor:
    """As much of `sqlite3.Cursor`."""

    def __init__(self, cursor: apsw.Cursor) -> None:
        self._cursor = cursor

    def fetchone(self) -> Any:
        return next(self, None)

    def fetchall(self) -> list[Any]:
        return [*self]

    def close(self) -> None:
        with suppress(apsw.Error):  # as Python's: what it was about to say has been said
            self._cursor.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._cursor)
        except apsw.Error as error:
            raise _as_sqlite3(error) from error


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk = disk

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's names
        fault = self._disk.meets("write")
        if fault is Fault.TORN:
            super().xWrite(bytes(data)[: len(data) // 2], offset)
        if fault is Fault.FULL:
            raise _error(apsw.FullError, sqlite3.SQLITE_FULL)
        if fault is not None:
            raise _error(apsw.IOError, sqlite3.SQLITE_IOERR_WRITE)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        if self._disk.meets("sync"):
            raise _error(apsw.IOError, sqlite3.SQLITE_IOERR_FSYNC)
        super().xSync(flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        if self._disk.meets("read"):
            raise _error(apsw.IOError, sqlite3.SQLITE_IOERR_READ)
        return super().xRead(amount, offset)

    def excepthook(self, *_: Any) -> None:
        """SQLite is told by the error's code; nothing is to be printed."""


class _Vfs(apsw.VFS):
    def __init__(self, name: str, disk: FaultyDisk) -> None:
        self._disk = disk
        super().__init__(name, "", maxpathname=0)

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802
        return _File(self._disk, name, flags)

    def excepthook(self, *_: Any) -> None:
        """As above."""


def _error(kind: type[apsw.Error], code: int) -> apsw.Error:
    error = kind("database or disk is full" if kind is apsw.FullError else "disk I/O error")
    error.result, error.extendedresult = code & 0xFF, code
    return error


def _as_sqlite3(error: apsw.Error) -> sqlite3.Error:
    code = getattr(error, "extendedresult", 0) or getattr(error, "result", sqlite3.SQLITE_ERROR)
    kinds = {sqlite3.SQLITE_CORRUPT: sqlite3.DatabaseError, sqlite3.SQLITE_NOTADB: sqlite3.DatabaseError}
    found = kinds.get(code & 0xFF, sqlite3.OperationalError)(str(error))
    found.sqlite_errorcode = code
    return found
