"""One hub of a name on a bus: two would both take what is said to either, and have it done twice.

A card may have outlived its hub, where the broker fell with it. So whoever starts under a name that has a card clears
it: a hub that is at work says its card again.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from bus import topics
from bus.cards import read_hub_card
from bus.errors import BadEnvelope, BusUnavailable
from bus.pubsub import Bus, Inbox, Note
from swarm.errors import UsageError
from swarm.hubs.hub import Hub

CARD_S = 0.3
"""How long a card that is there may take to come."""
SAID_AGAIN_S = 3.0
"""How long a hub that is at work may take to say its card again."""


async def check_alone(bus: Bus, name: str, cards: Inbox[Note]) -> None:
    """Raise `UsageError` where a hub of this name is at work. `cards`: those of the name, from the first on."""
    if await _is_said(cards, CARD_S):
        await bus.clear(topics.hub_card(name))
        if await _is_said(cards, SAID_AGAIN_S):
            raise UsageError(
                f"a hub {name} is at work on this bus already, and each run would be carried on by both. "
                "Stop that one, or give this one another name: --name."
            )


async def keep_card(hub: Hub, cards: Inbox[Note], announce: Callable[[str], None]) -> None:
    """Say the hub's card again whenever it was cleared, and tell its owner of another one of its name."""
    async for received in cards:
        received.acknowledge()
        if not received.content.kind:
            with suppress(BusUnavailable):  # it is said after the reconnection
                await hub.announce_card()
        elif _nonce(received.content) != hub.nonce:
            announce(f"another hub {hub.name} is on this bus: stop one of them, or runs are carried on by both")


async def _is_said(cards: Inbox[Note], within_s: float) -> bool:
    """Tell whether a card comes in time; that one was cleared is passed over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            async for received in cards:
                received.acknowledge()
                if received.content.kind:
                    return True
    return False


def _nonce(note: Note) -> str:
    try:
        return read_hub_card(note).nonce
    except BadEnvelope:
        return ""
