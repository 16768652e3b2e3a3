"""Looking at a run that may be going on, have ended, or have lost its process."""

import asyncio
from pathlib import Path

from bus.event_log import RunInfo
from swarm.core.state import RunState
from swarm.runs.outcome import Outcome, outcome_of
from swarm.runs.ownership import is_abandoned, is_here


async def outcome_now(state: RunState, info: RunInfo) -> Outcome:
    """Return the outcome of a run as it stands, with the folder of its files where that is there.

    The reason of a running one says whether anybody carries it on.
    """
    own = state.out_folder if state.ended is not None and not info.imported else None
    there = own is not None and await asyncio.to_thread(Path(own).is_dir)
    outcome, owner = outcome_of(state, folder=own if there else None), info.owner
    if outcome.outcome != "running":
        return outcome
    if info.imported:
        how = f"it was imported as it stood; `swarm fork {state.run} --at {state.position}` goes on from there"
    elif owner is not None and not is_abandoned(info):
        how = f"it is running in process {owner.pid} on {owner.host}"
        if not is_here(owner):
            how += ", unless that has ended, which cannot be seen from here"
    elif not info.bytes:
        how = f"its process ended before it began: start it anew; `swarm rm {state.run}` removes this one"
    else:
        how = f"its process ended before the run did; `swarm resume {state.run}` goes on with it"
    return outcome.model_copy(update={"reason": how})
