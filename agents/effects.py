"""The engine under a role's context: each effect is found in the journal, or done once and reported.

While the journal still holds outcomes, the role is being run again: outcomes are handed to it in recorded order, one a
turn of the loop, and nothing new is done. Once the journal is drained the role lives.
"""

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Protocol

from agents.errors import Diverged
from agents.journal import Entry, Journal, Lane
from bus.events import Effect, Path

PATIENCE_S = 5.0
"""How long a role that is run again may leave a recorded effect unbegun while it waits for a new one."""

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
        self._turning = False
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
        if entry is not None and not self._turning:
            self._turning = True
            asyncio.get_running_loop().call_soon(self._turn)
        return entry

    async def recorded(self, entry: Entry) -> Effect:
        """Wait until a recorded outcome is its role's to know."""
        future: asyncio.Future[Effect] = asyncio.get_running_loop().create_future()
        self._awaited[entry.path] = future
        return await future

    async def live(self) -> None:
        """Wait until all that is recorded has been handed out. Raises `Diverged` if the role does not ask for it."""
        if self._alive.is_set():
            return
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._alive.wait()
        except TimeoutError:
            raise Diverged(
                f"the role began something new before {self._journal.missing()}, which its log has"
            ) from None

    async def ask(self, event: Effect) -> int:
        """Report an intent and wait for the word on it."""
        self.count += 1
        return await self._reporter.ask(event)

    async def tell(self, event: Effect) -> None:
        """Report an outcome."""
        self.count += 1
        await self._reporter.tell(event)

    def _turn(self) -> None:
        """Hand out the next recorded outcome; one a turn, so that each is seen before the next comes."""
        entry = self._journal.deliverable()
        if self._journal.drained:
            self._alive.set()
        if entry is None:
            self._turning = False
            return
        future = self._awaited.pop(entry.path)
        if not future.done() and entry.outcome is not None:
            future.set_result(entry.outcome)
        asyncio.get_running_loop().call_soon(self._turn)

    def _own_lane(self) -> Lane:
        task = asyncio.current_task()
        lane, owner = _lane.get()
        if owner is task:
            return lane
        own = lane.open()
        _lane.set((own, task))
        return own
