"""What becomes of requests and leases, and of the effects that come in under them. In place, for `apply`."""

import heapq

from agents.briefing import Deed
from bus.envelope import Envelope
from bus.events import (
    AgentJoined,
    AssignmentEnded,
    CheckEnded,
    CheckStarted,
    Effect,
    JournalCut,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    Request,
    SubtaskAssigned,
    ToolCalled,
    ToolReturned,
    ValueDrawn,
)
from bus.setup import RoleSetup
from swarm.core import doubts
from swarm.core.limits import call_of
from swarm.core.state import (
    MOST_DOUBLED,
    MOST_LOST,
    REST_MS,
    AgentState,
    PlannerTold,
    RunState,
    Status,
    Work,
    finding_of,
)

PRIORITY = {"plan": 0, "review": 1, "subtask": 2}
"""What is handed out first: begun work is finished before new work is begun."""
BEFORE_ALL_NEW = 1 << 40
"""Requests that were handed out once come before all that never were."""


def want(state: RunState, work: Work) -> None:
    """Put a request where the next free agent of its role finds it."""
    state.works[work.request] = work
    state.arrivals += 1
    entry = (PRIORITY[work.kind], work.order or BEFORE_ALL_NEW + state.arrivals, work.request)
    heapq.heappush(state.wanted.setdefault(work.role, []), entry)
    note_lack(state, work.role)


def note_lack(state: RunState, role: str) -> None:
    """Note since when a role is wanted that no agent offers."""
    if state.wanted.get(role) and not any(agent.offers(role) for agent in state.agents.values()):
        state.lacking.setdefault(role, state.elapsed_ms)
    else:
        state.lacking.pop(role, None)


def hand_out(state: RunState, envelope: Envelope, event: Request) -> None:
    """Give a request to the agent that its event names."""
    work = state.works[envelope.subject or ""]
    heapq.heappop(state.wanted[work.role])
    work.order = work.order or envelope.sequence
    if work.kind == "plan" and work.told is None:
        work.told = _told(state)
    state.lost.pop(work.lost or "", None)
    work.lost = work.lost_by = None
    work.lease, work.agent, work.deadline_ms, work.heard = envelope.id, event.agent, event.deadline_ms, 0
    version = state.agents[event.agent].versions.get(work.role, "")
    work.forked = work.forked or bool(work.journal and version != work.version)
    work.version = version
    work.given_ms = envelope.elapsed_ms
    # What an earlier lease asked and never told is not coming any more.
    for key in work.open_calls:
        state.ledger.settle_unproven(key)
    work.open_calls.clear()
    doubts.hand_over(state, work)
    state.leases[envelope.id] = work
    state.agents[event.agent].busy += 1
    state.at_work[work.role] = state.at_work.get(work.role, 0) + 1
    heapq.heappush(state.deadlines, (event.deadline_ms, envelope.id))
    if isinstance(event, SubtaskAssigned):
        subtask = state.subtasks[event.subtask.id]
        subtask.status, subtask.attempts, subtask.order = Status.WORKING, event.attempt, work.order
        state.assigned.add(event.subtask.id)


def _told(state: RunState) -> PlannerTold:
    """Return what a planner is told of the run as it stands: the run goes on while it thinks, and may be resumed."""
    findings = tuple(finding_of(subtask) for subtask in state.subtasks.values())
    left = state.limits.subtasks - len(state.assigned - set(state.subtasks))
    return PlannerTold(findings, dict(state.tree), left, dict(state.brought))


def _free(state: RunState, work: Work) -> None:
    """End a lease: its agent has a slot again."""
    if work.lease is None:
        return
    del state.leases[work.lease]
    doubts.lease_ended(state, work)
    agent = state.agents.get(work.agent or "")
    if agent is not None:
        agent.busy -= 1
    state.at_work[work.role] -= 1
    work.lease = work.agent = None
    while state.deadlines and state.deadlines[0][1] not in state.leases:
        heapq.heappop(state.deadlines)


def answered(state: RunState, work: Work, envelope: Envelope) -> None:
    """End a request that has its reply: whoever gave it is well, and took as long as it took."""
    agent = state.agents.get(work.agent or work.lost_by or "")
    if agent is not None:
        agent.lost = 0
        state.resting.pop(agent.agent, None)
        took = max(1, envelope.elapsed_ms - work.given_ms)
        known = agent.pace_ms.get(work.role, took)
        agent.pace_ms[work.role] = (3 * known + took) // 4
    close(state, work)


def close(state: RunState, work: Work) -> None:
    """End a request: it has its reply, or nobody wants it any more."""
    state.lost.pop(work.lost or "", None)
    for key in work.open_calls:
        state.ledger.settle_unproven(key)
    wanted = work.lease is None
    _free(state, work)
    del state.works[work.request]
    if wanted:
        heap = state.wanted[work.role]
        heap[:] = [entry for entry in heap if entry[2] != work.request]
        heapq.heapify(heap)
        note_lack(state, work.role)


def take_back(state: RunState, work: Work) -> None:
    """Offer the same attempt to another agent; until one has it, what still comes from the last one counts."""
    work.lost, work.lost_by = work.lease, work.agent
    _free(state, work)
    if work.lost is not None:
        state.lost[work.lost] = work
    if work.subtask is not None and work.kind == "subtask":
        state.subtasks[work.subtask].status = Status.READY
    want(state, work)


def agent_joined(state: RunState, _: Envelope, event: AgentJoined) -> None:
    """Take in an agent, or what it says of itself anew: what it declined before does not count any more.

    What it lost does, until it gives a reply or leaves: saying its card again cuts no rest short.
    """
    known = state.agents.get(event.agent)
    found = AgentState(event.agent, event.roles, event.slots, versions=dict(event.versions))
    if known is not None:
        found.busy, found.lost, found.pace_ms = known.busy, known.lost, known.pace_ms
    state.agents[event.agent] = found
    for offer in event.brings:
        if offer.name not in state.brought and not state.knows(offer.name):
            state.brought[offer.name] = RoleSetup(model="", about=offer.about, brought=True)
    for role in {*event.roles, *(known.roles if known else ())}:
        note_lack(state, role)


def assignment_ended(state: RunState, _: Envelope, event: AssignmentEnded) -> None:
    """Take a lease back; who was silent too often, or declined, gets no more of it for now."""
    work = state.leases[event.lease]
    agent = state.agents.get(work.agent or "")
    if agent is not None and event.kind == "declined":
        agent.declined.add(work.role)
        state.declined[work.role] = event.why
    elif agent is not None and event.kind != "not_held":
        agent.lost += 1
        if agent.lost >= MOST_LOST:
            rest_ms = REST_MS << min(agent.lost - MOST_LOST, MOST_DOUBLED)
            state.resting[agent.agent] = state.elapsed_ms + rest_ms
    take_back(state, work)
    state.pause_wanted = event.pause


def agent_left(state: RunState, agent: str) -> None:
    """Take back all that an agent held."""
    left = state.agents.pop(agent)
    state.resting.pop(agent, None)
    for work in [work for work in state.leases.values() if work.agent == agent]:
        take_back(state, work)
    for role in left.roles:
        note_lack(state, role)


def under(state: RunState, envelope: Envelope) -> Work:
    """Return the request that an admitted message answers."""
    work = state.under(envelope.causation_id)
    if work is None:
        raise AssertionError("admitted without a lease")
    return work


def note_effect(work: Work, envelope: Envelope, event: Effect, number: int = 0) -> None:
    """Add an effect to the journal of its attempt. `number`: the try, where it is one of a model call."""
    work.journal[type(event).__name__, event.path, number] = envelope.sequence
    work.heard += 1


def cut_journal(state: RunState, envelope: Envelope, event: JournalCut) -> None:
    """Let the later effects of a fork's attempt count no more, with all that belongs to the same ones."""
    work = under(state, envelope)
    lost = {path for (_, path, _), position in work.journal.items() if position > event.kept}
    work.journal = {key: position for key, position in work.journal.items() if key[1] not in lost}
    work.outward = {path: call for path, call in work.outward.items() if path not in lost}
    work.changes = {path: made for path, made in work.changes.items() if path not in lost}
    work.forked = False
    work.cut = True
    work.heard += 1


def read_effect(state: RunState, envelope: Envelope, event: CheckStarted | CheckEnded | ValueDrawn) -> None:
    """Take in an effect that changes nothing but its journal."""
    note_effect(under(state, envelope), envelope, event)


def tool_called(state: RunState, envelope: Envelope, event: ToolCalled) -> None:
    """Take in that a tool is about to run."""
    work = under(state, envelope)
    note_effect(work, envelope, event)
    if event.outward:
        work.outward[event.path] = event


def tool_returned(state: RunState, envelope: Envelope, event: ToolReturned) -> None:
    """Take in what a tool gave; what was done to the outside world is kept over all attempts of a subtask."""
    work = under(state, envelope)
    note_effect(work, envelope, event)
    state.tool_calls += 1
    if event.files:
        work.changes[event.path] = event.files
    if event.path in work.outward:
        del work.outward[event.path]
        state.unknown.pop((work.request, event.digest), None)
        if not event.error and work.kind == "subtask":
            deed = Deed(event.tool, event.arguments, event.output, event.attempt)
            state.subtasks[work.subtask or ""].outward[event.digest] = deed


def model_asked(state: RunState, envelope: Envelope, event: ModelAsked) -> None:
    """Reserve for a model call."""
    work = under(state, envelope)
    note_effect(work, envelope, event, event.number)
    role = state.role(work.role)
    call = call_of(event, work.request, work.order, role.price if role else None)
    work.open_calls.add(call.key)
    state.ledger.ask(call)


def model_told(state: RunState, envelope: Envelope, event: ModelAnswered | ModelTryFailed) -> None:
    """Settle a model call."""
    work = under(state, envelope)
    note_effect(work, envelope, event, event.number)
    key = (work.request, event.attempt, event.path, event.number)
    work.open_calls.discard(key)
    if isinstance(event, ModelAnswered):
        state.ledger.settle(key, event.usage)
    elif event.unproven:
        state.ledger.settle_unproven(key)
    else:
        state.ledger.settle_at_zero(key)
