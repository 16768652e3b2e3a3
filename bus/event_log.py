"""Contract: append at an expected position, then read from one. The event log is the truth.

Positions of a run are 1, 2, 3 … without gaps; each record carries the hash of the one before. One suite
(`tests/bus/test_event_log.py`) holds for all stores.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

from bus.envelope import Envelope
from bus.errors import LogError


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that may write a run."""

    host: str
    pid: int
    started: str
    """When and where that process started (boot id, namespace of pids, start ticks): a pid alone may be another's."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run as the store lists it."""

    run: str
    epoch: int
    length: int
    """Position of its last record."""
    bytes: int
    owner: Owner | None
    created: str
    """Time of its first record, RFC 3339; of an imported run whatever its archive says."""
    imported: bool = False
    """It came from elsewhere and is read-only: nobody may own it, but forks may begin in it."""


@dataclass(frozen=True, slots=True)
class Owned:
    """Who may write a run."""

    run: str
    epoch: int
    owner: Owner


@dataclass(frozen=True, slots=True)
class Mark:
    """What a run's log adds up to at a position. `maker` stands for the code that made `data` and understands it."""

    run: str
    position: int
    maker: str
    data: bytes


class MarkStore(Protocol):
    """Marks, beside the log that they are made of, so that nobody must read it from its beginning.

    They are never the truth: any of them may be gone at any time, and nothing but speed changes. One counts only while
    the record at its position is the very one it was made after.
    """

    def keep(self, mark: Mark) -> None:
        """Keep a mark, with whatever is written next; that it is kept is not promised. Raises `StorageFailed`."""
        ...

    async def newest(self, run: str, maker: str, end: int | None = None) -> Mark | None:
        """Return the newest mark of this maker up to a position, be it made of what a fork shares with its parent."""
        ...

    def unkept(self) -> Sequence[Mark]:
        """Return the marks that were to be kept where nothing may be written."""
        ...


class EventLog(Protocol):
    """A store of runs. Opened and closed by `async with`. Any number of readers; one writer a run."""

    marks: MarkStore

    @property
    def failure(self) -> LogError | None:
        """What ended writing, for good: whatever is to be written is refused until the store is opened again.

        None as long as trying again may help.
        """
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *exc: object) -> None: ...

    async def create(self, run: str, owner: Owner, *, parent: tuple[str, int] | None = None) -> int:
        """Begin a run (at a position of a parent's log, for a fork) and return its epoch, 1.

        Raises `Conflict` if it exists or cannot be named so, `NotFound` where the parent has no such position.
        """
        ...

    async def take(self, run: str, owner: Owner, *, previous: Owner | None) -> int:
        """Become the owner of a run and return the new epoch; every older epoch is fenced off.

        `previous` is the owner one has seen (`runs`) and found gone. Raises `Conflict` if it is another by now or the
        run is imported, `NotFound` if there is no such run.
        """
        ...

    async def release(self, run: str, epoch: int) -> None:
        """Stop being the owner; nothing happens if one no longer is."""
        ...

    async def adopt(self, run: str, lines: Iterable[bytes]) -> tuple[int, str]:
        """Take in a whole run from elsewhere, all or nothing, as exactly these lines; return its length and head.

        It is imported: read-only until it is forked. `lines` may be gone through more than once. Raises `Conflict` if
        the run exists or cannot be named so, `BadEnvelope` for a line that is no event at its position, `TooNew`, and
        what `lines` raises of `BusError`.
        """
        ...

    async def remove(self, run: str, *, previous: Owner | None) -> None:
        """Remove a run: it is listed and opened no more, and its name is free.

        Forks of it stay whole: what they share with it goes with the last of them. `previous` is as in `take`. Raises
        `Conflict` if the owner is another by now, `NotFound` if there is no such run.
        """
        ...

    async def append(self, run: str, expected: int, epoch: int, records: Sequence[Envelope]) -> None:
        """Record envelopes at positions expected + 1 …, all or none, durable on return.

        Their `sequence` must say the same positions. Batches that arrive together (also of several runs) share one
        transaction. Raises `Conflict` where the run is not at `expected` or the epoch is not the owner's,
        `StorageFailed` where the disk refuses.
        """
        ...

    def read(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        """Yield a run's envelopes from position `start` to `end` (inclusive) or its end; none where it ends before.

        Raises `NotFound`, `Damaged` (numbering), `TooNew`.
        """
        ...

    def lines(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield a run's records as exactly the lines that were written. Raises `NotFound`, `Damaged` (numbering)."""
        ...

    def all_lines(self) -> AsyncIterator[bytes]:
        """Yield at least once each line that is part of any run, in no order."""
        ...

    async def runs(self) -> Sequence[RunInfo]:
        """List the runs, newest first."""
        ...

    async def info(self, run: str) -> RunInfo:
        """Return what the list of runs says of one. Raises `NotFound`."""
        ...

    async def owned(self, *, besides: Owner | None = None) -> Sequence[Owned]:
        """List the runs that somebody owns, but for those of one owner, in no order. Hubs ask it every few seconds."""
        ...

    async def head(self, run: str) -> tuple[int, str]:
        """Return the last position and its hash (hex); (0, 64 zeros) for an empty run."""
        ...

    async def verify(self, run: str, *, head: str | None = None) -> int:
        """Recompute the chain of hashes and return the length. Raises `Damaged` naming the first bad position.

        `head`: a hash of this run that was kept elsewhere; `Damaged` also where no record has it by now.
        """
        ...


@runtime_checkable
class Heartbeats(Protocol):
    """What a store may offer besides: owners say that they are alive, and others learn who does not any more.

    Only the store's clock counts, never an owner's. While the store itself is away nobody is heard: who could not say
    that it is alive believes in nobody's silence until all have had `after_s` to be heard again. Nothing here guards a
    run: that is `EventLog.take` and the epoch.
    """

    async def beat(self, owner: Owner) -> None:
        """Say that an owner is alive: before it creates or takes its first run, then again and again.

        Raises `StorageFailed`.
        """
        ...

    async def silent(self, run_owners: Iterable[Owner], after_s: float) -> set[Owner]:
        """Return those that were not heard for `after_s` seconds, or never. Raises `StorageFailed`."""
        ...


async def read_at(log: EventLog, run: str, positions: Sequence[int]) -> AsyncIterator[Envelope]:
    """Yield the envelopes at some positions, given in rising order. Raises what `EventLog.read` does."""
    at = 0
    while at < len(positions):
        begins = at
        while at + 1 < len(positions) and positions[at + 1] - positions[at] <= _NEAR:
            at += 1
        at += 1
        wanted = set(positions[begins:at])
        async for envelope in log.read(run, positions[begins], positions[at - 1]):
            if envelope.sequence in wanted:
                yield envelope


_NEAR = 8
"""Up to this distance reading what lies between costs less than asking the store anew."""


class Files(Protocol):
    """The bytes of files by their SHA-256 (hex)."""

    async def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256."""
        ...

    async def get(self, sha256: str) -> bytes:
        """Return the bytes. Raises `NotFound`; `Damaged` where they do not have that hash."""
        ...


class FileStore(Files, Protocol):
    """The bytes of files by their SHA-256 (hex), written once.

    Small ones may be held back until the next `EventLog.append` of the same store, which writes them in its
    transaction: before the event that names them is durable, nobody else can know of them. Where much is held back,
    `put` waits until it is written.
    """

    async def has(self, sha256s: Sequence[str]) -> Mapping[str, bool]:
        """Tell which are there."""
        ...

    async def sizes(self) -> Mapping[str, int]:
        """Return how many bytes each file has."""
        ...

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Be the only one that has the store open for writing, for as long as the context lasts.

        Whoever has it open may have put files that no event names yet. Raises `Conflict` where somebody else has.
        """
        ...

    async def remove(self, sha256s: Iterable[str]) -> None:
        """Remove files, and what a crash left half written. Only within `alone`."""
        ...

    async def compact(self) -> int:
        """Give the room that removed runs and files have left back to the disk, if it is much; return how many bytes.

        Only within `alone`.
        """
        ...
