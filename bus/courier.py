"""Edge of whoever has no disk in common with a hub: files are fetched and brought over the bus, and kept here.

One courier serves a process. What it fetches is bounded in size and checked against its hash; what is lost on the way
is asked for again, from where it stopped, and only after a while without any progress it gives up. One hash is on its
way once at a time, whoever wants it.
"""

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from bus import topics
from bus.errors import BadEnvelope, BusUnavailable, NotFound, NotHeld, Refused
from bus.event_log import Files
from bus.file_notes import (
    MOST_BYTES,
    Answer,
    Call,
    Chunk,
    Get,
    More,
    Put,
    Stored,
    Under,
    check_sha256,
    note_of,
    read_answer,
)
from bus.file_notes import Refused as RefusedNote
from bus.file_parts import Download, Upload
from bus.pubsub import Bus, Note

log = logging.getLogger("swarm.bus")

AT_ONCE = 3
"""Files that are fetched at once, and that are brought at once; a hub takes four of an agent, one being a parcel."""
MOST_RESTARTS = 16
"""How often a hub may say that it has less than it said before, of one file."""
_QUEUED = 64
_HASHED_HERE_BYTES = 1 << 20
_SILENT = "no hub answered"


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. The wait for an answer doubles from the first to the longest; the last is without any progress."""

    first_s: float = 2.0
    longest_s: float = 15.0
    give_up_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Route:
    """Where files are asked for, where answers come, and what names the right to them."""

    calls: Callable[[str], str]
    """The topic for calls to a hub."""
    answers: str
    under: Under
    names_hub: bool = False
    """Whether calls say which hub they are for, since others hear them too."""


def route_of_agent(agent: str) -> Route:
    """Return the way of an agent's files: under its leases."""
    return Route(lambda hub: topics.hub_files(hub, agent), topics.agent_files(agent), "lease")


def route_of_client(client: str) -> Route:
    """Return the way of a client's files: under its runs. All hubs hear it; the one that is named answers.

    Where none is named (""), whoever has the run does.
    """
    calls = topics.submission(client)
    return Route(lambda _: calls, topics.client_files(client), "run", names_hub=True)


@dataclass(slots=True)
class Courier:
    """Fetches and brings files; `run` it beside whoever uses it. `cache`: what was fetched or brought is kept there."""

    bus: Bus
    route: Route
    cache: Files
    patience: Patience = Patience()
    dropped: Counter[str] = field(default_factory=Counter)
    """Why notes were passed over, and how often."""
    _listening: asyncio.Event = field(default_factory=asyncio.Event)
    _answers: "dict[str, asyncio.Queue[Answer]]" = field(default_factory=dict)
    """By the hash of what is on its way."""
    _locks: "WeakValueDictionary[str, asyncio.Lock]" = field(default_factory=WeakValueDictionary)
    _room: dict[tuple[type[Call], bool], asyncio.Semaphore] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in (Get, Put):
            self._room[kind, False] = asyncio.Semaphore(AT_ONCE)
            self._room[kind, True] = asyncio.Semaphore(1)  # parcels never wait for files

    async def run(self) -> None:
        """Listen to what hubs answer, until cancelled."""
        try:
            async with self.bus.subscribe(self.route.answers, kinds=Note, capacity=4 * _QUEUED) as inbox:
                self._listening.set()
                async for received in inbox:
                    self._take(received.content)
                    received.acknowledge()
        finally:
            self._listening.clear()

    def files(self, hub: Callable[[], str], under: str) -> "RemoteFiles":
        """Return the files of a hub, under a lease or run. `hub` is asked before each note: a run may move."""
        return RemoteFiles(self, hub, under)

    async def fetch(
        self, hub: Callable[[], str], under: str, sha256: str, *, size: int | None = None, parcel: bool = False
    ) -> bytes:
        """Return a file, from here or from the hub; a parcel is not kept here.

        Raises `NotFound` with the hub's reason, `BusUnavailable` where no answer comes for too long, `Damaged`,
        `TooLarge`.
        """
        if check_sha256(sha256) is None:
            raise NotFound(f"{sha256!r:.80} is no hash of a file")
        async with self._lock(sha256):
            if not parcel:
                try:
                    return await self.cache.get(sha256)
                except NotFound:
                    pass  # it is fetched
            async with self._room[Get, parcel]:
                data = await self._download(hub, under, Download(sha256, size=size), parcel=parcel)
            if not parcel:
                await self.cache.put(data)
        return data

    async def bring(self, hub: Callable[[], str], under: str, data: bytes, *, parcel: bool = False) -> str:
        """Bring bytes to the hub, and return their SHA-256 once it has them; a parcel is not kept here.

        Raises `Refused` with the hub's reason, `NotHeld` where it is not ours any more to bring, `BusUnavailable` where
        no answer comes for too long, `TooLarge`.
        """
        if len(data) > MOST_BYTES:
            raise Refused(f"a file of {len(data):,} bytes is too large: the bus carries {MOST_BYTES:,} of one file")
        sha256 = await _sha256(data)
        async with self._lock(sha256):
            if not parcel:
                await self.cache.put(data)
            async with self._room[Put, parcel]:
                await self._upload(hub, under, sha256, data, parcel=parcel)
        return sha256

    # One file

    async def _download(self, hub: Callable[[], str], under: str, download: Download, *, parcel: bool) -> bytes:
        sha256 = download.sha256
        async with self._transfer(sha256, under, f"the file {sha256} was not fetched") as transfer:
            while not download.complete:
                for offset in download.wanted():
                    await transfer.say(hub, Get(under, sha256, offset, parcel))
                match await transfer.answer():
                    case None:
                        download.again()
                    case Chunk() as chunk:
                        transfer.went_on(download.take(chunk))
                    case RefusedNote() if not transfer.is_of(hub):
                        if transfer.pass_over(hub):
                            download.again()
                    case RefusedNote(why=why):
                        raise NotFound(f"the hub does not give the file {sha256}: {why}")
                    case _:
                        self.dropped["an answer that does not fit"] += 1
        if (download.size or 0) > _HASHED_HERE_BYTES:
            return await asyncio.to_thread(download.whole)
        return download.whole()

    async def _upload(self, hub: Callable[[], str], under: str, sha256: str, data: bytes, *, parcel: bool) -> None:
        upload = Upload(len(data))
        async with self._transfer(sha256, under, f"the file {sha256} was not brought") as transfer:
            while upload.restarts <= MOST_RESTARTS:
                for offset, length in upload.wanted():
                    part = data[offset : offset + length]
                    await transfer.say(hub, Put(under, sha256, len(data), offset, part, parcel))
                match await transfer.answer():
                    case None:
                        upload.again()
                    case More(offset=offset):
                        transfer.went_on(upload.take(offset))
                    case Stored():
                        return
                    case RefusedNote() if not transfer.is_of(hub):
                        if transfer.pass_over(hub):
                            upload.again()
                    case RefusedNote(why=why, held=False):
                        raise NotHeld(f"the hub does not take the file {sha256}: {why}")
                    case RefusedNote(why=why):
                        raise Refused(f"the hub does not take the file {sha256} of {len(data):,} bytes: {why}")
                    case _:
                        self.dropped["an answer that does not fit"] += 1
        raise BusUnavailable(
            f"the file {sha256} was not brought: the hub lost what it had of it {upload.restarts} times"
        )

    @asynccontextmanager
    async def _transfer(self, sha256: str, under: str, failed: str) -> AsyncIterator["_Transfer"]:
        answers: asyncio.Queue[Answer] = asyncio.Queue(_QUEUED)
        self._answers[sha256] = answers
        try:
            yield _Transfer(self, answers, under, failed)
        finally:
            del self._answers[sha256]

    def _lock(self, sha256: str) -> asyncio.Lock:
        return self._locks.setdefault(sha256, asyncio.Lock())

    # What comes

    def _take(self, note: Note) -> None:
        """Hand an answer to whoever waits for it; it was written by others, and nothing is kept that nobody wants."""
        try:
            answer = read_answer(note, self.route.under)
        except BadEnvelope as error:
            self.dropped["malformed"] += 1
            log.info("an answer for a file cannot be read: %s", error)
            return
        answers = self._answers.get(answer.sha256)
        if answers is None:
            self.dropped["nobody waits for it"] += 1
        elif answers.full():
            self.dropped["too many at once"] += 1
        else:
            answers.put_nowait(answer)

    async def listening(self) -> None:
        """Return once answers can come."""
        await self._listening.wait()


@dataclass(slots=True)
class RemoteFiles:
    """Meets `bus.event_log.Files`: those of a hub, under one lease or run."""

    courier: Courier
    hub: Callable[[], str]
    under: str

    async def put(self, data: bytes) -> str:
        """Bring bytes to the hub, and return their SHA-256. See `Courier.bring`."""
        return await self.courier.bring(self.hub, self.under, data)

    async def get(self, sha256: str) -> bytes:
        """Return the bytes. See `Courier.fetch`."""
        return await self.courier.fetch(self.hub, self.under, sha256)


class _Transfer:
    """The talk about one file, and how long it has led to nothing."""

    def __init__(self, courier: Courier, answers: "asyncio.Queue[Answer]", under: str, failed: str) -> None:
        self._courier = courier
        self._answers = answers
        self._under = under
        self._failed = failed
        self._why = _SILENT
        self._asked: set[str] = set()
        """Hubs that were asked, and that may still answer."""
        self._passed_over = False
        """A refusal was, since the last wait."""
        self._clock = asyncio.get_running_loop().time
        self._began = self._clock()
        self._wait_s = courier.patience.first_s

    async def say(self, hub: Callable[[], str], call: Call) -> None:
        """Send a call; where the bus is away it counts as one that nobody answered."""
        try:
            route, asked = self._courier.route, hub()
            self._asked.add(asked)
            note = note_of(call, route.under)
            if route.names_hub and asked:
                note = Note(note.kind, {**note.fields, "hub": asked})
            await self._courier.bus.publish_note(route.calls(asked), note)
        except BusUnavailable as error:
            self._why = str(error)

    def is_of(self, hub: Callable[[], str]) -> bool:
        """Tell whether an answer can only be of the hub that the run is with now.

        Where it has moved meanwhile, the one that was asked first may answer late that it has no such lease, as it has.
        """
        return self._asked == {hub()}

    def pass_over(self, hub: Callable[[], str]) -> bool:
        """Pass over a refusal that may be of a hub that the run has left; tell whether to ask again at once.

        That is so where the hub that the run is with now has not been asked. Else it is asked after a wait; by then the
        others have said what they had to, and a refusal is its own.
        """
        self._courier.dropped["refused by a hub that the run may have left"] += 1
        self._passed_over = True
        self._wait_s = self._courier.patience.first_s
        return hub() not in self._asked

    async def answer(self) -> Answer | None:
        """Return the next answer, or None after a wait. Raises `BusUnavailable` once that has been too long."""
        patience = self._courier.patience
        left_s = self._began + patience.give_up_s - self._clock()
        if left_s <= 0:
            raise BusUnavailable(f"{self._failed}: {self._why} for {patience.give_up_s:g} s")
        try:
            async with asyncio.timeout(min(self._wait_s, left_s)):
                await self._courier.listening()
                while (answer := await self._answers.get()).under != self._under:
                    self._courier.dropped["under another right"] += 1
                return answer
        except TimeoutError:
            self._wait_s = min(2 * self._wait_s, patience.longest_s)
            if self._passed_over:
                self._passed_over = False
                self._asked.clear()
            return None

    def went_on(self, news: bool) -> None:  # noqa: FBT001 - said of the answer just taken
        """Note whether an answer led on."""
        self._why = _SILENT if news else "it went no further"
        if news:
            self._began = self._clock()
            self._wait_s = self._courier.patience.first_s


async def _sha256(data: bytes) -> str:
    if len(data) > _HASHED_HERE_BYTES:
        return await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
    return hashlib.sha256(data).hexdigest()
