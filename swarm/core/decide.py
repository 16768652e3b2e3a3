"""`decide(state)`: what happens next. Pure; it is quiet once its events have been applied."""

from typing import Literal, NamedTuple

from bus.events import (
    CallGranted,
    CallRefused,
    Event,
    FilesConflicted,
    FilesMerged,
    GoalAccepted,
    GoalFailed,
    PlanProposed,
    PlanRefused,
    PlanRequested,
    Request,
    ReviewRequested,
    RunPaused,
    SubtaskAssigned,
    WorkFailed,
)
from swarm.core import doubts, meetings, tree
from swarm.core.state import RunState, Status, Work

SLOW = 2
"""So many times as long as the fastest agent takes, and an agent is slow."""

FailureKind = Literal["limit", "attempts", "rounds", "plan", "no_progress", "no_agent", "bill", "cancelled"]


class Decision(NamedTuple):
    """An event to record. `cause`: the lease it answers, where that is not the event just applied."""

    event: Event
    subject: str | None = None
    cause: str | None = None


def decide(state: RunState) -> Decision | None:
    """Return what to record next; None when nothing follows until something comes in."""
    if state.status == "paused" and state.cancelled is not None:
        return _fail(state, "cancelled", state.cancelled)
    if not state.running:
        return None
    return _end(state) or _grant(state) or _notice(state) or _merge(state) or _deadline(state) or _hand_out(state)


def next_deadline(state: RunState) -> int | None:
    """Return the running time, in milliseconds, at which something follows by itself; None while not running."""
    if not state.running:
        return None
    first = state.deadlines[0][0] if state.deadlines else state.limits.time_ms
    lacks = (since + _patience(state, role) for role, since in state.lacking.items())
    rests = (until for agent, until in state.resting.items() if until > state.elapsed_ms and _is_wanted(state, agent))
    return min(first, state.limits.time_ms, *lacks, *rests)


def _is_wanted(state: RunState, agent: str) -> bool:
    return any(state.wanted.get(role) for role in state.agents[agent].roles)


def _end(state: RunState) -> Decision | None:  # noqa: PLR0911 - each way to end
    if (passed := state.ledger.passed) is not None:
        return _fail(state, "bill", passed)
    if state.cancelled is not None:
        return _fail(state, "cancelled", state.cancelled)
    if state.call_refused:
        return _fail(state, "limit", state.call_refused)
    if (over := _waited_too_long(state)) is not None:
        return over
    if state.stuck is not None:
        kind = state.stuck.kind
        reason = state.stuck.reason
        if kind == "rounds":
            reason = f"the outcome was rejected in the last of {state.limits.rounds} rounds: {reason}"
        return _fail(state, kind, reason)
    if state.outcome_review is not None and state.outcome_review.accepted:
        reason = state.outcome_review.feedback or "all criteria hold"
        return Decision(GoalAccepted(reason=reason, files=tree.outcome_files(state)))
    if state.pause_wanted:
        return Decision(RunPaused(reason=state.pause_wanted, kind="endpoint"))
    if state.unknown and (found := doubts.doubts(state)):
        return Decision(RunPaused(reason=doubts.told(found), kind="doubt"))
    return None


def _waited_too_long(state: RunState) -> Decision | None:
    for role, since in state.lacking.items():
        if state.elapsed_ms >= min(since + _patience(state, role), state.limits.time_ms):
            waited = f"waited {(state.elapsed_ms - since) / 1000:.0f} s of running time"
            if any(role in agent.declined for agent in state.agents.values()):
                why = state.declined.get(role, "")
                return _fail(state, "no_agent", f"all who offer the role {role!r} declined ({waited}), the last: {why}")
            return _fail(state, "no_agent", f"nobody offers the role {role!r}: {waited}")
    if state.elapsed_ms >= state.limits.time_ms:
        return _fail(state, "limit", f"limits.time is reached: {state.elapsed_ms / 1000:.0f} s of running time")
    return None


def _fail(state: RunState, kind: FailureKind, reason: str) -> Decision:
    missing = tuple(name for name, subtask in state.subtasks.items() if subtask.status != Status.ACCEPTED)
    files = tree.outcome_files(state)
    return Decision(GoalFailed(reason=reason, kind=kind, missing=missing, files=files))


def _grant(state: RunState) -> Decision | None:
    ledger = state.ledger
    call = ledger.oldest()
    if call is None:
        return None
    granted = ledger.grantable(call)
    if granted is None:
        return None
    request, attempt, path, number = call.key
    if granted:
        return Decision(CallGranted(attempt=attempt, path=path, number=number, max_tokens=granted), request)
    what = "limits.tokens" if call.tokens > ledger.tokens_left else "limits.money"
    left = f"{ledger.tokens_left} tokens" + (f", {ledger.money_left / 1e12:.4f} USD" if state.limits.money else "")
    reason = (
        f"{what} leaves no room for the next model call of {request!r}: "
        f"it may use {call.input_bound} + {call.max_tokens} tokens, left are {left}"
    )
    return Decision(CallRefused(attempt=attempt, path=path, number=number, reason=reason), request)


def _notice(state: RunState) -> Decision | None:
    if state.notice is not None:
        return Decision(state.notice, state.notice_about)
    if state.refused_plan:
        return Decision(PlanRefused(reasons=state.refused_plan), f"plan-{state.plan_number}")
    setup = state.setup
    if setup and setup.plan is not None and not state.subtasks and state.plan_number == 0:
        return Decision(PlanProposed(subtasks=setup.plan))
    return None


def _merge(state: RunState) -> Decision | None:
    if not state.to_merge:
        return None
    name = state.to_merge[0]
    subtask = state.subtasks[name]
    result = subtask.result
    if result is None:  # cannot be: what is to be merged has a result
        raise AssertionError(name)
    met = meetings.changes_met(state, result)
    if not met:
        return Decision(FilesMerged(subtask=name, attempt=subtask.attempts, files=result.files), name)
    tried = state.tried
    if tried is None:
        return None  # who has the bytes looks at them (`meetings.wanted`)
    if tried.clashes:
        paths = tuple(dict.fromkeys(met[clash.path] for clash in tried.clashes))
        others = tuple(sorted({state.changed_by[path] for path in met.values() if path in state.changed_by}))
        return Decision(FilesConflicted(subtask=name, attempt=subtask.attempts, paths=paths, others=others), name)
    merged = {change.path: change for change in tried.merged}
    files = tuple(merged.get(change.path, change) for change in result.files)
    return Decision(FilesMerged(subtask=name, attempt=subtask.attempts, files=files, merged=tuple(merged)), name)


def _deadline(state: RunState) -> Decision | None:
    if not state.deadlines or state.deadlines[0][0] > state.elapsed_ms:
        return None
    lease = state.deadlines[0][1]
    work = state.leases[lease]
    reason = f"no result within its deadline ({_patience(state, work.role) / 1000:.0f} s of running time)"
    return Decision(WorkFailed(reason=reason, kind="deadline", effects=len(work.journal)), work.request, lease)


def _hand_out(state: RunState) -> Decision | None:
    if len(state.leases) >= state.limits.parallel:
        return None
    best: tuple[tuple[int, int, str], str] | None = None
    for role, heap in state.wanted.items():
        if not heap or (best is not None and heap[0] > best[0]):
            continue
        agent = _free_agent(state, role)
        if agent is not None:
            best = heap[0], agent
    if best is None:
        return None
    (_, _, request), agent = best
    return Decision(_request(state, state.works[request], agent), request)


def _free_agent(state: RunState, role: str) -> str | None:
    """Return who of a role gets its next request: of those not slow, the one with the most free slots.

    A slow agent gets it only where no other is free, and where the others would not have done all that waits sooner.
    """
    setup = state.role(role)
    if setup is not None and state.at_work.get(role, 0) >= setup.agents:
        return None
    offering = [
        agent
        for agent in state.agents.values()
        if agent.offers(role) and state.resting.get(agent.agent, 0) <= state.elapsed_ms
    ]
    free = [agent for agent in offering if agent.slots > agent.busy]
    if not free:
        return None
    fastest = min((agent.pace_ms[role] for agent in offering if role in agent.pace_ms), default=0)
    quick = [agent for agent in free if agent.pace_ms.get(role, 0) <= SLOW * fastest]
    if quick:
        return max(quick, key=lambda agent: agent.slots - agent.busy).agent
    best = min(free, key=lambda agent: agent.pace_ms[role])
    others = sum(agent.slots for agent in offering if agent.pace_ms.get(role, 0) <= SLOW * fastest)
    if not others:  # the quick ones are about to leave
        return best.agent
    rounds = 1 + len(state.wanted[role]) / others
    return best.agent if best.pace_ms[role] <= rounds * fastest else None


def _patience(state: RunState, role: str) -> int:
    """Return how long a request for a role may take, or wait for somebody who offers it; in milliseconds."""
    setup = state.role(role)
    return setup.deadline_ms if setup else 600_000


def _request(state: RunState, work: Work, agent: str) -> Request:
    deadline = min(state.elapsed_ms + _patience(state, work.role), state.limits.time_ms)
    match work.kind:
        case "plan":
            return PlanRequested(
                attempt=work.attempt, agent=agent, deadline_ms=deadline, round=work.round, feedback=work.feedback
            )
        case "review":
            return ReviewRequested(
                attempt=work.attempt,
                agent=agent,
                deadline_ms=deadline,
                subtask=work.subtask,
                of_attempt=work.of_attempt,
                accept=work.accept,
            )
        case "subtask":
            spec = state.subtasks[work.subtask or ""].spec
            return SubtaskAssigned(
                subtask=spec, attempt=work.attempt, agent=agent, deadline_ms=deadline, feedback=work.feedback
            )
