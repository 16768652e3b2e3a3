"""A run gone through again: the rules over its recorded inputs, every role over its recorded answers.

Nothing is asked, run, drawn or waited for: what a role would do is answered from the log, and where the log ends the
role is ended too. Identifiers (ids, times, sources, leases) are the log's; what is compared is type, subject and data.
"""

import asyncio
import difflib
import json
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from agents.briefing import Briefing
from agents.context import Means
from agents.effects import Effects, Parted, reply_of
from agents.errors import Diverged, ModelUnavailable
from agents.files.attempt_folder import AttemptFolder
from agents.model import EndpointHealth, ModelReply, ModelRequest
from bus.envelope import Envelope
from bus.event_log import FileStore
from bus.events import (
    AssignmentEnded,
    Effect,
    Event,
    Fact,
    GoalSubmitted,
    JournalCut,
    PlanProposed,
    PlanRequested,
    ResultSubmitted,
    ReviewGiven,
    ReviewRequested,
    RunForked,
    SubtaskAssigned,
    WorkFailed,
)
from bus.setup import RoleSetup
from swarm.core.admit import Admission, admit
from swarm.core.apply import apply
from swarm.core.decide import decide
from swarm.core.request import brief
from swarm.core.state import RunState
from swarm.errors import SwarmError
from swarm.parts import load_tool, role_class
from swarm.worker import answer, context_of, ending, leaves, without_parts

AT_ONCE = 128
"""Attempts gone through side by side: they share the turns of the loop that each outcome waits for."""
_LINES = 30


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


@dataclass(slots=True)
class _Attempt:
    """One attempt of a role as its log has it."""

    request: Envelope
    role: str
    setup: RoleSetup
    folder: Path
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
        decision = None if isinstance(event, RunForked) else decide(state)  # what was pending at a fork was dropped
        difference = None
        if decision is not None:
            if (decision.event, decision.subject) != (event, envelope.subject):
                said = "the rules decide otherwise"
                difference = Difference(envelope.sequence, said, shown(event), shown(decision.event))
        elif not self._may_come_in(envelope):
            difference = Difference(envelope.sequence, "the rules would not have recorded it", shown(event), "")
        if difference is None:
            apply(state, envelope)
        return decision is None, difference

    def _may_come_in(self, envelope: Envelope) -> bool:
        if isinstance(envelope.event, GoalSubmitted | RunForked):
            return self.state.status == "new" or isinstance(envelope.event, RunForked)
        return admit(self.state, envelope) is Admission.RECORD


async def replay(run: str, log: AsyncIterable[Envelope], files: FileStore, work: Path) -> Replayed:
    """Go through a run's log from its first event; `work`: a folder for those roles that look into theirs.

    Loads the code of the run's own roles and tools. Raises what the log and the file store raise, and `NotFound`,
    `MissingPart` where a role or tool can no longer be loaded.
    """
    rules, attempts = Rules(run), dict[tuple[str, int], _Attempt]()
    found: list[Difference] = []
    room, events, ended = asyncio.Semaphore(AT_ONCE), 0, 0
    lent = _Lent()

    async def go_through(attempt: _Attempt) -> None:
        try:
            difference = await _again(attempt, lent.means(attempt), files, work / str(attempt.request.sequence))
            if difference is not None:
                found.append(difference)
        finally:
            room.release()

    async with asyncio.TaskGroup() as group:
        async for envelope in log:
            from_outside, difference = rules.take(envelope)
            if difference is not None:
                found.append(difference)
                break
            events += 1
            over = _note(rules.state, envelope, attempts, from_outside=from_outside)
            if over is not None:
                ended += 1
                await room.acquire()
                group.create_task(go_through(over), name=f"replay {over.request.subject}")
        for attempt in attempts.values():  # those that were never answered
            ended += 1
            await room.acquire()
            group.create_task(go_through(attempt), name=f"replay {attempt.request.subject}")
    return Replayed(run, events, ended, min(found, key=lambda one: one.position, default=None))


def _note(
    state: RunState, envelope: Envelope, attempts: dict[tuple[str, int], _Attempt], *, from_outside: bool
) -> _Attempt | None:
    """Keep what belongs to an attempt; return the attempt that this record ends."""
    event = cast("Event", envelope.event)
    if isinstance(event, SubtaskAssigned | PlanRequested | ReviewRequested):
        work = state.leases[envelope.id]
        key = (work.request, work.attempt)
        before, setup, role = attempts.get(key), state.setup, state.role(work.role)
        if setup is None or role is None:
            raise AssertionError("no request comes before the goal")
        effects = before.effects if before else []
        briefing = brief(state, work, ())
        attempts[key] = _Attempt(envelope, work.role, role, Path(setup.folder), briefing, effects)
        return None
    key = (envelope.subject or "", getattr(event, "attempt", 0))
    if isinstance(event, PlanProposed | ResultSubmitted | ReviewGiven | WorkFailed):
        key = next((key for key, one in attempts.items() if one.request.id == envelope.causation_id), key)
        attempt = attempts.pop(key, None)
        if attempt is not None and from_outside:
            attempt.reply = envelope
        return attempt
    if isinstance(event, JournalCut) and key in attempts:
        upto = sum(one.sequence <= event.kept for one in attempts[key].effects)
        attempts[key].effects[:] = without_parts(attempts[key].effects, upto)
    elif from_outside and key in attempts and isinstance(event, Effect):
        attempts[key].effects.append(envelope)
    return None


async def _again(attempt: _Attempt, means: Means, files: FileStore, place: Path) -> Difference | None:
    """Run a role once more over what its log has; return where it parts from that."""
    recorded = [cast("Effect", one.event) for one in attempt.effects]
    effects = Effects(recorded, _Nobody(), course="recorded")
    told = attempt.briefing
    folder = AttemptFolder(place, files, told.base, told.start, told.left)
    reply: Fact | Parted
    try:
        role = role_class(attempt.role, attempt.setup.uses, attempt.folder)(**attempt.setup.options)
        context = context_of(attempt.request, attempt.briefing, attempt.role, means, effects=effects, folder=folder)
        at_work = answer(role, attempt.request.event, context)
        reply = await reply_of(effects, at_work, only_recorded=attempt.reply is None)
    except SwarmError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - as the worker does: what a role raises is its reply
        for one in leaves(error):
            if isinstance(one, Diverged):
                return Difference(attempt.effects[one.at].sequence, str(one), "", "")
        reply = ending(error, attempt.request.id, effects.count)
    finally:
        await folder.remove()
    return _compared(attempt, reply, effects)


def _compared(attempt: _Attempt, reply: Fact | Parted, effects: Effects) -> Difference | None:
    written = attempt.reply
    if written is None or isinstance(reply, AssignmentEnded):
        return None  # it was ended from outside, or paused its run: the log has no word of its own to compare with
    if isinstance(reply, Parted):
        begun = shown(effects.begun) if effects.begun else ""
        return Difference(written.sequence, "the role goes on beyond its log", shown(written.event), begun)
    now = reply.model_copy(update={"effects": effects.count})
    if now == written.event:
        return None
    return Difference(written.sequence, "the role ends otherwise", shown(written.event), shown(now))


class _Lent:
    """What roles are lent to work with: the same for all attempts under one setup of a role."""

    def __init__(self) -> None:
        self._means: dict[int, tuple[RoleSetup, Means]] = {}

    def means(self, attempt: _Attempt) -> Means:
        """Return a role's tools, and a model that is never asked. Raises `NotFound`, `MissingPart`."""
        setup = attempt.setup
        known = self._means.get(id(setup))
        if known is None:
            tools = [load_tool(tool, attempt.folder) for tool in setup.tools]
            means = Means(
                model=_NoModel(),
                tools={tool.name: tool for tool in tools},
                window=setup.window,
                temperature=setup.temperature,
                timeout_s=setup.timeout_ms / 1000,
            )
            known = self._means[id(setup)] = setup, means
        return known[1]


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
