"""`apply(state, envelope)`: what each event does to the state of its run. In place, and nowhere else."""

from collections.abc import Callable
from typing import Any, assert_never, cast

from bus.envelope import Envelope
from bus.events import (
    AgentJoined,
    AgentLeft,
    AssignmentEnded,
    CallGranted,
    CallRefused,
    CancelAsked,
    CheckEnded,
    CheckStarted,
    DoubtSettled,
    Event,
    Fact,
    FilesConflicted,
    FilesMerged,
    GoalAccepted,
    GoalFailed,
    GoalSubmitted,
    JournalCut,
    MergeTried,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    NoProgressNoticed,
    PlanProposed,
    PlanRefused,
    PlanRequested,
    ResultSubmitted,
    ReviewGiven,
    ReviewRequested,
    RunForked,
    RunMoved,
    RunPaused,
    RunResumed,
    SubtaskAssigned,
    TimePassed,
    ToolCalled,
    ToolReturned,
    ValueDrawn,
    WorkFailed,
)
from bus.setup import Limits
from swarm.core import doubts, leases, plans, results, subtasks
from swarm.core.limits import Ledger
from swarm.core.state import RunState

Change = Callable[[RunState, Envelope, Any], None]
"""What a kind of event does to the state; it gets events of that kind only."""

_CHANGES: dict[type[Fact], Change] = {}
"""`_change_by` by class: asked once a class, since each class that a `match` asks in vain takes a fifth of applying."""


def apply(state: RunState, envelope: Envelope) -> None:
    """Change the state by one recorded event. The event has passed `admit` or comes from `decide`."""
    state.position = envelope.sequence
    state.elapsed_ms = envelope.elapsed_ms
    event = envelope.event
    change = _CHANGES.get(type(event))
    if change is None:
        change = _CHANGES[type(event)] = _change_by(cast("Event", event))
    change(state, envelope, event)


def _change_by(event: Event) -> Change:  # noqa: C901, PLR0911, PLR0912 - one case an event
    """Return what events like this one do."""
    match event:
        case ModelAsked():
            return leases.model_asked
        case ModelAnswered() | ModelTryFailed():
            return leases.model_told
        case ToolReturned():
            return leases.tool_returned
        case ToolCalled():
            return leases.tool_called
        case CheckEnded() | CheckStarted() | ValueDrawn():
            return leases.read_effect
        case SubtaskAssigned() | ReviewRequested() | PlanRequested():
            return leases.hand_out
        case ResultSubmitted():
            return results.result
        case ReviewGiven():
            return results.review
        case WorkFailed():
            return results.failure
        case FilesMerged():
            return results.merge
        case FilesConflicted():
            return results.conflict
        case NoProgressNoticed():
            return results.no_progress
        case PlanProposed():
            return plans.proposal
        case PlanRefused():
            return plans.refusal
        case CallGranted():
            return _grant
        case CallRefused():
            return _refuse
        case DoubtSettled():
            return _settle
        case MergeTried():
            return _tried
        case AgentJoined():
            return leases.agent_joined
        case AgentLeft():
            return _leave
        case AssignmentEnded():
            return leases.assignment_ended
        case TimePassed() | RunMoved():  # the running time in the envelope says it; what is under way goes on
            return _nothing
        case CancelAsked():
            return _cancel
        case GoalSubmitted():
            return _begin
        case RunPaused():
            return _pause
        case RunResumed():
            return _resume
        case RunForked():
            return _fork
        case JournalCut():
            return leases.cut_journal
        case GoalAccepted() | GoalFailed():
            return _end
        case _:
            assert_never(event)


def _begin(state: RunState, _: Envelope, event: GoalSubmitted) -> None:
    state.status = "running"
    state.setup = event.setup
    state.limits = event.setup.limits
    state.out = event.out
    state.ledger = Ledger(state.limits)
    state.workspace = {ref.path: ref for ref in event.workspace}
    state.tree = dict(state.workspace)
    if event.setup.plan is None:
        plans.want_plan(state, ())


def _pause(state: RunState, _: Envelope, event: RunPaused) -> None:
    state.status, state.paused = "paused", event
    state.ledger.settle_all_unproven()


def _resume(state: RunState, _: Envelope, event: RunResumed) -> None:
    if state.ended is not None and state.ended.files:
        state.handed_over += 1
    if event.changes:
        _limit(state, Limits.model_validate(state.limits.model_dump() | event.changes))
    _go_on(state)


def _fork(state: RunState, _: Envelope, event: RunForked) -> None:
    state.setup, state.out, state.handed_over, state.parent = event.setup, event.out, 0, event.parent
    _limit(state, event.setup.limits)
    for work in state.works.values():
        work.forked = bool(work.journal)
    if event.changes and state.all_accepted:
        subtasks.review_again(state)
    _go_on(state)


def _end(state: RunState, _: Envelope, event: GoalAccepted | GoalFailed) -> None:
    state.status = "accepted" if isinstance(event, GoalAccepted) else "failed"
    state.ended = event
    state.ledger.settle_all_unproven()


def _grant(state: RunState, envelope: Envelope, event: CallGranted) -> None:
    state.ledger.grant((envelope.subject or "", event.attempt, event.path, event.number), event.max_tokens)


def _refuse(state: RunState, envelope: Envelope, event: CallRefused) -> None:
    state.ledger.drop((envelope.subject or "", event.attempt, event.path, event.number))
    state.call_refused = event.reason


def _settle(state: RunState, _: Envelope, event: DoubtSettled) -> None:
    doubts.settle(state, event)
    if event.verdict == "fail":
        results.give_up(state, event)


def _tried(state: RunState, _: Envelope, event: MergeTried) -> None:
    state.tried = event


def _leave(state: RunState, _: Envelope, event: AgentLeft) -> None:
    leases.agent_left(state, event.agent)


def _cancel(state: RunState, _: Envelope, event: CancelAsked) -> None:
    state.cancelled = event.reason


def _nothing(state: RunState, _: Envelope, event: TimePassed | RunMoved) -> None:
    """Change nothing."""


def _limit(state: RunState, limits: Limits) -> None:
    state.limits = state.ledger.limits = limits


def _go_on(state: RunState) -> None:
    """Run again, with agents that are still to come."""
    state.status, state.paused, state.ended = "running", None, None
    state.call_refused = state.pause_wanted = state.cancelled = None
    for agent in list(state.agents):
        leases.agent_left(state, agent)
    results.go_on(state)
