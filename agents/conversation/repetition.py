"""No progress in a conversation: calls that were made before and gave the same answer before. Pure.

One rule covers the call made again and again, and cycles of any length: what is *known* (this call with this answer
came before) is told once; known again after being told, with nothing new in between, is stuck. So a test that fails
three times with other code each time is fine, and so is a file that is read again after it was changed.
"""

import hashlib
from collections.abc import Sequence

from agents.conversation.structured import dumps

UNCHANGED_POLLS = 10
"""How often a polling call may give the same answer in a row before it counts like any other."""


class Repetition:
    """What calls have been made and what they gave; `pollers` name the tools that are called to wait for a change."""

    def __init__(self, pollers: frozenset[str] = frozenset()) -> None:
        self._pollers = pollers
        self._known: set[bytes] = set()
        self._told: set[bytes] = set()
        self._polls: dict[bytes, tuple[bytes, int]] = {}

    def notice(self, ran: Sequence[tuple[str, object, str]]) -> tuple[list[bool], bool]:
        """Take the calls of one reply (tool, arguments, output); say which to tell of, and if it is stuck."""
        pairs = [self._pair(*each) for each in ran]
        known = [pair is not None and pair in self._known for pair in pairs]
        fresh = {pair for pair in pairs if pair is not None and pair not in self._known}
        if fresh:
            self._known |= fresh
            self._told.clear()
        again = {pair for pair, is_known in zip(pairs, known, strict=True) if is_known and pair is not None}
        stuck = bool(again & self._told)
        self._told |= again
        return known, stuck

    def _pair(self, tool: str, arguments: object, output: str) -> bytes | None:
        """Return what stands for call and answer; None for a poll that is spared."""
        call = hashlib.sha256(dumps([tool, arguments], sort=True).encode()).digest()
        answer = hashlib.sha256(output.encode(errors="replace")).digest()
        if tool in self._pollers:
            before, times = self._polls.get(call, (b"", 0))
            times = times + 1 if before == answer else 1
            self._polls[call] = (answer, times)
            if times <= UNCHANGED_POLLS:
                return None
        return call + answer
