"""A folder of files by their SHA-256 that is bounded: what was used longest ago goes when room is needed.

For copies that can be had again: what an agent fetched, payloads on their way. Processes that share a folder may take
what another one kept; each bounds what it knows of. Nothing here is durable; what is spoilt is not there.
"""

import asyncio
import hashlib
import os
import re
import tempfile
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from bus.errors import NotFound, StorageFailed

MOST_BYTES = 1 << 30

_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".new-"
_LEFT_S = 3600.0
"""After which one that writes is taken for gone."""


class FileCache:
    """Meets `bus.event_log.Files`, in a folder that it makes, and that holds nothing else.

    Raises `StorageFailed` where the folder cannot be made or read.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most = most_bytes
        self._writing = asyncio.Lock()
        self._sizes: OrderedDict[str, int] = _look_through(folder)
        self._held = sum(self._sizes.values())

    async def put(self, data: bytes) -> str:
        """Keep bytes for a while, and return their SHA-256; more than all there is room for are not kept."""
        return await asyncio.shield(self._put(data))  # what a thread has begun to write is counted in any case

    async def _put(self, data: bytes) -> str:
        async with self._writing:
            sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
            if await asyncio.to_thread(self._is_there, sha256):
                self._sizes.move_to_end(sha256)
            elif len(data) <= self._most:
                self._forget(sha256)
                await self._make_room(len(data))
                await asyncio.to_thread(_write, self._folder, sha256, data)
                self._sizes[sha256] = len(data)
                self._held += len(data)
        return sha256

    async def get(self, sha256: str) -> bytes:
        """Return the bytes. Raises `NotFound`, also for what is spoilt."""
        if not _SHA256.fullmatch(sha256):
            raise _missing(sha256)
        data = await asyncio.to_thread(_read, self._folder / sha256)
        if data is None:
            self._forget(sha256)
            raise _missing(sha256)
        if sha256 in self._sizes:
            self._sizes.move_to_end(sha256)
        return data

    async def has(self, sha256s: Sequence[str]) -> Mapping[str, bool]:
        """Tell which are there."""
        return await asyncio.to_thread(lambda: {sha256: self._is_there(sha256) for sha256 in sha256s})

    def _is_there(self, sha256: str) -> bool:
        """Tell whether a file is kept that no other process has taken."""
        size = self._sizes.get(sha256)
        return size is not None and _size(self._folder / sha256) == size

    def _forget(self, sha256: str) -> None:
        self._held -= self._sizes.pop(sha256, 0)

    async def _make_room(self, size: int) -> None:
        while self._sizes and self._held + size > self._most:
            oldest, freed = self._sizes.popitem(last=False)
            self._held -= freed
            await asyncio.to_thread((self._folder / oldest).unlink, missing_ok=True)


def _look_through(folder: Path) -> OrderedDict[str, int]:
    """Return the sizes of what is there, the oldest first."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = []
        for path in folder.iterdir():
            if path.name.startswith(_UNFINISHED):
                if path.stat().st_mtime < time.time() - _LEFT_S:
                    path.unlink(missing_ok=True)
            elif _SHA256.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                status = path.stat()
                found.append((status.st_mtime_ns, path.name, status.st_size))
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be used: {error.strerror}.") from error
    return OrderedDict((name, size) for _, name, size in sorted(found))


def _write(folder: Path, sha256: str, data: bytes) -> None:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=_UNFINISHED, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                Path(file.name).replace(folder / sha256)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise StorageFailed(
            f"a file of {len(data):,} bytes could not be kept in {folder}: {error.strerror}."
        ) from error


def _read(path: Path) -> bytes | None:
    """Return a file's bytes; None where it is gone, or spoilt: then it goes."""
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != path.name:
            path.unlink(missing_ok=True)
            return None
        os.utime(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageFailed(f"{path} cannot be read: {error.strerror}.") from error
    return data


def _size(path: Path) -> int | None:
    """Return a file's size; None where it is gone."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageFailed(f"{path} cannot be read: {error.strerror}.") from error


def _missing(sha256: str) -> NotFound:
    return NotFound(f"there is no file {sha256!r} here")
