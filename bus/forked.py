"""Folders whose `log.db` was open in the process that this one was forked from: here they are not opened.

SQLite keeps what a process has locked and what it shares with others in that process's memory. A fork has a copy, which
soon is false, and what is written by it spoils the file (https://www.sqlite.org/howtocorrupt.html, section 2.6).
"""

import os
from collections import Counter
from pathlib import Path

from bus.errors import StorageFailed

_open: Counter[Path] = Counter()
"""How often this process has each open."""
_inherited: set[Path] = set()


def opens(folder: Path) -> Path:
    """Note that this process opens a folder's file; return what is to be given to `closed`. Raises `StorageFailed`."""
    place = folder.resolve()
    if place in _inherited:
        raise StorageFailed(
            f"{folder} was open in the process that this one was forked from, and cannot serve both. Fork before a run "
            'begins, or start processes anew: multiprocessing.get_context("spawn").'
        )
    _open[place] += 1
    return place


def closed(place: Path) -> None:
    """Note that it is closed."""
    _open[place] -= 1


def _in_child() -> None:
    _inherited.update(+_open)
    _open.clear()


os.register_at_fork(after_in_child=_in_child)
