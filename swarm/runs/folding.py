"""A run's state, folded from its log: what everybody begins with who looks at a run, or goes on with one."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from bus.event_log import EventLog
from swarm.core.apply import apply
from swarm.core.state import RunState
from swarm.runs.marks import EVERY, keep, nearest

YOUNG_OBJECTS = 10_000
"""How many objects come to be, while a run is under way, before Python looks for cycles among them."""


async def fold(log: EventLog, run: str, *, end: int | None = None) -> RunState:
    """Return the state of a run at a position of its log, by default the last.

    What had to be folded at length is marked, so that it need not be another time. Raises what `EventLog.read` does,
    and `Damaged` where the rules cannot take what was read, since records were changed.
    """
    state = await nearest(log, run, end)
    begun = state.position
    with fewer_collections():
        async for envelope in log.read(run, begun + 1, end):
            try:
                apply(state, envelope)
            except Exception:  # the rules take it that a log is as it was admitted
                await log.verify(run)
                raise
    if state.position - begun > 2 * EVERY:
        keep(log.marks, state)
    return state


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Let Python's collector of cycles run less often, if its owner has not set it otherwise.

    A run makes many objects that live until it ends, and next to no cycles. Measured with 512 subtasks: collections
    took a third of the CPU time at Python's own threshold of 700, a tenth at 10,000, no less at 50,000.
    """
    before = gc.get_threshold()
    if not 0 < before[0] < YOUNG_OBJECTS:  # off, or rarer already: somebody's choice, or another run's doing
        yield
        return
    gc.set_threshold(YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        if gc.get_threshold()[0] == YOUNG_OBJECTS:
            gc.set_threshold(*before)
