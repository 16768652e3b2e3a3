"""How many calls are out at once to one endpoint, and when none may go.

Each 429 halves the number, once for all calls that were out together, and each whole answer gives one place back.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agents.model import EndpointHealth, TryFailed

LONGEST_BLOCK_S = 60.0
"""The longest that all calls wait where the endpoint does not ask for more."""
STOOD_STILL_S = 4.0
"""So much longer than it meant to a process waits only where it was halted; leases are longer."""


class CallGate:
    """Lets `calls` out at once, oldest first, and none before `health.blocked_until`."""

    def __init__(self, calls: int, health: EndpointHealth) -> None:
        self.calls = calls
        self.limit = calls
        self._health = health
        self._out = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._halvings = 0
        self._in_a_row = 0

    @asynccontextmanager
    async def turn(self, patience_s: float) -> AsyncIterator[int]:
        """Wait for a place and for the end of a block; yields what `refused` wants.

        Raises `TryFailed` (`rate_limited`, nothing sent) where the block lasts longer than `patience_s`, or the process
        stood still meanwhile: the call may be another's by now, so that it has to be asked for anew.
        """
        await self._enter()
        try:
            while (wait := self._health.blocked_until - time.monotonic()) > 0:
                if wait > patience_s:
                    said = f"the endpoint takes no calls for another {wait:.0f} s"
                    raise TryFailed("rate_limited", said, retry_after_s=wait, status=429)
                over = time.monotonic() + wait
                await asyncio.sleep(wait)
                if time.monotonic() - over > STOOD_STILL_S:
                    raise TryFailed("rate_limited", "nothing was sent: this process stood still", retry_after_s=0.0)
            yield self._halvings
        finally:
            self._out -= 1
            self._wake()

    def answered(self) -> None:
        """Note a whole answer."""
        self._health.answered += 1
        self._in_a_row = 0
        if self.limit < self.calls:
            self.limit += 1

    def refused(self, turn: int, retry_after_s: float | None) -> None:
        """Note a 429 of a call that went out at `turn`: all wait, and fewer go at once.

        They wait as the endpoint asks, but ever longer where that was not enough.
        """
        if turn == self._halvings:
            self._halvings += 1
            self._in_a_row += 1
            self.limit = max(1, self.limit // 2)
        wait = min(LONGEST_BLOCK_S, 2.0 ** min(self._in_a_row - 1, 10))
        if retry_after_s is not None:
            wait = max(retry_after_s, wait) if self._in_a_row > 1 else retry_after_s
        self._health.blocked_until = max(self._health.blocked_until, time.monotonic() + wait)

    async def _enter(self) -> None:
        if self._out < self.limit and not self._waiting:
            self._out += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # it was handed to us as we were cancelled
                self._out -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._out < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self._out += 1
                place.set_result(None)
