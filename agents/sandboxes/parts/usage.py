"""What a tree of processes and its folder use at this moment; the kernel's limits are per process, sums are ours.

Everything here reads what hostile code may change meanwhile: nothing is followed, opened for its content or trusted to
be there still.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PAGE = os.sysconf("SC_PAGE_SIZE")
BLOCK = 512
"""The unit of `st_blocks`."""
DEEPEST = 64
"""Folders inside one another that a walk goes into; each costs it two open files."""
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened: nothing else that took its name meanwhile."""
READABLE = 0o500
"""What the owner needs to look into a folder."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something in a folder, by the descriptor of that folder and its name there; `status` as lstat(2) had it."""

    parent: int
    name: str
    status: os.stat_result
    too_deep: bool
    """It is a folder whose content is not shown: nobody should have to walk, copy or delete that."""

    @contextmanager
    def pinned(self) -> Iterator[Path]:
        """Give a path to this very file, whatever takes its name; links are not followed. Raises `OSError`."""
        descriptor = os.open(self.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.parent)
        try:
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


def walk(folder: Path) -> Iterator[Entry]:
    """Yield all that lies below a folder, a folder before its content; no link is followed.

    A folder that its owner cannot look into is opened up on the way. What vanishes or turns into something else
    meanwhile is left out.
    """
    mode = folder.stat().st_mode
    if mode & READABLE != READABLE:
        folder.chmod(mode & 0o777 | stat.S_IRWXU)
    descriptor = os.open(folder, FOLDER)
    try:
        yield from _below(descriptor, depth=1)
    finally:
        os.close(descriptor)


def _below(folder: int, depth: int) -> Iterator[Entry]:
    with os.scandir(folder) as listing:
        for found in listing:
            try:
                status = found.stat(follow_symlinks=False)
            except OSError:
                continue  # it is gone
            is_folder = stat.S_ISDIR(status.st_mode)
            entry = Entry(folder, found.name, status, is_folder and depth == DEEPEST)
            yield entry
            if not is_folder or entry.too_deep:
                continue
            try:
                inner = _open(entry)
            except OSError:
                continue  # it is something else by now
            try:
                yield from _below(inner, depth + 1)
            finally:
                os.close(inner)


def _open(entry: Entry) -> int:
    if entry.status.st_mode & READABLE != READABLE:
        with entry.pinned() as path:
            path.chmod(entry.status.st_mode & 0o777 | stat.S_IRWXU)
    return os.open(entry.name, FOLDER, dir_fd=entry.parent)


def exceeds(folder: Path, *, size: int, files: int) -> bool:
    """Tell whether a folder takes more than `size` bytes of disk, holds more than `files` entries, or is too deep."""
    used = 0
    for seen, entry in enumerate(walk(folder), start=1):
        used += entry.status.st_blocks * BLOCK
        if used > size or seen > files or entry.too_deep:
            return True
    return False


def family(root: int) -> list[int]:
    """Return a process and all its descendants, as far as they can be seen; none where it has ended."""
    found = [root]
    for pid in found:  # grows while it is read
        try:
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text("ascii").split())
        except OSError:
            continue  # it has ended; its children have another parent, which is in the list or ends them
    return found


def memory(pids: list[int], *, limit: int) -> int:
    """Return the bytes of memory that processes hold.

    Resident sizes count what is shared once for each: cheap, and never too little. Only where they add up to more than
    `limit` are the proportional sizes asked for, which cost the kernel a walk through every page.
    """
    resident = sum(_first_number(f"/proc/{pid}/statm", word=1) * PAGE for pid in pids)
    if resident <= limit:
        return resident
    return sum(_proportional(pid) for pid in pids)


def _proportional(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return _first_number(f"/proc/{pid}/statm", word=1) * PAGE


def written(pids: list[int]) -> int:
    """Return the bytes of disk that processes and their ended children have made dirty since they began.

    Unlike the folder's size it shows files that were deleted while open.
    """
    total = 0
    for pid in pids:
        for line in _read(f"/proc/{pid}/io").splitlines():
            name, _, value = line.partition(": ")
            if name == "write_bytes":
                total += int(value)
            elif name == "cancelled_write_bytes":
                total -= int(value)
    return total


def mounted(pid: int, path: str) -> tuple[int, int]:
    """Return the bytes and files in use on a file system that `pid` has at `path` for itself.

    Nothing where it has ended, or sees ours there: until bubblewrap has set its own up that is the machine's, with all
    that others have on it.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/root{path}", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return 0, 0
    try:
        status, device = os.statvfs(descriptor), os.fstat(descriptor).st_dev
    finally:
        os.close(descriptor)
    if device in {Path(ours).stat().st_dev for ours in ("/", path) if Path(ours).exists()}:
        return 0, 0
    return (status.f_blocks - status.f_bfree) * status.f_frsize, status.f_files - status.f_ffree


def _first_number(path: str, *, word: int) -> int:
    words = _read(path).split()
    return int(words[word]) if len(words) > word else 0


def _read(path: str) -> str:
    """Return what a file of /proc says, nothing where its process has ended (or is not ours to look into)."""
    try:
        return Path(path).read_text("ascii")
    except OSError:
        return ""
