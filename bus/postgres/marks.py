"""Marks in PostgreSQL. Contract: `MarkStore` in `bus/event_log.py`; a mark counts while its record is the same."""

from bus.chain import is_text
from bus.event_log import Mark
from bus.postgres.reader import Reader
from bus.postgres.writer import Writer

_NEWEST = """
WITH RECURSIVE line AS (
  SELECT number, parent, parent_position AS begins, $3::bigint AS last FROM runs WHERE run = $1 AND NOT removed
  UNION ALL
  SELECT runs.number, runs.parent, runs.parent_position, least(line.last, line.begins)
  FROM line JOIN runs ON runs.number = line.parent
)
SELECT marks.position, data FROM line
JOIN marks ON marks.run = line.number AND marks.position > begins AND marks.position <= last
JOIN events ON events.run = marks.run AND events.position = marks.position AND events.hash = marks.hash
WHERE maker = $2 ORDER BY marks.position DESC LIMIT 1
"""
_FOREVER = 1 << 62


class PostgresMarkStore:
    """Meets `bus.event_log.MarkStore`. `writer`: None where nothing may be written."""

    def __init__(self, reader: Reader, writer: Writer | None) -> None:
        self._reader = reader
        self._writer = writer
        self._unkept: list[Mark] = []

    def keep(self, mark: Mark) -> None:
        """Keep a mark with what is written next. Raises `StorageFailed`."""
        if self._writer is None:
            self._unkept.append(mark)
        else:
            self._writer.hold_mark(mark)

    async def newest(self, run: str, maker: str, end: int | None = None) -> Mark | None:
        """Return the newest mark up to a position. See `MarkStore.newest`. Raises `StorageFailed`."""
        if not is_text(run):
            return None
        rows = await self._reader.fetch(_NEWEST, run, maker, _FOREVER if end is None else end)
        return Mark(run, rows[0][0], maker, rows[0][1]) if rows else None

    def unkept(self) -> list[Mark]:
        """Return what could not be kept. See `MarkStore.unkept`."""
        return self._unkept
