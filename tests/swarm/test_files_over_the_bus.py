"""Files both ways between an agent and a hub that have no disk in common: what arrives is whole, or a clear error."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import topics
from bus.courier import Courier, Patience, RemoteFiles, route_of_agent, route_of_client
from bus.errors import BusUnavailable, NotAllowed, NotFound, NotHeld, Refused
from bus.file_notes import CHUNK_BYTES, MOST_BYTES, Get, Put, note_of
from bus.file_store import MemoryFileStore
from bus.pubsub import Bus, Note
from bus.transport import Subscription, Transport
from bus.transports.memory import MemoryTransport
from swarm.files.rights import Rights
from swarm.files.service import MOST_WAITING, FileService
from swarm.files.shelf import Shelf
from swarm.files.uploads import MOST_UNFINISHED
from swarm.submissions import client as client_module
from tests.support.wired import Faults, FaultyTransport, WiredTransport

HUB, AGENT, OTHER, LEASE = "hub", "ann/1", "eve/1", "lease-1"
PATIENT = Patience(first_s=30.0, give_up_s=60.0)
"""Where nothing is lost nothing is waited for."""
QUICK = Patience(first_s=0.02, longest_s=0.05, give_up_s=30.0)


@dataclass
class Place:
    """A hub with its files, and agents at it."""

    bus: Bus
    service: FileService
    store: MemoryFileStore
    rights: Rights
    group: asyncio.TaskGroup

    @property
    def shelf(self) -> Shelf:
        return self.service.shelf

    async def courier(self, agent: str = AGENT, patience: Patience = PATIENT) -> Courier:
        courier = Courier(self.bus, route_of_agent(agent), MemoryFileStore(), patience)
        self.group.create_task(courier.run(), name=f"courier of {agent}")
        await courier.listening()
        return courier

    async def files(self, agent: str = AGENT, lease: str = LEASE, patience: Patience = PATIENT) -> RemoteFiles:
        return (await self.courier(agent, patience)).files(lambda: HUB, lease)


@asynccontextmanager
async def place(transport: Transport | None = None) -> AsyncIterator[Place]:
    async with transport or WiredTransport() as opened:
        bus, store, rights = Bus(opened), MemoryFileStore(), Rights()
        service = FileService(bus, HUB, Shelf(store, rights))
        async with asyncio.TaskGroup() as group:
            running = Place(bus, service, store, rights, group)
            tasks = [group.create_task(service.run(), name="hub's files")]
            await service.started.wait()
            before = asyncio.all_tasks()
            yield running
            for task in [
                *tasks,
                *(one for one in asyncio.all_tasks() - before if one.get_name().startswith("courier")),
            ]:
                task.cancel()


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


SIZES = [0, 1, 1_000, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 10 * CHUNK_BYTES + 17]


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_comes_as_it_was(size: int) -> None:
    async with place() as at:
        sha256 = await at.store.put(content(size))
        at.rights.give(AGENT, LEASE, [sha256])
        assert await (await at.files()).get(sha256) == content(size)
        assert not at.shelf.dropped


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_is_brought_as_it_is_and_may_be_fetched_again(size: int) -> None:
    async with place() as at:
        at.rights.give(AGENT, LEASE, ())
        sha256 = await (await at.files()).put(content(size))
        assert await at.store.get(sha256) == content(size)
        assert await (await at.files()).get(sha256) == content(size)
        assert at.shelf.brought(AGENT, LEASE) == {sha256}
        assert at.shelf.uploads.held == 0


async def test_what_was_fetched_or_brought_is_kept_and_not_fetched_again() -> None:
    async with place() as at:
        sha256 = await at.store.put(content(1_000))
        at.rights.give(AGENT, LEASE, [sha256])
        files = await at.files()
        await files.get(sha256)
        mine = await files.put(b"mine")
        at.rights.take_back(AGENT, LEASE)
        assert await files.get(sha256) == content(1_000)
        assert await files.get(mine) == b"mine"


async def test_many_who_want_one_file_fetch_it_once() -> None:
    async with place(transport := FaultyTransport(Faults(random.Random(0)))) as at:
        sha256 = await at.store.put(content(3 * CHUNK_BYTES))
        at.rights.give(AGENT, LEASE, [sha256])
        files = await at.files()
        found = await asyncio.gather(*(files.get(sha256) for _ in range(20)))
        assert set(found) == {content(3 * CHUNK_BYTES)}
        assert transport.faults.seen == 2 * 3


async def test_one_whose_lease_is_lost_does_not_spoil_the_file_for_another() -> None:
    async with place() as at:
        sha256 = await at.store.put(content(CHUNK_BYTES))
        at.rights.give(AGENT, "good", [sha256])
        courier = await at.courier()
        lost, good = courier.files(lambda: HUB, "lost"), courier.files(lambda: HUB, "good")
        refused, found = await asyncio.gather(lost.get(sha256), good.get(sha256), return_exceptions=True)
        assert isinstance(refused, NotFound)
        assert found == content(CHUNK_BYTES)


async def test_a_file_that_the_hub_has_and_one_may_read_is_not_sent_again() -> None:
    async with place(transport := FaultyTransport(Faults(random.Random(0)))) as at:
        data = content(20 * CHUNK_BYTES)
        at.rights.give(AGENT, LEASE, [await at.store.put(data)])
        await (await at.files()).put(data)
        assert transport.faults.seen == 2


async def test_a_file_that_the_hub_has_of_others_must_be_brought_as_a_whole() -> None:
    async with place(transport := FaultyTransport(Faults(random.Random(0)))) as at:
        secret = content(4 * CHUNK_BYTES)
        sha256 = await at.store.put(secret)
        at.rights.give(OTHER, LEASE, ())
        await at.bus.publish_note(
            topics.hub_files(HUB, OTHER), note_of(Put(LEASE, sha256, len(secret), 0))
        )  # knows its hash and size, and says that it brings it
        files = await at.files(OTHER)
        with pytest.raises(NotFound, match="no lease of yours names it"):
            await files.get(sha256)
        before = transport.faults.seen
        await files.put(secret)
        assert transport.faults.seen - before >= 4


async def test_an_agent_gets_nothing_that_its_own_lease_does_not_name() -> None:
    async with place() as at:
        sha256 = await at.store.put(b"secret")
        at.rights.give(AGENT, LEASE, [sha256])
        at.rights.give(OTHER, "lease-2", [])
        for agent, lease in ((OTHER, LEASE), (OTHER, "lease-2"), (OTHER, ""), (AGENT, "lease-2")):
            with pytest.raises(NotFound, match="no lease of yours"):
                await (await at.files(agent, lease)).get(sha256)


async def test_the_lease_that_ends_takes_its_files_along() -> None:
    async with place() as at:
        at.rights.give(AGENT, LEASE, ())
        files = await at.files()
        sha256 = await files.put(b"mine")
        at.rights.take_back(AGENT, LEASE)
        at.shelf.sweep()
        with pytest.raises(NotFound):
            await (await at.files()).get(sha256)
        with pytest.raises(NotHeld, match="you hold no such lease"):
            await files.put(b"more")
        assert not at.shelf.brought(AGENT, LEASE)


async def test_a_file_named_but_not_there_is_said_so() -> None:
    async with place() as at:
        at.rights.give(AGENT, LEASE, [sha(b"gone")])
        with pytest.raises(NotFound, match=r"does not have it \(any more\)"):
            await (await at.files()).get(sha(b"gone"))


async def test_more_than_a_lease_may_bring_is_refused_with_what_is_left() -> None:
    async with place() as at:
        at.rights.most = 1_000
        at.rights.give(AGENT, LEASE, ())
        files = await at.files()
        await files.put(content(600))
        with pytest.raises(Refused, match=r"401 bytes are too many: 400 may be brought"):
            await files.put(content(401))
        await files.put(content(400))


async def test_a_hub_that_does_not_answer_is_given_up_in_the_end() -> None:
    async with WiredTransport() as transport, asyncio.TaskGroup() as group:
        courier = Courier(Bus(transport), route_of_agent(AGENT), MemoryFileStore(), Patience(0.01, 0.02, 0.05))
        running = group.create_task(courier.run())
        files = courier.files(lambda: HUB, LEASE)
        with pytest.raises(BusUnavailable, match=r"was not fetched: no hub answered for 0\.05 s"):
            await files.get(sha(b"x"))
        with pytest.raises(BusUnavailable, match=r"was not brought: no hub answered for 0\.05 s"):
            await files.put(b"x")
        running.cancel()


async def test_what_a_run_that_moves_had_begun_goes_on_at_the_next_hub() -> None:
    async with place() as at:
        at.rights.give(AGENT, LEASE, ())
        second = FileService(at.bus, "next", Shelf(at.store, at.rights))
        task = at.group.create_task(second.run(), name="courier: next hub")
        await second.started.wait()
        asked: list[str] = []

        def hub() -> str:
            asked.append("hub" if len(asked) < 6 else "next")
            return asked[-1]

        data = content(12 * CHUNK_BYTES)
        sha256 = await (await at.courier(patience=QUICK)).files(hub, LEASE).put(data)
        assert await at.store.get(sha256) == data
        assert set(asked) == {"hub", "next"}
        assert second.shelf.brought(AGENT, LEASE) == {sha256}
        task.cancel()


async def test_a_hub_that_the_run_has_left_refuses_nothing() -> None:
    """It was halted, and reads what it was asked only now that it has no such lease any more."""
    async with place() as at:
        at.rights.give(AGENT, LEASE, ())
        where = ["left"]
        files = (await at.courier()).files(lambda: where[0], LEASE)
        async with at.bus.subscribe(topics.hub_files("left", AGENT), kinds=Note) as inbox:
            bringing = asyncio.create_task(files.put(b"mine"))
            await inbox.get()
        where[0] = HUB
        said = {"lease": LEASE, "sha256": sha(b"mine"), "why": "you hold no such lease"}
        await at.bus.publish_note(topics.agent_files(AGENT), Note("refused", said))
        assert await bringing == sha(b"mine")


@pytest.mark.parametrize(("how", "error"), [("get", NotFound), ("put", NotHeld)])
async def test_where_the_hub_that_a_run_has_moved_to_refuses_it_is_asked_once_more_and_believed(
    how: str, error: type[Exception]
) -> None:
    """Whose refusal the first is nobody knows: the hub that the run has left was asked too."""
    async with place() as at:
        where, data = ["left"], content(2 * CHUNK_BYTES)
        courier = await at.courier(patience=Patience(0.05, 0.05, 10.0))
        files = courier.files(lambda: where[0], LEASE)
        async with at.bus.subscribe(topics.hub_files("left", AGENT), kinds=Note) as inbox:
            under_way = asyncio.create_task(files.get(sha(data)) if how == "get" else files.put(data))
            await inbox.get()
        where[0] = "next"
        calls = 0
        said = {"lease": LEASE, "sha256": sha(data), "why": "you hold no such lease", "held": False}
        async with at.bus.subscribe(topics.hub_files("next", AGENT), kinds=Note) as inbox:
            while not under_way.done():
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.2):
                        (await inbox.get()).acknowledge()
                    calls += 1
                    await at.bus.publish_note(topics.agent_files(AGENT), Note("refused", said))
        with pytest.raises(error, match="you hold no such lease"):
            await under_way
        assert calls == 2


async def test_a_hub_that_is_asked_and_never_gets_the_parts_is_given_up() -> None:
    async with place() as at:
        courier = await at.courier(patience=Patience(0.01, 0.05, 0.3))
        data = content(2 * CHUNK_BYTES)
        said = {"lease": LEASE, "sha256": sha(data), "offset": 0}

        async def answer_asks() -> None:
            async with at.bus.subscribe(topics.hub_files("half", AGENT), kinds=Note) as inbox:
                async for received in inbox:
                    received.acknowledge()
                    if not received.content.fields["chunk"]:
                        await at.bus.publish_note(topics.agent_files(AGENT), Note("more", said))

        at.group.create_task(answer_asks(), name="courier: hub that hears half")
        async with asyncio.timeout(10):
            with pytest.raises(BusUnavailable, match=r"was not brought: it went no further for 0\.3 s"):
                await courier.files(lambda: "half", LEASE).put(data)


async def test_files_by_hundreds_at_once_are_all_brought() -> None:
    async with place() as at:
        at.rights.give(AGENT, LEASE, ())
        files = await at.files()
        sha256s = await asyncio.gather(*(files.put(content(40_000, seed)) for seed in range(200)))
        assert (await at.store.has(sha256s)) == dict.fromkeys(sha256s, True)
        assert not at.shelf.dropped


# Faults


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.4), st.floats(0, 0.4), st.integers(0, 6 * CHUNK_BYTES))
def test_messages_lost_doubled_and_late_change_nothing_but_the_time(
    seed: int, lost: float, doubled: float, late: float, size: int
) -> None:
    async def story() -> None:
        faults = Faults(random.Random(seed), lost, doubled, late)
        async with place(FaultyTransport(faults)) as at:
            data = content(size, seed)
            named = await at.store.put(data)
            at.rights.give(AGENT, LEASE, [named])
            patient = Patience(first_s=0.002, longest_s=0.01, give_up_s=30.0)
            files = await at.files(patience=patient)
            got, put = await asyncio.gather(files.get(named), files.put(data[::-1] + b"!"))
            assert got == data
            assert await at.store.get(put) == data[::-1] + b"!"
            at.shelf.sweep()

    asyncio.run(story())


# Those who are not honest


def hostile() -> st.SearchStrategy[Note]:
    value = st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=2),
        st.just("0" * 64), st.just(LEASE), st.just("AAAA"), st.just("A" * 200_000), st.integers(0, 300_000),
        st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
    )  # fmt: skip
    names = st.sampled_from(["lease", "run", "sha256", "offset", "bytes", "chunk", "parcel", "why"])
    return st.builds(
        Note,
        st.sampled_from(["get", "put", "chunk", "more", "stored", "refused", "claim", "x" * 60]),
        st.dictionaries(names, value, max_size=8),
    )


@settings(max_examples=300)
@given(st.lists(hostile(), max_size=20))
def test_a_shelf_answers_or_passes_over_whatever_comes(notes: list[Note]) -> None:
    async def story() -> None:
        store, rights = MemoryFileStore(), Rights()
        rights.give(AGENT, LEASE, [sha(b"named")])
        await store.put(b"named")
        await store.put(b"secret")
        shelf = Shelf(store, rights)
        for note in notes:
            answer = await shelf.answer(AGENT, note)
            assert answer is None or answer.kind in {"chunk", "more", "stored", "refused"}
        assert shelf.uploads.held <= sum(200_000 for _ in notes)
        assert set(await store.sizes()) <= {
            sha(b"named"),
            sha(b"secret"),
            sha(b""),
            sha(b"\0\0\0"),
            sha(b"\0" * 131_072),
        }

    asyncio.run(story())


@settings(max_examples=100)
@given(st.lists(hostile(), min_size=1, max_size=20))
def test_a_courier_passes_over_whatever_comes(notes: list[Note]) -> None:
    async def story() -> None:
        async with listening_courier() as (bus, courier):
            for note in notes:
                await bus.publish_note(topics.agent_files(AGENT), note)
            assert not courier._answers

    asyncio.run(story())


@asynccontextmanager
async def listening_courier() -> AsyncIterator[tuple[Bus, Courier]]:
    async with MemoryTransport() as transport, asyncio.TaskGroup() as group:
        courier = Courier(Bus(transport), route_of_agent(AGENT), MemoryFileStore(), QUICK)
        task = group.create_task(courier.run())
        await courier.listening()
        yield Bus(transport), courier
        await asyncio.sleep(0)
        assert not task.done()
        task.cancel()


def call(**fields: Any) -> Note:
    return Note("put", {"lease": LEASE, "sha256": sha(b"abc"), "bytes": 3, "offset": 0, "chunk": "YWJj"} | fields)


BAD_CALLS: dict[str, Callable[[], Note]] = {
    "not base64": lambda: call(chunk="YW Jj"),
    "line ends": lambda: call(chunk="YWJj\n"),
    "padding within": lambda: call(chunk="YQ==YWJj"),
    "not ascii": lambda: call(chunk="YWJ\u0458"),
    "no text": lambda: call(chunk=["YWJj"]),
    "too large a part": lambda: call(bytes=MOST_BYTES, chunk="A" * (CHUNK_BYTES * 2)),
    "beyond its end": lambda: call(offset=1),
    "negative": lambda: call(offset=-1),
    "a truth for a number": lambda: call(offset=False),
    "a float": lambda: call(bytes=3.0),
    "too large": lambda: call(bytes=MOST_BYTES + 1),
    "a long number": lambda: call(bytes=10**18),
    "a hash in capitals": lambda: call(sha256=sha(b"abc").upper()),
    "a path for a hash": lambda: call(sha256="../" + sha(b"abc")[3:]),
    "a long lease": lambda: call(lease="x" * 300),
    "no kind of ours": lambda: Note("claim", call().fields),
}


@pytest.mark.parametrize("name", BAD_CALLS)
async def test_a_call_that_is_none_is_counted_and_not_answered(name: str) -> None:
    rights = Rights()
    rights.give(AGENT, LEASE, ())
    shelf = Shelf(MemoryFileStore(), rights)
    assert await shelf.answer(AGENT, BAD_CALLS[name]()) is None
    assert shelf.dropped == {"malformed": 1}
    assert (await shelf.answer(AGENT, call())).kind == "stored"


async def test_a_forged_hash_is_refused_and_nothing_is_kept() -> None:
    async with place() as at:
        at.rights.give(AGENT, LEASE, ())
        answer = await at.shelf.answer(AGENT, call(sha256=sha(b"other")))
        assert answer.kind == "refused"
        assert "another hash" in answer.fields["why"]
        assert not await at.store.sizes()
        assert at.shelf.uploads.held == 0
        assert not at.shelf.brought(AGENT, LEASE)


async def test_a_file_that_changes_its_size_is_dropped() -> None:
    async with place() as at:
        at.rights.give(AGENT, LEASE, ())
        assert (await at.shelf.answer(AGENT, call(bytes=10))).fields["offset"] == 3
        assert (await at.shelf.answer(AGENT, call(bytes=11))).kind == "refused"
        assert at.shelf.uploads.held == 0


async def test_an_agent_keeps_few_files_unfinished_and_harms_no_other() -> None:
    async with place() as at:
        for agent in (AGENT, OTHER):
            at.rights.give(agent, LEASE, ())
        begun = [sha(bytes([number])) for number in range(10)]
        await at.shelf.answer(AGENT, call(sha256=begun[0], bytes=6))
        for sha256 in begun[1:]:
            await at.shelf.answer(OTHER, call(sha256=sha256, bytes=6))
        assert at.shelf.uploads.held == 3 * (MOST_UNFINISHED + 1)
        assert (await at.shelf.answer(AGENT, call(sha256=begun[0], bytes=6, chunk=""))).fields["offset"] == 3


async def test_unfinished_files_count_against_what_may_be_brought() -> None:
    async with place() as at:
        at.rights.most = 10
        at.rights.give(AGENT, LEASE, ())
        await at.shelf.answer(AGENT, call(sha256=sha(b"a"), bytes=6))
        assert (await at.shelf.answer(AGENT, call(sha256=sha(b"b"), bytes=6))).kind == "refused"
        at.shelf.clock = lambda: 1e12
        at.shelf.sweep()
        assert (await at.shelf.answer(AGENT, call(sha256=sha(b"b"), bytes=6))).kind == "more"


async def test_ten_thousand_junk_notes_of_one_agent_do_not_keep_another_waiting() -> None:
    async with place() as at:
        data = content(3 * CHUNK_BYTES)
        at.rights.give(AGENT, LEASE, [await at.store.put(data)])
        chance = random.Random(3)
        kinds = [BAD_CALLS[name]() for name in BAD_CALLS] + [
            call(),
            Note("get", {"lease": "x", "sha256": sha(b""), "offset": 0}),
        ]

        async def flood() -> None:
            for _ in range(10_000):
                await at.bus.publish_note(topics.hub_files(HUB, OTHER), chance.choice(kinds))

        flooding = asyncio.create_task(flood())
        assert await (await at.files()).get(sha(data)) == data
        await flooding
        while at.service._waiting:
            await asyncio.sleep(0)
        assert sum(at.shelf.dropped.values()) == 10_000
        assert at.shelf.uploads.held == 0


async def test_a_flood_of_one_agent_waits_in_a_short_line() -> None:
    class Slow(MemoryFileStore):
        async def get(self, sha256: str) -> bytes:
            await go_on.wait()
            return await super().get(sha256)

    go_on = asyncio.Event()
    async with place() as at:
        slow = at.shelf.files = Slow()
        at.rights.give(OTHER, LEASE, [await slow.put(b"named")])
        at.rights.give(AGENT, LEASE, ())
        for _ in range(1_000):
            await at.bus.publish_note(topics.hub_files(HUB, OTHER), note_of(Get(LEASE, sha(b"named"), 0)))
        await (await at.files()).put(b"of another, who is answered meanwhile")
        assert at.shelf.dropped == {"too many at once": 1_000 - MOST_WAITING - 1}
        go_on.set()


# Clients


async def test_a_client_brings_its_workspace_and_gets_the_outcome_under_its_run() -> None:
    client, run = "bob/cli", "run-1"
    async with WiredTransport() as transport, asyncio.TaskGroup() as group:
        bus, store, rights = Bus(transport), MemoryFileStore(), Rights()
        shelf = Shelf(store, rights, under="run")
        rights.give(client, run, [await store.put(b"outcome")])

        async def hub() -> None:
            async with bus.subscribe(topics.submissions(), kinds=Note) as inbox:
                listening.set()
                async for received in inbox:
                    who = topics.parse(received.topic).client
                    if (answer := await shelf.answer(who, received.content)) is not None:
                        await bus.publish_note(topics.client_files(who), answer)
                    received.acknowledge()

        listening = asyncio.Event()
        courier = Courier(bus, route_of_client(client), MemoryFileStore(), QUICK)
        tasks = [group.create_task(hub()), group.create_task(courier.run())]
        await listening.wait()
        files = courier.files(lambda: "", run)
        sha256 = await files.put(content(300_000))
        assert await store.get(sha256) == content(300_000)
        assert await files.get(sha(b"outcome")) == b"outcome"
        with pytest.raises(NotFound, match="no run of yours names it"):
            await courier.files(lambda: "", "run-2").get(sha(b"other"))
        for task in tasks:
            task.cancel()


async def test_a_client_that_may_not_read_its_answers_or_its_files_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(MemoryTransport):
        def __init__(self, refused: str) -> None:
            super().__init__()
            self.refused = refused

        @asynccontextmanager
        async def subscribe(self, *filters: str, capacity: int = 1024) -> AsyncIterator[Subscription]:
            if any(one.endswith(self.refused) for one in filters):
                raise NotAllowed(f"the broker does not let us read {filters[0]!r}")
            async with super().subscribe(*filters, capacity=capacity) as subscription:
                yield subscription

    for refused in ("answer", "files"):
        monkeypatch.setattr(client_module, "MqttTransport", lambda *_, refused=refused, **__: Closed(refused))
        async with asyncio.timeout(5):
            with pytest.raises(NotAllowed, match=refused):
                async with client_module.client_on("mqtt://127.0.0.1:1", announce=print):
                    raise AssertionError
