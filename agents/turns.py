"""Turns of the event loop: who waits for some of them to pass, or for all others to have done what they do.

And what a loop may wait for: timers, and threads.
"""

import asyncio
import contextvars
import heapq
import sys
import threading
from collections.abc import Callable
from concurrent.futures import thread as pools
from typing import Any, cast
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


def next_timer(of: Callable[[contextvars.Context], bool]) -> asyncio.TimerHandle | None:
    """Return the next timer of the running loop that was begun in one of certain contexts."""
    return min(timers(of), key=asyncio.TimerHandle.when, default=None)


def timers(of: Callable[[contextvars.Context], bool]) -> list[asyncio.TimerHandle]:
    """Return the timers of the running loop that were begun in one of certain contexts.

    asyncio keeps timers in `_scheduled`; of a loop that does not have it nobody can tell.
    """
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return [one for one in scheduled if not one.cancelled() and of(cast("Any", one)._context)]  # noqa: SLF001


def end_now(timer: asyncio.TimerHandle) -> None:
    """Let a timer be over at once."""
    handle: Any = timer
    callback, args, context = handle._callback, handle._args, handle._context  # noqa: SLF001 - cancelled, it has none
    timer.cancel()
    asyncio.get_running_loop().call_soon(callback, *args, context=context)


def threads_at_work() -> bool:
    """Tell whether a thread of any pool is at work, but for this one: nobody can tell who waits for it."""
    frames = sys._current_frames()  # noqa: SLF001 - a pool does not say
    here = threading.get_ident()
    waits = pools._worker.__code__  # noqa: SLF001 - where a thread without work is
    for one, queue in list(pools._threads_queues.items()):  # noqa: SLF001
        frame = frames.get(one.ident)
        if one.ident != here and frame is not None and (frame.f_code is not waits or queue.qsize()):
            return True
    return False


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns() -> Turns:
    """Return what counts the turns of the running loop."""
    return _turns.setdefault(asyncio.get_running_loop(), Turns())
