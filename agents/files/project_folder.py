"""Confined access to one folder: an attempt's files, and nothing else of the machine.

What runs in the folder may be hostile: it can plant links, devices and odd names, and swap them while we look. So every
file is opened beneath the root without following a link (`beneath.py`), and judged by its open descriptor. Calls
are synchronous; who is in an event loop uses `asyncio.to_thread` where a call may take long.
"""

import errno
import hashlib
import itertools
import os
import stat
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agents.errors import ToolFailed, ToolRefused
from agents.files import beneath, plain_file
from agents.files import names as file_names
from bus.errors import StorageFailed, is_out_of_files, is_storage
from bus.setup import FileChange, FileRef

READ_LIMIT = 16 * 1024 * 1024
MOST_FILES = 50_000
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_GRAIN_NS = 100_000_000
"""A file changed this shortly before it was hashed may change again without its time stamps showing it."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """A regular file and its size in bytes."""

    path: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Survey:
    """What lies in a folder. `left_out`: sentences about what is no usable file, such as links and devices."""

    entries: list[Entry]
    left_out: list[str]


@dataclass(frozen=True, slots=True)
class Scan:
    """All files of a folder with their hashes at one time."""

    files: Mapping[str, FileRef]
    left_out: Sequence[str] = ()

    def changes_since(self, before: "Scan") -> list[FileChange]:
        """Return what was changed, made or deleted since an earlier scan, by path."""
        changes = []
        for path in sorted(self.files.keys() | before.files.keys()):
            then, now = before.files.get(path), self.files.get(path)
            if then != now:
                base, sha256 = then and then.sha256, now and now.sha256
                changes.append(FileChange(path=path, base=base, sha256=sha256, bytes=now.bytes if now else 0))
        return changes


@dataclass(frozen=True, slots=True)
class _Known:
    """A file's hash, and by what its content can be taken for the same without reading it."""

    stamp: tuple[int, ...]
    sha256: str
    settled: bool


class ProjectFolder:
    """The files beneath `root`, which exists and is trusted; what lies in it is not.

    Paths are relative with `/` between parts. Methods raise `ToolRefused` where a path may not be used, and
    `ToolFailed` where it cannot: it is not there, too big, a folder. A disk that is full or broken is `StorageFailed`:
    no fault of the path, and nothing that a model could mend.
    """

    def __init__(self, root: Path, *, opener: beneath.Opener | None = None) -> None:
        self.root = root
        self._open = opener or beneath.opener()
        self._known: dict[str, _Known] = {}

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        """Return a file's content; more than `limit` bytes are an error, never a cut."""
        with self._file(path) as (descriptor, info):
            data = b"" if info.st_size > limit else plain_file.content(descriptor, limit)
            if info.st_size > limit or len(data) > limit:
                size = max(info.st_size, len(data))
                raise ToolFailed(f"{path!r} has {size:,} bytes; at most {limit:,} can be read.")
            return data

    def read_text(self, path: str, limit: int = READ_LIMIT) -> str:
        """Return a file's text; bytes that are not UTF-8 become U+FFFD, a byte order mark is dropped."""
        return self.read(path, limit).decode("utf-8-sig", "replace")

    def size(self, path: str) -> int:
        """Return a file's size in bytes."""
        with self._file(path) as (_, info):
            return info.st_size

    def write(self, path: str, data: bytes, *, durable: bool = False) -> None:
        """Write a whole file, atomically; folders on the way are made.

        A file keeps its permissions; a new one that is a program by its content can be run. `durable`: return only when
        it would survive a loss of power.
        """
        if part := file_names.never_kept(_file_parts(path)):
            raise ToolRefused(f"{path!r} may not be written: {part!r} is never part of a result. Use another name.")
        self._put(path, data, durable=durable)

    def write_private(self, path: str, data: bytes) -> None:
        """Write a file of our own that is never part of a result, such as below `.swarm`."""
        self._put(path, data, durable=False)

    def delete(self, path: str) -> None:
        """Delete a file; its folder stays. A link is deleted itself, not what it leads to."""
        *folders, name = _file_parts(path)
        with self._explained(path), beneath.folder_at(self.root) as root:
            parent = self._open(root, folders, _FOLDER, 0)
            try:
                if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                os.unlink(name, dir_fd=parent)
            finally:
                os.close(parent)

    def entries(self, prefix: str = "") -> list[Entry]:
        """Return the regular files beneath the folder `prefix`, sorted; never caches and the like."""
        return self.survey(prefix).entries

    def survey(self, prefix: str = "") -> Survey:
        """Return the files beneath the folder `prefix`, and what there is no usable file, with the reason."""
        left_out: list[str] = []
        entries = [Entry(path, info.st_size) for path, info in self._walk(file_names.parts_of(prefix), left_out)]
        return Survey(sorted(entries), sorted(left_out))

    def scan(self) -> Scan:
        """Return all files with their hashes; reads only those that may differ from what an earlier scan read."""
        left_out: list[str] = []
        known: dict[str, _Known] = {}
        files: dict[str, FileRef] = {}
        for path, info in self._walk((), left_out):
            before = self._known.get(path)
            if not (before and before.settled and before.stamp == _stamp(info)):
                try:
                    before = self._hashed(path)
                except ToolFailed as error:  # it was swapped or removed while we looked, or may not be read
                    left_out.append(str(error))
                    continue
            known[path] = before
            files[path] = FileRef(path=path, sha256=before.sha256, bytes=before.stamp[0])
        self._known = known
        return Scan(dict(sorted(files.items())), tuple(sorted(left_out)))

    def holds(self, files: Iterable[FileRef]) -> bool:
        """Tell whether these files are there, and no others; nothing is read unless their names and sizes are right."""
        wanted = {ref.path: ref for ref in files}
        found = set()
        for path, info in self._walk((), []):
            if path not in wanted or wanted[path].bytes != info.st_size:
                return False
            found.add(path)
        try:
            return found == wanted.keys() and all(self._hashed(path).sha256 == wanted[path].sha256 for path in found)
        except ToolFailed:  # it was swapped or removed while we looked, or may not be read
            return False

    def changed(self, before: Scan) -> list[str]:
        """Return the paths of the files that were changed, made or deleted since a scan."""
        return [change.path for change in self.scan().changes_since(before)]

    @contextmanager
    def _file(self, path: str) -> Iterator[tuple[int, os.stat_result]]:
        """Lend a plain file, open for reading."""
        parts = _file_parts(path)
        with self._explained(path), beneath.folder_at(self.root) as root:
            descriptor = self._open(root, parts, os.O_RDONLY, 0)
            try:
                info = os.fstat(descriptor)
                if stat.S_ISDIR(info.st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                if why := plain_file.not_plain(info):
                    raise ToolRefused(f"{path!r} may not be used: it is {why}.")
                yield descriptor, info
            finally:
                os.close(descriptor)

    def _hashed(self, path: str) -> _Known:
        with self._file(path) as (descriptor, info):
            now = time.time_ns()
            digest = hashlib.sha256()
            size = 0
            while piece := os.read(descriptor, 1 << 20):
                digest.update(piece)
                size += len(piece)
            stamp = (size, *_stamp(info)[1:])
            return _Known(stamp, digest.hexdigest(), settled=now - info.st_ctime_ns > _GRAIN_NS)

    def _walk(self, start: Sequence[str], left_out: list[str]) -> Iterator[tuple[str, os.stat_result]]:
        """Yield each plain file beneath a folder; one descriptor is open at a time, however deep it goes."""
        waiting = [tuple(start)]
        count = 0
        with beneath.folder_at(self.root) as root:
            while waiting:
                parts = waiting.pop()
                for name, info in self._listed(root, parts, left_out):
                    path = "/".join((*parts, name))
                    count += 1
                    if count > MOST_FILES:
                        raise ToolFailed(f"The project's folder holds more than {MOST_FILES:,} files.")
                    if file_names.never_kept((name,)):
                        continue
                    if why := _unusable(path, name, info):
                        left_out.append(f"{path!r} is left out: {why}.")
                    elif stat.S_ISDIR(info.st_mode):
                        waiting.append((*parts, name))
                    else:
                        yield path, info

    def _listed(self, root: int, parts: Sequence[str], left_out: list[str]) -> Iterator[tuple[str, os.stat_result]]:
        try:
            folder = self._open(root, parts, _FOLDER, 0)
        except OSError as error:
            if error.errno == errno.EACCES:
                left_out.append(f"{'/'.join(parts)!r} is left out: it is a folder that may not be read.")
            return  # else it is no folder any more
        try:
            for name in os.listdir(folder):  # noqa: PTH208 - a descriptor, not a path
                with suppress(FileNotFoundError):
                    yield name, os.stat(name, dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(folder)

    def _put(self, path: str, data: bytes, *, durable: bool) -> None:
        *folders, name = _file_parts(path)
        with self._explained(path), beneath.folder_at(self.root) as root:
            parent = self._make_folders(root, folders)
            try:
                _refuse_clash(parent, name)
                plain_file.put(
                    parent, name, data, mode=plain_file.mode_to_have(parent, name, path, data), durable=durable
                )
            finally:
                os.close(parent)

    def _make_folders(self, root: int, parts: Sequence[str]) -> int:
        here = os.dup(root)
        for part in parts:
            try:
                _refuse_clash(here, part)
                with suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
                inner = self._open(here, (part,), _FOLDER, 0)
            finally:
                os.close(here)
            here = inner
        return here

    @contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        """Turn the system's errors into ones that a model can act on."""
        try:
            yield
        except FileNotFoundError as error:
            raise ToolFailed(f"There is no file {path!r}. {self._instead(path)}") from error
        except IsADirectoryError as error:
            raise ToolFailed(f"{path!r} is a folder, not a file.") from error
        except NotADirectoryError as error:
            raise ToolFailed(f"There is no file {path!r}: a part of this path is a file, not a folder.") from error
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EXDEV):
                raise ToolRefused(f"{path!r} may not be used: a part of it is a link.") from error
            if is_storage(error):
                raise StorageFailed(f"{self.root}: {error.strerror}: free some space, or mend the disk.") from error
            if is_out_of_files(error):
                raise  # for a person: no model could mend it
            if error.errno == errno.ENXIO:
                raise ToolRefused(f"{path!r} may not be used: it is no regular file.") from error
            raise ToolFailed(f"{path!r} cannot be used: {error.strerror}.") from error

    def _instead(self, path: str) -> str:
        there = [known for known, _ in itertools.islice(self._walk((), []), 2_000)]
        if not there:
            return "The project has no files yet."
        if names := file_names.near(path, there):
            return f"Near to it: {', '.join(map(repr, names))}."
        more = f" and {len(there) - 10} more" if len(there) > 10 else ""  # noqa: PLR2004 - a line of names
        return f"There are: {', '.join(map(repr, sorted(there)[:10]))}{more}."


def _file_parts(path: str) -> tuple[str, ...]:
    parts = file_names.parts_of(path)
    if not parts or path.endswith("/"):
        raise ToolFailed(f"{path!r} is a folder, not a file.")
    return parts


def _refuse_clash(folder: int, name: str) -> None:
    if other := file_names.clash(name, os.listdir(folder)):
        raise ToolRefused(f"{name!r} may not be written beside {other!r}: some systems take both for one name.")


def _unusable(path: str, name: str, info: os.stat_result) -> str | None:
    if why := file_names.fault(name) or file_names.fault(path):
        return why
    if not unicodedata.is_normalized("NFC", name):
        return "its name is not in the composed form of Unicode (NFC)"
    if not stat.S_ISDIR(info.st_mode) and (why := plain_file.not_plain(info)):
        return f"it is {why}"
    return None


def _stamp(info: os.stat_result) -> tuple[int, ...]:
    # A program can set a file's mtime, but not its ctime.
    return (info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino)
