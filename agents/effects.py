"""The engine under a role's context: each effect is found in the journal, or done once and reported.

While the journal still holds outcomes, the role is being run again: outcomes are handed to it in recorded order, and
nothing new is done. Once the journal is drained the role lives.

Recorded or new, an outcome is handed over alone, and only when the role has done all that it does about the one before:
so what a role does is a function of the order of its outcomes, which the log has, and of nothing else. Whether it is
done asyncio does not tell; `QUIET_TURNS` of the loop in which it began no effect are taken for it.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from agents.errors import Diverged
from agents.journal import Entry, Journal, Lane
from bus.events import Effect, Path

QUIET_TURNS = 32
"""Who waits for a group or for tasks goes on two or three turns after them: a dozen waits, one in another, fit in."""
PATIENCE_S = 5.0
"""How long a role that is run again may do nothing, while it waits for a new effect and left a recorded one unbegun."""

_lane: contextvars.ContextVar[tuple[Lane, "asyncio.Task[object] | None"]] = contextvars.ContextVar("lane")


class Reporter(Protocol):
    """The way to the run's orchestrator."""

    async def ask(self, event: Effect) -> int:
        """Send an intent; return once it is recorded (and granted: then the `max_tokens` granted)."""
        ...

    async def tell(self, event: Effect) -> None:
        """Send an outcome. What is told is recorded in the order of telling."""
        ...


class Effects:
    """The effects of one attempt."""

    def __init__(self, recorded: Sequence[Effect], reporter: Reporter) -> None:
        self.count = len(recorded)
        """How many effect events belong to the attempt so far."""
        self._journal = Journal(recorded)
        self._reporter = reporter
        self._awaited: dict[Path, asyncio.Future[Effect]] = {}
        self._told: deque[asyncio.Future[None]] = deque()
        """New outcomes that are to be handed over, in the order in which they were reported."""
        self._turning = False
        self._quiet = 0
        self._stirred = 0
        self._alive = asyncio.Event()
        if self._journal.drained:
            self._alive.set()

    def enter(self) -> None:
        """Make the running task the role's own one, before it does anything."""
        _lane.set((Lane(), asyncio.current_task()))

    def next_path(self) -> Path:
        """Return the path of the running task's next effect; a child of the role's own task has a lane of its own."""
        return self._own_lane().next()

    def begin(self, path: Path, kind: str, digest: str | None = None) -> Entry | None:
        """Begin an effect; return what the log has of it. Raises `Diverged`."""
        entry = self._journal.begin(path, kind, digest)
        self._stir()
        return entry

    async def recorded(self, entry: Entry) -> Effect:
        """Wait until a recorded outcome is its role's to know."""
        future: asyncio.Future[Effect] = asyncio.get_running_loop().create_future()
        self._awaited[entry.path] = future
        return await future

    async def live(self) -> None:
        """Wait until all that is recorded has been handed out. Raises `Diverged` if the role does not ask for it."""
        while not self._alive.is_set():
            before = self._stirred
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._alive.wait()
            except TimeoutError:
                if self._stirred == before:
                    raise Diverged(
                        f"the role began something new before {self._journal.missing()}, which its log has"
                    ) from None

    async def ask(self, event: Effect) -> int:
        """Report an intent and wait for the word on it."""
        self.count += 1
        return await self._reporter.ask(event)

    async def tell(self, event: Effect) -> None:
        """Report what is not for the role to know, such as a try that is followed by another."""
        self.count += 1
        await self._reporter.tell(event)

    async def done(self, event: Effect) -> None:
        """Report an outcome, and wait until it is its role's to know."""
        await self.tell(event)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._told.append(future)
        self._stir()
        await future

    def _stir(self) -> None:
        """Note that the role did something; from now on look each turn whether it is quiet, until all is handed out."""
        self._quiet = 0
        self._stirred += 1
        if not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._quiet += 1
        if self._quiet >= QUIET_TURNS:
            self._quiet = 0
            if not self._hand_out():
                self._turning = False
                return
        asyncio.get_running_loop().call_soon(self._turn)

    def _hand_out(self) -> bool:
        """Hand out the next outcome; tell whether there was one."""
        entry = self._journal.deliverable()
        if self._journal.drained:
            self._alive.set()
        if entry is not None and entry.outcome is not None:
            future = self._awaited.pop(entry.path)
            if not future.done():  # else its task was cancelled
                future.set_result(entry.outcome)
            self._stirred += 1
            return True
        while self._told:
            told = self._told.popleft()
            if not told.done():
                told.set_result(None)
                return True
        return False

    def _own_lane(self) -> Lane:
        task = asyncio.current_task()
        lane, owner = _lane.get()
        if owner is task:
            return lane
        own = lane.open()
        _lane.set((own, task))
        return own
