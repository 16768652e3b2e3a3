"""Looking at a run that may be going on, have ended, or have lost its process."""

from bus.event_log import RunInfo
from swarm.core.state import RunState
from swarm.outcome import Outcome, outcome_of
from swarm.ownership import is_gone


def outcome_now(state: RunState, info: RunInfo) -> Outcome:
    """Return the outcome of a run as it stands; the reason of a running one says whether anybody carries it on."""
    outcome, owner = outcome_of(state), info.owner
    if outcome.outcome != "running":
        return outcome
    if info.imported:
        how = f"it was imported as it stood; `swarm fork {state.run} --at {state.position}` goes on from there"
    elif owner is None or is_gone(owner):
        how = f"its process ended before the run did; `swarm resume {state.run}` goes on with it"
    else:
        how = f"it is running in process {owner.pid} on {owner.host}"
    return outcome.model_copy(update={"reason": how})
