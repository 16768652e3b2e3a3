"""Files that are being brought to a hub, part by part: what is taken, and what is answered. Pure; the caller says when.

Whoever brings them is not trusted: parts come in order or are asked for again, no file grows beyond what it was said to
have, the newest few of each agent are kept, and what is silent is dropped.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bus.file_notes import Answer, More, Put, Refused

MOST_UNFINISHED = 4
"""Of one agent; another one drops the one that was silent for longest."""
SILENT_S = 60.0
"""After which an unfinished one is dropped."""
MOST_UNFINISHED_BYTES = 512 * 1024 * 1024
"""Held of all unfinished files; what comes beyond is at the cost of whoever holds most."""

Key = tuple[str, str, str]
"""Who, under which lease or run, which hash."""


@dataclass(slots=True)
class _Unfinished:
    size: int
    heard_at: float
    data: bytearray = field(default_factory=bytearray)
    digest: Any = field(default_factory=hashlib.sha256)


@dataclass(frozen=True, slots=True)
class Whole:
    """A file that is there as a whole and has the hash it was to have."""

    key: Key
    data: bytes


@dataclass(slots=True)
class Uploads:
    """The unfinished files of one hub."""

    dropped: Counter[str] = field(default_factory=Counter)
    """Why parts or files were dropped, and how often."""
    most_bytes: int = MOST_UNFINISHED_BYTES
    held: int = 0
    """Bytes of all of them."""
    _unfinished: dict[Key, _Unfinished] = field(default_factory=dict)
    _of: dict[str, dict[Key, None]] = field(default_factory=dict)
    """By who brings them, the one silent for longest first."""

    def reserved(self, who: str, under: str) -> int:
        """Return how many bytes are still on their way, or here, of what is unfinished under a lease or run."""
        return sum(self._unfinished[key].size for key in self._of.get(who, ()) if key[1] == under)

    def take(self, who: str, put: Put, room: int, now: float) -> Answer | Whole | None:
        """Take in a part; return what to answer, the file if it is whole, None where nothing is answered.

        `room`: how many bytes may still come under its lease or run, unfinished ones counted as if they had.
        """
        key = who, put.under, put.sha256
        one = self._unfinished.get(key)
        if one is None:
            if put.size > room:
                self.dropped["more than may be brought"] += 1
                return Refused(
                    put.under, put.sha256, f"{put.size:,} bytes are too many: {max(room, 0):,} may be brought"
                )
            one = self._begin(key, put.size, now)
        elif one.size != put.size:
            self._drop(key)
            self.dropped["two sizes of one file"] += 1
            return Refused(put.under, put.sha256, f"it was to have {one.size:,} bytes, now {put.size:,}")
        self._touch(key, one, now)
        if put.offset == len(one.data) and put.chunk:
            self._make_room(len(put.chunk))
            if key not in self._unfinished:
                return None  # it made room itself; what is asked next begins it anew
            self._add(one, put.chunk)
        if len(one.data) < one.size:
            return More(put.under, put.sha256, len(one.data))
        self._drop(key)
        if one.digest.hexdigest() != put.sha256:
            self.dropped["another hash"] += 1
            return Refused(put.under, put.sha256, "what was brought has another hash")
        return Whole(key, bytes(one.data))

    def end(self, who: str, under: str) -> None:
        """Drop what is unfinished under a lease or run."""
        for key in [key for key in self._of.get(who, ()) if key[1] == under]:
            self._drop(key)

    def sweep(self, now: float) -> None:
        """Drop what has been silent for too long."""
        for key in [key for key, one in self._unfinished.items() if now - one.heard_at > SILENT_S]:
            self._drop(key)
            self.dropped["silent"] += 1

    def rights(self) -> Iterator[tuple[str, str]]:
        """Yield by whom and under what something is unfinished."""
        yield from {(who, under) for who, under, _ in self._unfinished}

    def _begin(self, key: Key, size: int, now: float) -> _Unfinished:
        mine = self._of.setdefault(key[0], {})
        if len(mine) >= MOST_UNFINISHED:
            self._drop(next(iter(mine)))
            self.dropped["too many unfinished"] += 1
            mine = self._of.setdefault(key[0], {})
        mine[key] = None
        one = self._unfinished[key] = _Unfinished(size, now)
        return one

    def _touch(self, key: Key, one: _Unfinished, now: float) -> None:
        one.heard_at = now
        mine = self._of[key[0]]
        mine[key] = mine.pop(key)

    def _make_room(self, size: int) -> None:
        """Drop files of those who hold most, until there is room."""
        while self.held + size > self.most_bytes:
            most = max(self._of, key=lambda who: sum(len(self._unfinished[key].data) for key in self._of[who]))
            self._drop(max(self._of[most], key=lambda key: len(self._unfinished[key].data)))
            self.dropped["no room"] += 1

    def _add(self, one: _Unfinished, chunk: bytes) -> None:
        one.data += chunk
        one.digest.update(chunk)
        self.held += len(chunk)

    def _drop(self, key: Key) -> None:
        one = self._unfinished.pop(key)
        self.held -= len(one.data)
        mine = self._of[key[0]]
        del mine[key]
        if not mine:
            del self._of[key[0]]
