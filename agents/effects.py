"""The engine under a role's context: each effect is found in the journal, or done once and reported.

While the journal still holds outcomes, the role is being run again: outcomes are handed to it in recorded order, and
nothing new is done. Once the journal is drained the role lives.

A role may also *part* from its log: in a replay where the log ends, in a fork where its request differs. From there on
nothing is done for it; whoever runs it (`reply_of`) ends it.

Recorded or new, an outcome is handed over alone, and only when the role has done all that it does about the one before:
so what a role does is a function of the order of its outcomes, which the log has, and of nothing else. Whether it is
done asyncio tells only where nothing else is to run either; else `QUIET_TURNS` of the loop in which it began no effect
are taken for it.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from agents.errors import Diverged
from agents.journal import Entry, Journal, Lane
from agents.turns import turns
from bus.events import Effect, Path

QUIET_TURNS = 32
"""Who waits for a group or for tasks goes on two or three turns after them: a dozen waits, one in another, fit in."""
PATIENCE_S = 5.0
"""How long a role that is run again may do nothing, while it waits for a new effect and left a recorded one unbegun."""

R = TypeVar("R")
Course = Literal["live", "recorded", "fork"]
"""What a role does where its log ends, and where it differs: lives on, diverges; parts, diverges; lives on, parts."""

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

    def __init__(self, recorded: Sequence[Effect], reporter: Reporter, *, course: Course = "live") -> None:
        self.count = len(recorded)
        """How many effect events belong to the attempt so far."""
        self.parted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        """Done once the role has parted from its log: how many of its records still count."""
        self.begun: Effect | None = None
        """The effect that the role began last."""
        self._course = course
        self._journal = Journal(recorded)
        self._reporter = reporter
        self._awaited: dict[Path, asyncio.Future[Effect]] = {}
        self._told: deque[asyncio.Future[None]] = deque()
        """New outcomes that are to be handed over, in the order in which they were reported."""
        self._turns = turns()
        self._turning = False
        self._quiet_at = 0
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

    def begin(self, intent: Effect) -> Entry | None:
        """Begin an effect; return what the log has of it. Where that is no outcome, await `live` before doing it.

        Raises `Diverged`.
        """
        self.begun = intent
        try:
            entry = self._journal.begin(intent)
        except Diverged as diverged:
            if self._course != "fork":
                raise
            self._part(diverged.at)
            return None
        self._stir()
        return entry

    async def recorded(self, entry: Entry) -> Effect:
        """Wait until a recorded outcome is its role's to know."""
        future: asyncio.Future[Effect] = asyncio.get_running_loop().create_future()
        self._awaited[entry.path] = future
        return await future

    async def live(self) -> None:
        """Wait until all that is recorded has been handed out. Raises `Diverged` if the role does not ask for it."""
        if not self.parted.done():
            await self.handed_out()
        if self._course == "recorded":
            self._part(self.count)
        if self.parted.done():
            await asyncio.get_running_loop().create_future()  # whoever runs the role ends it

    def _part(self, records: int) -> None:
        if not self.parted.done():
            self.parted.set_result(records)

    async def handed_out(self) -> None:
        """Wait until all that is recorded has been handed out, or the role has parted. Raises `Diverged`."""
        while not self._alive.is_set() and not self.parted.done():
            before = self._stirred
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._alive.wait()
            except TimeoutError:
                if self._stirred != before:
                    continue
                if self._course != "fork":
                    missing = self._journal.missing()
                    said = f"the role began something new before {missing}, which its log has"
                    raise Diverged(self._journal.next, said) from None
                self._part(self._journal.next)

    async def drain(self) -> None:
        """Let the role part once all that is recorded has been handed out. Raises `Diverged`, as `handed_out` does."""
        try:
            await self.handed_out()
        finally:
            self._part(self.count)

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
        """Note that the role did something; from now on look whether it is quiet, until all is handed out."""
        self._quiet_at = self._turns.now + QUIET_TURNS
        self._stirred += 1
        if not self._turning:
            self._turning = True
            self._turns.call_at(self._quiet_at, self._look)

    def _look(self, idle: bool) -> None:  # noqa: FBT001 - called by `Turns`
        if idle or self._turns.now >= self._quiet_at:
            if not self._hand_out():
                self._turning = False
                return
            self._quiet_at = self._turns.now + QUIET_TURNS
        self._turns.call_at(self._quiet_at, self._look)

    def _hand_out(self) -> bool:
        """Hand out the next outcome; tell whether there was one."""
        entry = self._journal.deliverable()
        if entry is None and self._journal.drained:  # and the role has done all that it does about the last outcome
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


@dataclass(frozen=True, slots=True)
class Parted:
    """A role has parted from its log; the first `records` of it still count."""

    records: int


async def reply_of(effects: Effects, role: Coroutine[Any, Any, R], *, only_recorded: bool = False) -> R | Parted:
    """Run a role that may part from its log until it replies or parts. What it raises passes through.

    `only_recorded`: until all that is recorded has been handed out; what the role does then is of no interest.
    """
    if not only_recorded:
        return await _until_parted(effects, role)
    draining = asyncio.create_task(effects.drain(), name="drain")
    try:
        reply = await _until_parted(effects, role)
    finally:
        draining.cancel()
        await asyncio.wait((draining,))
    if not draining.cancelled():
        draining.result()  # that it diverged comes before what it said
    return reply


async def _until_parted(effects: Effects, role: Coroutine[Any, Any, R]) -> R | Parted:
    """Run a role in the running task, and cancel it once it has parted: what it says of that is of no interest."""
    over = False
    try:
        async with asyncio.timeout(None) as ending:
            effects.parted.add_done_callback(lambda _: None if over else ending.reschedule(0))
            effects.enter()
            try:
                reply = await role
            finally:
                over = True
    except (Exception, SystemExit):
        if not effects.parted.done():
            raise
    else:
        if not effects.parted.done():
            return reply
    return Parted(effects.parted.result())
