"""A hub: any number of runs in one process, each with its own orchestrator, over one bus and one store.

A run has one owner, with an epoch that every append is checked against. A hub that starts, and one that sees another
fall silent, takes over what that one owned: it folds the log, records `RunMoved`, tells the agents that hold leases,
and goes on where the other stopped. One that comes back from a pause finds its epoch fenced off and lets go.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from bus import topics
from bus.cards import HubCard, card
from bus.envelope import Envelope, Stamp
from bus.errors import BusError, BusUnavailable, Conflict, LogError, NotFound
from bus.event_log import Owned, Owner, RunInfo
from bus.events import Event, Fact, GoalSubmitted, RunMoved
from bus.pubsub import Bus, Note, Received
from bus.store import Store
from swarm.core.state import RunState
from swarm.errors import MissingPart
from swarm.files.rights import Rights
from swarm.hubs.liveness import Liveness
from swarm.hubs.running import Running
from swarm.hubs.switchboard import Switchboard
from swarm.latest import keep
from swarm.orchestration.receipts import OBJECT_S
from swarm.orchestration.roster import Roster
from swarm.orchestration.sparing import Sparing
from swarm.orchestration.terms import Terms
from swarm.orchestrator import Orchestrator
from swarm.runs.clock import RunClock, utc_now
from swarm.runs.folding import fold
from swarm.runs.marks import Marker
from swarm.runtime import new_id
from swarm.version import VERSION

LOOK_S = 2.0
"""How often a hub says that it is alive, and looks for runs whose hub is gone."""
SILENT_S = 6.0
"""A hub that was not heard of for so long by the store's clock is gone."""
REMEMBERED = 4096
"""Runs that ended here, kept so that agents that still speak of them can be told."""

log = logging.getLogger("swarm.hub")


@dataclass(slots=True)
class Hub:
    """Carries runs on."""

    name: str
    bus: Bus
    store: Store
    owner: Owner
    terms: Terms
    nonce: str = field(default_factory=new_id)
    on_record: Callable[[Envelope], None] = lambda _: None
    announce: Callable[[str], None] = log.info
    on_broken: Callable[[str, Exception], None] = lambda *_: None
    """Called with a run that cannot be carried on, and what keeps it from that."""
    rights: Rights | None = None
    """Which files agents may have."""
    may_offer: Callable[[str, str], bool] = lambda *_: True
    """Whether agents of a user of the broker may take requests for a role."""
    backed: Callable[[str, str, Fact], bool] = lambda *_: True
    """See `Orchestrator.backed`."""
    stamp: Stamp | None = None
    """What marks its events as its own; left out: with ids by chance and the time of day."""
    runs: dict[str, Running] = field(default_factory=dict)
    roster: Roster = field(init=False)
    board: Switchboard = field(init=False)
    present: bool = False
    """Whether it listens to all that it is to hear."""
    ended: dict[str, None] = field(default_factory=dict)
    """Runs that ended or paused here."""
    broken: dict[str, None] = field(default_factory=dict)
    """Runs that an error nobody has reckoned with keeps from going on here."""
    _liveness: Liveness = field(init=False)
    _group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    _objections: Sparing = field(default_factory=lambda: Sparing(OBJECT_S))
    _not_ours: dict[str, int] = field(default_factory=dict)
    """Runs that no client of a hub submitted, by their epoch: they are somebody's own."""
    _unread: set[str] = field(default_factory=set)
    """Runs that were taken, or perhaps were, and could not be read then: nobody carries them on."""

    def __post_init__(self) -> None:
        self.roster = Roster(self.bus, self.terms.rejoin_s, self.may_offer, self._refused)
        self.board = Switchboard(self.bus, self.name, self._unknown)
        self._liveness = Liveness(self.store.log, self.owner, LOOK_S, SILENT_S)

    async def run(self, *listening: asyncio.Event) -> None:
        """Carry runs on until cancelled; what is open then is for another hub, or for this one's next start.

        Raises `MissingPart` where the store takes nothing more until it is opened again.

        `listening`: set by the hub's other parts, once they hear those who see its card.
        """
        try:
            async with self._group as group:
                group.create_task(self.roster.run(), name="roster")
                group.create_task(self.board.run(), name="switchboard")
                for event in (self.roster.started, self.board.started, *listening):
                    await event.wait()  # who sees the card may speak at once
                self.present = True
                with suppress(BusUnavailable):  # the connection was lost at once: it is said as that is back
                    await self.announce_card()
                group.create_task(self._look(), name="takes over")
        finally:
            await self.bus.leave(topics.hub_card(self.name))

    async def reconnected(self) -> None:
        """Say again who is here, and take the agents as they are: none could be heard meanwhile."""
        self.roster.again()
        await self.announce_card()

    async def announce_card(self) -> None:
        """Say that this hub is here."""
        if not self.present:
            return
        await self.bus.publish_note(
            topics.hub_card(self.name), card(HubCard(nonce=self.nonce, software=VERSION, time=utc_now())), retain=True
        )

    # Runs

    async def begin(self, run: str, first: GoalSubmitted) -> bool:
        """Begin a run, so that its first event is recorded; tell whether this hub was the first to.

        Over failures of the store it is tried again: whoever cancels this has not taken the run back.
        """
        epoch = await self._created(run)
        if epoch is None:
            return False
        state = RunState(run)
        await self._start(state, epoch, [first], client=first.client).begun.wait()
        return run in self.runs or run in self.ended

    async def _created(self, run: str) -> int | None:
        """Own a run that was never begun, also one whose hub was killed before its first event was recorded."""
        await self._liveness.say()
        try:
            return await self.store.log.create(run, self.owner)
        except Conflict:
            try:
                known = await self.store.log.info(run)
            except NotFound:
                return None
            if known.length or run in self.runs:
                return None
            if known.owner is not None and known.owner not in await self._liveness.gone({known.owner}):
                return None
        try:
            return await self.store.log.take(run, self.owner, previous=known.owner)
        except Conflict:
            return None

    async def go_on(self, info: RunInfo, first: Sequence[Event]) -> None:
        """Go on with a run that nobody owns. Raises `Conflict`, where somebody does by now."""
        await self._liveness.say()
        client = await self.client_of(info.run)
        with self._owning(info.run):
            epoch = await self.store.log.take(info.run, self.owner, previous=info.owner)
            state = await fold(self.store.log, info.run)
        self._start(state, epoch, first, client=client)

    async def client_of(self, run: str) -> str:
        """Return who submitted a run over the bus, "" for nobody. Raises `NotFound`."""
        if run in self.runs:
            return self.runs[run].client
        async for envelope in self.store.log.read(run, 1, 1):
            if isinstance(envelope.event, GoalSubmitted):
                return envelope.event.client
        return ""

    def _start(
        self, state: RunState, epoch: int, first: Sequence[Event], *, client: str, moved: bool = False
    ) -> Running:
        self.ended.pop(state.run, None)
        self.broken.pop(state.run, None)
        running = Running.begin(self, state, epoch, client=client)
        running.task = self._spawn(self._carry_on(running, first, moved=moved), name=f"run {state.run}")
        self.runs[state.run] = running
        return running

    def orchestrator_of(self, state: RunState, epoch: int, begun: asyncio.Event) -> Orchestrator:
        """Make an orchestrator that goes on from a state. `begun` is set once it has recorded something."""
        marker = Marker(self.store.log.marks, state)

        def recorded(envelope: Envelope) -> None:
            begun.set()
            self.on_record(envelope)
            marker.recorded(envelope)

        return Orchestrator(
            state=state,
            log=self.store.log,
            files=self.store.files,
            bus=self.bus,
            stamp=self.stamp or Stamp(f"/swarm/hub/{self.name}", new_id, utc_now),
            clock=RunClock(state.elapsed_ms, asyncio.get_running_loop().time),
            epoch=epoch,
            hub=self.name,
            on_record=recorded,
            terms=self.terms,
            rights=self.rights,
            backed=self.backed,
        )

    async def _carry_on(self, running: Running, first: Sequence[Event], *, moved: bool) -> None:
        """Carry a run on for as long as it is with this hub, whatever becomes of it: the others go on."""
        run = running.run
        try:
            if await running.carry_on(first, moved=moved):
                keep(self.ended, run, None, REMEMBERED)
        except Conflict:
            self.announce(f"{run} is with another hub now")
        except BusUnavailable:
            raise  # the bus is that of all
        except Exception as error:  # noqa: BLE001 - it is told, and is of this run alone
            self._breaks(run, error)
        finally:
            self.runs.pop(run, None)
            running.let_go()

    def _breaks(self, run: str, error: Exception) -> None:
        """Leave a run as it stands: owned by this hub, so that it does the same to no other."""
        log.error("%s cannot be carried on", run, exc_info=error)
        self.announce(f"{run} cannot be carried on and stays as it is, the others go on: {error!r:.300}")
        keep(self.broken, run, None, REMEMBERED)
        self.on_broken(run, error)

    # Other hubs

    async def _look(self) -> None:
        """Say that this hub is alive, and take over what belongs to hubs that are not.

        Raises `MissingPart` where nothing can be written any more.
        """
        await asyncio.sleep(min(1.0, self.terms.rejoin_s))  # the cards of agents come first
        while True:
            if self.store.log.failure is not None:  # else it would be in the way of those who can go on
                raise MissingPart(
                    f"hub {self.name} ends, since its store takes nothing more: {self.store.log.failure}",
                    "Start it again once that is mended; its runs go on then, or with another hub.",
                )
            try:
                await self._liveness.say()
                for info in await self._orphans():
                    await self._try_to_take_over(info)
            except LogError as error:
                log.warning("looking for runs whose hub is gone: %s", error)
            await asyncio.sleep(LOOK_S)

    async def _orphans(self) -> list[Owned]:
        unread = set(self._unread)
        found = await self.store.log.owned(besides=None if unread else self.owner)
        others = [one for one in found if one.owner != self.owner]
        ours = [one for one in found if one.owner == self.owner and one.run in unread & self._unread]
        self._unread -= unread.difference(one.run for one in ours)
        for one in others:
            self._let_go(one)
        owned = [one for one in others if one.run not in self.runs]
        self._not_ours = {one.run: one.epoch for one in owned if self._not_ours.get(one.run) == one.epoch}
        gone = await self._liveness.gone({one.owner for one in owned})
        return ours + [one for one in owned if one.owner in gone]

    def _let_go(self, taken: Owned) -> None:
        """Leave a run to the hub that took it over while this one was halted, though there is nothing to write."""
        running = self.runs.get(taken.run)
        if running is not None and running.orchestrator.epoch < taken.epoch and running.task.cancel():
            self.announce(f"{taken.run} is with another hub now")

    async def _try_to_take_over(self, info: Owned) -> None:
        try:
            await self._take_over(info)
        except (LogError, NotFound) as error:  # one that was found may be removed by now
            log.warning("%s is not taken over yet: %s", info.run, error)
        except BusUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - as where a run is carried on
            self._breaks(info.run, error)

    @contextmanager
    def _owning(self, run: str) -> Iterator[None]:
        """Take a run over later, where the store fails after it became ours, or may have, and before it goes on."""
        before = run in self._unread
        self._unread.discard(run)  # whoever looks meanwhile is not to take it from us
        try:
            yield
        except LogError as error:
            if before or not isinstance(error, Conflict):
                self._unread.add(run)
            raise

    async def _take_over(self, info: Owned) -> None:
        if (
            info.run in self.broken
            or self._not_ours.get(info.run) == info.epoch
            or not (await self.store.log.info(info.run)).length
        ):
            return  # what its hub was about to write as it died may come yet
        client = await self.client_of(info.run)
        if not client:
            self._not_ours[info.run] = info.epoch
            return
        with self._owning(info.run):
            try:
                epoch = await self.store.log.take(info.run, self.owner, previous=info.owner)
            except Conflict:
                return  # another hub was quicker
            state = await fold(self.store.log, info.run)
            if not state.running:
                await self.store.log.release(info.run, epoch)
                return
        self.announce(f"takes {info.run} over at event {state.position}")
        moved = RunMoved(hub=self.name, epoch=epoch)
        self._start(state, epoch, [moved], client=client, moved=True)

    def _unknown(self, received: Received[Any]) -> None:
        """Tell an agent that speaks of a run that has ended here that its lease is over."""
        address = topics.parse(received.topic)
        if address.run not in self.ended:
            return  # it may be with another hub: that one tells its agents
        content = received.content
        lease = content.fields.get("lease") if isinstance(content, Note) else received.envelope.causation_id
        if isinstance(lease, str):
            self._tell(address.agent, Note("cancel", {"lease": lease}))

    def _refused(self, agent: str, why: str) -> None:
        if self._object(agent, why):
            log.warning("%s: %s", agent, why)

    def unread(self, topic: str, why: str) -> None:
        """Tell an agent that what it said cannot be read, and why."""
        try:
            address = topics.parse(topic)
        except ValueError:
            return
        if address.kind == "hub_reply" and self.present:
            self._object(address.agent, why)

    def _object(self, agent: str, why: str) -> bool:
        """Tell an agent what was passed over, sparingly; say whether it was told."""
        may = self._objections.may(agent, asyncio.get_running_loop().time())
        if may:
            self._tell(agent, Note("dropped", {"why": why[:400]}))
        return may

    def _tell(self, agent: str, note: Note) -> None:
        with suppress(RuntimeError):
            self._spawn(self._tell_now(agent, note), name=f"{agent} is told {note.kind}")

    def _spawn(self, call: Coroutine[Any, Any, None], *, name: str) -> "asyncio.Task[None]":
        """Do something beside all else. Raises `RuntimeError` where the hub is about to end."""
        try:
            return self._group.create_task(call, name=name)
        except RuntimeError:
            call.close()
            raise

    async def _tell_now(self, agent: str, note: Note) -> None:
        try:
            await self.bus.publish_note(topics.agent_control(agent), note)
        except BusError as error:
            log.info("an agent was not told %s: %s", note.kind, error)
