"""The bytes of files by their SHA-256, written once. The contract is `FileStore` in `bus/event_log.py`.

In a folder, small files lie in the database of the event log and become durable with the event that names them; larger
ones lie beside it as `files/ab/cdef…`, each complete and durable before its hash is told.
"""

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Container, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bus.errors import Damaged, NotFound, StorageFailed

if TYPE_CHECKING:
    import sqlite3

    from bus.database import Database

SMALL_BYTES = 64 << 10
"""Up to this size a file is a row of the database."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".new-"
_REMOVED = 1_000
"""Files removed in one transaction: others that write wait for no more."""


class MemoryFileStore:
    """Meets `bus.event_log.FileStore`; what it holds is gone with it."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256."""
        sha256 = _sha256(data)
        self._files.setdefault(sha256, data)
        return sha256

    async def get(self, sha256: str) -> bytes:
        """Return the bytes. Raises `NotFound`."""
        if sha256 not in self._files:
            raise _missing(sha256)
        return self._files[sha256]

    async def has(self, sha256s: Sequence[str]) -> Mapping[str, bool]:
        """Tell which are there."""
        return {sha256: sha256 in self._files for sha256 in sha256s}

    async def sizes(self) -> Mapping[str, int]:
        """Return how many bytes each file has."""
        return {sha256: len(data) for sha256, data in self._files.items()}

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the only one that has the store: nobody else can reach this one."""
        yield

    async def remove(self, sha256s: Iterable[str]) -> None:
        """Remove files."""
        for sha256 in sha256s:
            self._files.pop(sha256, None)

    async def compact(self) -> int:
        """Give room back: there is nothing to do."""
        return 0


class SqliteFileStore:
    """Meets `bus.event_log.FileStore` in the folder of a `Database`, which whoever made it opens and closes."""

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._folder = database.folder / "files"
        self._held: dict[str, bytes] = {}
        """Small files that are not in the database yet."""
        self._whole: set[str] = set()
        """Large files whose bytes are known to be right."""

    async def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256. Raises `StorageFailed`."""
        if len(data) > SMALL_BYTES:
            self._database.check_writable()
            sha256 = await asyncio.to_thread(_write, self._folder, data, self._whole)
            self._whole.add(sha256)
            return sha256
        sha256 = _sha256(data)
        if sha256 not in self._held:
            await self._database.room()
        if sha256 not in self._held:  # nor put by another meanwhile
            written = partial(self._held.pop, sha256, None)
            self._database.ride_along(partial(_insert, sha256, data), len(data), written)
            self._held[sha256] = data
        return sha256

    async def get(self, sha256: str) -> bytes:
        """Return the bytes. Raises `NotFound`; `Damaged` where they do not have that hash; `StorageFailed`."""
        if sha256 in self._held:
            return self._held[sha256]
        if not _SHA256.fullmatch(sha256):
            raise _missing(sha256)
        with self._database.reading() as connection:
            row = connection.execute("SELECT data FROM files WHERE sha256 = ?", (bytes.fromhex(sha256),)).fetchone()
        if row is None:
            # Hashed where it is read: that takes as long, and the loop would answer nobody meanwhile.
            data, found = await asyncio.to_thread(_read, self._path(sha256))
        else:
            data = bytes(row[0])
            found = _sha256(data)
        if found != sha256:
            self._whole.discard(sha256)
            raise Damaged(f"the stored file {sha256} has other bytes by now")
        return data

    async def has(self, sha256s: Sequence[str]) -> Mapping[str, bool]:
        """Tell which are there."""
        return {sha256: sha256 in self._held or self._has(sha256) for sha256 in sha256s}

    async def sizes(self) -> Mapping[str, int]:
        """Return how many bytes each file has. Raises `StorageFailed`."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT lower(hex(sha256)), length(data) FROM files").fetchall()
        large = await asyncio.to_thread(_sizes, self._folder)
        return {**{sha256: len(data) for sha256, data in self._held.items()}, **large, **dict(rows)}

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the only one that has the store open for writing. See `FileStore.alone`."""
        with self._database.alone():
            yield

    async def remove(self, sha256s: Iterable[str]) -> None:
        """Remove files, and what a crash left half written. See `FileStore.remove`; raises `StorageFailed`."""
        if not self._database.is_alone:
            raise RuntimeError("files are removed only within `alone`: others may be about to name them")
        await self._database.write(lambda _: None)  # what is held is there before it is removed
        wanted = [sha256 for sha256 in sha256s if _SHA256.fullmatch(sha256)]
        for start in range(0, len(wanted), _REMOVED):
            await self._database.write(partial(_delete, wanted[start : start + _REMOVED]))
        await asyncio.to_thread(_unlink, self._folder, [self._path(sha256) for sha256 in wanted])

    async def compact(self) -> int:
        """Give unused room back to the disk. See `FileStore.compact`; raises `StorageFailed`."""
        return await self._database.compact()

    def _has(self, sha256: str) -> bool:
        if not _SHA256.fullmatch(sha256):
            return False
        with self._database.reading() as connection:
            row = connection.execute("SELECT 1 FROM files WHERE sha256 = ?", (bytes.fromhex(sha256),)).fetchone()
        return row is not None or self._path(sha256).exists()

    def _path(self, sha256: str) -> Path:
        return self._folder / sha256[:2] / sha256[2:]


def _insert(sha256: str, data: bytes, connection: "sqlite3.Connection") -> None:
    connection.execute(
        "INSERT INTO files (sha256, data) VALUES (?, ?)"
        " ON CONFLICT DO UPDATE SET data = excluded.data WHERE data IS NOT excluded.data",
        (bytes.fromhex(sha256), data),
    )


def _delete(sha256s: Sequence[str], connection: "sqlite3.Connection") -> None:
    rows = [(bytes.fromhex(sha256),) for sha256 in sha256s]
    connection.executemany("DELETE FROM files WHERE sha256 = ?", rows)


def _sizes(folder: Path) -> dict[str, int]:
    """Return the sizes of the files on disk; what we have not named so is not ours."""
    found = {}
    try:
        for path in folder.glob("??/*"):
            if _SHA256.fullmatch(path.parent.name + path.name) and path.is_file() and not path.is_symlink():
                found[path.parent.name + path.name] = path.stat().st_size
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be read: {error.strerror}") from error
    return found


def _unlink(folder: Path, paths: Sequence[Path]) -> None:
    try:
        for path in [*paths, *folder.glob(f"{_UNFINISHED}*")]:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailed(f"files could not be removed from {folder}: {error.strerror}") from error


def _write(folder: Path, data: bytes, whole: Container[str]) -> str:
    """Write under another name, then rename: under its own name a file is whole, unless the disk spoilt it.

    One that is there and not among those known to be whole is looked at, and replaced where it is spoilt.
    """
    sha256 = _sha256(data)
    place = folder / sha256[:2]
    path = place / sha256[2:]
    try:
        if _is_there(path, len(data), None if sha256 in whole else sha256):
            return sha256
        for needed in (folder, place):
            if not needed.is_dir():
                needed.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(needed.parent)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=_UNFINISHED, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        _sync_folder(place)
    except OSError as error:
        raise StorageFailed(f"a file of {len(data)} bytes could not be kept in {folder}: {error.strerror}") from error
    return sha256


def _is_there(path: Path, size: int, sha256: str | None) -> bool:
    """Tell whether a file has a size and, unless that is known, a hash."""
    try:
        if path.stat().st_size != size:
            return False
        if sha256 is None:
            return True
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except FileNotFoundError:
        return False


def _read(path: Path) -> tuple[bytes, str]:
    """Return a file's bytes and their SHA-256."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise _missing(path.parent.name + path.name) from None
    except OSError as error:
        raise StorageFailed(f"{path} cannot be read: {error.strerror}") from error
    return data, _sha256(data)


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _missing(sha256: str) -> NotFound:
    return NotFound(f"there is no file {sha256!r} in the store")
