"""Whether a role that waits can still begin what its log has next.

A role that is quiet, and has not begun what its log has next, may wait for something of its own: a timer or a thread.
Only where there is none, at `LOOKS` looks, does it not do what its log says. A replay waits for no timer: where nothing
else can happen, the role's next one is over.
"""

import asyncio
import contextvars
from typing import Protocol

from agents.turns import end_now, next_timer, threads_at_work, timers, turns

LOOK_S = 0.25
"""How often it is looked."""
LOOKS = 20
"""So often it must wait for nothing that can be seen. Looks are counted and not time: a process may stand still."""
QUIET_TURNS = 32
"""Turns of the loop in which a role that began no effect is quiet.

Who waits for a group or for tasks goes on two or three turns after them: a dozen waits, one in another, fit in.
"""


class Watched(Protocol):
    """A role over its log, as far as it is looked at here."""

    stirred: int
    """How often it did something, or was handed something."""

    @property
    def stirs(self) -> bool:
        """Whether it may be doing something."""
        ...

    @property
    def lags(self) -> bool:
        """Whether anybody waits for what is recorded and not handed out."""
        ...

    def owns(self, context: contextvars.Context) -> bool:
        """Tell whether what was begun in a context is this role's."""
        ...

    def is_stuck(self) -> bool:
        """Take in that it waits for nothing that can be seen; tell whether that ends it."""
        ...


class Lookout:
    """Looks from time to time at one role. `replayed`: its timers are passed over, and it is looked at all the time."""

    def __init__(self, role: Watched, *, replayed: bool) -> None:
        self._role = role
        self._replayed = replayed
        self._turns = turns()
        self._context = contextvars.copy_context()
        self._next: asyncio.TimerHandle | None = None
        self._stirred = 0
        """How often the role had done something by the last look."""
        self._looks = 0
        """How often it was looked since."""
        self._over = False
        self._awaited: list[tuple[list[asyncio.TimerHandle], asyncio.Future[None]]] = []

    def begin(self) -> None:
        """Look from now on, until the role has gone on."""
        if self._next is None:
            self._again()

    def end(self) -> None:
        """Look no more."""
        self._over = True
        if self._next is not None:
            self._next.cancel()

    async def timers_over(self) -> None:
        """Wait until the timers that the role has now are over: one of them may bound what it waits for.

        Those that it begins meanwhile do not count: what is done every minute always has a next one.
        """
        if own := timers(self._role.owns):
            over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._awaited.append((own, over))
            await over

    def _again(self, looks: int = 0) -> None:
        if self._over:
            return
        self._stirred, self._looks = self._role.stirred, looks
        self._next = asyncio.get_running_loop().call_later(LOOK_S, self._look, context=self._context)

    def _look(self) -> None:
        self._next = None
        if self._over or not (self._replayed or self._role.lags):
            return
        if self._awaited:
            self._see_timers()
        if self._role.stirs or self._role.stirred != self._stirred or threads_at_work():
            self._again()
        elif self._timer() is not None:
            if self._replayed:
                self._turns.call_at(self._turns.now + QUIET_TURNS, self._pass_time)
            else:
                self._again()
        elif self._looks + 1 < LOOKS or not self._role.is_stuck():
            self._again(self._looks + 1)

    def _see_timers(self) -> None:
        there = set(map(id, timers(self._role.owns)))
        for own, over in self._awaited:
            if not over.done() and there.isdisjoint(map(id, own)):
                over.set_result(None)
        self._awaited = [one for one in self._awaited if not one[1].done()]

    def _pass_time(self, idle: bool) -> None:  # noqa: FBT001 - called by `Turns`
        """Let the role's next timer be over, where nothing else can happen."""
        if idle and not threads_at_work() and (timer := self._timer()) is not None:
            end_now(timer)
        self._again()

    def _timer(self) -> asyncio.TimerHandle | None:
        return next_timer(self._role.owns)
