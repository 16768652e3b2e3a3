"""What a hub gives and takes of its files, for whoever asks on a topic that proves who it is.

The same for agents (under their leases) and clients (under their runs): which of the two is said by `under` and
`access`. It answers a note with a note and sends nothing itself: `swarm/files/service.py` does, for agents; a hub
that hears clients hands their notes in itself, those of its own runs.

What is here already need not be brought again, but only where whoever asks may read it anyway: else who knows a file's
hash could have it by saying it had brought it.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from bus.errors import BadEnvelope, BusError, NotFound
from bus.event_log import Files
from bus.events import Fact
from bus.file_notes import CHUNK_BYTES, Answer, Call, Chunk, Get, Put, Refused, Stored, Under, note_of, read_call
from bus.pubsub import Note
from swarm.files.rights import Access, Claims, Rights, run_watchers, unbacked
from swarm.files.uploads import Key, Uploads, Whole

log = logging.getLogger("swarm.hub")

MOST_OPEN_BYTES = 64 * 1024 * 1024
"""Of files that are being read, kept so that each part is not a reading of the whole; one file may be larger."""
MOST_SERVED_BYTES = 16 * 1024 * 1024 * 1024
"""Read from the store for one lease or run, each reading counted in full: an agent cannot keep a hub busy for ever."""
_MOST_BROUGHT = 200_000
"""Hashes brought under one lease that are remembered; small files, many of them."""


def backing(rights: Rights, shelf: "Shelf", is_own: Callable[[str], bool]) -> Callable[[str, str, Fact], bool]:
    """Return what tells whether an agent may name, under a lease, the files that its event names.

    It may name what its request does and what it has brought; agents of our own process are at our store.
    """

    def backed(agent: str, lease: str, event: Fact) -> bool:
        return is_own(agent) or not unbacked(event, rights.readable(agent, lease) | shelf.brought(agent, lease))

    return backed


class Kept(Files, Protocol):
    """Files that can be asked for without being read."""

    async def has(self, sha256s: Sequence[str]) -> Mapping[str, bool]:
        """Tell which are there."""
        ...


@dataclass(slots=True)
class _Account:
    """What was brought and read under a lease or run."""

    brought: set[str] = field(default_factory=set)
    parcels: set[str] = field(default_factory=set)
    bytes: int = 0
    served: int = 0


@dataclass(slots=True)
class Shelf:
    """Answers calls for files. `parcels`: where payloads lie that are claimed; by default among the files."""

    files: Kept
    access: Access
    parcels: Kept | None = None
    claims: Claims = field(default_factory=Claims)
    under: Under = "lease"
    settles_s: float = 0.0
    """How long after its start a call under what it does not know is not answered: a hub that starts has yet to learn
    from its log who holds what, and a refusal would end an attempt."""
    clock: Callable[[], float] = monotonic
    dropped: Counter[str] = field(default_factory=Counter)
    """Why calls were passed over or refused, and how often."""
    uploads: Uploads = field(default_factory=Uploads)
    _settled_at: float = 0.0
    _accounts: dict[tuple[str, str], _Account] = field(default_factory=dict)
    _storing: set[Key] = field(default_factory=set)
    _open: "OrderedDict[tuple[str, bool], bytes]" = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.uploads.dropped = self.dropped
        self._settled_at = self.clock() + self.settles_s

    async def answer(self, who: str, note: Note) -> Note | None:
        """Return what to answer a call; None where nothing is to be said. Any note may come, from anybody."""
        try:
            call = read_call(note, self.under)
        except BadEnvelope as error:
            self.dropped["malformed"] += 1
            log.info("a call for a file cannot be read", extra={"who": who, "error": str(error)})
            return None
        known = self.access.room(who, call.under) or (isinstance(call, Get) and call.parcel)
        if not known and self.clock() < self._settled_at:
            self.dropped["not known yet"] += 1
            return None
        try:
            said = await (self._get(who, call) if isinstance(call, Get) else self._put(who, call))
        except BusError as error:
            self.dropped["the store failed"] += 1
            log.warning("the store of files failed", extra={"who": who, "error": str(error)})
            said = Refused(call.under, call.sha256, "the hub's store of files failed; its log says more")
        return None if said is None else note_of(said, self.under)

    def brought(self, who: str, under: str) -> frozenset[str]:
        """Return the hashes of the files that were brought under a lease or run."""
        return frozenset(self._accounts.get((who, under), _NOTHING).brought)

    async def parcel(self, who: str, under: str, sha256: str) -> bytes:
        """Return a payload that was brought under a lease or run. Raises `NotFound` for any other."""
        if sha256 not in self._accounts.get((who, under), _NOTHING).parcels:
            raise NotFound(f"{who} has brought no payload {sha256} under {under[:80]!r}")
        return await self._store(parcel=True).get(sha256)

    async def claimed(self, who: str, sha256: str) -> bytes:
        """Return a payload that is claimed to somebody. Raises `NotFound` for any other."""
        if not self.claims.has(who, sha256):
            raise NotFound(f"no payload {sha256} is claimed to {who}")
        return await self._store(parcel=True).get(sha256)

    async def keep_parcel(self, who: str, payload: bytes) -> str:
        """Keep a payload that is claimed to somebody, and return its SHA-256."""
        sha256 = await self._store(parcel=True).put(payload)
        self.claims.give(who, sha256)
        return sha256

    def ended(self, who: str, under: str) -> None:
        """Forget what was brought under a lease or run that is over, and drop what is unfinished."""
        self.uploads.end(who, under)
        self._accounts.pop((who, under), None)

    def sweep(self) -> None:
        """Drop what is silent, and what belongs to leases or runs that are over; call it every few seconds."""
        self.uploads.sweep(self.clock())
        for who, under in {*self._accounts, *self.uploads.rights()}:
            if not self.access.room(who, under):
                self.ended(who, under)
        self._open.clear()

    # Given

    async def _get(self, who: str, call: Get) -> Answer | None:
        account = self._accounts.get((who, call.under), _NOTHING)
        if call.parcel:
            allowed = self.claims.has(who, call.sha256) or (
                self.under == "run" and self.claims.has(run_watchers(call.under), call.sha256)
            )
        else:
            allowed = self.access.may_get(who, call.under, call.sha256) or (
                call.sha256 in account.brought and self.access.room(who, call.under) > 0
            )
        if not allowed:
            return self._refused(call, "not theirs", f"no {self.under} of yours names it")
        if account.served > MOST_SERVED_BYTES:
            return self._refused(call, "read too often", f"too much was read under this {self.under}")
        try:
            data = await self._read(call, self._account(who, call.under))
        except NotFound:
            return self._refused(call, "not there", "the hub does not have it (any more)")
        if call.offset > len(data):
            return self._refused(call, "beyond the end", f"it has {len(data):,} bytes")
        part = data[call.offset : call.offset + CHUNK_BYTES]
        return Chunk(call.under, call.sha256, len(data), call.offset, part)

    async def _read(self, call: Get, account: _Account) -> bytes:
        key = call.sha256, call.parcel
        data = self._open.get(key)
        if data is None:
            data = await self._store(call.parcel).get(call.sha256)
            account.served += len(data)
            self._open[key] = data
            while len(self._open) > 1 and sum(map(len, self._open.values())) > MOST_OPEN_BYTES:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(key)
        account.served += CHUNK_BYTES
        return data

    # Taken

    async def _put(self, who: str, call: Put) -> Answer | None:
        key = who, call.under, call.sha256
        allowed = self.access.room(who, call.under)
        if not allowed:
            self.ended(who, call.under)
            return self._refused(call, "no such lease", f"you hold no such {self.under}", held=False)
        account = self._account(who, call.under)
        if await self._is_here(who, call, account):
            return Stored(call.under, call.sha256)
        if key in self._storing:
            return None  # its last part came twice
        if len(account.brought) + len(account.parcels) >= _MOST_BROUGHT:
            return self._refused(call, "too many files", f"too many files were brought under this {self.under}")
        room = allowed - account.bytes - self.uploads.reserved(who, call.under)
        said = self.uploads.take(who, call, room, self.clock())
        return await self._keep(call, said, account) if isinstance(said, Whole) else said

    async def _is_here(self, who: str, call: Put, account: _Account) -> bool:
        if call.parcel:
            return call.sha256 in account.parcels and await self._has(call)
        if call.sha256 in account.brought:
            return await self._has(call)
        return self.access.may_get(who, call.under, call.sha256) and await self._has(call)

    async def _has(self, call: Put) -> bool:
        """Tell whether a file is there; asked only where it ought to be."""
        return (await self._store(call.parcel).has([call.sha256]))[call.sha256]

    async def _keep(self, call: Put, whole: Whole, account: _Account) -> Answer:
        self._storing.add(whole.key)
        account.bytes += len(whole.data)
        try:
            await self._store(call.parcel).put(whole.data)
        except BaseException:
            account.bytes -= len(whole.data)
            raise
        finally:
            self._storing.discard(whole.key)
        (account.parcels if call.parcel else account.brought).add(call.sha256)
        return Stored(call.under, call.sha256)

    def _store(self, parcel: bool) -> Kept:  # noqa: FBT001 - the calls say it
        return self.parcels if parcel and self.parcels is not None else self.files

    def _account(self, who: str, under: str) -> _Account:
        return self._accounts.setdefault((who, under), _Account())

    def _refused(self, call: Call, reason: str, why: str, *, held: bool = True) -> Refused:
        self.dropped[reason] += 1
        return Refused(call.under, call.sha256, why, held)


_NOTHING = _Account()
"""That of whoever has brought and read nothing; never changed."""


async def keep_sweeping(shelf: Shelf, every_s: float) -> None:
    """Sweep until cancelled."""
    while True:
        await asyncio.sleep(every_s)
        shelf.sweep()
