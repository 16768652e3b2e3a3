"""Reads, judges and replaces one file, by descriptors of the file and of its folder, never by a path."""

import errno
import os
import re
import secrets
import stat
from contextlib import suppress

from agents.errors import ToolRefused
from agents.files.names import TEMPORARY

_PROGRAM = re.compile(rb"#![ \t]*/|\x7fELF")
"""Beginning of what the kernel runs: an interpreter's path, or a binary."""


def content(descriptor: int, limit: int) -> bytes:
    """Read to the end, but not beyond one byte more than `limit`: a file may grow while it is read."""
    pieces = []
    left = limit + 1
    while left > 0 and (piece := os.read(descriptor, min(left, 1 << 20))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def put(parent: int, name: str, data: bytes, *, mode: int, durable: bool) -> None:
    """Write a file under another name, then give it its own: readers see the old content or the new, never a part."""
    temporary = f"{TEMPORARY}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=parent), "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            if durable:
                os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        raise
    if durable:
        os.fsync(parent)


def mode_to_have(parent: int, name: str, path: str, data: bytes) -> int:
    """Return the permissions of the file that will be replaced, without setuid and the like; of a new one its own.

    A file is known by path and content alone, so that it is a program is read from that.
    """
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return 0o755 if _PROGRAM.match(data) else 0o644
    if stat.S_ISDIR(info.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if why := not_plain(info):
        raise ToolRefused(f"{path!r} may not be used: it is {why}.")
    return stat.S_IMODE(info.st_mode) & 0o777


def not_plain(info: os.stat_result) -> str | None:
    """Return why this is no file that is safe to use: the kernel refuses links on the way, but not what is no file."""
    if stat.S_ISLNK(info.st_mode):
        return "a link"
    if not stat.S_ISREG(info.st_mode):
        return "no regular file"
    # No name is left where it was deleted or replaced while we had it open: that is no other file's content.
    return "a hard link, so it may be a file from elsewhere" if info.st_nlink > 1 else None
