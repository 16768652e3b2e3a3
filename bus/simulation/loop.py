"""An event loop with a time of its own: it stands while anything runs, and jumps to the next timer when nothing does.

Nothing sleeps, nothing waits for a socket or a thread: what is given to an executor is done at once, by the loop's own
thread. So what happens is a function of what the program does and of nothing else.

A *process* of the simulated world is the set of tasks that were begun in its context (`process`). It can be frozen, as
SIGSTOP does it: nothing of it runs, its timers that fire meanwhile fire late, and the rest of the world goes on.
"""

import asyncio
import contextvars
import heapq
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

BUSY = 200_000
"""Calls in a row without any time passing, after which nobody believes that they will end."""

T = TypeVar("T")
process: contextvars.ContextVar[str] = contextvars.ContextVar("process", default="")
"""Whose code runs; "" for what belongs to no process, such as a packet on its way."""
NOBODY = contextvars.Context()
"""Where calls run that belong to no process."""


class Stalled(Exception):
    """Nothing can ever happen any more, or time cannot pass any more."""


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. Make it, `run_until_complete`, `close`."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._ready: deque[asyncio.Handle] = deque()
        self._scheduled: list[asyncio.TimerHandle] = []
        self._frozen: dict[str, list[asyncio.Handle]] = {}
        self._calls = 0

    def time(self) -> float:
        """Return seconds since it was made, of its own time."""
        return self._now

    def freeze(self, name: str) -> None:
        """Let nothing of a process run until it is thawed."""
        self._frozen.setdefault(name, [])

    def thaw(self, name: str) -> None:
        """Let a process go on, with all that it missed."""
        self._ready.extend(self._frozen.pop(name, ()))

    def thaw_all(self) -> None:
        """Let everything go on."""
        for name in tuple(self._frozen):
            self.thaw(name)

    def is_frozen(self, name: str) -> bool:
        """Tell whether a process is frozen."""
        return name in self._frozen

    def run_in_executor(  # type: ignore[override] # a future that is done may be awaited as well
        self, executor: Any, func: Callable[..., T], *args: Any  # noqa: ANN401, ARG002 - asyncio's own signature
    ) -> asyncio.Future[T]:  # fmt: skip
        """Call at once."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except BaseException as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future

    def _run_once(self) -> None:
        ready, timers = self._ready, self._scheduled
        if not ready:
            self._calls = 0
            while timers and timers[0].cancelled():
                heapq.heappop(timers)
            if not timers:
                raise Stalled("nothing can happen any more: all that is left waits for ever")
            self._now = max(self._now, timers[0].when())
        while timers and timers[0].when() <= self._now:
            timer = heapq.heappop(timers)
            if not timer.cancelled():
                ready.append(timer)
        self._calls += (count := len(ready))
        if self._calls > BUSY:
            raise Stalled(f"time cannot pass: {BUSY} calls were made at {self._now:.3f} s, and there are more")
        frozen = self._frozen
        for _ in range(count):
            handle: Any = ready.popleft()  # what follows is asyncio's own, between a loop and its handles
            if handle._cancelled:  # noqa: SLF001
                continue
            if frozen and (parked := frozen.get(handle._context.get(process, ""))) is not None:  # noqa: SLF001
                parked.append(handle)
                continue
            handle._run()  # noqa: SLF001

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave it in the heap: it is passed over when its time comes."""

    def _write_to_self(self) -> None:
        """Wake nobody: there is no other thread."""
