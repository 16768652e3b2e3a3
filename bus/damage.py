"""What shows that `log.db` is not whole: it was cut, or parted from its write-ahead log.

SQLite notices most damage where it meets it, but not all: it takes the missing end of a cut page for zeros, an empty
file for a new one, and a file without its write-ahead log for an older state of the same. Each of these would be a
log that ends too early without a word. All of it waits for the disk, and is called in a thread.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from bus.database_file import NAME, RECOVER, Connect
from bus.errors import Damaged
from bus.private_folder import WORK

_LOOKS = 3
_BETWEEN_S = 0.01
"""Another process may be opening, writing or closing the file: what is seen once may be its doing."""
_HEADER = 100


def refuse_parted(folder: Path) -> None:
    """Raise `Damaged` where what belongs to the file was taken away.

    Whoever closes the file last removes first `-shm`, then `-wal`; whoever opens it makes them the other way round. So
    where `-shm` is there and `-wal` is not, it was taken away, with all that was recorded since it was last emptied.
    """
    log, shared = folder / f"{NAME}-wal", folder / f"{NAME}-shm"
    if _lasts(lambda: shared.exists() and not log.exists()):
        raise Damaged(
            f"{log} is missing, and with it what was recorded last. Put it back beside {NAME}. "
            f"If it is lost, remove {shared.name}: the runs then stand where they stood some time before."
        )
    path = folder / NAME
    kept = [name for name in (log.name, "files", WORK) if (folder / name).exists()]
    if kept and _lasts(lambda: path.exists() and path.stat().st_size == 0):
        raise Damaged(f"{path} is empty, but runs were kept here ({', '.join(kept)}): it was cut. Bring a copy back.")


def cut(folder: Path, connect: Connect, *, write_back: bool) -> str | None:
    """Say how much of the file is missing at its end; None where nothing is, or where that cannot be told.

    What is missing may still stand in the write-ahead log. `write_back`: write that into the file before looking.
    """
    path, log = folder / NAME, folder / f"{NAME}-wal"
    if not path.exists():
        return None
    if log.exists() and log.stat().st_size and not (write_back and _written_back(path, connect)):
        return None
    if not _lasts(lambda: _missing(path) > 0):
        return None
    size = path.stat().st_size
    return f"{path} is cut: {size:,} bytes are there, {_missing(path):,} are missing; {RECOVER}"


def unindexed(connection: sqlite3.Connection) -> str | None:
    """Say which record was written last, where it is not found by its run and position; None where it is."""
    # In one statement, so of one moment: another process may be writing.
    newest = connection.execute(
        "SELECT runs.run, position, (SELECT max(position) FROM events AS found WHERE found.run = events.run)"
        " FROM events JOIN runs ON runs.number = events.run ORDER BY events.number DESC LIMIT 1"
    ).fetchone()
    if newest is None:
        return None
    run, position, last = newest
    return None if last == position else f"{NAME} is damaged where run {run!r} has position {position}; {RECOVER}"


def _missing(path: Path) -> int:
    """Return how many bytes fewer the file has than its header says. SQLite file format, section 1.3."""
    with path.open("rb") as file:
        header = file.read(_HEADER)
    size = path.stat().st_size
    if not size or not b"SQLite format 3\0".startswith(header[:16]):
        return 0  # none yet, or none of SQLite's: it says so itself
    if len(header) < _HEADER:
        return _HEADER - len(header)
    page = int.from_bytes(header[16:18]) or 1
    page = 65_536 if page == 1 else page
    return max(int.from_bytes(header[28:32]) * page - size, -size % page)


def _written_back(path: Path, connect: Connect) -> bool:
    """Write into the file what is in its write-ahead log; tell whether that is all of it."""
    try:
        with closing(connect(f"{path.absolute().as_uri()}?mode=rw")) as connection:
            _, frames, written = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.Error:  # whoever uses the file next is told, with the remedy
        return False
    return bool(frames == written)


def _lasts(seen: Callable[[], bool]) -> bool:
    """Tell whether something is seen each time one looks."""
    for look in range(_LOOKS):
        if look:
            time.sleep(_BETWEEN_S)
        if not seen():
            return False
    return True
