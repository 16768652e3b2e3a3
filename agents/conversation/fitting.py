"""The context window: what a conversation weighs, and what is shortened when it gets too heavy. Pure.

Messages are only ever replaced in place, never removed: a message keeps its index, every tool call its answer, and
strict endpoints accept what is left. The head (system, first user message) stays as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from agents.conversation.structured import dumps
from bus.events import Message

BYTES_A_TOKEN = 3
"""A careful guess: prose has four, code and other scripts about three."""
OUTPUT_CAP = 16_384
"""Bytes of one tool's output that are recorded and that the model is shown; the whole lies in a file beside."""
_LOW_WATER = 2 / 3
"""How far it is shortened once it must be, so that the prefix (and its cache) then stands for several turns."""


def cut_middle(text: str, cap: int, whole: str | None = None) -> str:
    """Cut the middle out of a text of more than `cap` UTF-8 bytes; `whole` names the file where all of it is kept."""
    data = text.encode(errors="replace")
    if len(data) <= cap:
        return text
    where = f"; all of it is in {whole}" if whole else ""
    note = f"\n[... {len(data) - cap:,} bytes or more were cut out here{where} ...]\n"
    half = max(cap - len(note.encode()), 0) // 2
    return data[:half].decode(errors="ignore") + note + data[len(data) - half :].decode(errors="ignore")


@dataclass(frozen=True, slots=True)
class _Entry:
    message: Message
    size: int
    short: Message | None


class History:
    """The messages so far, each with its size and what may stand for it; `limit` in bytes, None for none."""

    def __init__(self, head: Sequence[Message], limit: int | None) -> None:
        self._entries: list[_Entry] = []
        self._size = 0
        self._limit = limit
        for message in head:
            self.append(message)
        self._shortened = len(self._entries)  # all before is as short as it gets
        self._newest = self._shortened
        self.stable = 0
        """How many leading messages are what they were at `mark`."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, as they are now."""
        return tuple([entry.message for entry in self._entries])

    @property
    def new(self) -> tuple[Message, ...]:
        """The messages after the first `stable` ones."""
        return tuple([entry.message for entry in self._entries[self.stable :]])

    def cap(self, most: int) -> int:
        """Return how many bytes one output may have: `most`, or a quarter of all room where that is less."""
        return most if self._limit is None else max(min(most, self._limit // 4), 0)

    def append(self, message: Message, short: Message | None = None) -> None:
        """Add a message; `short` may take its place."""
        size = _size(message)
        self._entries.append(_Entry(message, size, short if short and _size(short) < size else None))
        self._size += size

    def mark(self) -> None:
        """Begin a turn: what stands now is what the log holds, and its last message is the newest reply."""
        self.stable = len(self._entries)
        self._newest = self.stable - 1

    def tighten(self) -> None:
        """Believe an endpoint that said "too long": a quarter less than now."""
        self._limit = self._size * 3 // 4

    def fit(self) -> bool:
        """Shorten the oldest messages until all fit; False where that is not enough."""
        if self._limit is None or self._size <= self._limit:
            return True
        self._shorten(self._newest, int(self._limit * _LOW_WATER))
        self._shorten(len(self._entries), self._limit)  # now also the newest turn, its last message last
        return self._size <= self._limit

    def _shorten(self, end: int, goal: int) -> None:
        while self._shortened < end and self._size > goal:
            entry = self._entries[self._shortened]
            if entry.short is not None:
                short = _Entry(entry.short, _size(entry.short), None)
                self._entries[self._shortened] = short
                self._size += short.size - entry.size
                self.stable = min(self.stable, self._shortened)
            self._shortened += 1


def _size(message: Message) -> int:
    try:
        return len(orjson.dumps(message))
    except TypeError:  # half a character
        return len(dumps(message).encode(errors="replace"))
