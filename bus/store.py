"""A store: an event log with the files that its events name. Here the composition root gets one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bus.event_log import EventLog, FileStore


@dataclass(frozen=True, slots=True)
class Store:
    """An open event log and its files."""

    log: EventLog
    files: FileStore


def is_on_server(place: Path | str) -> bool:
    """Tell whether a store is named by the URL of a server, not by its folder."""
    return str(place).startswith(("postgresql://", "postgres://"))


@asynccontextmanager
async def open_store(place: Path | str, *, read_only: bool = False) -> AsyncIterator[Store]:
    """Open the store of a folder, or of a `postgresql://` URL, made if it is not there; close it on leaving.

    `read_only` makes nothing and needs no right to write. Raises `NotFound` (read-only, nothing there),
    `StorageFailed`, `TooNew`.
    """
    if is_on_server(place):
        from bus.event_logs.postgres import PostgresEventLog  # noqa: PLC0415 - likewise, and it is an extra

        async with PostgresEventLog(str(place), read_only=read_only) as shared:
            yield Store(shared, shared.files)
        return
    from bus.event_logs.sqlite import SqliteEventLog  # noqa: PLC0415 - SQLite loads where it is used

    async with SqliteEventLog(place, read_only=read_only) as log:
        yield Store(log, log.files)


@asynccontextmanager
async def memory_store() -> AsyncIterator[Store]:
    """Open a store that is gone on leaving."""
    from bus.event_logs.memory import MemoryEventLog  # noqa: PLC0415 - loads where it is used
    from bus.file_store import MemoryFileStore  # noqa: PLC0415 - likewise

    async with MemoryEventLog() as log:
        yield Store(log, MemoryFileStore())
