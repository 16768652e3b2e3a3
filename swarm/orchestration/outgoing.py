"""What an orchestrator says next: collected while it records, handed to the bus together.

Over a broker each message waits for its acknowledgement, so they wait side by side. They leave in the order in which
they were added, those that somebody waits for before those that are only watched. A message that the bus does not take
is counted and passed over: leases run out, agents ask again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bus.errors import BusError

log = logging.getLogger("swarm.bus")

Saying = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class Outgoing:
    """Sayings that wait. `may_be_lost`: the bus is one that can lose them, and all that needs an answer asks again."""

    may_be_lost: bool = False
    failed: Counter[str] = field(default_factory=Counter)
    """Kinds of errors with which the bus did not take something, and how often."""
    _waited_for: list[Saying] = field(default_factory=list)
    _watched: list[Saying] = field(default_factory=list)

    def add(self, say: Callable[..., Coroutine[Any, Any, None]], *args: object) -> None:
        """Say this to whom it makes go on, after all that was added so before."""
        self._waited_for.append(partial(say, *args))

    def add_watched(self, say: Callable[..., Coroutine[Any, Any, None]], *args: object, **kwargs: object) -> None:
        """Say this to whoever watches, after all the rest."""
        self._watched.append(partial(say, *args, **kwargs))

    async def flush(self) -> None:
        """Say all of it. Raises what the bus raises, where that cannot lose anything."""
        sayings = self._waited_for + self._watched
        self._waited_for, self._watched = [], []
        if not self.may_be_lost:
            for say in sayings:
                await say()
            return
        if not sayings:
            return
        for error in await asyncio.gather(*(say() for say in sayings), return_exceptions=True):
            if isinstance(error, BusError):
                self.failed[type(error).__name__] += 1
                log.warning("not said: %s", error)
            elif isinstance(error, BaseException):
                raise error
