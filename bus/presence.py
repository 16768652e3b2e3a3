"""Who has a store's folder open for writing: a shared lock on the folder itself, which the kernel drops with its owner.

SQLite keeps writers of one row apart; this keeps `gc` apart from whoever may have stored a file that no event names
yet, be it a run that has not begun. `flock` on the folder needs no file, and is not the lock that SQLite uses.
"""

import fcntl
import os
import time
from pathlib import Path

from bus.errors import Conflict, StorageFailed

_PATIENCE_S = 10.0
_RETRY_S = 0.02


def enter(folder: Path) -> int:
    """Be present in a folder until the descriptor returned is closed; wait some seconds for one that is alone there.

    Raises `StorageFailed`.
    """
    until = time.monotonic() + _PATIENCE_S
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be used: {error.strerror}. Name another folder in SWARM_HOME.") from error
    try:
        while not _locked(descriptor, fcntl.LOCK_SH):
            _wait(until, folder)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, OSError):
            raise StorageFailed(f"{folder} cannot be locked: {error.strerror}; use a local disk.") from error
        raise
    return descriptor


def be_alone(descriptor: int, folder: Path) -> None:
    """Be the only one present, until `be_present`. Raises `Conflict` where somebody else is."""
    if not _locked(descriptor, fcntl.LOCK_EX):
        be_present(descriptor)
        raise Conflict(f"{folder} is open for writing elsewhere: a run is under way there, or about to begin")


def be_present(descriptor: int) -> None:
    """Let others be present again."""
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def _wait(until: float, folder: Path) -> None:
    if time.monotonic() > until:
        raise StorageFailed(f"{folder} is being cleaned up (`swarm gc`); try again when that has ended.")
    time.sleep(_RETRY_S)


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
