"""Promises that the log of a run shows, looked at without the code that is to keep them wherever that is possible."""

from collections.abc import Generator, Iterator, Sequence
from typing import cast

from bus.envelope import Envelope
from bus.events import (
    AssignmentEnded,
    Event,
    GoalAccepted,
    GoalFailed,
    PlanProposed,
    Request,
    ResultSubmitted,
    ReviewGiven,
    RunMoved,
    ToolCalled,
    ToolReturned,
    WorkFailed,
)
from swarm.core.state import RunState
from swarm.replay import Rules
from swarm.simulation.watch import Watch

AGENT = "/swarm/agent/"


LONG_MS = 300_000
"""Nothing that is drawn takes so long, whatever strikes it: who waits so long has been forgotten by somebody."""


def broken_in(watch: Watch, state: RunState | None, *, prompt: bool) -> Iterator[str]:
    """Yield what a run's log shows to be broken.

    `state`: what its last hub held, if that lived to the end. `prompt`: hold it against the run, too, where something
    stood still until its deadline, though the weather was over long before.
    """
    log = watch.log
    if prompt:
        yield from _stood_still(log)
    positions = [record.sequence for record in log]
    if positions != list(range(1, len(log) + 1)):
        yield f"promise 1: positions have gaps: {positions[:50]}"
    yield from _leases(watch)
    yield from _outward(log)
    epochs = [record.event.epoch for record in log if isinstance(record.event, RunMoved)]
    if epochs != sorted(set(epochs)):
        yield f"fencing: the epochs do not rise: {epochs}"
    folded = yield from _rules(log)
    if state is not None and folded is not None and state.position == folded.position and state != folded:
        yield "promise 1: the fold of the log is not the state that the hub held"


def _stood_still(log: Sequence[Envelope]) -> Iterator[str]:
    before = 0
    for record in log:
        event = record.event
        stood_ms = record.elapsed_ms - before
        if stood_ms > LONG_MS:
            yield f"stood still: nothing happened for {stood_ms / 1000:.0f} s before {record.sequence}"
        if isinstance(event, WorkFailed) and event.kind == "deadline":
            yield f"stood still: {record.subject!r} came to its deadline at {record.sequence}"
        before = record.elapsed_ms


def _leases(watch: Watch) -> Iterator[str]:
    """Hold what agents said against the leases that stood when it was recorded, and the order in which they said it."""
    holders: dict[str, tuple[str, str]] = {}
    heard: dict[str, int] = {}
    for record in watch.log:
        event, subject = record.event, record.subject or ""
        if isinstance(event, Request):
            holders[subject] = record.id, event.agent
        if record.source.startswith(AGENT) and not isinstance(event, AssignmentEnded):
            lease, agent = record.causation_id or "", record.source.removeprefix(AGENT)
            if record.id in watch.forged:
                yield f"leases: at {record.sequence} stands what was forged in the name of {agent}"
            if holders.get(subject) != (lease, agent):
                yield f"leases: at {record.sequence} stands a word of {agent} on {subject!r}, not its any more"
            heard[lease] = heard.get(lease, 0) + 1
            if (known := watch.sent.get(record.id)) is not None and known[1] != heard[lease]:
                yield f"order: at {record.sequence} stands number {known[1]} of its lease, where {heard[lease]} is due"
        if isinstance(event, PlanProposed | ResultSubmitted | ReviewGiven | WorkFailed):
            holders.pop(subject, None)


def _outward(log: Sequence[Envelope]) -> Iterator[str]:
    """See that nothing outward was begun again once it was done."""
    done: set[tuple[str, str]] = set()
    called: dict[tuple[str, str], ToolCalled] = {}
    for record in log:
        event, request = record.event, record.subject or ""
        if isinstance(event, ToolCalled) and event.outward and not event.idempotent:
            key = request, event.digest
            if key in done:
                yield f"promise 3: {event.tool} of {request!r} is begun again at {record.sequence}, after it was done"
            called[key] = event
        if isinstance(event, ToolReturned) and not event.error and (request, event.digest) in called:
            done.add((request, event.digest))


def _rules(log: Sequence[Envelope]) -> Generator[str, None, RunState | None]:
    """Go through the log by the rules, and see that no limit was ever passed; return the fold."""
    rules = Rules(log[0].correlation_id if log else "run")
    state = rules.state
    for record in log:
        _, difference = rules.take(record)
        if difference is not None:
            yield f"promise 1: {'; '.join(difference.lines())[:600]}"
            return None
        yield from _limits(state, record.sequence)
    event = cast("Event", log[-1].event) if log else None
    if not isinstance(event, GoalAccepted | GoalFailed) or not event.reason:
        yield f"promise 4: the run ends with {type(event).__name__}, which is no end with a reason"
    return state


def _limits(state: RunState, at: int) -> Iterator[str]:
    ledger, limits = state.ledger, state.limits
    if ledger.spent.tokens + ledger.reserved_tokens > limits.tokens and not ledger.beyond:
        yield f"promise 4: at {at} more tokens are spent or reserved than {limits.tokens}"
    if limits.money is not None and ledger.spent.money + ledger.reserved_money > limits.money and not ledger.beyond:
        yield f"promise 4: at {at} more money is spent or reserved than allowed"
    if len(state.leases) > limits.parallel:
        yield f"promise 4: at {at} more is at work than {limits.parallel}"
    if len(state.assigned) > limits.subtasks or state.round > limits.rounds:
        yield f"promise 4: at {at} there were more subtasks or rounds than allowed"
