"""Edge of one agent: requests for its roles in, effects and replies out, each attempt in a folder of its own."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from agents.briefing import Briefing
from agents.context import Means
from agents.effects import Effects, Parted, reply_of
from agents.files.attempt_folder import AttemptFolder
from agents.role import Role
from bus import topics
from bus.cards import AgentCard, RoleCard, card
from bus.envelope import Stamp
from bus.errors import BusError, BusUnavailable
from bus.event_log import Files
from bus.events import (
    Effect,
    Fact,
    JournalCut,
    Request,
    SubtaskAssigned,
)
from bus.pubsub import Bus, Note, Received, at_once
from bus.setup import RoleSetup
from swarm.orchestration.terms import IN_ONE_PROCESS, Terms
from swarm.working.assignment import Assignment
from swarm.working.attempt import answer, context_of, ending, without_parts
from swarm.working.held import Held

log = logging.getLogger("swarm.worker")


class Workshop(Protocol):
    """What a worker's roles are made of and work with."""

    def role(self, name: str, spec: RoleSetup) -> Role[Any, Any]:
        """Make a role. Raises `NotFound`, `MissingPart`."""
        ...

    def means(self, name: str, spec: RoleSetup) -> Means:
        """Return what an agent of a role works with. Raises `NotFound`, `MissingPart`, `ModelUnavailable`."""
        ...

    def narrowed(self, name: str, briefing: Briefing) -> Briefing:
        """Return the briefing of a role that grants no more than is allowed here."""
        ...

    def refusal(self, name: str, briefing: Briefing) -> str | None:
        """Return why a request cannot be worked on here; None where it can."""
        ...


@dataclass(slots=True)
class Worker:
    """One agent: its roles at work, on up to `slots` requests at once."""

    agent: str
    roles: tuple[RoleCard, ...]
    workshop: Workshop
    bus: Bus
    stamp: Stamp
    files: Callable[[Assignment], Files]
    """Where the files of an assignment come from and go to."""
    work: Path
    """Below it lie the attempts' folders, as `RUN/REQUEST-ATTEMPT-LEASE`."""
    slots: int = 8
    terms: Terms | None = IN_ONE_PROCESS
    """By which leases are kept; None where nothing can be lost on the way and nobody dies alone."""
    nonce: str = ""
    """Stands for this process on its card."""
    present: Callable[[AgentCard | None], None] | None = None
    """Takes the card of an agent that is there for one run of this process alone, None as it leaves.

    Left out: it says its card on the bus, and is there for everyone.
    """
    dropped: Counter[str] = field(default_factory=Counter)
    """Why messages were passed over, and how often."""
    _held: Held = field(init=False)
    _fresh: "asyncio.Queue[tuple[float, Assignment]]" = field(default_factory=asyncio.Queue)
    """What was taken on just now, with when it is to be said."""
    _declined: int = 0
    """How often the card is still to be said, once there is room, since something was declined for want of it.

    Twice: the first time it may overtake the word that it is to make up for.
    """
    _draining: bool = False
    _said: int = 0
    """How often its card was said."""

    def __post_init__(self) -> None:
        self._held = Held(self.agent, self.bus, self.files, self.dropped)

    async def run(self) -> None:
        """Announce the agent and work until cancelled."""
        requests, control = topics.agent_requests(self.agent), topics.agent_control(self.agent)
        heard = [requests, control, topics.hub_cards()]
        if self.present is None:
            heard.append(topics.agent_card(self.agent))
        async with (
            self.bus.subscribe(*heard, capacity=4 * self.slots + 1024) as inbox,
            asyncio.TaskGroup() as group,
        ):
            with suppress(BusUnavailable):  # the connection was lost at once: it is said as that is back
                await self.announce()
            if self.terms is not None:
                group.create_task(self._keep_up(self.terms), name=f"{self.agent} keeps up")
                group.create_task(self._accept(), name=f"{self.agent} accepts")
            try:
                async for received in inbox:
                    await self._take(received, group)
                    received.acknowledge()
            finally:
                await self._leave()

    async def announce(self) -> None:
        """Say the agent's card: at the start, after a reconnection, and when there is room again."""
        slots = 0 if self._draining else self.slots
        self._said += 1
        own = AgentCard(roles=self.roles, slots=slots, nonce=self.nonce, said=self._said, host=socket.gethostname())
        if self.present is None:
            await self.bus.publish_note(topics.agent_card(self.agent), card(own), retain=True)
        else:
            self.present(own)

    async def _leave(self) -> None:
        if self.present is None:
            await self.bus.leave(topics.agent_card(self.agent))
        else:
            self.present(None)

    async def reconnected(self) -> None:
        """Say again who is here and what no hub has confirmed."""
        await self.announce()
        await self._held.say_again()

    async def drain(self, within_s: float) -> None:
        """Take nothing more, finish what is held as far as the time allows, and hand back the rest."""
        self._draining = True
        with suppress(BusUnavailable):  # said again as the connection is back
            await at_once(self.announce())
        try:
            async with asyncio.timeout(within_s):
                await self._held.none_left()
        except TimeoutError:
            for assignment in self._held:
                await assignment.hand_back(f"{self.agent} is leaving")
            try:
                async with asyncio.timeout(min(within_s, 5.0)):
                    await self._held.none_left()
            except TimeoutError:
                return  # its leases run out, or are taken back as its card goes

    async def _take(self, received: Received[Any], group: asyncio.TaskGroup) -> None:
        content = received.content
        if not isinstance(content, Note):
            await self._take_request(received, group)
            return
        match topics.parse(received.topic).kind:
            case "hub_card":
                await self._hub_card(content)
            case "agent_card":
                await self._own_card(content)
            case _:
                self._held.hear(content, group)

    async def _take_request(self, received: Received[Any], group: asyncio.TaskGroup) -> None:
        """Take a request on, or say why not."""
        lease, attachments = received.envelope.id, received.attachments
        try:
            briefing = Briefing.read(attachments.get("briefing"))
            assignment = Assignment.of(
                received.envelope, attachments, self.bus, self.stamp, keeps=self.terms is not None
            )
        except (BusError, ValueError) as error:
            self.dropped["a request that cannot be read"] += 1
            log.warning("a request cannot be read", extra={"error": str(error), "agent": self.agent})
            return
        if self._held.is_known(lease):
            await assignment.note("accepted")
            return
        if self._held.is_old(assignment):
            self.dropped["of a hub that the run is no longer with"] += 1
            return
        self._held.note_epoch(assignment.run, assignment.epoch)
        if (why := self._why_not(assignment, briefing)) is not None:
            await assignment.note("declined", why=why)
            return
        if self.terms is not None:
            self._fresh.put_nowait((asyncio.get_running_loop().time() + self.terms.silence_s, assignment))
        self._held.add(assignment)
        name = f"{self.agent} {received.envelope.subject}"
        assignment.task = group.create_task(
            self._work(assignment, self.workshop.narrowed(assignment.role, briefing)), name=name
        )

    def _why_not(self, assignment: Assignment, briefing: Briefing) -> str | None:
        if self._draining:
            return "draining"
        if self.terms is not None and not self._has_room:
            self._declined = 2
            return "busy"
        if assignment.role not in {one.name for one in self.roles}:
            return f"role {assignment.role[:80]!r} is not offered here"
        return self.workshop.refusal(assignment.role, briefing)

    @property
    def _has_room(self) -> bool:
        return self._held.busy < self.slots

    async def _own_card(self, note: Note) -> None:
        """Say the card again if it was cleared: a broker speaks the will of our forerunner when it notices its end."""
        if not note.kind:
            try:
                await self.announce()
            except BusUnavailable:
                return  # it is said after the reconnection

    async def _hub_card(self, note: Note) -> None:
        """Take in that a hub has come, or come back: it may lack what was said to it."""
        if note.kind:
            await self._held.say_again()

    async def _accept(self) -> None:
        """Say of what was taken on that it is accepted, unless something has been said of it that tells as much."""
        now = asyncio.get_running_loop().time
        while True:
            due, assignment = await self._fresh.get()
            await asyncio.sleep(max(0.0, due - now()))
            if not assignment.heard_of and assignment.lease in self._held:
                await assignment.note("accepted")

    async def _keep_up(self, terms: Terms) -> None:
        """Renew what is held, say again what is not confirmed, and say the card again when there is room."""
        beat_s = terms.lease_s / 3
        said_again = 0.0
        while True:
            await asyncio.sleep(beat_s)
            said_again += beat_s
            for assignment in self._held:
                if assignment.overdue:
                    self._held.forget(assignment)
                else:
                    await assignment.note("progress")
            if said_again >= terms.resend_s:
                said_again = 0.0
                await self._held.say_again()
            if self._declined and not self._draining and self._has_room:
                self._declined -= 1
                with suppress(BusUnavailable):
                    await self.announce()

    async def _work(self, assignment: Assignment, briefing: Briefing) -> None:
        """Bring one attempt to its reply, whatever happens in it."""
        try:
            while isinstance(end := await self._attempt(assignment, briefing), Parted):
                kept = briefing.journal[: end.records]
                attempt = cast("SubtaskAssigned", assignment.envelope.event).attempt
                await assignment.send(JournalCut(attempt=attempt, kept=kept[-1].sequence if kept else 0))
                briefing = replace(briefing, journal=without_parts(briefing.journal, end.records), forked=False)
            assignment.ended = True
            await assignment.send(end)
        finally:
            assignment.ended = True
            if self.terms is None:
                self._held.forget(assignment)

    async def _attempt(self, assignment: Assignment, briefing: Briefing) -> Fact | Parted:
        """Run the role over the journal and beyond; return what follows from it."""
        envelope = assignment.envelope
        request = cast("Request", envelope.event)
        recorded = [cast("Effect", one.event) for one in briefing.journal]
        effects = Effects(recorded, assignment, course="fork" if briefing.forked else "live")
        # Of this lease alone: the same attempt may come to us again while what it left is still being put away.
        place = f"{envelope.subject}-{request.attempt}-{envelope.id[:12]}"
        root = self.work / envelope.correlation_id / place
        folder = AttemptFolder(root, self.files(assignment), briefing.base, briefing.start, briefing.left)
        try:
            deadline_s = max(1.0, assignment.remaining_s)
            means = self.workshop.means(assignment.role, briefing.role)
            context = context_of(
                envelope, briefing, assignment.role, means, effects=effects, folder=folder, deadline_s=deadline_s
            )
            at_work = answer(self.workshop.role(assignment.role, briefing.role), request, context)
            reply = await reply_of(effects, at_work)
            return reply if isinstance(reply, Parted) else reply.model_copy(update={"effects": effects.count})
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a failing role is an event, not a crash of the run
            return ending(error, envelope.id, effects.count, root=root, alone=self.terms is not None)
        finally:
            await folder.remove()
