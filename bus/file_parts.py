"""One file on its way in parts, seen from whoever gets or brings it: what to say next, what an answer means. Pure.

Answers may come late, twice, in another order, or not at all; the edge (`bus/courier.py`) calls `again` when it has
waited long enough.
"""

import hashlib
from dataclasses import dataclass, field

from bus.errors import Damaged, TooLarge
from bus.file_notes import CHUNK_BYTES, MOST_BYTES, Chunk

WINDOW = 4
"""Parts that are on the way at once."""
ASKED_FIRST_BYTES = 32 * 1024
"""Of a larger file a hub is asked first whether it has it; a smaller one is sent at once."""


@dataclass(slots=True)
class Download:
    """A file that is fetched. `size`: known from elsewhere, or None until the first part says it."""

    sha256: str
    most: int = MOST_BYTES
    size: int | None = None
    _parts: dict[int, bytes] = field(default_factory=dict)
    _asked: set[int] = field(default_factory=set)
    _next: int = 0
    """All parts before this offset have been asked for at least once."""

    def wanted(self) -> list[int]:
        """Return the offsets to ask for now; until `again` each is named once."""
        if self.size is None:
            new = [] if self._asked else [0]
        else:
            new = []
            while self._next < max(self.size, 1) and len(self._asked) + len(new) < WINDOW:
                if self._next not in self._parts and self._next not in self._asked:
                    new.append(self._next)
                self._next += CHUNK_BYTES
        self._asked.update(new)
        return new

    def again(self) -> None:
        """Ask once more for all that has not come."""
        self._asked.clear()
        self._next = 0

    def take(self, chunk: Chunk) -> bool:
        """Take in a part; tell whether it was missing.

        Raises `TooLarge` for a file of more than `most` bytes, `Damaged` for one that is said to have several sizes.
        """
        if chunk.size > self.most:
            raise TooLarge(f"the file {self.sha256} has {chunk.size:,} bytes; {self.most:,} are taken")
        if self.size is not None and chunk.size != self.size:
            raise Damaged(f"the file {self.sha256} is said to have {chunk.size:,} bytes, and {self.size:,} before")
        fits = chunk.offset % CHUNK_BYTES == 0 and len(chunk.chunk) == min(CHUNK_BYTES, chunk.size - chunk.offset)
        if not fits or chunk.offset in self._parts:
            return False
        self.size = chunk.size
        self._parts[chunk.offset] = chunk.chunk
        self._asked.discard(chunk.offset)
        return True

    @property
    def complete(self) -> bool:
        """Whether all parts are there."""
        return self.size is not None and len(self._parts) == max(1, -(-self.size // CHUNK_BYTES))

    def whole(self) -> bytes:
        """Return the file, once it is complete. Raises `Damaged` where it has not the hash that was asked for."""
        data = b"".join(self._parts[offset] for offset in sorted(self._parts))
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise Damaged(f"the file {self.sha256} came with other bytes than its hash says")
        return data


@dataclass(slots=True)
class Upload:
    """A file that is brought: parts in order, some ahead of the hub's word up to where it has all."""

    size: int
    restarts: int = 0
    """How often the hub had less than it had said before."""
    _has: int = 0
    _heard: bool = False
    """The hub has said what it has."""
    _sent: int = 0
    _asking: bool = False
    _asked: bool = False

    def __post_init__(self) -> None:
        self._asking = self.size > ASKED_FIRST_BYTES

    def wanted(self) -> list[tuple[int, int]]:
        """Return what to send now, as offset and length; of no length where only the hub's word is wanted."""
        if self._asking:
            new = [] if self._asked else [(self._has, 0)]
            self._asked = True
            return new
        new = []
        if self.size == 0 and not self._asked:
            self._asked = True
            return [(0, 0)]
        while self._sent < self.size and self._sent - self._has < WINDOW * CHUNK_BYTES:
            length = min(CHUNK_BYTES, self.size - self._sent)
            new.append((self._sent, length))
            self._sent += length
        return new

    def again(self) -> None:
        """Ask the hub up to where it has all, and go on from there."""
        self._asking, self._asked = True, False

    def take(self, offset: int) -> bool:
        """Take the hub's word that it has all up to an offset; tell whether that is news: not what it said before."""
        if not 0 <= offset <= self.size:
            return False
        if self._asking:
            news = not self._heard or offset != self._has
            self.restarts += offset < self._has
            self._asking, self._asked = False, False
            self._has = self._sent = offset
            self._heard = True
            return news
        if offset <= self._has:
            return False  # of before, or of a part behind one that was lost
        self._has, self._sent, self._heard = offset, max(self._sent, offset), True
        return True
