"""One attempt of a role, gone through once: what the role is given, what its answer must be, what its errors mean.

The same for a role at work (`worker.py`) and for one that is gone through again (`replay.py`).
"""

import logging
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from agents.briefing import Briefing
from agents.context import Context, Means
from agents.effects import Effects
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
from bus.codec import in_unicode, prove
from bus.envelope import Envelope
from bus.errors import BadEnvelope, BusUnavailable, Damaged, LogError, NotHeld, Refused, StorageFailed, is_out_of_files
from bus.events import (
    AssignmentEnded,
    Effect,
    Fact,
    PlanProposed,
    PlanRequested,
    Request,
    ResultSubmitted,
    ReviewGiven,
    ReviewRequested,
    SubtaskAssigned,
    WorkFailed,
)
from bus.raised_at import raised_at
from swarm.errors import MissingPart
from swarm.raised import leaves

REPLIES: dict[type[Fact], type[Fact]] = {
    SubtaskAssigned: ResultSubmitted,
    PlanRequested: PlanProposed,
    ReviewRequested: ReviewGiven,
}
LONGEST_TEXT = 65_536
"""Characters of a result's text; longer ones belong into a file."""
_LONGEST_REASON = 4_000

log = logging.getLogger("swarm.worker")


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
    request = cast("Request", envelope.event)
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
        reviews=isinstance(request, ReviewRequested),
        deadline_s=deadline_s,
    )


async def answer(role: Role[Any, Any], request: Fact, context: Context) -> Any:  # noqa: ANN401 - checked here
    """Return a role's reply with its files. Raises `ToolFailed` for one that is none, or cannot be written.

    What the role raises passes.
    """
    reply = await role.handle(request, context)
    wanted = REPLIES[type(request)]
    if not isinstance(reply, wanted):
        raise ToolFailed(f"role {context.role!r} answered {type(reply).__name__} where {wanted.__name__} is wanted")
    try:
        prove(reply)
    except BadEnvelope as error:
        raise ToolFailed(f"role {context.role!r} answered what no log can hold: {error}") from error
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
    Refused: "files",  # more than a hub takes of one lease: another agent would bring as much
    SandboxUnavailable: "sandbox",
    CheckBroken: "tool",
}
PAUSING = (RunMustPause, ModelUnavailable, MissingPart, LogError, Diverged)
CHANGED = (
    "Its code or prompt has changed since, or it does not do the same each time. Put it back as it was and resume the "
    "run; or go on with the changed one from an event before that: `swarm fork RUN --at N`."
)
NOT_RETRYABLE = (CheckBroken, SandboxUnavailable)


def ending(
    error: Exception | SystemExit, lease: str, effects: int, *, root: Path | None = None, alone: bool = False
) -> AssignmentEnded | WorkFailed:
    """Return what follows from a role's exception: the run pauses where a part of it is missing.

    `root`: the attempt's folder. `alone`: the agent has a disk and a connection of its own; what fails there is for
    another agent, not for a person.
    """
    raised = [_of_the_system(one) for one in leaves(error)]
    for one in raised:
        said = in_unicode(str(one))
        if isinstance(one, NotHeld):
            return AssignmentEnded(lease=lease, why=said[:4000], kind="not_held")
        if alone and isinstance(one, StorageFailed | BusUnavailable | Damaged):
            return AssignmentEnded(lease=lease, why=said[:4000])
        if isinstance(one, PAUSING):
            why = f"{said}\n{CHANGED}" if isinstance(one, Diverged) else said
            return AssignmentEnded(lease=lease, why=why, pause=why)
    return failure(raised[0], effects, root)


def _of_the_system(error: BaseException) -> BaseException:
    """Return an error as it is, or as `StorageFailed` where too many files are open: no attempt would do better."""
    if isinstance(error, OSError) and is_out_of_files(error):
        return StorageFailed(f"{error.strerror}: raise `ulimit -n`, or run less at once.")
    return error


def failure(error: BaseException, effects: int, root: Path | None = None) -> WorkFailed:
    """Return what a role's exception means for its attempt.

    Paths in its folder are told as within it: the folder is another one each time, and gone when this is read.
    """
    kind = next((name for base, name in KINDS.items() if isinstance(error, base)), "error")
    said = in_unicode(str(error)) or type(error).__name__
    reason = (said if root is None else said.replace(f"{root}/", ""))[:_LONGEST_REASON]
    if kind == "error":
        place = raised_at(error)
        reason = f"{type(error).__name__}: {reason}"[: _LONGEST_REASON - len(place)] + place
        log.warning("role raised %s", reason, extra={"where": "".join(traceback.format_exception(error))})
    retryable = getattr(error, "retryable", not isinstance(error, NOT_RETRYABLE))
    if isinstance(error, AnswerUnusable) and error.kind == "refused":
        retryable = False  # not repeated as it was: the planner is told
    return WorkFailed(reason=reason, kind=cast("Any", kind), retryable=retryable, effects=effects)
