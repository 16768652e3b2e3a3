"""Opens what lies beneath a folder, following no link on the way, also while somebody swaps folders for links.

Looking first and opening then leaves a gap that a program in the folder can use. Linux closes it in the kernel
(`openat2`, Linux 5.6); elsewhere each part is opened from the one before, and none of them may be a link.
"""

import ctypes
import errno
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

Opener = Callable[[int, Sequence[str], int, int], int]
"""(descriptor of the folder, parts of the path, flags, mode) -> descriptor; raises `OSError`."""

_ALWAYS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_SYS_OPENAT2 = 437  # the same number on every architecture we meet
_RESOLVE = 0x08 | 0x04 | 0x02  # RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS


class _OpenHow(ctypes.Structure):
    """`struct open_how` of linux/openat2.h."""

    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def walk(folder: int, parts: Sequence[str], flags: int, mode: int = 0) -> int:
    """Open part by part; the way for systems without `openat2`."""
    here = os.dup(folder)
    try:
        for part in parts[:-1]:
            inner = _open_part(here, part, os.O_RDONLY | os.O_DIRECTORY)
            os.close(here)
            here = inner
        return _open_part(here, parts[-1] if parts else ".", flags, mode)
    finally:
        os.close(here)


def _open_part(folder: int, part: str, flags: int, mode: int = 0) -> int:
    try:
        return os.open(part, flags | _ALWAYS | os.O_NOFOLLOW, mode, dir_fd=folder)
    except NotADirectoryError:
        # Asked for a folder, the kernel calls a link "no folder"; `openat2` calls it a link.
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), part) from None
        raise


def openat2(folder: int, parts: Sequence[str], flags: int, mode: int = 0) -> int:
    """Open in one call of the kernel, which guarantees that every part lies beneath `folder`."""
    how = _OpenHow(flags | _ALWAYS, mode if flags & os.O_CREAT else 0, _RESOLVE)
    path = "/".join(parts) or "."
    opened = _libc().syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_int(folder),
        os.fsencode(path),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if opened < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int(opened)


@functools.cache
def opener() -> Opener:
    """Return the best way that works here: a container may deny `openat2`, an old kernel lack it."""
    if sys.platform != "linux":
        return walk
    with folder_at(Path("/")) as root:
        try:
            os.close(openat2(root, (), os.O_RDONLY | os.O_DIRECTORY))
        except OSError as error:
            if error.errno in (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG):
                return walk
            raise
    return openat2


@contextmanager
def folder_at(root: Path) -> Iterator[int]:
    """Lend a descriptor of a folder that is trusted by its path."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
