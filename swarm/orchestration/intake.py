"""What comes in together is recorded together: the messages of one commit.

Nobody waits for the record of an outcome: its role goes on at once. So it may wait, too, for what that role does next
without waiting for anything itself, and share its commit: with a model that answers at once a step is one commit, not
two. A kill in that time has the answer asked for again; so the time is that of a commit, and nobody holds a timer.
"""

import asyncio
from typing import Any, Protocol

from agents.turns import turns
from bus.events import CheckEnded, Effect, ModelAnswered, ModelTryFailed, ToolReturned, ValueDrawn
from bus.pubsub import Received
from swarm.core.state import RunState

BATCH = 256
"""Events taken in at once: enough to share a commit, few enough that the loop is not held."""
LINGER_S = 0.002
LOOK_AGAIN = 8
"""Turns of a busy loop after which the inbox is looked into."""
OUTCOMES = (ModelAnswered, ModelTryFailed, ToolReturned, CheckEnded, ValueDrawn)


class Inbox(Protocol):
    """What agents say of one run, as it comes."""

    async def get(self) -> Received[Any]:
        """Wait for the next."""
        ...

    def get_nowait(self) -> Received[Any] | None:
        """Return the next if one is there."""
        ...


async def together(first: Received[Any], inbox: Inbox, state: RunState) -> list[Received[Any]]:
    """Return a message with all that came meanwhile, and where all of that can wait, with what follows at once."""
    batch = [first]
    now = asyncio.get_running_loop().time
    until = now() + LINGER_S
    quiet = False
    while True:
        while len(batch) < BATCH and (more := inbox.get_nowait()) is not None:
            batch.append(more)
        over = quiet or len(batch) == BATCH or now() >= until
        if over or not all(_can_wait(item, state) for item in batch):
            return batch
        quiet = await turns().quiet(LOOK_AGAIN)


def _can_wait(item: Received[Any], state: RunState) -> bool:
    """Tell whether nobody waits for the record of a message, and its loss would leave nothing in doubt."""
    event: Effect = item.content
    if not isinstance(event, OUTCOMES):
        return False
    work = state.leases.get(item.envelope.causation_id or "")
    return work is not None and event.path not in work.outward
