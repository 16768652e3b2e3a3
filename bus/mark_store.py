"""Marks beside the event log: what a log added up to at some positions. Contract: `MarkStore` in `bus/event_log.py`.

A mark is bound to its log by the hash of the record at its position, which stands for all records up to there: where
that record is another by now, the mark is passed over. So a fork may use what its parent has up to where they part.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from bus.chain import is_text
from bus.event_log import Mark

if TYPE_CHECKING:
    import sqlite3

    from bus.database import Database

_FOREVER = 1 << 62

# Made with the first mark, not with the database: it is in no version of the schema, and may be dropped at any time.
_TABLE = (
    "CREATE TABLE IF NOT EXISTS marks (number INTEGER PRIMARY KEY, run INTEGER NOT NULL, position INTEGER NOT NULL,"
    " hash BLOB NOT NULL, maker TEXT NOT NULL, data BLOB NOT NULL, UNIQUE (run, position)) STRICT"
)
_IS_THERE = "SELECT 1 FROM sqlite_master WHERE name = 'marks'"
_TRIGGER = (
    "CREATE TRIGGER IF NOT EXISTS marks_go_with_their_run AFTER DELETE ON runs"
    " BEGIN DELETE FROM marks WHERE run = OLD.number; END"
)
_INSERT = (
    "INSERT OR REPLACE INTO marks (run, position, hash, maker, data)"
    " SELECT run, position, hash, ?, ? FROM events WHERE run = ? AND position = ?"
)
_NEWEST = (
    "SELECT position, data FROM marks JOIN events USING (run, position, hash)"
    " WHERE run = ? AND position > ? AND position <= ? AND maker = ? ORDER BY position DESC LIMIT 1"
)
_RUN = "SELECT number, parent, parent_position FROM runs WHERE "


class MemoryMarkStore:
    """Meets `bus.event_log.MarkStore`. `hash_at`: the hash of a run's record at a position, None if there is none."""

    def __init__(self, hash_at: Callable[[str, int], bytes | None]) -> None:
        self._hash_at = hash_at
        self._marks: dict[bytes, Mark] = {}
        """By the hash of the record at its position."""

    def keep(self, mark: Mark) -> None:
        """Keep a mark."""
        digest = self._hash_at(mark.run, mark.position)
        if digest is not None:
            self._marks[digest] = mark

    async def newest(self, run: str, maker: str, end: int | None = None) -> Mark | None:
        """Return the newest mark up to a position. See `MarkStore.newest`."""
        positions = {mark.position for mark in self._marks.values() if end is None or mark.position <= end}
        for position in sorted(positions, reverse=True):
            mark = self._marks.get(self._hash_at(run, position) or b"")
            if mark is not None and mark.maker == maker:
                return Mark(run, position, maker, mark.data)
        return None

    def unkept(self) -> list[Mark]:
        """Return nothing: all are kept at once."""
        return []


class SqliteMarkStore:
    """Meets `bus.event_log.MarkStore` in a `Database`, which whoever made it opens and closes."""

    def __init__(self, database: "Database", *, read_only: bool) -> None:
        self._database = database
        self._read_only = read_only
        self._unkept: list[Mark] = []

    def keep(self, mark: Mark) -> None:
        """Keep a mark with what is written next. Raises `StorageFailed`."""
        if self._read_only:
            self._unkept.append(mark)
        else:
            self._database.ride_along(partial(_insert, mark), len(mark.data), lambda: None)

    async def newest(self, run: str, maker: str, end: int | None = None) -> Mark | None:
        """Return the newest mark up to a position. See `MarkStore.newest`. Raises `StorageFailed`."""
        with self._database.reading() as connection:
            if not is_text(run) or not connection.execute(_IS_THERE).fetchone():
                return None
            origin = connection.execute(f"{_RUN} run = ?", (run,)).fetchone()
            last = _FOREVER if end is None else end
            while origin is not None:  # its own records first, then its forebears'
                number, parent, begins = origin
                found = connection.execute(_NEWEST, (number, begins, last, maker)).fetchone()
                if found is not None:
                    return Mark(run, found[0], maker, bytes(found[1]))
                last = min(last, begins)
                origin = connection.execute(f"{_RUN} number = ?", (parent,)).fetchone()
        return None

    def unkept(self) -> list[Mark]:
        """Return what could not be kept. See `MarkStore.unkept`."""
        return self._unkept


def _insert(mark: Mark, connection: "sqlite3.Connection") -> None:
    """Write a mark beside the records it is of; nothing happens where they are gone."""
    if not is_text(mark.run):
        return
    connection.execute(_TABLE)
    connection.execute(_TRIGGER)
    origin = connection.execute(f"{_RUN} run = ?", (mark.run,)).fetchone()
    while origin is not None and mark.position <= origin[2]:
        origin = connection.execute(f"{_RUN} number = ?", (origin[1],)).fetchone()
    if origin is not None:
        connection.execute(_INSERT, (mark.maker, mark.data, origin[0], mark.position))
