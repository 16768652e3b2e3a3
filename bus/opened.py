"""Which folders' `log.db` this process has open: what SQLite cannot know, and what would spoil the file.

Whoever closes a file lets go of all locks that its process has on it, SQLite's as well: so it is looked at otherwise
only while this process does not have it open. And SQLite keeps in memory what a process has locked and what it shares
with others. A fork has a copy of that, which soon is false: what was open then is not opened by it.
https://www.sqlite.org/howtocorrupt.html, sections 2.2 and 2.6.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bus.errors import StorageFailed


@dataclass(slots=True)
class _Opened:
    """One that is open. `damage`: what was seen before it was."""

    damage: str | None
    times: int = 0


_opened: dict[Path, _Opened] = {}
_inherited: set[Path] = set()
"""Those that were open in the process that this one was forked from."""
_lock = threading.Lock()


def opens(place: Path, look: Callable[[], str | None]) -> str | None:
    """Note that this process opens a folder's file; return what is wrong with it.

    That is what `look` says, which is called only where it is not open yet. Raises `StorageFailed`.
    """
    if place in _inherited:
        raise StorageFailed(
            f"{place} was open in the process that this one was forked from, and cannot serve both. Fork before a run "
            'begins, or start processes anew: multiprocessing.get_context("spawn").'
        )
    with _lock:
        one = _opened.get(place) or _opened.setdefault(place, _Opened(look()))
        one.times += 1
        return one.damage


def closed(place: Path) -> None:
    """Note that it is closed once more."""
    with _lock:
        _opened[place].times -= 1
        if not _opened[place].times:
            del _opened[place]


def _in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread that is not here may hold it
    _lock = threading.Lock()
    _inherited.update(_opened)
    _opened.clear()


os.register_at_fork(after_in_child=_in_child)
