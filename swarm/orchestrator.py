"""Edge of the core: what comes in is admitted, recorded with what follows from it, and only then said.

One orchestrator is the only writer of its run's log. All that arrived meanwhile is one transaction; a crash before it
loses nothing that anybody knows of, and a crash after it is made good by `resume`, which says the open requests again.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from bus import topics
from bus.envelope import Envelope, Stamp
from bus.event_log import EventLog, FileStore, read_at
from bus.events import (
    AgentJoined,
    AgentLeft,
    AssignmentEnded,
    CallGranted,
    CheckStarted,
    DoubtSettled,
    Event,
    GoalAccepted,
    GoalFailed,
    MergeTried,
    ModelAsked,
    PlanProposed,
    PlanRequested,
    ReviewRequested,
    RunForked,
    RunPaused,
    RunResumed,
    SubtaskAssigned,
    TimePassed,
    ToolCalled,
    WorkFailed,
)
from bus.pubsub import Bus, Note, Received
from swarm import merging
from swarm.clock import RunClock
from swarm.core import meetings
from swarm.core.admit import Admission, admit
from swarm.core.apply import apply
from swarm.core.decide import decide, next_deadline
from swarm.core.request import brief
from swarm.core.state import RunState
from swarm.intake import together

INBOX = 4096

Arrival = tuple[Envelope, str | None]
"""An envelope and the agent that sent it; None for the orchestrator's own edges."""


@dataclass(slots=True)
class Orchestrator:
    """Runs one run to its end or pause."""

    state: RunState
    log: EventLog
    files: FileStore
    bus: Bus
    stamp: Stamp
    clock: RunClock
    epoch: int
    hub: str = "local"
    on_record: Callable[[Envelope], None] | None = None
    """Called with each record once it is durable."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Why messages were not recorded, and how often."""
    _local: deque[Envelope] = field(default_factory=deque)
    _held: dict[str, str] = field(default_factory=dict)
    """Lease -> agent, as far as agents have been told."""
    _nap: asyncio.Timeout | None = None

    async def run(self, *first: Event) -> None:
        """Record the first events, then go on until the run has ended or is paused.

        Raises what the event log raises: its state is ahead of the log then, and the way on is `resume`.
        """
        run = self.state.run
        replies = topics.hub_replies(self.hub)
        async with self.bus.subscribe(replies, topics.agent_cards(), capacity=INBOX) as inbox:
            await self._take((self._own(event), None) for event in first)
            while self.state.running:
                if (wanted := meetings.wanted(self.state)) is not None:
                    await self._take([(self._own(await merging.merge(wanted, self.files)), None)])
                    continue
                received = await self._wait(inbox.get)
                batch: list[Received[Any]] = [] if received is None else await together(received, inbox, self.state)
                arrivals = [arrival for item in batch if (arrival := self._open(item, run)) is not None]
                arrivals += [(envelope, None) for envelope in self._local]
                self._local.clear()
                if not arrivals:
                    arrivals.append((self._own(TimePassed()), None))
                await self._take(arrivals)
                for item in batch:
                    item.acknowledge()

    def tell(self, event: Event) -> None:
        """Hand in an event of the orchestrator's own edges, such as `RunPaused`."""
        self._local.append(self._own(event))
        if self._nap is not None:
            self._nap.reschedule(0)

    async def _wait(self, get: Callable[[], Awaitable[Received[Any]]]) -> Received[Any] | None:
        """Wait for a message, for a local event, or until the next deadline."""
        if self._local:
            return None
        due = next_deadline(self.state)
        wait_s = None if due is None else max(0.0, (due - self.clock.elapsed_ms) / 1000) + 0.001
        try:
            async with asyncio.timeout(wait_s) as self._nap:
                return await get()
        except TimeoutError:
            return None
        finally:
            self._nap = None

    def _own(self, event: Event) -> Envelope:
        return self.stamp(self.state.run, event, elapsed_ms=self.clock.elapsed_ms)

    def _open(self, item: Received[Any], run: str) -> Arrival | None:
        """Return what a message says, and who said it by the topic it came on."""
        address = topics.parse(item.topic)
        if isinstance(item.content, Note):
            return self._card(item.content, address.agent)
        if address.run != run:
            return None
        return item.envelope, address.agent

    def _card(self, note: Note, agent: str) -> Arrival | None:
        if note.kind == "card":
            roles, slots = tuple(note.fields["roles"]), int(note.fields["slots"])
            return self._own(AgentJoined(agent=agent, roles=roles, slots=slots)), None
        return self._own(AgentLeft(agent=agent, why="its card was cleared")), None

    async def _take(self, arrivals: Iterable[Arrival]) -> None:
        """Admit, apply, decide until quiet; append; say."""
        records: list[Envelope] = []
        again: list[Envelope] = []
        position = self.state.position
        for envelope, agent in arrivals:
            verdict = self._admit(envelope, agent)
            if verdict is Admission.RECORD:
                self._record(envelope, records)
            elif verdict is Admission.REPEATED:
                again.append(envelope)
            else:
                self.dropped[verdict.value] += 1
        if records:
            await self.log.append(self.state.run, position, self.epoch, records)
            await self._say(records)
        for envelope in again:
            await self._confirm(envelope)

    def _admit(self, envelope: Envelope, agent: str | None) -> Admission:
        if agent is None:
            begins = self.state.status == "new" or isinstance(envelope.event, RunForked)
            return Admission.RECORD if begins else admit(self.state, envelope)
        event = envelope.event
        lease = event.lease if isinstance(event, AssignmentEnded) else envelope.causation_id
        work = self.state.leases.get(lease or "")
        if work is None or work.agent != agent or isinstance(event, NOT_FROM_AGENTS):
            return Admission.LATE if self.state.running else Admission.ENDED
        return admit(self.state, envelope)

    def _record(self, envelope: Envelope, records: list[Envelope]) -> None:
        """Apply an envelope and all that follows from it."""
        elapsed_ms = max(self.state.elapsed_ms, self.clock.elapsed_ms)
        recorded = Envelope(
            envelope.id,
            envelope.source,
            envelope.event,
            self.state.run,
            envelope.time,
            envelope.subject,
            envelope.causation_id,
            self.state.position + 1,
            elapsed_ms,
            envelope.traceparent,
            envelope.label,
        )
        apply(self.state, recorded)
        records.append(recorded)
        while (decision := decide(self.state)) is not None:
            follows = self.stamp(
                self.state.run,
                decision.event,
                subject=decision.subject,
                causation_id=decision.cause or recorded.id,
                sequence=self.state.position + 1,
                elapsed_ms=elapsed_ms,
            )
            apply(self.state, follows)
            records.append(follows)

    async def _say(self, records: list[Envelope]) -> None:
        """Tell agents and watchers what has been recorded."""
        run = self.state.run
        cancel = False
        for envelope in records:
            event = cast("Event", envelope.event)
            match event:
                case SubtaskAssigned() | PlanRequested() | ReviewRequested():
                    await self._request(envelope, event.agent)
                case ModelAsked() | CallGranted() | ToolCalled() | CheckStarted():
                    await self._confirm(envelope)
                case WorkFailed() | AssignmentEnded() | PlanProposed() | AgentLeft() | RunPaused():
                    cancel = True
                case GoalAccepted() | GoalFailed():
                    cancel = True
                    await self.bus.publish(topics.run_outcome(run), envelope, retain=True)
                case _:
                    pass
            await self.bus.publish(topics.run_event(run, type(event).__name__), envelope)
            if self.on_record is not None:
                self.on_record(envelope)
        if cancel:
            await self._cancel_lost_leases()

    async def _request(self, envelope: Envelope, agent: str) -> None:
        work = self.state.leases.get(envelope.id)
        if work is not None:  # else it ended in the batch it began in
            self._held[envelope.id] = agent
            reply_to = topics.hub_reply(self.hub, agent, self.state.run)
            journal = [effect async for effect in read_at(self.log, self.state.run, [*work.journal.values()])]
            attachments = {"briefing": brief(self.state, work, tuple(journal)), "reply_to": reply_to}
            await self.bus.publish(topics.agent_request(agent, self.state.run), envelope, attachments)

    async def _confirm(self, envelope: Envelope) -> None:
        """Tell an agent that its intent is recorded; a model call is confirmed once it is granted."""
        work = self.state.works.get(envelope.subject or "")
        event = envelope.event
        if work is None or work.agent is None or work.lease is None:
            return
        if not isinstance(event, ModelAsked | CallGranted | ToolCalled | CheckStarted):
            return
        number = getattr(event, "number", 0)
        fields: dict[str, object] = {"lease": work.lease, "path": event.path, "number": number}
        if isinstance(event, ModelAsked | CallGranted):
            call = self.state.ledger.reserved.get((work.request, event.attempt, event.path, number))
            if call is None:
                return  # it waits
            fields["max_tokens"] = call.max_tokens
        await self.bus.publish_note(topics.agent_control(work.agent), Note("recorded", fields))

    async def _cancel_lost_leases(self) -> None:
        for lease, agent in list(self._held.items()):
            if not self.state.running or lease not in self.state.leases:
                del self._held[lease]
                await self.bus.publish_note(topics.agent_control(agent), Note("cancel", {"lease": lease}))


NOT_FROM_AGENTS = (
    AgentJoined,
    AgentLeft,
    DoubtSettled,
    MergeTried,
    TimePassed,
    RunForked,
    RunPaused,
    RunResumed,
)
