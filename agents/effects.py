"""The engine under a role's context: each effect is found in the journal, or done once and reported.

While the journal still holds outcomes, the role is being run again: outcomes are handed to it in recorded order, and
nothing new is done. Once the journal is drained the role lives.

A role may also *part* from its log: in a replay where the log ends, in a fork where its request differs. From there on
nothing is done for it; whoever runs it (`reply_of`) ends it. So it is where it diverges, and where its run must pause:
the exception that tells the role so counts, whatever it makes of it.

Recorded or new, an outcome is handed over alone, and only when the role has done all that it does about the one before:
so what a role does is a function of the order of its outcomes, which the log has, and of nothing else. Whether it is
done asyncio tells only where nothing else is to run either; else `QUIET_TURNS` of the loop in which it began no effect
are taken for it.

A role that is quiet, and has not begun what its log has next, may be stuck: `agents/lookout.py` looks.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from agents.errors import Diverged, ModelUnavailable, RunMustPause
from agents.journal import Entry, Journal, Lane
from agents.lookout import QUIET_TURNS, Lookout
from agents.turns import turns
from bus.errors import BusUnavailable, LogError, NotHeld
from bus.events import Effect, Path

ENDING = (Diverged, RunMustPause, ModelUnavailable, LogError, BusUnavailable, NotHeld)
"""What ends an attempt, and mostly pauses its run: no reply of the role comes before it."""

R = TypeVar("R")
Course = Literal["live", "recorded", "fork"]
"""What a role does where its log ends, and where it differs: lives on, diverges; parts, diverges; lives on, parts."""

_lane: contextvars.ContextVar[tuple[Lane, "asyncio.Task[object] | None"]] = contextvars.ContextVar("lane")
_role: contextvars.ContextVar["Effects | None"] = contextvars.ContextVar("role", default=None)
"""Whose code runs: a timer is the role's in whose context it was begun."""


class Reporter(Protocol):
    """The way to the run's orchestrator."""

    async def ask(self, event: Effect) -> int:
        """Send an intent; return once it is recorded (and granted: then the `max_tokens` granted)."""
        ...

    async def tell(self, event: Effect) -> None:
        """Send an outcome. What is told is recorded in the order of telling."""
        ...


@dataclass(frozen=True, slots=True)
class Parted:
    """A role has parted from its log; the first `records` of it still count."""

    records: int


class Effects:
    """The effects of one attempt. `with effects`: what is raised in it and ends the attempt is kept (`ENDING`)."""

    def __init__(self, recorded: Sequence[Effect], reporter: Reporter, *, course: Course = "live") -> None:
        self.count = len(recorded)
        """How many effect events belong to the attempt so far."""
        self.over: asyncio.Future[Parted | Exception] = asyncio.get_running_loop().create_future()
        """Done once it does not count any more what the role says: it has parted, or what ends its attempt came."""
        self.begun: Effect | None = None
        """The effect that the role began last."""
        self.beyond: Effect | None = None
        """The effect with which the role went beyond a log that it was only to go through."""
        self._course = course
        self._loop = asyncio.get_running_loop()
        self._lane = Lane()
        self._tasks: set[asyncio.Task[Any]] = set()
        """The role's other tasks, as far as they have effects and are not done."""
        self._left = False
        self._journal = Journal(recorded)
        self._reporter = reporter
        self._awaited: dict[Path, asyncio.Future[Effect]] = {}
        self._told: deque[asyncio.Future[None]] = deque()
        """New outcomes that are to be handed over, in the order in which they were reported."""
        self._turns = turns()
        self.stirs = False
        """Whether it is looked, turn by turn, if the role is quiet."""
        self._quiet_at = 0
        self.stirred = 0
        """How often it did something, or was handed something."""
        self._alive = asyncio.Event()
        if self._journal.drained:
            self._alive.set()
        self._held = 0
        """How many wait until all that is recorded has been handed out."""
        self._lookout = Lookout(self, replayed=course == "recorded")

    def __enter__(self) -> None:
        """Begin what may raise."""

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """Keep what ends the attempt; it passes on."""
        if isinstance(error, ENDING):
            self._end(error)

    def enter(self) -> None:
        """Make the running task the role's own one, before it does anything."""
        _lane.set((self._lane, asyncio.current_task()))
        _role.set(self)
        if self._course == "recorded":
            self._lookout.begin()

    def next_path(self) -> Path:
        """Return the path of the running task's next effect; a child of the role's own task has a lane of its own.

        Raises `RuntimeError` in another event loop than the role's, and once the role has ended: it would be waited for
        in vain.
        """
        return self._own_lane().next()

    def begin(self, intent: Effect) -> Entry | None:
        """Begin an effect; return what the log has of it. Where that is no outcome, await `live` before doing it.

        Raises `Diverged`.
        """
        if self.over.done():
            return None
        self.begun = intent
        try:
            entry = self._journal.begin(intent)
        except Diverged as diverged:
            if self._course != "fork":
                raise
            self._end(Parted(diverged.at))
            return None
        self._stir()
        return entry

    async def recorded(self, entry: Entry) -> Effect:
        """Wait until a recorded outcome is its role's to know."""
        future: asyncio.Future[Effect] = asyncio.get_running_loop().create_future()
        self._awaited[entry.path] = future
        return await future

    async def live(self) -> None:
        """Wait until all that is recorded has been handed out."""
        if not self.over.done():
            await self.handed_out()
        if self._course == "recorded":
            self.beyond = self.beyond or self.begun
            await self._lookout.timers_over()
            self._end(Parted(self.count))
        if self.over.done():
            await asyncio.get_running_loop().create_future()  # whoever runs the role ends it

    def _end(self, how: Parted | Exception) -> None:
        if not self.over.done():
            self.over.set_result(how)
            self._lookout.end()

    async def handed_out(self) -> None:
        """Wait until all that is recorded has been handed out."""
        if not self._alive.is_set():
            self._held += 1
            self._look_on()
            try:
                await self._alive.wait()
            finally:
                self._held -= 1

    async def drain(self) -> None:
        """Let the role part once all that is recorded has been handed out."""
        await self.handed_out()
        self._end(Parted(self.count))

    async def leave(self) -> None:
        """Note that the role is at its end, or was ended; the tasks that it left behind end too.

        What they do belongs to no attempt any more.
        """
        self._lookout.end()
        self._left = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _task_done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if self.over.done() and not task.cancelled():
            task.exception()  # it has been kept, or is of no interest

    def ended(self, error: BaseException | None = None) -> None:
        """Note that the role came to its end, by an error perhaps; what it never began of its log counts before it."""
        at = self._journal.unbegun()
        if at is not None:
            raised = "" if error is None else f" It raised {type(error).__name__}: {error}"
            self._differ(at, f"the role ended without {self._journal.named(at)}, which its log has.{raised}")

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
        self.stirred += 1
        if not self.stirs:
            self.stirs = True
            self._turns.call_at(self._quiet_at, self._look)

    def _look(self, idle: bool) -> None:  # noqa: FBT001 - called by `Turns`
        if idle or self._turns.now >= self._quiet_at:
            if not self._hand_out():
                self.stirs = False
                self._look_on()
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
            self.stirred += 1
            return True
        while self._told:
            told = self._told.popleft()
            if not told.done():
                told.set_result(None)
                return True
        return False

    def _look_on(self) -> None:
        """Look from time to time whether a role that left a recorded effect unbegun can still begin it."""
        if not self._alive.is_set() and not self.over.done():
            self._lookout.begin()

    @property
    def lags(self) -> bool:
        """Whether anybody waits for what is recorded, or for its end."""
        waiting = self._held or any(not future.done() for future in self._awaited.values())
        return not self._alive.is_set() and bool(waiting)

    def owns(self, context: contextvars.Context) -> bool:
        """Tell whether what was begun in a context is the role's."""
        return context.get(_role) is self

    def is_stuck(self) -> bool:
        """Let the role differ, if its log has what it has not begun; tell whether it does."""
        at = self._journal.unbegun()
        if at is not None:
            said = f"the role waits for something, and has not begun {self._journal.named(at)}, which its log has"
            self._differ(at, said)
        return at is not None

    def _differ(self, at: int, said: str) -> None:
        self._end(Parted(at) if self._course == "fork" else Diverged(at, said))

    def _own_lane(self) -> Lane:
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "ctx is used in another event loop than its role's. In a thread write "
                "`asyncio.run_coroutine_threadsafe(ctx.…, loop).result()`, with the role's loop."
            )
        if self._left:
            raise RuntimeError("ctx is used after its role has ended: let `handle` wait for all tasks that it begins.")
        task = asyncio.current_task()
        lane, owner = _lane.get((self._lane, None))  # a thread may have begun the task without the role's context
        if owner is task:
            return lane
        own = lane.open()
        _lane.set((own, task))
        _role.set(self)
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._task_done)
        return own


def is_cancelled() -> bool:
    """Tell whether the running task is being cancelled; else a `CancelledError` is that of one whose result it took."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def reply_of(effects: Effects, role: Coroutine[Any, Any, R], *, only_recorded: bool = False) -> R | Parted:
    """Run a role until it replies or parts from its log. What it raises passes through, but for what came before.

    `only_recorded`: until all that is recorded has been handed out; what the role does then is of no interest.
    Raises `Diverged`, and what else ended the attempt (`ENDING`), whatever the role made of it.
    """
    if not only_recorded:
        return await _until_over(effects, role)
    draining = asyncio.create_task(effects.drain(), name="drain")
    try:
        return await _until_over(effects, role)
    finally:
        draining.cancel()
        await asyncio.wait((draining,))


async def _until_over(effects: Effects, role: Coroutine[Any, Any, R]) -> R | Parted:
    """Run a role in the running task, and cancel it once it is over: what it says of that is of no interest."""
    done = False
    try:
        async with asyncio.timeout(None) as ending:
            effects.over.add_done_callback(lambda _: None if done else ending.reschedule(0))
            effects.enter()
            try:
                reply = await role
            except asyncio.CancelledError as error:
                if is_cancelled():
                    raise
                said = "it took the result of a task that was cancelled"
                raise RuntimeError(said).with_traceback(error.__traceback__) from error
            finally:
                done = True
                await effects.leave()
    except (Exception, SystemExit) as error:
        effects.ended(error)
        if not effects.over.done():
            raise
    else:
        effects.ended()
        if not effects.over.done():
            return reply
    end = effects.over.result()
    if isinstance(end, Exception):
        raise end
    return end
