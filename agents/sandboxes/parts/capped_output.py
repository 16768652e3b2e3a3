"""A program's output as it comes, of which the two ends are kept; pure."""

from collections import deque

FLOOD = 16
"""Output of this many times its bound is a flood: nobody will read it, and the program is ended."""


class CappedOutput:
    """Keeps the first and the last half of `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0

    def add(self, data: bytes) -> None:
        """Take the next piece."""
        self.total += len(data)
        room = self.limit - self.limit // 2 - len(self._head)
        self._head += data[:room]
        if len(data) <= room:
            return
        self._tail.append(data[room:])
        self._tail_size += len(data) - room
        while self._tail and self._tail_size - len(self._tail[0]) >= self.limit // 2:
            self._tail_size -= len(self._tail.popleft())

    @property
    def flooded(self) -> bool:
        """Whether the program should be ended for it."""
        return self.total > FLOOD * self.limit

    def result(self) -> tuple[str, int]:
        """Return the text, and how many bytes of its middle are missing; what is no UTF-8 is replaced."""
        tail = b"".join(self._tail)
        tail = tail[max(0, len(tail) - self.limit // 2) :]
        cut = self.total - len(self._head) - len(tail)
        if not cut:
            return (bytes(self._head) + tail).decode(errors="replace"), 0
        return f"{self._head.decode(errors='replace')}\n[{cut} bytes cut]\n{tail.decode(errors='replace')}", cut
