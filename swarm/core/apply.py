"""`apply(state, envelope)`: what each event does to the state of its run. In place, and nowhere else."""

import hashlib
import heapq
from collections import deque
from typing import assert_never, cast

from agents.briefing import Deed
from bus.envelope import Envelope
from bus.events import (
    AgentJoined,
    AgentLeft,
    AssignmentEnded,
    CallGranted,
    CallRefused,
    CheckEnded,
    CheckStarted,
    Effect,
    Event,
    FilesConflicted,
    FilesMerged,
    GoalAccepted,
    GoalFailed,
    GoalSubmitted,
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
    RunPaused,
    RunResumed,
    SubtaskAssigned,
    TimePassed,
    ToolCalled,
    ToolReturned,
    ValueDrawn,
    WorkFailed,
)
from bus.setup import Limits, Subtask
from swarm.core import plan, tree
from swarm.core.limits import Ledger, call_of
from swarm.core.state import AgentState, RunState, Status, Stuck, SubtaskState, Work

PRIORITY = {"plan": 0, "review": 1, "subtask": 2}
"""What is handed out first: begun work is finished before new work is begun."""

FEEDBACK_KEPT = 3
BEFORE_ALL_NEW = 1 << 40
"""Requests that were handed out once come before all that never were."""


def apply(state: RunState, envelope: Envelope) -> None:  # noqa: C901, PLR0912, PLR0915 - one case an event
    """Change the state by one recorded event. The event has passed `admit` or comes from `decide`."""
    state.position = envelope.sequence
    state.elapsed_ms = envelope.elapsed_ms
    event = cast("Event", envelope.event)
    match event:
        case ModelAsked() | ModelAnswered() | ModelTryFailed():
            _model(state, envelope, event)
        case ToolCalled() | ToolReturned() | CheckStarted() | CheckEnded() | ValueDrawn():
            work = state.leases[envelope.causation_id or ""]
            _note_effect(work, envelope, event)
            if isinstance(event, ToolCalled | ToolReturned):
                _note_tool(state, work, event)
        case SubtaskAssigned() | PlanRequested() | ReviewRequested():
            _hand_out(state, envelope, event)
        case ResultSubmitted():
            _result(state, envelope, event)
        case ReviewGiven():
            _review(state, envelope, event)
        case WorkFailed():
            _failure(state, envelope, event)
        case PlanProposed():
            _proposal(state, envelope, event)
        case FilesMerged():
            _merge(state, event)
        case FilesConflicted():
            _conflict(state, event)
        case CallGranted():
            state.ledger.grant((envelope.subject or "", event.attempt, event.path, event.number), event.max_tokens)
        case CallRefused():
            state.ledger.drop((envelope.subject or "", event.attempt, event.path, event.number))
            state.call_refused = event.reason
        case PlanRefused():
            _refusal(state, event)
        case NoProgressNoticed():
            _no_progress(state, event)
        case AgentJoined():
            state.agents[event.agent] = AgentState(event.agent, event.roles, event.slots)
        case AgentLeft():
            _agent_left(state, event.agent)
        case AssignmentEnded():
            _take_back(state, state.leases[event.lease])
            state.pause_wanted = event.pause
        case TimePassed():
            pass  # the running time in the envelope says it
        case GoalSubmitted():
            _begin(state, event)
        case RunPaused():
            state.status, state.paused, state.pause_wanted = "paused", event, None
        case RunResumed():
            _resume(state, event)
        case GoalAccepted():
            state.status, state.ended = "accepted", event
        case GoalFailed():
            state.status, state.ended = "failed", event
        case _:
            assert_never(event)


# The run


def _begin(state: RunState, event: GoalSubmitted) -> None:
    state.status = "running"
    state.setup = event.setup
    state.limits = event.setup.limits
    state.out = event.out
    state.ledger = Ledger(state.limits)
    state.workspace = {ref.path: ref for ref in event.workspace}
    state.tree = dict(state.workspace)
    if event.setup.plan is None:
        _want_plan(state, ())


def _resume(state: RunState, event: RunResumed) -> None:
    if state.ended is not None and state.ended.files:
        state.handed_over += 1
    state.status, state.paused, state.ended = "running", None, None
    state.call_refused = state.pause_wanted = None
    if event.changes:
        state.limits = Limits.model_validate(state.limits.model_dump() | event.changes)
        state.ledger.limits = state.limits
    for agent in list(state.agents):
        _agent_left(state, agent)
    _go_on(state)


# Agents and leases


def _want(state: RunState, work: Work) -> None:
    """Put a request where the next free agent of its role finds it."""
    state.works[work.request] = work
    state.arrivals += 1
    entry = (PRIORITY[work.kind], work.order or BEFORE_ALL_NEW + state.arrivals, work.request)
    heapq.heappush(state.wanted.setdefault(work.role, []), entry)


def _hand_out(state: RunState, envelope: Envelope, event: SubtaskAssigned | PlanRequested | ReviewRequested) -> None:
    work = state.works[envelope.subject or ""]
    heapq.heappop(state.wanted[work.role])
    work.order = work.order or envelope.sequence
    work.lease, work.agent, work.deadline_ms = envelope.id, event.agent, event.deadline_ms
    # What an earlier lease asked and never told is not coming any more.
    for key in work.open_calls:
        state.ledger.settle_unproven(key)
    work.open_calls.clear()
    state.leases[envelope.id] = work
    state.agents[event.agent].busy += 1
    state.at_work[work.role] = state.at_work.get(work.role, 0) + 1
    heapq.heappush(state.deadlines, (event.deadline_ms, envelope.id))
    if isinstance(event, SubtaskAssigned):
        subtask = state.subtasks[event.subtask.id]
        subtask.status, subtask.attempts, subtask.order = Status.WORKING, event.attempt, work.order
        state.assigned.add(event.subtask.id)


def _free(state: RunState, work: Work) -> None:
    """End a lease: its agent has a slot again."""
    if work.lease is None:
        return
    del state.leases[work.lease]
    agent = state.agents.get(work.agent or "")
    if agent is not None:
        agent.busy -= 1
    state.at_work[work.role] -= 1
    work.lease = work.agent = None
    while state.deadlines and state.deadlines[0][1] not in state.leases:
        heapq.heappop(state.deadlines)


def _close(state: RunState, work: Work) -> None:
    """End a request: it has its reply, or nobody wants it any more."""
    for key in work.open_calls:
        state.ledger.settle_unproven(key)
    wanted = work.lease is None
    _free(state, work)
    del state.works[work.request]
    if wanted:
        heap = state.wanted[work.role]
        heap[:] = [entry for entry in heap if entry[2] != work.request]
        heapq.heapify(heap)


def _take_back(state: RunState, work: Work) -> None:
    """Offer the same attempt to another agent."""
    _free(state, work)
    if work.subtask is not None and work.kind == "subtask":
        state.subtasks[work.subtask].status = Status.READY
    _want(state, work)


def _agent_left(state: RunState, agent: str) -> None:
    del state.agents[agent]
    for work in [work for work in state.leases.values() if work.agent == agent]:
        _take_back(state, work)


# Effects


def _note_effect(work: Work, envelope: Envelope, event: Effect) -> None:
    work.journal.append(envelope)
    work.seen.add((type(event).__name__, event.path, getattr(event, "number", 0)))


def _note_tool(state: RunState, work: Work, event: ToolCalled | ToolReturned) -> None:
    """Remember what was done to the outside world over all attempts of a subtask."""
    if isinstance(event, ToolCalled):
        if event.outward:
            work.outward.add(event.path)
        return
    state.tool_calls += 1
    if event.path in work.outward:
        work.outward.discard(event.path)
        if not event.error and work.kind == "subtask":
            deed = Deed(event.tool, event.arguments, event.output)
            state.subtasks[work.subtask or ""].outward[event.digest] = deed


def _model(state: RunState, envelope: Envelope, event: ModelAsked | ModelAnswered | ModelTryFailed) -> None:
    work = state.leases[envelope.causation_id or ""]
    _note_effect(work, envelope, event)
    key = (work.request, event.attempt, event.path, event.number)
    if isinstance(event, ModelAsked):
        setup = state.setup
        price = setup.roles[work.role].price if setup else None
        work.open_calls.add(key)
        state.ledger.ask(call_of(event, work.request, work.order, price))
        return
    work.open_calls.discard(key)
    if isinstance(event, ModelAnswered):
        state.ledger.settle(key, event.usage)
    elif event.unproven:
        state.ledger.settle_unproven(key)
    else:
        state.ledger.settle_at_zero(key)


# Plans


def _want_plan(state: RunState, feedback: tuple[str, ...]) -> None:
    state.plan_number += 1
    _want(
        state,
        Work(f"plan-{state.plan_number}", "plan", "planner", 1, feedback=feedback, round=state.round),
    )


def _proposal(state: RunState, envelope: Envelope, event: PlanProposed) -> None:
    if envelope.causation_id in state.leases:
        _close(state, state.leases[envelope.causation_id])
    digest = hashlib.sha256(event.__pydantic_serializer__.to_json(event, include={"subtasks"})).hexdigest()
    setup = state.setup
    found = plan.faults(event.subtasks, setup, assigned=state.assigned) if setup else []
    if digest in state.tried_plans:
        state.notice = NoProgressNoticed(what="plan", detail="this plan was proposed before and did not work")
        found = ["this very plan was tried before and did not work; find another way"]
    state.tried_plans.add(digest)
    if found:
        state.refused_plan = tuple(found)
    else:
        _adopt(state, event.subtasks)


def _refusal(state: RunState, event: PlanRefused) -> None:
    state.refused_plan = ()
    state.refusals += 1
    if state.refusals >= state.limits.attempts or state.plan_repeats > 1:
        kind = "no_progress" if state.plan_repeats > 1 else "plan"
        state.stuck = Stuck(kind, f"no plan that can work was found: {'; '.join(event.reasons)}", final=True)  # type: ignore[arg-type]
    else:
        _want_plan(state, event.reasons)


def _adopt(state: RunState, subtasks: tuple[Subtask, ...]) -> None:
    """Make a plan the present one; accepted work that it keeps as it was stays accepted."""
    before = state.subtasks
    specs = {spec.id: spec for spec in subtasks}
    kept: set[str] = set()
    for name in state.accepted_order:  # needs were accepted before what needs them
        spec = specs.get(name)
        if spec is not None and spec == before[name].spec and kept.issuperset(spec.needs):
            kept.add(name)
    for name, old in before.items():
        if old.status in {Status.WORKING, Status.READY, Status.REVIEWED}:
            _drop_works_of(state, name)
    lost = [name for name in state.accepted_order if name not in kept]
    state.tree, state.changed_by = tree.merged(state, without=lost)
    state.accepted_order = [name for name in state.accepted_order if name in kept]
    state.to_merge = deque(name for name in state.to_merge if name in kept)
    state.refusals = 0
    state.needed_by = plan.dependents(specs)
    state.not_accepted = len(specs) - len(kept)
    state.subtasks = {
        spec.id: before[spec.id] if spec.id in kept else _fresh(spec, before.get(spec.id)) for spec in subtasks
    }
    for name, subtask in state.subtasks.items():
        subtask.unmet = sum(need not in kept for need in subtask.spec.needs)
        if name not in kept and subtask.unmet == 0:
            _ready(state, subtask)
    _after_acceptance(state)


def _fresh(spec: Subtask, old: SubtaskState | None) -> SubtaskState:
    if old is None:
        return SubtaskState(spec)
    return SubtaskState(spec, attempts=old.attempts, uncounted=old.attempts, outward=old.outward)


def _ready(state: RunState, subtask: SubtaskState) -> None:
    subtask.status = Status.READY
    spec = subtask.spec
    attempt = subtask.attempts + 1
    work = Work(spec.id, "subtask", spec.role, attempt, subtask=spec.id, feedback=subtask.feedback, order=subtask.order)
    _want(state, work)


def _drop_works_of(state: RunState, name: str) -> None:
    for work in [work for work in state.works.values() if work.subtask == name]:
        _close(state, work)


# Results and reviews


def _result(state: RunState, envelope: Envelope, event: ResultSubmitted) -> None:
    work = state.leases[envelope.causation_id or ""]
    _close(state, work)
    subtask = state.subtasks[work.subtask or ""]
    subtask.result = event
    if subtask.feedback and subtask.rejected is not None and _same_result(subtask.rejected, event):
        state.notice = NoProgressNoticed(what="result", detail=_HANDED_IN_AGAIN, attempt=work.attempt)
        state.notice_about = subtask.spec.id
    elif subtask.spec.accept:
        subtask.status = Status.REVIEWED
        _want_review(state, subtask)
    else:
        _approve(state, subtask)


_HANDED_IN_AGAIN = "the same result as the rejected one was handed in again"


def _same_result(one: ResultSubmitted, other: ResultSubmitted) -> bool:
    return (one.text, one.data, [(c.path, c.sha256) for c in one.files]) == (
        other.text,
        other.data,
        [(c.path, c.sha256) for c in other.files],
    )


def _want_review(state: RunState, subtask: SubtaskState) -> None:
    name, attempt = subtask.spec.id, subtask.attempts
    work = Work(f"review-{name}-{attempt}", "review", "critic", 1, subtask=name, of_attempt=attempt)
    work.accept, work.order = subtask.spec.accept, subtask.order
    _want(state, work)


def _approve(state: RunState, subtask: SubtaskState) -> None:
    """Take a result as good; if it brings files, they are merged first."""
    if subtask.result and subtask.result.files:
        subtask.status = Status.REVIEWED
        state.to_merge.append(subtask.spec.id)
    else:
        _accept(state, subtask)


def _accept(state: RunState, subtask: SubtaskState) -> None:
    subtask.status, subtask.rejected, subtask.feedback, subtask.repeats = Status.ACCEPTED, None, (), 0
    subtask.accepted_at, subtask.sources = state.position, tree.sources_of(state, subtask)
    state.accepted_order.append(subtask.spec.id)
    state.not_accepted -= 1
    for name in state.needed_by[subtask.spec.id]:
        other = state.subtasks[name]
        other.unmet -= 1
        if other.unmet == 0:
            _ready(state, other)
    _after_acceptance(state)


def _after_acceptance(state: RunState) -> None:
    if state.all_accepted and state.setup:
        state.reviews_of_outcome += 1
        request = f"review-outcome-{state.reviews_of_outcome}"
        accept = state.setup.accept
        _want(state, Work(request, "review", "critic", 1, of_attempt=state.round, accept=accept, round=state.round))


def _merge(state: RunState, event: FilesMerged) -> None:
    state.to_merge.popleft()
    tree.overlay(state.tree, event.files)
    state.changed_by.update((change.path, event.subtask) for change in event.files)
    _accept(state, state.subtasks[event.subtask])


def _conflict(state: RunState, event: FilesConflicted) -> None:
    state.to_merge.popleft()
    subtask = state.subtasks[event.subtask]
    subtask.beside = tuple(dict.fromkeys((*subtask.beside, *event.others)))
    _send_back(
        state,
        subtask,
        f"{', '.join(event.paths)}: changed meanwhile by {', '.join(event.others)}. "
        "Your folder now holds that version; make your change again on top of it.",
    )


def _review(state: RunState, envelope: Envelope, event: ReviewGiven) -> None:
    work = state.leases[envelope.causation_id or ""]
    _close(state, work)
    if work.subtask is None:
        _outcome_review(state, event)
    elif event.accepted:
        _approve(state, state.subtasks[work.subtask])
    else:
        _send_back(state, state.subtasks[work.subtask], event.feedback)


def _outcome_review(state: RunState, event: ReviewGiven) -> None:
    state.outcome_review = event
    if event.accepted:
        return
    redo = {item.subtask: item.why for item in event.redo if item.subtask in state.subtasks}
    for path in event.named:
        if path in state.changed_by:
            redo.setdefault(state.changed_by[path], event.feedback)
    tries = state.limits.attempts
    left = all(state.subtasks[name].attempts - state.subtasks[name].uncounted < tries for name in redo)
    state.stuck = Stuck("rounds", event.feedback, tuple(redo.items()) if left else ())
    _go_on(state)


def _send_back(state: RunState, subtask: SubtaskState, why: str) -> None:
    """Reject the present result: another attempt follows, or, if none is left, another plan."""
    if subtask.result is not None:
        subtask.rejected, subtask.result = subtask.result, None
    _retry(state, subtask, why)


def _retry(state: RunState, subtask: SubtaskState, why: str, *, retryable: bool = True) -> None:
    subtask.feedback = (*subtask.feedback, why)[-FEEDBACK_KEPT:]
    if retryable and subtask.attempts - subtask.uncounted < state.limits.attempts:
        _ready(state, subtask)
        return
    subtask.status = Status.FAILED
    times = f"{subtask.attempts} attempts" if subtask.attempts > 1 else "1 attempt"
    state.stuck = Stuck("attempts", f"subtask {subtask.spec.id!r} failed after {times}: {why}")
    _go_on(state)


def _go_on(state: RunState) -> None:
    """Leave a dead end by another round, if one is left: redo what was named, else ask the planner."""
    stuck = state.stuck
    if stuck is None or stuck.final or state.round >= state.limits.rounds:
        return
    state.stuck = None
    if any(work.kind == "plan" for work in state.works.values()):
        return  # another way is being looked for already
    state.round += 1
    if stuck.redo:
        _redo(state, dict(stuck.redo))
    else:
        _want_plan(state, (stuck.reason,))


def _redo(state: RunState, why: dict[str, str]) -> None:
    """Do accepted subtasks again, and all that was built on them."""
    again = plan.closure(why, state.needed_by)
    state.tree, state.changed_by = tree.merged(state, without=again)
    state.accepted_order = [name for name in state.accepted_order if name not in again]
    for name in again:
        subtask = state.subtasks[name]
        subtask.rejected, subtask.result = subtask.result, None
        subtask.status = Status.WAITING
        subtask.unmet = sum(need in again for need in subtask.spec.needs)
        if name in why:
            subtask.feedback = (*subtask.feedback, why[name])[-FEEDBACK_KEPT:]
        else:
            subtask.uncounted = subtask.attempts
    state.not_accepted += len(again)
    for name in sorted(again):
        if state.subtasks[name].unmet == 0:
            _ready(state, state.subtasks[name])


def _failure(state: RunState, envelope: Envelope, event: WorkFailed) -> None:
    work = state.leases[envelope.causation_id or ""]
    _close(state, work)
    if work.kind == "subtask":
        retryable = event.retryable and event.kind != "no_progress"
        _retry(state, state.subtasks[work.subtask or ""], event.reason, retryable=retryable)
    elif event.retryable and work.attempt < state.limits.attempts:
        again = Work(work.request, work.kind, work.role, work.attempt + 1, feedback=(*work.feedback, event.reason))
        again.subtask, again.of_attempt, again.accept, again.round = (
            work.subtask,
            work.of_attempt,
            work.accept,
            work.round,
        )
        _want(state, again)
    else:
        state.stuck = Stuck(
            "plan" if work.kind == "plan" else "attempts", f"{work.request}: {event.reason}", final=True
        )


def _no_progress(state: RunState, event: NoProgressNoticed) -> None:
    state.notice = None
    if event.what == "plan":
        state.plan_repeats += 1
    elif event.what == "result" and state.notice_about is not None:
        subtask, state.notice_about = state.subtasks[state.notice_about], None
        subtask.repeats += 1
        told = f"{event.detail}; whatever else you do, change it. What was wrong: {subtask.feedback[-1]}"
        subtask.result = None
        _retry(state, subtask, told, retryable=subtask.repeats == 1)
