"""The file of an archive: a zip with `run.json`, `events.jsonl` and `files/SHA256`, nothing else.

Reading takes a file from anywhere: names, sizes and ways of packing are checked before anything is unpacked, nothing is
unpacked beyond its stated size, and no name in it is ever used as a path. What it all means is in `archive.py`.
"""

import hashlib
import os
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import IO, Self

from bus.errors import BadArchive, Conflict, NotFound, StorageFailed

RUN, EVENTS, FILES = "run.json", "events.jsonl", "files/"

MOST_FILES = 100_000
MOST_FILE_BYTES = 256 << 20
MOST_BYTES = 2 << 30
"""Of all files together, and of all events together."""
MOST_LINE_BYTES = 32 << 20
_MOST_RUN_BYTES = 4096
_MOST_AT_ONCE = 64 << 20
"""What is read of the file in one piece: enough for the list of its members."""

_FILE_NAME = re.compile(r"files/([0-9a-f]{64})")
_PIECE = 1 << 20
_WAYS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_ENCRYPTED = 0x1
_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The same run makes the same bytes, whenever it is exported."""


class ArchiveReader:
    """An archive opened for reading; a context manager. Whatever is wrong with it is raised as `BadArchive`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = _opened(path)
        try:
            with _judged(path):
                self._zip = zipfile.ZipFile(self._stream)
                self._members = _members(self._zip.infolist())
        except BaseException:
            self._stream.close()
            raise
        self.files: Mapping[str, int] = {
            match[1]: info.file_size for name, info in self._members.items() if (match := _FILE_NAME.fullmatch(name))
        }
        """The size of each file by its hash, as stated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._zip.close()
        self._stream.close()

    def run(self) -> bytes:
        """Return what `run.json` holds."""
        return b"".join(self._pieces(RUN))

    def lines(self) -> Iterator[bytes]:
        """Yield the events, each a line without its newline."""
        rest = b""
        for piece in self._pieces(EVENTS):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
            if len(rest) > MOST_LINE_BYTES:
                raise BadArchive(f"{self._path}: an event in it is larger than {MOST_LINE_BYTES >> 20} MiB")
        if rest:
            raise BadArchive(f"{self._path}: its last event is cut")

    def read(self, sha256: str) -> bytes:
        """Return a file's bytes, which have this hash."""
        data = b"".join(self._pieces(FILES + sha256))
        if hashlib.sha256(data).hexdigest() != sha256:
            raise self._spoilt(sha256)
        return data

    def check(self, sha256: str) -> None:
        """Read a file, piece by piece, and see that it has this hash."""
        digest = hashlib.sha256()
        for piece in self._pieces(FILES + sha256):
            digest.update(piece)
        if digest.hexdigest() != sha256:
            raise self._spoilt(sha256)

    def _pieces(self, name: str) -> Iterator[bytes]:
        info = self._members[name]
        left = info.file_size
        with _judged(self._path), self._zip.open(info) as member:
            while left > 0 and (piece := member.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece
            if left or member.read(1):
                raise BadArchive(f"{self._path}: {name} does not have the size that is stated")

    def _spoilt(self, sha256: str) -> BadArchive:
        return BadArchive(f"{self._path}: the file {sha256} in it has other bytes")


class ArchiveWriter:
    """An archive being written: under another name until `publish`, in the same folder, for its owner's eyes only.

    A context manager; without `publish` nothing is left. Raises `StorageFailed`, `Conflict` where the path is taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        if os.path.lexists(path):
            raise _taken(path)
        with _written(path):
            number, name = tempfile.mkstemp(prefix=f".{path.name[:100]}-", dir=path.parent)
            self._made = Path(name)
            self._stream = os.fdopen(number, "w+b")
            self._zip = zipfile.ZipFile(self._stream, "w", zipfile.ZIP_DEFLATED)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(OSError):  # not published, it is thrown away, whatever its last bytes would have met
            self._zip.close()
            self._stream.close()
        self._made.unlink(missing_ok=True)

    @contextmanager
    def events(self) -> Iterator[IO[bytes]]:
        """Give what the events are written to."""
        with _written(self._path), self._zip.open(_info(EVENTS), "w", force_zip64=True) as member:
            yield member

    def add(self, name: str, data: bytes) -> None:
        """Write a member whole."""
        with _written(self._path):
            self._zip.writestr(_info(name), data)

    def publish(self) -> None:
        """Make it durable and give it its name."""
        with _written(self._path):
            self._zip.close()
            self._stream.flush()
            os.fsync(self._stream.fileno())
            _name(self._made, self._path)


class _Bounded(FileIO):
    """A file of which no more than so much is read at once: a hostile one states the sizes that are asked for."""

    def read(self, size: int | None = -1, /) -> bytes:
        here = self.tell()
        wanted = os.fstat(self.fileno()).st_size - here if size is None or size < 0 else size
        if wanted > _MOST_AT_ONCE:
            raise zipfile.BadZipFile("the list of its members is too long")
        return super().read(wanted)


def _opened(path: Path) -> _Bounded:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadArchive(f"{path} is no file")
        return _Bounded(path)
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise BadArchive(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def _judged(path: Path) -> Iterator[None]:
    """Turn what a spoilt or hostile zip makes the library raise into `BadArchive`."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise BadArchive(f"{path} is no archive of a run, or is spoilt: {error}") from error
    except (ValueError, LookupError, OverflowError) as error:
        raise BadArchive(f"{path} is no archive of a run: {error!r}") from error
    except OSError as error:
        raise BadArchive(f"{path} cannot be read: {error.strerror or error}") from error


def _members(infos: list[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the members by name. Raises `BadZipFile` unless they are those of an archive that we wrote."""
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        most = {RUN: _MOST_RUN_BYTES, EVENTS: MOST_BYTES}.get(info.filename, MOST_FILE_BYTES)
        if info.filename not in {RUN, EVENTS} and not _FILE_NAME.fullmatch(info.filename):
            raise zipfile.BadZipFile(f"it holds {info.filename[:100]!r}")
        if info.filename in members:
            raise zipfile.BadZipFile(f"it holds {info.filename} twice")
        if info.compress_type not in _WAYS or info.flag_bits & _ENCRYPTED:
            raise zipfile.BadZipFile(f"{info.filename} is packed in a way that we do not read")
        if info.file_size > most:
            raise zipfile.BadZipFile(f"{info.filename} is larger than {most:,} bytes")
        members[info.filename] = info
    for name in (RUN, EVENTS):
        if name not in members:
            raise zipfile.BadZipFile(f"it holds no {name}")
    check_bounds(len(members) - 2, sum(info.file_size for name, info in members.items() if name.startswith(FILES)))
    return members


def check_bounds(files: int, size: int) -> None:
    """Raise `BadArchive` where files are too many, or too much together."""
    if files > MOST_FILES or size > MOST_BYTES:
        raise BadArchive(
            f"an archive holds {MOST_FILES:,} files of {MOST_BYTES >> 30} GiB at most, not {files:,} of {size:,} bytes"
        )


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EARLIEST)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{path} cannot be written: {error.strerror or error}") from error


def _name(made: Path, path: Path) -> None:
    """Give a file its name, never over another's."""
    try:
        os.link(made, path)
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise _taken(path) from None
        os.rename(made, path)  # noqa: PTH104 - what stands in for the link above
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _taken(path: Path) -> Conflict:
    return Conflict(f"{path} is there already, and nothing is ever overwritten. Name a new file.")
