"""The file `log.db` itself: where it lies, its tables, how its connections are set, what its errors mean.

All of it may wait for the disk, and is called in a thread.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from bus.errors import Damaged, LogError, NotFound, StorageFailed, TooNew
from bus.private_folder import make_private_folder

NAME = "log.db"
Connect = Callable[[str], sqlite3.Connection]
"""Opens a connection to a file that is named by its URI. What it raises, and what its connections raise, is
`sqlite3.Error`."""
SCHEMA_VERSION = 2

# `events` is kept in the order of arrival, whatever the run: every append goes to the last page, and only the small
# index is written in many places. A WITHOUT ROWID table over (run, position) was a tenth larger and twice as slow
# where many runs write at once. `total`: bytes of the run's own lines up to this one. `removed`: the run is there for
# its forks only.
_SCHEMA = f"""
CREATE TABLE runs (
  number INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL, created TEXT NOT NULL DEFAULT '',
  host TEXT, pid INTEGER, started TEXT,
  parent INTEGER REFERENCES runs (number), parent_position INTEGER NOT NULL DEFAULT 0,
  imported INTEGER NOT NULL DEFAULT 0, removed INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE events (
  number INTEGER PRIMARY KEY, run INTEGER NOT NULL, position INTEGER NOT NULL, total INTEGER NOT NULL,
  hash BLOB NOT NULL, line BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_of_run ON events (run, position);
CREATE TABLE files (sha256 BLOB PRIMARY KEY, data BLOB NOT NULL) STRICT;
PRAGMA user_version = {SCHEMA_VERSION};
"""
_UPGRADES = {
    1: "ALTER TABLE runs ADD COLUMN imported INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE runs ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;"
    "PRAGMA user_version = 2",
}
"""By schema version: what makes the next one of it. Whoever opens the file for writing brings it up to date."""
_LOOKS = {
    1: "CREATE TEMP VIEW runs AS SELECT number, run, epoch, created, host, pid, started, parent, parent_position,"
    " 0 AS imported, 0 AS removed FROM main.runs",
}
"""By schema version: what makes an old file look like a new one to a reader, which may not change it."""
PAGE_BYTES = 4096
"""A commit writes whole pages, two at least: with twice as large ones it took a tenth longer."""
_OPENING_S = 10.0
_SHARED_BYTES = 64 << 10
"""The shared memory of a write-ahead log grows by 32 KiB at a time."""
_MUCH_BYTES = 1 << 20
_MUCH = 4
"""One page in so many unused is worth writing the file anew; fewer are used again soon."""

RECOVER = f"copy the folder, then try `sqlite3 {NAME} .recover`"
_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_IOERR: "the disk gave an error: look at its health and free space",
    sqlite3.SQLITE_READONLY: "it may not be written: change its permissions, or name another folder in SWARM_HOME",
    sqlite3.SQLITE_BUSY: "another process has been writing to it for too long: look for one that hangs",
    sqlite3.SQLITE_NOTADB: "it is not a database of ours: move it away, or name another folder in SWARM_HOME",
    sqlite3.SQLITE_CORRUPT: f"it is damaged: {RECOVER}",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: look at the permissions of the folder and of the files in it",
}


def connect(uri: str, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """Open a connection as all of ours are: transactions are begun by hand, any thread may use it."""
    return sqlite3.connect(
        uri,
        uri=True,
        timeout=_OPENING_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=64,
        factory=factory,
    )


def open_writer(folder: Path, connect: Connect = connect) -> sqlite3.Connection:
    """Open for writing; make folder, file and tables that are not there.

    Raises `StorageFailed`, `Damaged`, `TooNew`.
    """
    try:
        make_private_folder(folder)
        with suppress(FileExistsError):
            _path(folder).touch(mode=0o600, exist_ok=False)  # its -wal gets the same; the folder may be older than we
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be used: {error.strerror}. Name another folder in SWARM_HOME.") from error
    try:
        connection = connect(f"{_path(folder).as_uri()}?mode=rwc")
    except sqlite3.Error as error:
        raise translated(error, folder) from error
    try:
        _prepare(connection, folder)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise translated(error, folder) from error
        raise
    return connection


def open_reader(folder: Path, connect: Connect = connect, *, damaged: bool = False) -> sqlite3.Connection:
    """Open for reading, also in a folder that may not be written.

    `damaged`: give what can still be read of a file that is shorter than it says. Raises `NotFound`, `StorageFailed`,
    `Damaged`, `TooNew`.
    """
    path = _path(folder)
    if not path.exists():
        raise NotFound(f"there is no {NAME} in {folder}: nothing has been run there")
    way = "mode=ro"
    if not os.access(folder, os.W_OK) and not path.with_name(f"{NAME}-wal").exists():
        way = "immutable=1"  # nobody writes, and SQLite could not make the file it shares with writers
    try:
        connection = connect(f"{path.as_uri()}?{way}")
    except sqlite3.Error as error:
        raise translated(error, folder) from error
    try:
        if damaged:
            connection.execute("PRAGMA writable_schema = ON")  # also: do not refuse for the file's length
        version = _check_version(connection, folder)
        if version in _LOOKS:
            connection.execute(_LOOKS[version])
    except BaseException as error:
        connection.close()
        if not isinstance(error, sqlite3.Error):
            raise
        if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_READONLY_ROLLBACK:
            raise translated(error, folder) from error
        version = 0  # a rollback journal is there only until the file is one with a write-ahead log
    if version == 0:
        connection.close()
        raise NotFound(f"{NAME} in {folder} has no tables yet: nothing has been run there")
    return connection


def compact(connection: sqlite3.Connection, folder: Path) -> int:
    """Write the file anew without its unused pages, if they are many; return how many bytes. Raises `StorageFailed`."""
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    if free * size < _MUCH_BYTES or free * _MUCH < pages:
        return 0
    try:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return (pages - int(connection.execute("PRAGMA page_count").fetchone()[0])) * size
    except sqlite3.Error as error:
        raise translated(error, folder) from error


def close(*connections: sqlite3.Connection | None) -> None:
    """Close connections; the last one on a file moves what is in its write-ahead log into it."""
    for connection in connections:
        if connection is not None:
            connection.close()


def is_busy(error: Exception) -> bool:
    """Tell whether the error is another's lock, so that trying again may help."""
    return isinstance(error, sqlite3.OperationalError) and _code(error) == sqlite3.SQLITE_BUSY


def translated(error: Exception, folder: Path) -> LogError:
    """Return what went wrong, as `StorageFailed` or `Damaged` that says what to do."""
    if not isinstance(error, sqlite3.Error):
        return error if isinstance(error, StorageFailed) else StorageFailed(f"writing to {folder / NAME}: {error!r}")
    remedy = _REMEDIES.get(_meant(error, folder))
    kind = Damaged if _code(error) == sqlite3.SQLITE_CORRUPT else StorageFailed
    return kind(f"{folder / NAME}: {error}" + (f"; {remedy}." if remedy else "."))


def _meant(error: sqlite3.Error, folder: Path) -> int:
    """Return an error's code; where SQLite has no room for the memory that it shares, it only speaks of the disk."""
    code = _code(error)
    if code == sqlite3.SQLITE_IOERR:
        with suppress(OSError):
            room = os.statvfs(folder)
            if room.f_bavail * room.f_frsize < _SHARED_BYTES:
                return sqlite3.SQLITE_FULL
    return code


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _path(folder: Path) -> Path:
    return (folder / NAME).absolute()


def _prepare(connection: sqlite3.Connection, folder: Path) -> None:
    version = _check_version(connection, folder)
    if version == 0:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    _use_write_ahead_log(connection, folder)
    connection.execute("PRAGMA synchronous = FULL")
    if version < SCHEMA_VERSION:
        connection.execute("BEGIN IMMEDIATE")
        version = _check_version(connection, folder)  # asked again: now nobody else can be making them
        steps = [_UPGRADES[step] for step in range(version, SCHEMA_VERSION)] if version else [_SCHEMA]
        for statement in ";".join(steps).split(";"):
            connection.execute(statement)
        connection.execute("COMMIT")
    # From here on waiting for another process is the event loop's matter, which has better to do than sleep in SQLite.
    connection.execute("PRAGMA busy_timeout = 2")


def _check_version(connection: sqlite3.Connection, folder: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise TooNew(
            f"{folder / NAME} was written by a newer version of eventswarm (schema {version}); upgrade to use it"
        )
    return version


def _use_write_ahead_log(connection: sqlite3.Connection, folder: Path) -> None:
    """Switch to WAL. Two processes that do so at once are told "locked" without any waiting, so we do the waiting."""
    until = time.monotonic() + _OPENING_S
    while True:
        try:
            with closing(connection.execute("PRAGMA journal_mode = WAL")) as cursor:
                mode = cursor.fetchone()[0]
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            break
    if mode != "wal":
        raise StorageFailed(
            f"{folder / NAME}: this file system cannot hold a write-ahead log (mode {mode}); use a local disk."
        )
