"""Lending a folder to another user for a while, and having it back in order; for use when its programs are not running.

What hostile code left in the folder decides nothing: links are changed, never followed.
"""

import os
import stat
from pathlib import Path

from agents.files import plain_file
from agents.sandboxes.parts.usage import Entry, walk


def lend(folder: Path, uid: int) -> None:
    """Give a folder and all in it to a user and the group of the same number."""
    os.chown(folder, uid, uid, follow_symlinks=False)
    for entry in walk(folder):
        os.chown(entry.name, uid, uid, dir_fd=entry.parent, follow_symlinks=False)


def reclaim(folder: Path, owner: tuple[int, int] | None, *, room: int) -> None:
    """Make all in a folder readable and deletable for its owner, and drop setuid bits and their like.

    `owner` (user, group) is who gets it, None where it never changed hands. What lies too deep for `walk` stays. A file
    of several names becomes as many files, so that none of them can be taken for one from elsewhere; those that would
    take more than `room` bytes in all stay.
    """
    if owner:
        os.chown(folder, *owner, follow_symlinks=False)
    for entry in walk(folder):
        if owner:
            os.chown(entry.name, *owner, dir_fd=entry.parent, follow_symlinks=False)
        mode = stat.S_IMODE(entry.status.st_mode)
        wanted = mode & 0o777 | (0o700 if stat.S_ISDIR(entry.status.st_mode) else 0o600)
        if mode != wanted and not stat.S_ISLNK(entry.status.st_mode):
            with entry.pinned() as path:
                path.chmod(wanted)
        if stat.S_ISREG(entry.status.st_mode) and entry.status.st_nlink > 1 and entry.status.st_size <= room:
            room -= entry.status.st_size
            _make_its_own(entry, wanted, owner)


def _make_its_own(entry: Entry, mode: int, owner: tuple[int, int] | None) -> None:
    """Put a copy in the place of one name of a file."""
    descriptor = os.open(entry.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=entry.parent)
    try:
        data = plain_file.content(descriptor, entry.status.st_size)
    finally:
        os.close(descriptor)
    plain_file.put(entry.parent, entry.name, data, mode=mode, durable=False)
    if owner:
        os.chown(entry.name, *owner, dir_fd=entry.parent, follow_symlinks=False)
