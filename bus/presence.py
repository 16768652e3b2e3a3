"""Who has a store's folder open for writing: a shared lock on the folder itself, which the kernel drops with its owner.

SQLite keeps writers of one row apart; this keeps `gc` apart from whoever may have stored a file that no event names
yet, be it a run that has not begun. `flock` on the folder needs no file, and is not the lock that SQLite uses. Who else
wants to be the only one somewhere takes the same lock there.
"""

import fcntl
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from bus.errors import Conflict, StorageFailed

_PATIENCE_S = 60.0
_RETRY_S = 0.02


def enter(folder: Path, given_up: threading.Event | None = None) -> int:
    """Be present in a folder until the descriptor returned is closed; wait some time for one that is alone there.

    Where the file system has no such locks, nobody can be alone, and nothing is lost. `given_up`: set from another
    thread, it ends the wait. Raises `StorageFailed`.
    """
    until = time.monotonic() + _PATIENCE_S
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be used: {error.strerror}. Name another folder in SWARM_HOME.") from error
    try:
        with suppress(OSError):
            while not _locked(descriptor, fcntl.LOCK_SH):
                _wait(until, folder, given_up or threading.Event())
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def take(descriptor: int) -> bool:
    """Be the only one that holds what is open here, until it is closed; False where somebody else does.

    Raises `OSError` where the file system has no such locks.
    """
    return _locked(descriptor, fcntl.LOCK_EX)


def be_alone(descriptor: int, folder: Path) -> None:
    """Be the only one present, until `be_present`. Raises `Conflict` where somebody else is, `StorageFailed`."""
    try:
        alone = take(descriptor)
    except OSError as error:
        raise StorageFailed(
            f"{folder} cannot be locked ({error.strerror}), so nobody knows who else uses it; move it to a local disk."
        ) from error
    if not alone:
        be_present(descriptor)
        raise Conflict(f"{folder} is open for writing elsewhere: a run is under way there, or about to begin")


def be_present(descriptor: int) -> None:
    """Let others be present again."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def _wait(until: float, folder: Path, given_up: threading.Event) -> None:
    if given_up.wait(_RETRY_S) or time.monotonic() > until:
        raise StorageFailed(f"{folder} is being cleaned up (`swarm gc`); try again when that has ended.")


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
