"""An agent and a hub's roster where messages can be lost: what is said of a lease, and what of others is kept."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.swarms import ROLES, Bench, goal
from bus import topics
from bus.cards import AgentCard, RoleCard, card
from bus.envelope import Envelope, Stamp
from bus.errors import BusUnavailable, StorageFailed
from bus.event_log import Owner
from bus.event_logs.memory import MemoryEventLog
from bus.events import (
    AgentJoined,
    AssignmentEnded,
    CancelAsked,
    Event,
    ResultSubmitted,
    ReviewGiven,
    RunPaused,
    RunResumed,
    SubtaskAssigned,
)
from bus.file_store import MemoryFileStore
from bus.pubsub import Bus, Inbox, Note
from bus.store import Store, memory_store
from bus.transport import Message
from swarm import orchestrator as orchestrator_module
from swarm.core.state import MOST_LOST, RunState
from swarm.hubs import hub as hub_module
from swarm.hubs.hub import Hub
from swarm.hubs.hub_config import HubConfig
from swarm.orchestration import roster as roster_module
from swarm.orchestration.roster import MOST_OF_ONE_USER, Roster
from swarm.orchestration.sparing import Budget, Sparing
from swarm.orchestration.terms import Terms
from swarm.orchestrator import Orchestrator
from swarm.runs.clock import RunClock, utc_now
from swarm.runs.ownership import this_process
from swarm.runtime import new_id
from swarm.worker import Worker
from tests.support.events import OWNER
from tests.support.wired import WiredTransport

AGENT, RUN, HUB = "ada/1", "run-1", "hub-1"
REPLY_TO = topics.hub_reply(HUB, AGENT, RUN)
TERMS = Terms(silence_s=0.05)


@asynccontextmanager
async def working(tmp_path: Path, *, takes_s: float = 0.0) -> AsyncIterator[tuple[Worker, Bus, Inbox]]:
    """An agent, the bus it is on, and what it says to hubs."""
    async with WiredTransport() as transport, asyncio.TaskGroup() as group:
        bus, files = Bus(transport), MemoryFileStore()
        stamp = Stamp(f"/swarm/agent/{AGENT}", new_id, utc_now)
        worker = Worker(AGENT, ROLES, Bench(takes_s), bus, stamp, lambda _: files, tmp_path, 4, TERMS, "nonce")
        async with bus.subscribe(topics.hub_replies(HUB)) as said, bus.subscribe(topics.agent_cards()) as cards:
            task = group.create_task(worker.run())
            await cards.get()
            yield worker, bus, said
            task.cancel()


async def requested(bus: Bus, lease: str, *, epoch: int = 1) -> None:
    """Send a request as a run's first orchestrator would."""
    state_log = MemoryEventLog()
    await state_log.create(RUN, OWNER)
    sent: list[tuple[Envelope, dict]] = []

    class Told(Bus):
        async def publish(self, topic, envelope, attachments=None, *, retain=False) -> None:  # noqa: ARG002
            if isinstance(envelope.event, SubtaskAssigned) and attachments:
                sent.append((envelope, dict(attachments)))

    orchestrator = orchestrator_of(RunState(RUN), state_log, Told(bus._transport))
    await orchestrator._take([(orchestrator._own(goal(1, 1)), None)])
    await orchestrator._take([(orchestrator._own(AgentJoined(agent=AGENT, roles=("worker",), slots=4)), None)])
    ((envelope, attachments),) = sent
    made = Envelope(lease, envelope.source, envelope.event, RUN, envelope.time, envelope.subject, sequence=1)
    await bus.publish(topics.agent_request(AGENT, RUN), made, attachments | {"epoch": epoch})


def orchestrator_of(state: RunState, log: MemoryEventLog, bus: Bus) -> Orchestrator:
    stamp = Stamp(f"/swarm/hub/{HUB}", new_id, utc_now)
    clock = RunClock(0, asyncio.get_running_loop().time)
    return Orchestrator(state, log, MemoryFileStore(), bus, stamp, clock, 1, HUB, terms=TERMS)


async def heard(said: Inbox) -> str:
    received = await asyncio.wait_for(said.get(), 5)
    received.acknowledge()
    content = received.content
    return content.kind if isinstance(content, Note) else type(content).__name__


async def test_an_agent_that_answers_at_once_says_nothing_else_first(tmp_path: Path) -> None:
    async with working(tmp_path) as (_, bus, said):
        await requested(bus, "lease-1")
        assert await heard(said) == "ResultSubmitted"
        await asyncio.sleep(3 * TERMS.silence_s)
        assert said.get_nowait() is None


async def test_an_agent_that_has_nothing_to_say_yet_says_that_it_has_accepted(tmp_path: Path) -> None:
    async with working(tmp_path, takes_s=0.3) as (_, bus, said):
        await requested(bus, "lease-1")
        assert [await heard(said), await heard(said)] == ["accepted", "ResultSubmitted"]


async def test_an_agent_hands_back_what_another_hub_thinks_it_has(tmp_path: Path) -> None:
    """And takes it no more, should the request that the other hub sent come late."""
    moved = {"run": RUN, "lease": "lease-1", "epoch": 2, "reply_to": REPLY_TO}
    async with working(tmp_path) as (worker, bus, said):
        await bus.publish_note(topics.agent_control(AGENT), Note("moved", moved))
        assert await heard(said) == "not_held"
        await requested(bus, "lease-2", epoch=1)
        await requested(bus, "lease-3", epoch=2)
        assert await heard(said) == "ResultSubmitted"
        assert worker.dropped == {"of a hub that the run is no longer with": 1}


async def test_what_cannot_be_read_is_counted_under_few_names(tmp_path: Path) -> None:
    async with working(tmp_path) as (worker, bus, _):
        await requested(bus, "lease-1")
        for number in range(50):
            await bus.publish_note(topics.agent_control(AGENT), Note("moved", {"lease": f"l{number}", "epoch": "x"}))
            await bus.publish_note(
                topics.agent_control(AGENT), Note("recorded", {"lease": "lease-1", "through": f"{number}x"})
            )
            await bus.publish_note(topics.agent_control(AGENT), Note(f"kind_{'a' * number}", {"lease": "lease-1"}))
        while worker.dropped.total() < 150:
            await asyncio.sleep(0.01)
        assert len(worker.dropped) <= 3


async def test_of_runs_that_are_long_over_an_agent_keeps_no_epochs(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("swarm.working.held.REMEMBERED", 10)
    async with working(tmp_path) as (worker, _, _):
        for number in range(100):
            worker._held.note_epoch(f"run-{number}", 1)
        worker._held.note_epoch("run-99", 3)
        assert len(worker._held._epochs) == 10
        assert worker._held._epochs["run-99"] == 3


async def test_a_lease_that_an_agent_does_not_have_goes_out_anew_and_is_not_held_against_it() -> None:
    async with WiredTransport() as transport, MemoryEventLog() as log:
        await log.create(RUN, OWNER)
        state = RunState(RUN)
        orchestrator = orchestrator_of(state, log, Bus(transport))
        await orchestrator._take([(orchestrator._own(goal(1, 1)), None)])
        await orchestrator._take([(orchestrator._own(AgentJoined(agent=AGENT, roles=("worker",), slots=4)), None)])
        for _ in range(MOST_LOST + 1):
            (lease,) = state.leases
            told = orchestrator._note(Note("not_held", {"lease": lease}), AGENT)
            assert told is not None
            await orchestrator._take([told])
            assert lease not in state.leases
        assert state.leases
        ended = [one.event.kind async for one in log.read(RUN) if isinstance(one.event, AssignmentEnded)]
        assert ended == ["not_held"] * (MOST_LOST + 1)


async def test_a_user_has_only_so_many_agents_that_runs_hear_of() -> None:
    async with WiredTransport() as transport, asyncio.TaskGroup() as group:
        bus = Bus(transport)
        refused: dict[str, str] = {}
        roster = Roster(bus, refused=refused.__setitem__)
        task = group.create_task(roster.run())
        await roster.started.wait()
        own = card(AgentCard(roles=ROLES, slots=1, nonce="n", host="h"))
        for number in range(MOST_OF_ONE_USER + 50):
            await bus.publish_note(topics.agent_card(f"mallory/{number}"), own, retain=True)
        await bus.publish_note(topics.agent_card(AGENT), own, retain=True)
        await bus.publish_note(topics.agent_card("mallory/bad"), Note("card", {"roles": 3}), retain=True)
        other = card(AgentCard(roles=ROLES, slots=1, nonce="n", protocols=(2,)))
        await bus.publish_note(topics.agent_card("mallory/new"), other, retain=True)
        while roster.dropped.total() < 52:
            await asyncio.sleep(0.01)
        assert AGENT in roster.agents
        assert len(roster.agents) == MOST_OF_ONE_USER + 1
        assert len(roster.dropped) == 3
        assert refused[f"mallory/{MOST_OF_ONE_USER}"] == "its user has 1,024 agents already"
        assert "its card cannot be read: " in refused["mallory/bad"]
        assert refused["mallory/new"] == "its card's `protocols` are [2], this hub speaks 1"
        task.cancel()


async def test_an_agent_that_says_its_card_over_and_over_is_told_of_sparingly_and_last_by_its_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(roster_module, "AGAIN_S", 0.01)
    heard: list[tuple[str, str | None]] = []
    async with WiredTransport() as transport, asyncio.TaskGroup() as group:
        bus = Bus(transport)
        roster = Roster(bus, _agents_budget=Budget(8, 20), _users_budget=Budget(64, 20))
        task = group.create_task(roster.run())
        await roster.started.wait()
        with roster.told(lambda agent, one, _: heard.append((agent, one.nonce if one else None))):
            for number in range(10_000):
                own = AgentCard(roles=ROLES, slots=1, nonce=f"n{number}")
                await bus.publish_note(topics.agent_card("mallory/1"), card(own), retain=True)
            await bus.publish_note(topics.agent_card(AGENT), card(own), retain=True)
            while (AGENT, "n9999") not in heard or roster.agents["mallory/1"].nonce != "n9999":
                await asyncio.sleep(0.01)
            assert len(heard) < 200
            heard.clear()
            for number in range(500):
                await bus.publish_note(topics.agent_card(f"mallory/new-{number}"), card(own), retain=True)
                await bus.clear(topics.agent_card(f"mallory/new-{number}"))
            await bus.publish_note(topics.agent_card("ada/2"), card(own), retain=True)
            while ("ada/2", "n9999") not in heard:
                await asyncio.sleep(0.01)
            assert len(heard) < 200, "new names are no way around it"
        task.cancel()
    assert roster.dropped["its agent changes too often"] > 9_000


async def test_an_agent_that_waits_to_be_heard_keeps_what_it_holds() -> None:
    heard: list[str | None] = []
    async with WiredTransport() as transport, asyncio.TaskGroup() as group:
        bus = Bus(transport)
        roster = Roster(bus, 0.1, _agents_budget=Budget(1, 0.0))
        task = group.create_task(roster.run())
        await roster.started.wait()
        with roster.told(lambda _, one, why: heard.append(one.nonce if one else why)):
            own = AgentCard(roles=ROLES, slots=1, nonce="n")
            await bus.publish_note(topics.agent_card(AGENT), card(own), retain=True)
            await bus.clear(topics.agent_card(AGENT))
            await bus.publish_note(topics.agent_card(AGENT), card(own.model_copy(update={"said": 1})), retain=True)
            await asyncio.sleep(0.3)
        task.cancel()
    assert heard == ["n"]


async def test_an_agent_is_taken_only_for_what_its_user_may_offer() -> None:
    heard: list[tuple[str, list[str]]] = []
    refused: list[tuple[str, str]] = []
    async with WiredTransport() as transport, asyncio.TaskGroup() as group:
        bus = Bus(transport)
        roster = Roster(
            bus,
            may_offer=partial(HubConfig().may_offer, own="hub"),
            refused=lambda agent, why: refused.append((agent, why)),
        )
        task = group.create_task(roster.run())
        await roster.started.wait()
        both = tuple(RoleCard(name=name, handles="SubtaskAssigned") for name in ("coder", "critic"))
        with roster.told(lambda agent, one, _: heard.append((agent, [role.name for role in one.roles] if one else []))):
            for agent in ("mallory/1", "hub/1", "mallory/1"):
                said = AgentCard(roles=both, slots=1, nonce="n", host="h", said=len(heard))
                await bus.publish_note(topics.agent_card(agent), card(said), retain=True)
            while len(heard) < 3:
                await asyncio.sleep(0.01)
        task.cancel()
    assert heard == [("mallory/1", ["coder"]), ("hub/1", ["coder", "critic"]), ("mallory/1", ["coder"])]
    assert roster.dropped.total() == 2
    ((agent, why),) = refused
    assert (agent, "not taken for critic" in why, "'mallory'" in why) == ("mallory/1", True, True)


async def test_an_agent_is_told_sparingly_what_was_passed_over_and_why() -> None:
    async with WiredTransport() as transport, MemoryEventLog() as log:
        await log.create(RUN, OWNER)
        state, bus = RunState(RUN), Bus(transport)
        orchestrator = orchestrator_of(state, log, bus)
        await orchestrator._take([(orchestrator._own(goal(1, 1)), None)])
        await orchestrator._take([(orchestrator._own(AgentJoined(agent=AGENT, roles=("worker",), slots=4)), None)])
        ((lease, work),) = state.leases.items()
        stamp = Stamp(f"/swarm/agent/{AGENT}", new_id, utc_now)
        said = {
            "number 1 of this lease is due": (ResultSubmitted(text="x"), 3),
            "it says 2 `effects`, and 0 are recorded": (ResultSubmitted(text="x", effects=2), 1),
            "it is no answer to that request": (ReviewGiven(accepted=True, feedback="", effects=0), 1),
        }
        async with bus.subscribe(topics.agent_control(AGENT)) as told:
            for why, (event, number) in said.items():
                message = stamp(RUN, event, subject=work.request, causation_id=lease, sequence=number)
                await orchestrator._take([(message, AGENT)] * 5)
                note = (await told.get()).content
                assert (note.kind, note.fields) == ("dropped", {"lease": lease, "sequence": number, "why": why})
                orchestrator._receipts._objections = Sparing(1.0)
            message = stamp(RUN, ResultSubmitted(text="x"), subject=work.request, causation_id=lease, sequence=1)
            await orchestrator._take([(message, AGENT)])
            assert (await told.get()).content.kind == "recorded", "and nothing was said five times"


def test_who_is_told_something_sparingly_is_not_kept_in_mind_for_ever() -> None:
    sparing = Sparing(1.0, most=3)
    assert [sparing.may("a", at) for at in (0.0, 0.5, 1.0, 1.5)] == [True, False, True, False]
    assert all(sparing.may(name, 1.5) for name in "bcd")
    assert sparing.may("a", 1.6), "it was the one told longest ago"
    assert not sparing.may("d", 1.7)


async def test_a_hub_that_is_about_to_end_begins_nothing_and_leaves_nothing_behind() -> None:
    async with WiredTransport() as transport, memory_store() as store:
        hub = Hub("hub-1", Bus(transport), store, OWNER, TERMS)
        running = asyncio.create_task(hub.run())
        while not hub.present:
            await asyncio.sleep(0.01)
        running.cancel()
        while not hub._group._aborting:
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await hub.begin(RUN, goal(1, 1))
        hub.unread(topics.hub_reply("hub-1", AGENT, RUN), "not JSON")
        await asyncio.wait({running})
        assert running.cancelled()
        assert not hub.runs


@pytest.mark.parametrize("taken_over", [False, True])
async def test_a_run_that_meets_an_error_nobody_has_reckoned_with_ends_neither_its_hub_nor_the_runs_beside_it(
    monkeypatch: pytest.MonkeyPatch,
    taken_over: bool,  # noqa: FBT001
) -> None:
    monkeypatch.setattr(hub_module, "LOOK_S", 0.05)
    broken, first = KeyError("what its events bring about"), goal(1, 1).model_copy(update={"client": "u/c"})
    rules, folded = orchestrator_module.decide, hub_module.fold

    def decide(state: RunState) -> object:
        if state.run == "bad" and state.cancelled is not None:
            raise broken
        return rules(state)

    async def fold(log: MemoryEventLog, run: str) -> RunState:
        if run == "bad":
            raise broken
        return await folded(log, run)

    monkeypatch.setattr(orchestrator_module, "decide", decide)
    monkeypatch.setattr(hub_module, "fold", fold)
    told: list[tuple[str, Exception]] = []
    async with WiredTransport() as transport, memory_store() as store:
        if taken_over:
            epoch = await store.log.create("bad", OWNER)
            await store.log.append("bad", 0, epoch, [Stamp("/swarm/hub/h0", new_id, utc_now)("bad", first, sequence=1)])
        hub = Hub("hub-1", Bus(transport), store, this_process(), TERMS, on_broken=lambda *one: told.append(one))
        running = asyncio.create_task(hub.run())
        async with asyncio.timeout(10):
            while not hub.present:
                await asyncio.sleep(0.01)
            assert await hub.begin("good", first)
            if not taken_over:
                assert await hub.begin("bad", first)
                hub.runs["bad"].orchestrator.tell(CancelAsked(reason="-"))
            while not told:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        assert told == [("bad", broken)]
        assert (list(hub.runs), list(hub.broken), running.done()) == (["good"], ["bad"], False)
        assert (await store.log.info("bad")).owner == this_process(), "no other hub is to meet the same"
        running.cancel()
        await asyncio.wait({running})


async def test_a_run_whose_hub_died_as_it_wrote_its_first_event_is_taken_over_once_that_is_there() -> None:
    async with WiredTransport() as transport, memory_store() as store:
        epoch = await store.log.create(RUN, OWNER)
        hub = Hub("hub-1", Bus(transport), store, this_process(), TERMS)
        running = asyncio.create_task(hub.run())
        while not hub.present:
            await asyncio.sleep(0.01)
        (orphan,) = await store.log.owned()
        await hub._take_over(orphan)
        assert not hub.runs, "it has not begun"
        first = Stamp("/swarm/hub/hub-0", new_id, utc_now)(RUN, goal(1, 1).model_copy(update={"client": "u/c"}))
        await store.log.append(RUN, 0, epoch, [replace(first, sequence=1)])
        await hub._take_over(orphan)
        assert RUN in hub.runs
        running.cancel()
        await asyncio.wait({running})


class AwayTransport(WiredTransport):
    """A bus that may be away, and is waited for then."""

    away = False

    async def publish(self, topic: str, message: Message, *, retain: bool = False) -> None:
        if self.away:
            await asyncio.sleep(10)
            raise BusUnavailable("the connection is lost and did not come back")
        await super().publish(topic, message, retain=retain)


async def test_a_hub_that_ends_while_the_bus_is_away_ends_soon_and_without_an_error() -> None:
    async with AwayTransport() as transport, memory_store() as store:
        hub = Hub("hub-1", Bus(transport), store, OWNER, TERMS)
        running = asyncio.create_task(hub.run())
        while not hub.present:
            await asyncio.sleep(0.01)
        transport.away = True
        running.cancel()
        await asyncio.wait({running}, timeout=5)
        assert running.cancelled()


async def test_an_agent_that_ends_while_the_bus_is_away_ends_soon_and_without_an_error(tmp_path: Path) -> None:
    async with AwayTransport() as transport:
        bus, files, stamp = Bus(transport), MemoryFileStore(), Stamp(f"/swarm/agent/{AGENT}", new_id, utc_now)
        worker = Worker(AGENT, ROLES, Bench(0.0), bus, stamp, lambda _: files, tmp_path, 4, TERMS, "nonce")
        async with bus.subscribe(topics.agent_cards()) as cards:
            running = asyncio.create_task(worker.run())
            await cards.get()
        transport.away = True
        async with asyncio.timeout(5):
            await worker.drain(30.0)
            running.cancel()
            await asyncio.wait({running})
        assert running.cancelled()


class FailsOnce(MemoryEventLog):
    """A log whose next call of some name fails before anything of it is done, or right after."""

    def __init__(self) -> None:
        super().__init__()
        self.next: str | None = None

    def _fail(self, call: str) -> None:
        if self.next == call:
            self.next = None
            raise StorageFailed("the server is not there")

    async def take(self, run: str, owner: Owner, *, previous: Owner | None) -> int:
        epoch = await super().take(run, owner, previous=previous)
        self._fail("take")
        return epoch

    async def release(self, run: str, epoch: int) -> None:
        self._fail("release")
        await super().release(run, epoch)

    async def read(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        if end != 1:  # its first event alone is read before it is taken
            self._fail("read")
        async for envelope in super().read(run, start, end):
            yield envelope


@pytest.mark.parametrize(
    ("call", "events"), [("take", []), ("read", []), ("release", [RunPaused(reason="-", kind="person")])]
)
async def test_a_run_that_the_store_fails_for_as_it_is_taken_over_is_taken_over_all_the_same(
    monkeypatch: pytest.MonkeyPatch, call: str, events: list[Event]
) -> None:
    goes_on = not events
    monkeypatch.setattr(hub_module, "LOOK_S", 0.05)
    async with WiredTransport() as transport, FailsOnce() as log:
        epoch = await log.create(RUN, OWNER)
        stamp = Stamp("/swarm/hub/hub-0", new_id, utc_now)
        said = [goal(1, 1).model_copy(update={"client": "u/c"}), *events]
        await log.append(RUN, 0, epoch, [stamp(RUN, one, sequence=at) for at, one in enumerate(said, 1)])
        hub = Hub("hub-1", Bus(transport), Store(log, MemoryFileStore()), this_process(), TERMS)
        log.next = call
        running = asyncio.create_task(hub.run())
        async with asyncio.timeout(10):
            while (await log.info(RUN)).owner == OWNER or (RUN in hub.runs) != goes_on or log.next is not None:
                await asyncio.sleep(0.01)
            while not goes_on and (await log.info(RUN)).owner is not None:
                await asyncio.sleep(0.01)
            while goes_on and (await log.info(RUN)).length == 1:
                await asyncio.sleep(0.01)
        assert not hub._unread
        running.cancel()
        await asyncio.wait({running})


class Heard(MemoryEventLog):
    """A log whose owners say that they are alive, and may be kept from it; time is that of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.beats: dict[Owner, float] = {}

    async def beat(self, owner: Owner) -> None:
        if self.away:
            raise StorageFailed("another holds the lock")
        self.beats[owner] = asyncio.get_running_loop().time()

    async def silent(self, run_owners: Iterable[Owner], after_s: float) -> set[Owner]:
        now = asyncio.get_running_loop().time()
        return {one for one in run_owners if now - self.beats.get(one, -after_s) >= after_s}


async def test_a_hub_that_could_not_say_that_it_is_alive_takes_no_other_for_gone_before_that_could_say_so_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "LOOK_S", 0.05)
    monkeypatch.setattr(hub_module, "SILENT_S", 1.5)
    other = Owner("elsewhere", 1, "boot")
    async with WiredTransport() as transport, Heard() as log:
        epoch = await log.create(RUN, other)
        first = Stamp("/swarm/hub/hub-0", new_id, utc_now)(RUN, goal(1, 1).model_copy(update={"client": "u/c"}))
        await log.append(RUN, 0, epoch, [replace(first, sequence=1)])
        await log.beat(other)
        hub = Hub("hub-1", Bus(transport), Store(log, MemoryFileStore()), this_process(), replace(TERMS, rejoin_s=0.0))
        running = asyncio.create_task(hub.run())
        async with asyncio.timeout(10):
            while this_process() not in log.beats:
                await asyncio.sleep(0.01)
            log.away = True
            await asyncio.sleep(2.0)
            log.away = False
            await asyncio.sleep(0.5)  # the other one has not looked yet
            assert not hub.runs
            await log.beat(other)
            await asyncio.sleep(0.8)
            assert not hub.runs
            while RUN not in hub.runs:
                await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait({running})


async def test_a_run_that_the_store_fails_for_as_it_is_gone_on_with_can_be_gone_on_with_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub_module, "LOOK_S", 0.05)
    async with WiredTransport() as transport, FailsOnce() as log:
        epoch = await log.create(RUN, OWNER)
        stamp = Stamp("/swarm/hub/hub-0", new_id, utc_now)
        said = [goal(1, 1).model_copy(update={"client": "u/c"}), RunPaused(reason="-", kind="person")]
        await log.append(RUN, 0, epoch, [stamp(RUN, one, sequence=at) for at, one in enumerate(said, 1)])
        await log.release(RUN, epoch)
        hub = Hub("hub-1", Bus(transport), Store(log, MemoryFileStore()), this_process(), TERMS)
        running = asyncio.create_task(hub.run())
        while not hub.present:
            await asyncio.sleep(0.01)
        log.next = "read"
        with pytest.raises(StorageFailed):
            await hub.go_on(await log.info(RUN), [RunResumed()])
        async with asyncio.timeout(10):
            while (await log.info(RUN)).owner is not None:
                await asyncio.sleep(0.01)
        await hub.go_on(await log.info(RUN), [RunResumed()])
        assert RUN in hub.runs
        running.cancel()
        await asyncio.wait({running})
