"""Edge of one role: requests in, effects and a reply out, each attempt in a folder of its own."""

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from agents.briefing import Briefing
from agents.context import Context, Means
from agents.effects import Effects, Parted, reply_of
from agents.errors import (
    AnswerUnusable,
    CheckBroken,
    Diverged,
    ModelFailed,
    ModelUnavailable,
    RunMustPause,
    SandboxUnavailable,
    StuckRepeating,
    ToolFailed,
)
from agents.files.attempt_folder import AttemptFolder
from agents.role import Role
from bus import topics
from bus.envelope import Envelope, Stamp
from bus.errors import LogError
from bus.event_log import FileStore
from bus.events import (
    AssignmentEnded,
    Effect,
    Fact,
    JournalCut,
    PlanProposed,
    PlanRequested,
    ResultSubmitted,
    ReviewGiven,
    ReviewRequested,
    SubtaskAssigned,
    WorkFailed,
)
from bus.pubsub import Bus, Note, Received
from swarm.parts import Parts

REPLIES: dict[type[Fact], type[Fact]] = {
    SubtaskAssigned: ResultSubmitted,
    PlanRequested: PlanProposed,
    ReviewRequested: ReviewGiven,
}
LONGEST_TEXT = 65_536
"""Characters of a result's text; longer ones belong into a file."""

log = logging.getLogger("swarm.worker")


@dataclass(slots=True)
class Assignment:
    """One attempt in this worker's hands: the reporter of its effects."""

    envelope: Envelope
    reply_to: str
    bus: Bus
    stamp: Stamp
    waiting: dict[tuple[tuple[int, ...], int], asyncio.Future[int]] = field(default_factory=dict)

    async def tell(self, event: Effect) -> None:
        """Send an outcome."""
        await self.send(event)

    async def ask(self, event: Effect) -> int:
        """Send an intent and wait until it is recorded, and granted."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting[event.path, getattr(event, "number", 0)] = future
        await self.send(event)
        return await future

    async def send(self, event: Fact) -> None:
        """Send any event in answer to the request."""
        envelope = self.stamp(
            self.envelope.correlation_id, event, subject=self.envelope.subject, causation_id=self.envelope.id
        )
        await self.bus.publish(self.reply_to, envelope)

    def confirmed(self, path: tuple[int, ...], number: int, max_tokens: int) -> None:
        """Take the orchestrator's word that an intent is recorded."""
        future = self.waiting.pop((path, number), None)
        if future is not None and not future.done():
            future.set_result(max_tokens)


@dataclass(slots=True)
class Worker:
    """One agent: a role at work, on up to `slots` requests at once."""

    agent: str
    role: str
    parts: Parts
    bus: Bus
    stamp: Stamp
    files: FileStore
    work: Path
    """Below it lie the attempts' folders, as `RUN/REQUEST-ATTEMPT`."""
    elapsed_ms: Callable[[], int]
    """The running time of the run: bounds a model call by what its attempt has left."""
    slots: int = 8
    _leases: dict[str, tuple[Assignment, asyncio.Task[None]]] = field(default_factory=dict)

    async def run(self) -> None:
        """Announce the agent and work until cancelled."""
        requests, control = topics.agent_requests(self.agent), topics.agent_control(self.agent)
        async with (
            self.bus.subscribe(requests, control, capacity=4 * self.slots + 1024) as inbox,
            asyncio.TaskGroup() as group,
        ):
            card = Note("card", {"roles": (self.role,), "slots": self.slots})
            await self.bus.publish_note(topics.agent_card(self.agent), card, retain=True)
            try:
                async for received in inbox:
                    self._take(received, group)
                    received.acknowledge()
            finally:
                await self.bus.clear(topics.agent_card(self.agent))

    def _take(self, received: Received[Any], group: asyncio.TaskGroup) -> None:
        content = received.content
        if not isinstance(content, Note):
            attachments = received.attachments
            assignment = Assignment(received.envelope, attachments["reply_to"], self.bus, self.stamp)
            task = group.create_task(
                self._work(assignment, attachments["briefing"]), name=f"{self.agent} {received.envelope.subject}"
            )
            self._leases[received.envelope.id] = assignment, task
            return
        held = self._leases.get(content.fields.get("lease", ""))
        if held is None:
            return
        if content.kind == "recorded":
            fields = content.fields
            held[0].confirmed(tuple(fields["path"]), fields["number"], fields.get("max_tokens", 0))
        elif content.kind == "cancel":
            held[1].cancel()

    async def _work(self, assignment: Assignment, briefing: Briefing) -> None:
        """Bring one attempt to its reply, whatever happens in it."""
        try:
            while isinstance(end := await self._attempt(assignment, briefing), Parted):
                kept = briefing.journal[: end.records]
                attempt = cast("SubtaskAssigned", assignment.envelope.event).attempt
                await assignment.send(JournalCut(attempt=attempt, kept=kept[-1].sequence if kept else 0))
                briefing = replace(briefing, journal=without_parts(briefing.journal, end.records), forked=False)
            await assignment.send(end)
        finally:
            del self._leases[assignment.envelope.id]

    async def _attempt(self, assignment: Assignment, briefing: Briefing) -> Fact | Parted:
        """Run the role over the journal and beyond; return what follows from it."""
        envelope = assignment.envelope
        request = cast("PlanRequested | SubtaskAssigned | ReviewRequested", envelope.event)
        recorded = [cast("Effect", one.event) for one in briefing.journal]
        effects = Effects(recorded, assignment, course="fork" if briefing.forked else "live")
        root = self.work / f"{envelope.subject}-{request.attempt}"
        folder = AttemptFolder(root, self.files, briefing.base, briefing.start, briefing.left)
        try:
            deadline_s = max(1.0, (request.deadline_ms - self.elapsed_ms()) / 1000)
            means = self.parts.means(self.role)
            context = context_of(
                envelope, briefing, self.role, means, effects=effects, folder=folder, deadline_s=deadline_s
            )
            at_work = answer(self.parts.role(self.role), request, context)
            if briefing.forked:
                reply = await reply_of(effects, at_work)
            else:
                effects.enter()
                reply = await at_work
            return reply if isinstance(reply, Parted) else reply.model_copy(update={"effects": effects.count})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a failing role is an event, not a crash of the run
            return ending(error, envelope.id, effects.count)
        finally:
            await folder.remove()


def without_parts(journal: Sequence[Envelope], records: int) -> tuple[Envelope, ...]:
    """Return the first records of a journal, without those effects of which the rest is not among them."""
    parted = {cast("Effect", one.event).path for one in journal[records:]}
    return tuple(one for one in journal[:records] if cast("Effect", one.event).path not in parted)


def context_of(
    envelope: Envelope,
    briefing: Briefing,
    role: str,
    means: Means,
    *,
    effects: Effects,
    folder: AttemptFolder,
    deadline_s: float = 600.0,
) -> Context:
    """Return what a role is given for the attempt that a request event begins."""
    request = cast("PlanRequested | SubtaskAssigned | ReviewRequested", envelope.event)
    return Context(
        role=role,
        request=envelope.subject or "",
        attempt=request.attempt,
        feedback=getattr(request, "feedback", ()),
        briefing=briefing,
        means=means,
        effects=effects,
        folder=folder,
        instruction=request.subtask.instruction if isinstance(request, SubtaskAssigned) else "",
        deadline_s=deadline_s,
    )


async def answer(role: Role[Any, Any], request: Fact, context: Context) -> Any:  # noqa: ANN401 - checked here
    """Return a role's reply with its files. Raises `ToolFailed` for one that is none; what the role raises passes."""
    reply = await role.handle(request, context)
    wanted = REPLIES[type(request)]
    if not isinstance(reply, wanted):
        raise ToolFailed(f"role {context.role!r} answered {type(reply).__name__} where {wanted.__name__} is wanted")
    if isinstance(reply, ResultSubmitted):
        if len(reply.text) > LONGEST_TEXT:
            raise ToolFailed(f"the result's text has {len(reply.text)} characters; put long results into a file")
        files = await context.changes()
        return reply if reply.files == files else reply.model_copy(update={"files": files})
    return reply


KINDS: Mapping[type[Exception], str] = {
    AnswerUnusable: "answer",
    ModelFailed: "model",
    StuckRepeating: "no_progress",
    ToolFailed: "tool",
    SandboxUnavailable: "sandbox",
    CheckBroken: "tool",
}
PAUSING = (RunMustPause, ModelUnavailable, LogError, Diverged)
CHANGED = (
    "Its code or prompt has changed since, or it does not do the same each time. Put it back as it was and resume the "
    "run; or go on with the changed one from an event before that: `swarm fork RUN --at N`."
)
NOT_RETRYABLE = (CheckBroken, SandboxUnavailable)


def ending(error: Exception | SystemExit, lease: str, effects: int) -> AssignmentEnded | WorkFailed:
    """Return what follows from a role's exception: the run pauses where a part of it is missing."""
    raised = leaves(error)
    for one in raised:
        if isinstance(one, PAUSING):
            why = f"{one}\n{CHANGED}" if isinstance(one, Diverged) else str(one)
            return AssignmentEnded(lease=lease, why=why, pause=why)
    return failure(raised[0], effects)


def leaves(error: Exception | SystemExit) -> list[Exception | SystemExit]:
    """Return what was raised in the tasks of a role's groups; the error itself if it is no group."""
    if not isinstance(error, ExceptionGroup):
        return [error]
    return [leaf for one in error.exceptions for leaf in leaves(one)]


def failure(error: Exception | SystemExit, effects: int) -> WorkFailed:
    """Return what a role's exception means for its attempt."""
    kind = next((name for base, name in KINDS.items() if isinstance(error, base)), "error")
    reason = str(error) or type(error).__name__
    if kind == "error":
        reason = f"{type(error).__name__}: {reason}"
        log.warning("role raised", extra={"error": reason, "where": "".join(traceback.format_exception(error))})
    retryable = getattr(error, "retryable", not isinstance(error, NOT_RETRYABLE))
    if isinstance(error, AnswerUnusable) and error.kind == "refused":
        retryable = False  # not repeated as it was: the planner is told
    return WorkFailed(reason=reason[:4000], kind=cast("Any", kind), retryable=retryable, effects=effects)
