"""Outward calls of which nobody knows whether they were done: how they come to be, and a person's word on them.

An outward call is in doubt once its lease has ended without its outcome, unless it may be done twice. While its request
is open the run pauses: what goes on might repeat it. In place, for `apply`; `doubts` also for who asks the person.
"""

from typing import NamedTuple

from bus.events import DoubtSettled, ToolCalled
from swarm.core.state import RunState, Verdict, Work


class Doubt(NamedTuple):
    """A call in doubt, and the request it was made for."""

    request: str
    call: ToolCalled

    def settled(self, verdict: Verdict) -> DoubtSettled:
        """Return what is recorded of a person's word on it."""
        call = self.call
        return DoubtSettled(
            request=self.request,
            attempt=call.attempt,
            path=call.path,
            digest=call.digest,
            tool=call.tool,
            verdict=verdict,
        )


def doubts(state: RunState, *, leases_end: bool = False) -> list[Doubt]:
    """Return the calls that a person has to say something of before the run goes on.

    `leases_end`: also those that are under way now, as they will be in doubt once no agent holds a lease any more.
    """
    found = [Doubt(request, call) for (request, _), call in state.unknown.items() if request in state.works]
    if leases_end:
        found += [
            Doubt(work.request, call)
            for work in state.leases.values()
            for call in work.outward.values()
            if not call.idempotent
        ]
    return [one for one in found if (one.request, one.call.digest) not in state.verdicts]


def lease_ended(state: RunState, work: Work) -> None:
    """Keep what the agent of a lease had begun to do to the outside world, and never told the outcome of."""
    for call in work.outward.values():
        if not call.idempotent:
            state.unknown[work.request, call.digest] = call


def settle(state: RunState, event: DoubtSettled) -> None:
    """Keep a person's word, for the agent that gets the request next."""
    state.verdicts[event.request, event.digest] = event.verdict


def hand_over(state: RunState, work: Work) -> None:
    """Give an agent the person's word on its request's calls. `retry` counts once, `skip` for ever."""
    for key in [key for key in state.verdicts if key[0] == work.request]:
        work.settled[key[1]] = state.verdicts[key]
        state.unknown.pop(key, None)
        if state.verdicts[key] == "retry":
            del state.verdicts[key]


def told(found: list[Doubt]) -> str:
    """Return in words what a person has to decide."""
    calls = "; ".join(f"{one.call.tool}({_arguments(one.call)}) in {one.request!r}" for one in found)
    return f"nobody knows whether this was done: {calls}. Look, then say whether to retry, skip or fail it"


def is_in_doubt(state: RunState, subtask: str) -> bool:
    """Tell whether a subtask waits for a person's word."""
    return state.status == "paused" and any(one.request == subtask for one in doubts(state))


def _arguments(call: ToolCalled) -> str:
    return ", ".join(f"{name}={str(value)[:80]!r}" for name, value in call.arguments.items())
