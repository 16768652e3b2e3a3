"""An event log in memory, for tests and for runs that nobody wants to keep."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from bus.chain import START, check_head, check_name, check_owner, check_turn, lines_after, link, read_lines, read_only
from bus.envelope import Envelope
from bus.errors import Conflict, Damaged, LogError, NotFound
from bus.event_log import MarkStore, Owned, Owner, RunInfo
from bus.mark_store import MemoryMarkStore


@dataclass(frozen=True, slots=True)
class _Record:
    envelope: Envelope
    line: bytes
    digest: bytes


@dataclass(slots=True)
class _Run:
    """A run: `records` are its own, and stand after the first `begins` positions of `parent`.

    Removed, it lives on in its forks.
    """

    owner: Owner | None
    parent: "_Run | None"
    begins: int
    epoch: int = 1
    size: int = 0
    imported: bool = False
    records: list[_Record] = field(default_factory=list)

    @property
    def length(self) -> int:
        return self.begins + len(self.records)

    def at(self, position: int) -> _Record:
        """Return the record at a position, from 1."""
        run = self
        while run.parent is not None and position <= run.begins:
            run = run.parent
        return run.records[position - run.begins - 1]

    def hash_at(self, position: int) -> bytes:
        return self.at(position).digest if position else START

    def add(self, envelope: Envelope, line: bytes) -> None:
        digest = link(self.hash_at(self.length), line)
        self.records.append(_Record(envelope, line, digest))
        self.size += len(line)


class MemoryEventLog:
    """Meets `bus.event_log.EventLog` and `Heartbeats`; what it holds is gone with it."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._seen: dict[Owner, float] = {}
        self.marks: MarkStore = MemoryMarkStore(self._hash_at)
        self.failure: LogError | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Keep everything: it may be opened again."""

    async def create(self, run: str, owner: Owner, *, parent: tuple[str, int] | None = None) -> int:
        """Begin a run. See `EventLog.create`."""
        check_name(run)
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
        if found.imported:
            raise read_only(run)
        check_owner(run, found.owner, previous)
        found.owner = owner
        found.epoch += 1
        return found.epoch

    async def release(self, run: str, epoch: int) -> None:
        """Stop being the owner."""
        found = self._run(run)
        if found.epoch == epoch:
            found.owner = None

    async def adopt(self, run: str, lines: Iterable[bytes]) -> tuple[int, str]:
        """Take in a whole run from elsewhere. See `EventLog.adopt`."""
        check_name(run)
        if run in self._runs:
            raise Conflict(f"run {run!r} exists already")
        adopted = _Run(None, None, 0, imported=True)
        for envelope, line in read_lines(lines):
            adopted.add(envelope, line)
        self._runs[run] = adopted
        return await self.head(run)

    async def remove(self, run: str, *, previous: Owner | None) -> None:
        """Remove a run. See `EventLog.remove`."""
        check_owner(run, self._run(run).owner, previous)
        del self._runs[run]

    async def append(self, run: str, expected: int, epoch: int, records: Sequence[Envelope]) -> None:
        """Record envelopes. See `EventLog.append`."""
        lines = lines_after(expected, records)
        found = self._run(run)
        owned = None if found.owner is None else found.epoch
        check_turn(run, owned=owned, length=found.length, epoch=epoch, expected=expected)
        for record, line in zip(records, lines, strict=True):
            found.add(record, line)

    async def read(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        """Yield a run's envelopes. See `EventLog.read`."""
        async for record in self._records(run, start, end):
            yield record.envelope

    async def lines(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield a run's records as they were written."""
        async for record in self._records(run, start, end):
            yield record.line

    async def all_lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of all runs."""
        for run in list(self._runs):
            async for line in self.lines(run):
                yield line

    async def _records(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[_Record]:
        found = self._run(run)
        position = max(start, 1)
        while position <= found.length and (end is None or position <= end):
            yield found.at(position)
            position += 1

    async def runs(self) -> Sequence[RunInfo]:
        """List the runs, newest first."""
        return [_info(run, it) for run, it in reversed(self._runs.items())]

    async def info(self, run: str) -> RunInfo:
        """Return what the list of runs says of one."""
        return _info(run, self._run(run))

    async def owned(self, *, besides: Owner | None = None) -> Sequence[Owned]:
        """List the runs that somebody owns. See `EventLog.owned`."""
        held = ((run, it.epoch, it.owner) for run, it in self._runs.items())
        return [Owned(run, epoch, owner) for run, epoch, owner in held if owner is not None and owner != besides]

    async def head(self, run: str) -> tuple[int, str]:
        """Return the last position and its hash."""
        found = self._run(run)
        return found.length, found.hash_at(found.length).hex()

    async def verify(self, run: str, *, head: str | None = None) -> int:
        """Recompute the chain of hashes and return the length. See `EventLog.verify`."""
        found = self._run(run)
        digest = START
        for position in range(1, found.length + 1):
            record = found.at(position)
            digest = link(digest, record.line)
            if digest != record.digest:
                raise Damaged(f"run {run!r}: the event at position {position} is not the one that was written")
        check_head(run, head, {found.hash_at(at).hex() for at in range(found.length + 1)}, found.length)
        return found.length

    async def beat(self, owner: Owner) -> None:
        """Say that an owner is alive."""
        self._seen[owner] = time.monotonic()

    async def silent(self, run_owners: Iterable[Owner], after_s: float) -> set[Owner]:
        """Return those that were not heard for some time. See `Heartbeats.silent`."""
        since = time.monotonic() - after_s
        return {owner for owner in run_owners if self._seen.get(owner, since) <= since}

    def _hash_at(self, run: str, position: int) -> bytes | None:
        found = self._runs.get(run)
        return found.hash_at(position) if found is not None and position <= found.length else None

    def _run(self, run: str) -> _Run:
        try:
            return self._runs[run]
        except KeyError:
            raise NotFound(f"there is no run {run!r}") from None


def _info(name: str, run: _Run) -> RunInfo:
    created = run.records[0].envelope.time if run.records else ""
    return RunInfo(name, run.epoch, run.length, run.size, run.owner, created, run.imported)
