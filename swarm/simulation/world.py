"""What the parts of a simulated swarm have around them: time, chance, a broker, a disk, and what lies outside."""

import asyncio
import contextvars
import datetime as dt
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bus.file_store import MemoryFileStore
from bus.setup import Setup
from bus.simulation.broker import SimulatedBroker
from bus.simulation.disk import SimulatedDisk, at_once
from bus.simulation.loop import NOBODY, VirtualLoop, process
from swarm.core.state import RunState
from swarm.orchestration.terms import Terms
from swarm.runs.folding import fold
from swarm.simulation.faults import Faults
from swarm.simulation.outside import Answer, Outside
from swarm.simulation.watch import Watch

RUN = "simulated"
BEGINS = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@dataclass
class World:
    """One world. `place`: a real folder for attempts that work with files."""

    loop: VirtualLoop
    seed: int
    faults: Faults
    setup: Setup
    answer: Answer
    place: Path
    latency_s: float = 0.5
    files: MemoryFileStore = field(default_factory=MemoryFileStore)
    terms: Terms = field(default_factory=Terms)
    counts: Counter[str] = field(default_factory=Counter)
    """What befell it, and how often."""
    story: list[str] = field(default_factory=list)
    """The same in words, with the time."""
    dying: list[asyncio.Task[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)  # noqa: S311 - it guards nothing
        self._ids = random.Random(self.seed + 1)  # noqa: S311 - likewise
        draw = self.chance.random
        self.broker = SimulatedBroker(self.faults.network, random.Random(draw()))  # noqa: S311 - likewise
        self.disk = SimulatedDisk(random.Random(draw()), self.faults.disk)  # noqa: S311 - likewise
        self.watch = Watch(self.disk)
        self.outside = Outside(
            self.answer,
            self.watch,
            random.Random(draw()),  # noqa: S311 - likewise
            self.faults.endpoint,
            self.latency_s,
        )
        self.disk.tap = self.watch.durable
        self.broker.tap = self.watch.said

    def new_id(self) -> str:
        """Return an id that nobody else has."""
        return f"{self._ids.getrandbits(64):016x}"

    def date(self) -> str:
        """Return the time of its day, RFC 3339."""
        at = BEGINS + dt.timedelta(seconds=self.loop.time())
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def seconds(self) -> float:
        """Return seconds since 1970."""
        return BEGINS.timestamp() + self.loop.time()

    def note(self, what: str) -> None:
        """Add to its story."""
        self.story.append(f"{self.loop.time():9.3f}  {what}")

    def later(self, delay_s: float, call: Callable[..., object], *args: object) -> None:
        """Call something that belongs to no process."""
        self.loop.call_later(delay_s, call, *args, context=NOBODY)

    def spawn(self, key: str, call: Coroutine[Any, Any, object]) -> None:
        """Have a process do something."""
        self.dying.append(self.loop.create_task(call, name=f"asked of {key}", context=context_of(key)))

    def state(self) -> RunState:
        """Return the fold of its log."""
        return at_once(fold(self.disk.log, RUN))


def context_of(key: str) -> contextvars.Context:
    """Return a context whose tasks belong to a process."""
    context = contextvars.Context()
    context.run(process.set, key)
    return context
