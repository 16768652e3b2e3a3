"""An event log that several hubs share, with the disk's faults: `DiskOfOne` is what one hub's process sees of it.

An append takes its time. It may be refused before anything is durable, or after; the process that asked for it may be
gone or frozen when it becomes durable; and one that comes from an owner of yesterday is refused by its epoch.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from bus.envelope import Envelope
from bus.errors import LogError, StorageFailed
from bus.event_log import MarkStore, Owned, Owner, RunInfo
from bus.event_logs.memory import MemoryEventLog
from bus.simulation.loop import NOBODY

T = TypeVar("T")
Tap = Callable[[str, int, Sequence[Envelope]], None]


@dataclass(frozen=True, slots=True)
class DiskFaults:
    """How appends fare. Chances are of each append."""

    delay_s: float = 0.0
    """Mean time until a batch is durable."""
    slow: float = 0.0
    """Durable only after some seconds."""
    refused: float = 0.0
    """`StorageFailed`, and nothing is durable."""
    unsure: float = 0.0
    """`StorageFailed`, and all is durable."""


@dataclass(slots=True)
class SimulatedDisk:
    """The one log, and who is heard of. `tap` is told (run, epoch, records) of all that becomes durable."""

    chance: random.Random
    faults: DiskFaults = DiskFaults()
    log: MemoryEventLog = field(default_factory=MemoryEventLog)
    tap: Tap | None = None
    down_until: float = float("-inf")
    """Until then it refuses everything."""
    counts: Counter[str] = field(default_factory=Counter)
    beats: dict[Owner, float] = field(default_factory=dict)

    def append(self, run: str, expected: int, epoch: int, records: Sequence[Envelope]) -> None:
        """Make a batch durable. Raises `Conflict`."""
        at_once(self.log.append(run, expected, epoch, records))
        if self.tap is not None:
            self.tap(run, epoch, records)


class DiskOfOne:
    """Meets `bus.event_log.EventLog` and `Heartbeats` for one process, until that is killed."""

    def __init__(self, disk: SimulatedDisk) -> None:
        self._disk = disk
        self._gone = False
        self.marks: MarkStore = disk.log.marks
        self.failure: LogError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Keep everything."""

    def vanish(self) -> None:
        """Take nothing more: the process is gone. What it asked for before may still become durable."""
        self._gone = True

    async def create(self, run: str, owner: Owner, *, parent: tuple[str, int] | None = None) -> int:
        """Begin a run. See `EventLog.create`."""
        self._check()
        return await self._disk.log.create(run, owner, parent=parent)

    async def take(self, run: str, owner: Owner, *, previous: Owner | None) -> int:
        """Become the owner of a run. See `EventLog.take`."""
        self._check()
        return await self._disk.log.take(run, owner, previous=previous)

    async def release(self, run: str, epoch: int) -> None:
        """Stop being the owner."""
        self._check()
        await self._disk.log.release(run, epoch)

    async def adopt(self, run: str, lines: Iterable[bytes]) -> tuple[int, str]:
        """Take in a whole run from elsewhere. See `EventLog.adopt`."""
        self._check()
        return await self._disk.log.adopt(run, lines)

    async def remove(self, run: str, *, previous: Owner | None) -> None:
        """Remove a run. See `EventLog.remove`."""
        self._check()
        await self._disk.log.remove(run, previous=previous)

    async def append(self, run: str, expected: int, epoch: int, records: Sequence[Envelope]) -> None:
        """Record envelopes, after a while. See `EventLog.append`."""
        self._check()
        disk, chance = self._disk, self._disk.chance
        faults = disk.faults
        if not (faults.delay_s or faults.slow or faults.refused or faults.unsure):
            disk.append(run, expected, epoch, records)
            return
        drawn = chance.random()
        if drawn < faults.refused:
            disk.counts["refused"] += 1
            raise StorageFailed("the disk refused: nothing was written")
        unsure = drawn < faults.refused + faults.unsure
        wait_s = min(chance.expovariate(1 / faults.delay_s), 20 * faults.delay_s) if faults.delay_s else 0.0
        if chance.random() < faults.slow:
            disk.counts["slow"] += 1
            wait_s += chance.uniform(0.5, 10.0)
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        batch = tuple(records)

        def write() -> None:  # the server's doing: whoever asked may be frozen, or gone
            try:
                disk.append(run, expected, epoch, batch)
            except Exception as error:  # noqa: BLE001 - it is raised where the append is awaited
                if not written.done():
                    written.set_exception(error)
                return
            if not written.done():
                written.set_result(None)

        loop.call_later(wait_s, write, context=NOBODY)
        await written
        if unsure:
            disk.counts["unsure"] += 1
            raise StorageFailed("the disk failed: whether the batch is written is not known")

    def read(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        """Yield a run's envelopes. See `EventLog.read`."""
        self._check()
        return self._disk.log.read(run, start, end)

    def lines(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield a run's records as they were written."""
        self._check()
        return self._disk.log.lines(run, start, end)

    def all_lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of all runs."""
        self._check()
        return self._disk.log.all_lines()

    async def runs(self) -> Sequence[RunInfo]:
        """List the runs, newest first."""
        self._check()
        return await self._disk.log.runs()

    async def info(self, run: str) -> RunInfo:
        """Return what the list of runs says of one."""
        self._check()
        return await self._disk.log.info(run)

    async def owned(self, *, besides: Owner | None = None) -> Sequence[Owned]:
        """List the runs that somebody owns."""
        self._check()
        return await self._disk.log.owned(besides=besides)

    async def head(self, run: str) -> tuple[int, str]:
        """Return the last position and its hash."""
        self._check()
        return await self._disk.log.head(run)

    async def verify(self, run: str, *, head: str | None = None) -> int:
        """Recompute the chain of hashes. See `EventLog.verify`."""
        self._check()
        return await self._disk.log.verify(run, head=head)

    async def beat(self, owner: Owner) -> None:
        """Say that an owner is alive."""
        self._check()
        self._disk.beats[owner] = asyncio.get_running_loop().time()

    async def silent(self, run_owners: Iterable[Owner], after_s: float) -> set[Owner]:
        """Return those that were not heard for so long, or never. While the log was away nobody could be heard."""
        self._check()
        disk, now = self._disk, asyncio.get_running_loop().time()
        heard = {owner: max(disk.beats.get(owner, float("-inf")), disk.down_until) for owner in run_owners}
        return {owner for owner, at in heard.items() if at + after_s <= now}

    def _check(self) -> None:
        if self._gone:
            raise StorageFailed("the process is gone")
        if asyncio.get_running_loop().time() < self._disk.down_until:
            self._disk.counts["down"] += 1
            raise StorageFailed("the disk is away")


def at_once(call: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing, and return what it returns."""
    try:
        call.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits for something")
