"""An event log in memory, for tests and for runs that nobody wants to keep."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from bus.chain import START, check_turn, lines_after, link
from bus.codec import encode
from bus.envelope import Envelope
from bus.errors import Conflict, Damaged, NotFound
from bus.event_log import MarkStore, Owner, RunInfo
from bus.mark_store import MemoryMarkStore


@dataclass(slots=True)
class _Run:
    """A run: `records` are its own, and stand after the first `begins` positions of `parent`."""

    owner: Owner | None
    parent: "_Run | None"
    begins: int
    epoch: int = 1
    size: int = 0
    records: list[tuple[Envelope, bytes]] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.begins + len(self.records)

    def at(self, position: int) -> tuple[Envelope, bytes]:
        """Return the record at a position, from 1, and its hash."""
        run = self
        while run.parent is not None and position <= run.begins:
            run = run.parent
        return run.records[position - run.begins - 1]

    def hash_at(self, position: int) -> bytes:
        return self.at(position)[1] if position else START


class MemoryEventLog:
    """Meets `bus.event_log.EventLog`; what it holds is gone with it."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self.marks: MarkStore = MemoryMarkStore(self._hash_at)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Keep everything: it may be opened again."""

    async def create(self, run: str, owner: Owner, *, parent: tuple[str, int] | None = None) -> int:
        """Begin a run. See `EventLog.create`."""
        if run in self._runs:
            raise Conflict(f"run {run!r} exists already")
        origin, begins = (None, 0) if parent is None else (self._run(parent[0]), parent[1])
        if origin is not None and not 0 <= begins <= origin.length:
            raise NotFound(f"run {parent and parent[0]!r} has no position {begins}: it ends at {origin.length}")
        self._runs[run] = _Run(owner, origin, begins)
        return 1

    async def take(self, run: str, owner: Owner, *, previous: Owner | None) -> int:
        """Become the owner of a run. See `EventLog.take`."""
        found = self._run(run)
        if found.owner != previous:
            raise Conflict(f"run {run!r} belongs to {found.owner} by now, not to {previous}")
        found.owner = owner
        found.epoch += 1
        return found.epoch

    async def release(self, run: str, epoch: int) -> None:
        """Stop being the owner."""
        found = self._run(run)
        if found.epoch == epoch:
            found.owner = None

    async def append(self, run: str, expected: int, epoch: int, records: Sequence[Envelope]) -> None:
        """Record envelopes. See `EventLog.append`."""
        lines = lines_after(expected, records)
        found = self._run(run)
        owned = None if found.owner is None else found.epoch
        check_turn(run, owned=owned, length=found.length, epoch=epoch, expected=expected)
        digest = found.hash_at(found.length)
        for record, line in zip(records, lines, strict=True):
            digest = link(digest, line)
            found.records.append((record, digest))
            found.size += len(line)

    async def read(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        """Yield a run's envelopes. See `EventLog.read`."""
        found = self._run(run)
        position = max(start, 1)
        while position <= found.length and (end is None or position <= end):
            yield found.at(position)[0]
            position += 1

    async def runs(self) -> Sequence[RunInfo]:
        """List the runs, newest first."""
        return [
            RunInfo(run, it.epoch, it.length, it.size, it.owner, it.records[0][0].time if it.records else "")
            for run, it in reversed(self._runs.items())
        ]

    async def head(self, run: str) -> tuple[int, str]:
        """Return the last position and its hash."""
        found = self._run(run)
        return found.length, found.hash_at(found.length).hex()

    async def verify(self, run: str) -> int:
        """Recompute the chain of hashes and return the length."""
        found = self._run(run)
        digest = START
        for position in range(1, found.length + 1):
            record, stored = found.at(position)
            digest = link(digest, encode(record))
            if digest != stored:
                raise Damaged(f"run {run!r}: the record at position {position} is not the one that was written")
        return found.length

    def _hash_at(self, run: str, position: int) -> bytes | None:
        found = self._runs.get(run)
        return found.hash_at(position) if found is not None and position <= found.length else None

    def _run(self, run: str) -> _Run:
        try:
            return self._runs[run]
        except KeyError:
            raise NotFound(f"there is no run {run!r}") from None
