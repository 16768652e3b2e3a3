"""Turns of the event loop: who waits for some of them to pass, or for all others to have done what they do."""

import asyncio
import heapq
from collections.abc import Callable
from weakref import WeakKeyDictionary


class Turns:
    """Counts the turns of the event loop while somebody waits for some of them.

    One callback a turn serves all attempts: one of each attempt's own was a tenth of the CPU time of 512 at once.
    """

    def __init__(self) -> None:
        self.now = 0
        self._waiting: list[tuple[int, int, Callable[[bool], object]]] = []
        self._last: list[tuple[int, asyncio.Future[bool]]] = []
        self._calls = 0
        self._turning = False

    def call_at(self, turn: int, callback: Callable[[bool], object]) -> None:
        """Call back once the loop is past a turn to come, or idle: then with True. A callback does not raise."""
        self._begin()
        self._calls += 1
        heapq.heappush(self._waiting, (turn, self._calls, callback))

    async def quiet(self, most: int) -> bool:
        """Wait until the loop is idle and nobody is to be called back, at most some turns; tell whether it is so."""
        self._begin()
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._last.append((self.now + most, future))
        return await future

    def _begin(self) -> None:
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self.now += 1
        loop = asyncio.get_running_loop()
        idle = is_idle(loop)
        due = []
        while self._waiting and (idle or self._waiting[0][0] <= self.now):
            due.append(heapq.heappop(self._waiting)[2])
        for callback in due:
            callback(idle)
        if self._last:
            self._end_waits(quiet=not self._waiting and is_idle(loop))
        self._turning = bool(self._waiting or self._last)
        if self._turning:
            loop.call_soon(self._turn)

    def _end_waits(self, *, quiet: bool) -> None:
        last, self._last = self._last, []
        for turn, future in last:
            if not future.done():  # else whoever waited was cancelled
                if quiet or turn <= self.now:
                    future.set_result(quiet)
                else:
                    self._last.append((turn, future))


def is_idle(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether nothing in a loop can go on by itself: then every role has done all that it does.

    asyncio keeps what is to run in `_ready`; of a loop that does not have it nobody can tell.
    """
    return not getattr(loop, "_ready", True)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns() -> Turns:
    """Return what counts the turns of the running loop."""
    return _turns.setdefault(asyncio.get_running_loop(), Turns())
