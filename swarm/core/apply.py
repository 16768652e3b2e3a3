"""`apply(state, envelope)`: what each event does to the state of its run. In place, and nowhere else."""

from typing import assert_never, cast

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


def apply(state: RunState, envelope: Envelope) -> None:  # noqa: C901, PLR0912, PLR0915 - one case an event
    """Change the state by one recorded event. The event has passed `admit` or comes from `decide`."""
    state.position = envelope.sequence
    state.elapsed_ms = envelope.elapsed_ms
    event = cast("Event", envelope.event)
    match event:  # the frequent ones first: each class asked in vain takes a tenth of a microsecond
        case ModelAsked():
            leases.model_asked(state, envelope, event)
        case ModelAnswered() | ModelTryFailed():
            leases.model_told(state, envelope, event)
        case ToolReturned():
            leases.tool_returned(state, envelope, event)
        case ToolCalled():
            leases.tool_called(state, envelope, event)
        case SubtaskAssigned() | ReviewRequested() | PlanRequested():
            leases.hand_out(state, envelope, event)
        case ResultSubmitted():
            results.result(state, envelope, event)
        case FilesMerged():
            results.merge(state, event)
        case CheckEnded() | CheckStarted() | ValueDrawn():
            leases.read_effect(state, envelope, event)
        case ReviewGiven():
            results.review(state, envelope, event)
        case CallGranted():
            state.ledger.grant((envelope.subject or "", event.attempt, event.path, event.number), event.max_tokens)
        case CallRefused():
            state.ledger.drop((envelope.subject or "", event.attempt, event.path, event.number))
            state.call_refused = event.reason
        case DoubtSettled():
            doubts.settle(state, event)
            if event.verdict == "fail":
                results.give_up(state, event)
        case WorkFailed():
            results.failure(state, envelope, event)
        case PlanProposed():
            plans.proposal(state, envelope, event)
        case MergeTried():
            state.tried = event
        case FilesConflicted():
            results.conflict(state, event)
        case PlanRefused():
            plans.refusal(state, event)
        case NoProgressNoticed():
            results.no_progress(state, event)
        case AgentJoined():
            leases.agent_joined(state, event)
        case AgentLeft():
            leases.agent_left(state, event.agent)
        case AssignmentEnded():
            leases.assignment_ended(state, event)
        case TimePassed():
            pass  # the running time in the envelope says it
        case RunMoved():
            pass  # all that was under way goes on under its leases
        case CancelAsked():
            state.cancelled = event.reason
        case GoalSubmitted():
            _begin(state, event)
        case RunPaused():
            state.status, state.paused, state.pause_wanted = "paused", event, None
            state.ledger.settle_all_unproven()
        case RunResumed():
            _resume(state, event)
        case RunForked():
            _fork(state, event)
        case JournalCut():
            leases.cut_journal(state, envelope, event)
        case GoalAccepted():
            state.status, state.ended = "accepted", event
            state.ledger.settle_all_unproven()
        case GoalFailed():
            state.status, state.ended = "failed", event
            state.ledger.settle_all_unproven()
        case _:
            assert_never(event)


def _begin(state: RunState, event: GoalSubmitted) -> None:
    state.status = "running"
    state.setup = event.setup
    state.limits = event.setup.limits
    state.out = event.out
    state.ledger = Ledger(state.limits)
    state.workspace = {ref.path: ref for ref in event.workspace}
    state.tree = dict(state.workspace)
    if event.setup.plan is None:
        plans.want_plan(state, ())


def _resume(state: RunState, event: RunResumed) -> None:
    if state.ended is not None and state.ended.files:
        state.handed_over += 1
    if event.changes:
        _limit(state, Limits.model_validate(state.limits.model_dump() | event.changes))
    _go_on(state)


def _fork(state: RunState, event: RunForked) -> None:
    state.setup, state.out, state.handed_over, state.parent = event.setup, event.out, 0, event.parent
    _limit(state, event.setup.limits)
    for work in state.works.values():
        work.forked = bool(work.journal)
    if event.changes and state.all_accepted:
        subtasks.review_again(state)
    _go_on(state)


def _limit(state: RunState, limits: Limits) -> None:
    state.limits = state.ledger.limits = limits


def _go_on(state: RunState) -> None:
    """Run again, with agents that are still to come."""
    state.status, state.paused, state.ended = "running", None, None
    state.call_refused = state.pause_wanted = state.cancelled = None
    for agent in list(state.agents):
        leases.agent_left(state, agent)
    results.go_on(state)
