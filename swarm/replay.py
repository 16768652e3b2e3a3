"""A run gone through again: the rules over its recorded inputs, every role over its recorded answers.

Nothing is asked, run, drawn or waited for: what a role would do is answered from the log, and where the log ends the
role is ended too. Identifiers (ids, times, sources, leases) are the log's; what is compared is type, subject and data.
"""

import asyncio
import difflib
import json
from collections.abc import AsyncIterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from agents.briefing import Briefing
from agents.context import Means
from agents.divergence import named
from agents.effects import Effects, Parted, reply_of
from agents.errors import Diverged, ModelUnavailable
from agents.files.attempt_folder import AttemptFolder
from agents.journal import KINDS
from agents.model import EndpointHealth, ModelReply, ModelRequest
from agents.role import Role
from agents.tool import Tool
from bus.envelope import Envelope
from bus.errors import NotFound
from bus.event_log import FileStore
from bus.events import (
    AssignmentEnded,
    Effect,
    Event,
    Fact,
    GoalSubmitted,
    JournalCut,
    ModelAsked,
    PlanProposed,
    Request,
    ResultSubmitted,
    ReviewGiven,
    RunForked,
    WorkFailed,
)
from bus.raised_at import without_place
from bus.setup import RoleSetup
from swarm.core.admit import Admission, admit
from swarm.core.apply import apply
from swarm.core.decide import decide
from swarm.core.request import brief
from swarm.core.state import RunState
from swarm.errors import SwarmError
from swarm.preparation.parts import load_tool, role_class
from swarm.raised import leaves
from swarm.working.attempt import answer, context_of, ending, without_parts

AT_ONCE = 64
"""Attempts gone through side by side: they share the turns of the loop that each outcome waits for."""
_LINES = 30
_BEGINNINGS: tuple[type[Fact], ...] = (GoalSubmitted, RunForked)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a run gone through again first parts from its log."""

    position: int
    """Of the event in the log."""
    what: str
    """What differs, in words."""
    recorded: str
    """The log's side, as JSON."""
    now: str
    """The other side, likewise; "" where there is nothing."""

    def lines(self) -> list[str]:
        """Return the difference as lines for people."""
        changes = difflib.unified_diff(
            self.recorded.splitlines(), self.now.splitlines(), "recorded", "now", lineterm="", n=2
        )
        return [f"event {self.position}: {self.what}", *list(changes)[:_LINES]]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to."""

    run: str
    events: int
    attempts: int
    """How many attempts of roles were gone through."""
    difference: Difference | None
    elsewhere: tuple[str, ...] = ()
    """Roles whose code is with the agents that brought them: what those did is compared by the rules alone."""


@dataclass(slots=True)
class _Attempt:
    """One attempt of a role as its log has it."""

    request: Envelope
    role: str
    setup: RoleSetup
    folder: str
    """Of the scenario: its own code is found from there."""
    briefing: Briefing
    effects: list[Envelope] = field(default_factory=list)
    reply: Envelope | None = None


class Rules:
    """Folds a log, and says where the rules, as they are now, would have gone another way."""

    def __init__(self, run: str) -> None:
        self.state = RunState(run)

    def take(self, envelope: Envelope) -> tuple[bool, Difference | None]:
        """Take the next record; tell whether it came in from outside, and where it is not what the rules want."""
        state, event = self.state, cast("Event", envelope.event)
        begins = type(event) in _BEGINNINGS
        decision = None if begins else decide(state)  # what was pending at a fork was dropped
        difference = None
        if decision is not None:
            if (decision.event, decision.subject) != (event, envelope.subject):
                said = "the rules decide otherwise"
                difference = Difference(envelope.sequence, said, shown(event), shown(decision.event))
        elif not (self._begins(event) if begins else admit(state, envelope) is Admission.RECORD):
            difference = Difference(envelope.sequence, "the rules would not have recorded it", shown(event), "")
        if difference is None:
            apply(state, envelope)
        return decision is None, difference

    def _begins(self, event: Event) -> bool:
        return self.state.status == "new" or isinstance(event, RunForked)


async def replay(
    run: str,
    log: AsyncIterable[Envelope],
    files: FileStore,
    work: Path,
    *,
    tools: Mapping[str, str] | None = None,
    closed: Sequence[Path] = (),
) -> Replayed:
    """Go through a run's log from its first event; `work`: a folder for those roles that look into theirs.

    `tools`: where those tools are that a hub's configuration gave short names. `closed` is as in `lookup.load`.

    Loads the code that the log's setups name (`swarm/runs/named_code.py` tells which). Raises what the log and the file
    store raise, and `NotFound`, `MissingPart` where a role or tool can no longer be loaded.
    """
    rules, attempts, events = Rules(run), _Attempts(), 0
    elsewhere: set[str] = set()
    async with asyncio.TaskGroup() as group:
        again = _SideBySide(group, _PartsOf(tools or {}, closed), files, work)
        async for envelope in log:
            from_outside, difference = rules.take(envelope)
            if difference is not None:
                again.found.append(difference)
                break
            events += 1
            over = attempts.take(rules.state, envelope, from_outside=from_outside)
            if over is not None and over.setup.brought:
                elsewhere.add(over.role)
            elif over is not None:
                await again.begin(over)
        for attempt in attempts.open.values():  # those that were never answered
            if not attempt.setup.brought:
                await again.begin(attempt)
    first = min(again.found, key=lambda one: one.position, default=None)
    return Replayed(run, events, again.begun, first, tuple(sorted(elsewhere)))


class _SideBySide:
    """Goes through attempts, up to `AT_ONCE` at a time, each in a folder of its own below `work`."""

    def __init__(self, group: asyncio.TaskGroup, parts: "_PartsOf", files: FileStore, work: Path) -> None:
        self._group, self._parts, self._files = group, parts, files
        self._places: asyncio.Queue[Path] = asyncio.Queue()
        for number in range(AT_ONCE):
            self._places.put_nowait(work / str(number))
        self.begun = 0
        """How many attempts were begun."""
        self.found: list[Difference] = []

    async def begin(self, attempt: _Attempt) -> None:
        """Wait for a place, and begin to go through an attempt there."""
        self.begun += 1
        place = await self._places.get()
        self._group.create_task(self._go_through(attempt, place), name=f"replay {attempt.request.subject}")

    async def _go_through(self, attempt: _Attempt, place: Path) -> None:
        try:
            difference = await _again(attempt, self._parts.of(attempt), self._files, place)
            if difference is not None:
                self.found.append(difference)
        finally:
            self._places.put_nowait(place)


class _Attempts:
    """What the log has of each attempt that has not ended yet."""

    def __init__(self) -> None:
        self.open: dict[str, _Attempt] = {}
        """By the lease that an agent holds of it, or held last."""
        self._leases: dict[tuple[str, int], str] = {}

    def take(self, state: RunState, envelope: Envelope, *, from_outside: bool) -> _Attempt | None:
        """Keep what belongs to an attempt; return the attempt that this record ends."""
        event = cast("Event", envelope.event)
        if type(event) in KINDS:  # asked first, since most are effects
            if from_outside and (attempt := self.open.get(envelope.causation_id or "")) is not None:
                attempt.effects.append(envelope)
        elif isinstance(event, Request):
            self._begin(state, envelope)
        elif isinstance(event, ResultSubmitted | PlanProposed | ReviewGiven | WorkFailed):
            attempt = self.open.pop(envelope.causation_id or "", None)
            if attempt is not None and from_outside:
                attempt.reply = envelope
            return attempt
        elif isinstance(event, JournalCut):
            effects = self.open[envelope.causation_id or ""].effects
            upto = sum(one.sequence <= event.kept for one in effects)
            effects[:] = without_parts(effects, upto)
        return None

    def _begin(self, state: RunState, envelope: Envelope) -> None:
        """Begin an attempt, or go on with one under another lease."""
        work = state.leases[envelope.id]
        setup, role = state.setup, state.role(work.role)
        if setup is None or role is None:
            raise AssertionError("no request comes before the goal")
        before = self.open.pop(self._leases.get((work.request, work.attempt), ""), None)
        self._leases[work.request, work.attempt] = envelope.id
        effects = before.effects if before else []
        told = brief(state, work, ())
        self.open[envelope.id] = _Attempt(envelope, work.role, role, setup.folder, told, effects)


async def _again(attempt: _Attempt, parts: "_Parts", files: FileStore, place: Path) -> Difference | None:
    """Run a role once more over what its log has; return where it parts from that."""
    recorded = [cast("Effect", one.event) for one in attempt.effects]
    effects = Effects(recorded, _Nobody(), course="recorded")
    told = _as_asked(attempt.briefing, recorded)
    folder = AttemptFolder(place, files, told.base, told.start, told.left)
    reply: Fact | Parted
    try:
        role = parts.role(**attempt.setup.options)
        context = context_of(attempt.request, told, attempt.role, parts.means, effects=effects, folder=folder)
        at_work = answer(role, attempt.request.event, context)
        reply = await reply_of(effects, at_work, only_recorded=not _said(attempt))
    except SwarmError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as the worker does: what a role raises is its reply
        for one in leaves(error):
            if isinstance(one, Diverged):
                return Difference(attempt.effects[one.at].sequence, str(one), "", "")
        reply = ending(error, attempt.request.id, effects.count, root=place)
    finally:
        await folder.remove()
    return _compared(attempt, reply, effects)


def _as_asked(told: Briefing, recorded: Sequence[Effect]) -> Briefing:
    """Return a briefing with the model that was asked: which one is the choice of the agent's owner, not the role's."""
    asked = next((one.model for one in recorded if isinstance(one, ModelAsked)), told.role.model)
    return replace(told, role=told.role.model_copy(update={"model": asked}))


def _said(attempt: _Attempt) -> bool:
    """Tell whether a role's own reply is in the log, and not that what it brought was not taken."""
    event = attempt.reply and attempt.reply.event
    return event is not None and not (isinstance(event, WorkFailed) and event.kind == "files")


def _compared(attempt: _Attempt, reply: Fact | Parted, effects: Effects) -> Difference | None:
    written = attempt.reply
    if written is None or not _said(attempt) or isinstance(reply, AssignmentEnded):
        return None  # it was ended from outside, or paused its run: the log has no word of its own to compare with
    if isinstance(reply, Parted):
        begun = shown(effects.begun) if effects.begun else ""
        return Difference(written.sequence, "the role goes on beyond its log", shown(written.event), begun)
    now = reply.model_copy(update={"effects": effects.count})
    if _as_compared(now) == _as_compared(written.event):
        return None
    beyond = f", after {named(effects.beyond)}, of which its log has no outcome" if effects.beyond else ""
    return Difference(written.sequence, f"the role ends otherwise{beyond}", shown(written.event), shown(now))


def _as_compared(reply: Fact) -> Fact:
    """Return a reply without where in its file the role's code raised: a comment more above that changes nothing."""
    return reply.model_copy(update={"reason": without_place(reply.reason)}) if isinstance(reply, WorkFailed) else reply


class _Parts(NamedTuple):
    """What the attempts under one setup of a role share: its class, and what it is lent to work with."""

    setup: RoleSetup
    role: type[Role[Any, Any]]
    means: Means


class _PartsOf:
    """Loads the parts of each role once."""

    def __init__(self, tools: Mapping[str, str], closed: Sequence[Path]) -> None:
        self._tools = tools
        self._closed = closed
        self._known: dict[tuple[str, int], _Parts] = {}

    def of(self, attempt: _Attempt) -> _Parts:
        """Return a role's class and tools, and a model that is never asked. Raises `NotFound`, `MissingPart`."""
        setup = attempt.setup
        key = (attempt.role, id(setup))
        known = self._known.get(key)
        if known is None:
            folder = Path(attempt.folder)
            tools = [self._tool(tool, folder) for tool in setup.tools]
            means = Means.of(setup, _NoModel(), tools)
            role = role_class(attempt.role, setup.uses, folder, closed=self._closed)
            known = self._known[key] = _Parts(setup, role, means)
        return known

    def _tool(self, name: str, folder: Path) -> Tool:
        try:
            return load_tool(self._tools.get(name, name), folder, closed=self._closed)
        except NotFound as error:
            if ":" in name or name in self._tools:
                raise
            raise NotFound(f"{error} If it is a hub's name for one, give the hub's `--config FILE`.") from error


def shown(event: Fact) -> str:
    """Return an event as indented JSON, for people."""
    told = {"event": type(event).__name__, **event.model_dump(mode="json")}
    return json.dumps(told, ensure_ascii=False, indent=1)


class _Nobody:
    """The reporter of a role for which nothing is done: nothing reaches it."""

    async def ask(self, event: Effect) -> int:
        raise AssertionError(f"a replay was about to do {type(event).__name__}")

    async def tell(self, event: Effect) -> None:
        raise AssertionError(f"a replay was about to record {type(event).__name__}")


class _NoModel:
    """A model that a replay never asks."""

    health = EndpointHealth()

    async def ask(self, request: ModelRequest) -> ModelReply:
        raise ModelUnavailable(f"A replay asks no model, and {request.model!r} was about to be asked.")

    async def close(self) -> None:
        """Nothing is open."""
