"""What is late, doubled, out of lease or out of order is not recorded.

Whoever sends is not trusted: a reply counts only under the lease that was given for that request, an answer only after
its question was recorded and granted, a result only once all of its effects are in the log.
"""

from collections.abc import Sequence
from enum import Enum
from typing import cast

from agents.files.names import SideBySide, fault_of_kept
from bus.codec import LARGEST_EXACT
from bus.envelope import Envelope
from bus.events import (
    AgentJoined,
    AgentLeft,
    AssignmentEnded,
    CancelAsked,
    CheckEnded,
    CheckStarted,
    DoubtSettled,
    Event,
    JournalCut,
    MergeTried,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    PlanProposed,
    ResultSubmitted,
    ReviewGiven,
    RunMoved,
    RunPaused,
    RunResumed,
    TimePassed,
    ToolCalled,
    ToolReturned,
    ValueDrawn,
    WorkFailed,
)
from bus.setup import FileChange
from swarm.core.decide import next_deadline
from swarm.core.doubts import doubts
from swarm.core.meetings import answers
from swarm.core.state import RunState, Work


class Admission(Enum):
    """What becomes of an envelope that came in."""

    RECORD = "record"
    REPEATED = "repeated"
    """It stands in the log already; its sender may have missed our word, so it is confirmed again."""
    ENDED = "the run is not running"
    LATE = "its lease is not held"
    EARLY = "what it builds on is not recorded"
    WRONG = "it is no answer to that request"
    UNUSABLE = "it names a file that could not be laid out for others: its path is not one, or in another's way"


REPLY_TO = {PlanProposed: "plan", ResultSubmitted: "subtask", ReviewGiven: "review"}


def admit(state: RunState, envelope: Envelope) -> Admission:  # noqa: C901, PLR0911, PLR0912 - one case a kind of event
    """Tell whether an envelope from outside may be recorded now. Events of `decide` need no admission."""
    event = cast("Event", envelope.event)
    if not state.running and not isinstance(event, RunResumed | DoubtSettled | CancelAsked):
        return Admission.ENDED
    work = _held(state, envelope, event)
    if work is not None and not _are_exact(event):
        return Admission.WRONG
    if work is not None and isinstance(event, ToolReturned | ResultSubmitted) and not _can_be_laid_out(event.files):
        return Admission.UNUSABLE
    match event:  # the frequent ones first: each class asked in vain takes a tenth of a microsecond
        case ModelAsked() | ModelAnswered() | ModelTryFailed():
            return Admission.LATE if work is None else _model(state, work, event)
        case ToolReturned() | ToolCalled() | CheckStarted() | CheckEnded() | ValueDrawn() | JournalCut():
            return Admission.LATE if work is None else _effect(state, work, event)
        case ResultSubmitted() | ReviewGiven() | PlanProposed() | WorkFailed():
            return Admission.LATE if work is None else _reply(work, event)
        case AgentJoined():
            return _joined(state, event)
        case AgentLeft():
            return Admission.RECORD if event.agent in state.agents else Admission.LATE
        case AssignmentEnded():
            return Admission.RECORD if event.lease in state.leases else Admission.LATE
        case TimePassed():
            due = next_deadline(state)
            return Admission.RECORD if due is not None and due <= envelope.elapsed_ms else Admission.EARLY
        case RunPaused() | RunMoved():
            return Admission.RECORD
        case CancelAsked():
            return Admission.RECORD if state.status in {"running", "paused"} else Admission.ENDED
        case MergeTried():
            return Admission.RECORD if answers(state, event) else Admission.LATE
        case RunResumed() | DoubtSettled():
            return _from_a_person(state, event)
        case _:
            return Admission.LATE if work is None else Admission.WRONG


def _held(state: RunState, envelope: Envelope, event: Event) -> Work | None:
    """Return the request under whose lease an envelope came; None where that does not count any more."""
    work = state.under(envelope.causation_id)
    if work is None or work.request != envelope.subject:
        return None
    if work.lease is None and isinstance(event, ModelAsked | ToolCalled | CheckStarted):
        return None  # what it did counts; what it would do is for the next agent
    return work


def turn(state: RunState, lease: str | None, ordinal: int) -> Admission:
    """Tell whether it is the turn of a message: an agent numbers what it sends under a lease from 1 on.

    What is lost on the way, doubled or overtaken can then neither hide nor change the order of what an attempt did.
    """
    work = state.under(lease)
    if work is None:
        return Admission.LATE
    if ordinal == work.heard + 1:
        return Admission.RECORD
    return Admission.REPEATED if ordinal <= work.heard else Admission.EARLY


def _are_exact(event: Event) -> bool:
    """Tell whether what an agent says of amounts and places can be added up, and read by everybody."""
    match event:
        case ModelAsked():
            numbers = (event.number, event.keeps, event.input_bound, event.max_tokens, *event.path)
        case ModelAnswered():
            numbers = (event.usage.input, event.usage.output, event.usage.cached, *event.path)
        case ModelTryFailed():
            numbers = (event.wait_ms or 0, *event.path)
        case ToolReturned():
            numbers = (*(one.bytes for one in (*event.files, event.whole) if one is not None), *event.path)
        case ToolCalled() | CheckStarted() | CheckEnded() | ValueDrawn():
            numbers = event.path
        case ResultSubmitted():
            numbers = tuple(change.bytes for change in event.files)
        case JournalCut():
            numbers = (event.kept,)
        case _:
            return True
    return min(numbers, default=0) >= 0 and max(numbers, default=0) <= LARGEST_EXACT


def _can_be_laid_out(changes: Sequence[FileChange]) -> bool:
    """Tell whether the files that changes make can lie in a folder: else no attempt or hand-over could have any."""
    made = {change.path for change in changes if change.sha256 is not None}
    return not any(map(fault_of_kept, made)) and not SideBySide(()).add(sorted(made))


def _joined(state: RunState, event: AgentJoined) -> Admission:
    known = state.agents.get(event.agent)
    if known is None:
        return Admission.RECORD
    same = (known.roles, known.slots, known.versions) == (event.roles, event.slots, event.versions)
    return Admission.REPEATED if same and not known.declined else Admission.RECORD


def _from_a_person(state: RunState, event: RunResumed | DoubtSettled) -> Admission:
    """Judge what goes before a run is gone on with; that run may seem to be running, where its process was killed."""
    if isinstance(event, RunResumed):
        return Admission.RECORD
    open_doubts = {(one.request, one.call.digest) for one in doubts(state, leases_end=True)}
    return Admission.RECORD if (event.request, event.digest) in open_doubts else Admission.LATE


def _reply(work: Work, event: PlanProposed | ResultSubmitted | ReviewGiven | WorkFailed) -> Admission:
    if not isinstance(event, WorkFailed) and REPLY_TO[type(event)] != work.kind:
        return Admission.WRONG
    return Admission.RECORD if event.effects == len(work.journal) else Admission.EARLY


def _model(state: RunState, work: Work, event: ModelAsked | ModelAnswered | ModelTryFailed) -> Admission:
    if event.attempt != work.attempt:
        return Admission.LATE
    if (type(event).__name__, event.path, event.number) in work.journal:
        return Admission.REPEATED
    key = (work.request, event.attempt, event.path, event.number)
    if isinstance(event, ModelAsked):
        if event.max_tokens < 1:
            return Admission.WRONG
        before = ("ModelAsked", event.path, event.number - 1)
        return Admission.RECORD if event.number == 1 or before in work.journal else Admission.EARLY
    return Admission.RECORD if key in state.ledger.reserved else Admission.EARLY


def _effect(
    state: RunState, work: Work, event: JournalCut | ToolCalled | ToolReturned | CheckStarted | CheckEnded | ValueDrawn
) -> Admission:
    if event.attempt != work.attempt:
        return Admission.LATE
    if isinstance(event, JournalCut):
        return Admission.RECORD if work.forked else Admission.WRONG
    kind = type(event).__name__
    if (kind, event.path, 0) in work.journal:
        return Admission.REPEATED
    if isinstance(event, ToolCalled | ToolReturned) and not _granted(state, work, event.tool):
        return Admission.WRONG
    if isinstance(event, ToolReturned) and event.files and ("ToolCalled", event.path, 0) not in work.journal:
        return Admission.EARLY
    return Admission.RECORD


def _granted(state: RunState, work: Work, tool: str) -> bool:
    role = state.role(work.role)
    return role is not None and (
        (role.brought and not role.tools) or tool in {name.rpartition(":")[2] for name in role.tools}
    )
