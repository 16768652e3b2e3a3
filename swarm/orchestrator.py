"""Edge of the core: what comes in is admitted, recorded with what follows from it, and only then said.

One orchestrator is the only writer of its run's log. All that arrived meanwhile is one transaction; a crash before it
loses nothing that anybody knows of, and a crash after it is made good by `resume`, which says the open requests again.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

from agents.briefing import Briefing
from bus import topics
from bus.cards import AgentCard
from bus.envelope import Envelope, Stamp
from bus.event_log import EventLog, FileStore, read_at
from bus.events import (
    FROM_AGENTS,
    AgentLeft,
    AssignmentEnded,
    CallGranted,
    CheckStarted,
    Event,
    Fact,
    GoalAccepted,
    GoalFailed,
    ModelAsked,
    PlanProposed,
    PlanRequested,
    ReviewRequested,
    RunForked,
    RunPaused,
    SubtaskAssigned,
    TimePassed,
    ToolCalled,
    WorkFailed,
)
from bus.pubsub import Bus, Note, Received
from swarm.core import meetings
from swarm.core.admit import Admission, admit, turn
from swarm.core.apply import apply
from swarm.core.decide import decide, next_deadline
from swarm.core.request import brief
from swarm.core.state import RunState, Work
from swarm.files.rights import Rights
from swarm.orchestration import merging
from swarm.orchestration.intake import Inbox, together
from swarm.orchestration.lease_keeper import LeaseKeeper, Overdue
from swarm.orchestration.outgoing import Outgoing
from swarm.orchestration.receipts import Receipts
from swarm.orchestration.roster import said
from swarm.orchestration.sparing import Sparing
from swarm.orchestration.terms import IN_ONE_PROCESS, Terms
from swarm.runs.clock import RunClock

LONGEST_LEASE = 200
"""Characters; of what an agent says of others no more is kept, or said back."""

Arrival = tuple[Envelope, str | None]
"""An envelope and the agent that sent it; None for the orchestrator's own edges."""
ASK_AGAIN_S = 5.0
"""Between two requests for the files of what is said under one lease."""


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
    terms: Terms | None = IN_ONE_PROCESS
    """By which leases are kept; None where nothing can be lost on the way and no agent dies alone."""
    rights: Rights | None = None
    """Which files agents may have, where they have no disk in common with us."""
    backed: Callable[[str, str, Fact], bool] = lambda *_: True
    """Tells whether an agent may name, under a lease, the files that its event names."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Why messages were not recorded, and how often."""
    _local: deque[Envelope] = field(default_factory=deque)
    _lapsed: bool = False
    """Whether a lease has ended whose agent may still be at it."""
    _nap: asyncio.Timeout | None = None
    _files_asked_for: Sparing = field(default_factory=lambda: Sparing(ASK_AGAIN_S))
    _leases: LeaseKeeper = field(init=False)
    _receipts: Receipts = field(init=False)
    _out: Outgoing = field(init=False)

    def __post_init__(self) -> None:
        self._out = Outgoing(may_be_lost=self.terms is not None)
        self._leases = LeaseKeeper(self.terms, self.clock.now, self.rights)
        self._receipts = Receipts(self.state, self._leases, self.clock.now)

    async def run(self, inbox: Inbox, *first: Event) -> None:
        """Record the first events, then go on until the run has ended or is paused.

        `inbox`: what comes on `topics.run_replies` of its hub. Raises what the event log raises: its state is ahead of
        the log then, and the way on is `resume`.
        """
        await self._take((self._own(event), None) for event in first)
        while self.state.running:
            if (wanted := meetings.wanted(self.state)) is not None:
                await self._take([(self._own(await merging.merge(wanted, self.files)), None)])
                continue
            received = await self._wait(inbox.get)
            batch: list[Received[Any]] = [] if received is None else await together(received, inbox, self.state)
            arrivals = [arrival for item in batch if (arrival := self._open(item)) is not None]
            arrivals += [(envelope, None) for envelope in self._local]
            self._local.clear()
            arrivals += [(self._own(self._lost(one)), None) for one in self._leases.overdue()]
            if not batch and not arrivals:
                arrivals.append((self._own(TimePassed()), None))
            await self._take(arrivals)
            for item in batch:
                item.acknowledge()

    def tell(self, event: Event) -> None:
        """Hand in an event of the orchestrator's own edges, such as `RunPaused`."""
        self._local.append(self._own(event))
        if self._nap is not None and not self._nap.expired():  # else it is about to look by itself
            self._nap.reschedule(0)

    def take_agent(self, agent: str, card: AgentCard | None, why: str) -> None:
        """Hand in that an agent has come, says something else of itself, or is gone."""
        state = self.state
        self.tell(said(agent, card, why, known=lambda role: state.setup is None or state.knows(role)))

    async def moved(self) -> None:
        """Tell those that work on this run, by its log, that this hub owns it now.

        One that does not have a lease hands it back: the other hub may have died before it could say the request.
        """
        for lease, work in self.state.leases.items():
            agent = work.agent or ""
            self._leases.given(lease, agent, await self._briefing(work))
            self._tell_moved(agent, lease)
        await self._out.flush()

    def let_go(self) -> None:
        """Take back the rights to files that were given for this run's leases; they are for its owner to give."""
        self._leases.let_go()

    async def _wait(self, get: Callable[[], Awaitable[Received[Any]]]) -> Received[Any] | None:
        """Wait for a message, for a local event, or until the next deadline."""
        if self._local:
            return None
        due = next_deadline(self.state)
        wait_s = None if due is None else max(0.0, (due - self.clock.elapsed_ms) / 1000) + 0.001
        if (runs_out := self._leases.next_due()) is not None:
            left_s = max(0.0, runs_out - self.clock.now())
            wait_s = left_s if wait_s is None else min(wait_s, left_s)
        try:
            async with asyncio.timeout(wait_s) as self._nap:
                return await get()
        except TimeoutError:
            return None
        finally:
            self._nap = None

    def _own(self, event: Event) -> Envelope:
        return self.stamp(self.state.run, event, elapsed_ms=self.clock.elapsed_ms)

    def _lost(self, overdue: Overdue) -> AssignmentEnded:
        return AssignmentEnded(lease=overdue.lease, why=f"{overdue.agent}: {overdue.why}", kind="silent")

    def _open(self, item: Received[Any]) -> Arrival | None:
        """Return what a message says, and who said it by the topic it came on."""
        address = topics.parse(item.topic)
        if address.run != self.state.run:
            return None
        if isinstance(item.content, Note):
            return self._note(item.content, address.agent)
        lease = item.envelope.causation_id or ""
        if self._leases.holder(lease) == address.agent:
            self._leases.heard(lease)
        return item.envelope, address.agent

    def _note(self, note: Note, agent: str) -> Arrival | None:
        """Take word of a lease: it is accepted, worked on, or not wanted."""
        lease = str(note.fields.get("lease", ""))[:LONGEST_LEASE]
        if self._leases.holder(lease) != agent or lease not in self.state.leases:
            self._receipts.note_not_theirs(agent, lease)
            self.dropped[Admission.LATE.value] += 1
            return None
        if note.kind in {"accepted", "progress"}:
            self._leases.heard(lease)
        if note.kind == "declined":
            self._tell_what_it_holds(agent)
            why = f"{agent} declined: {str(note.fields.get('why', ''))[:400]}"
            return self._own(AssignmentEnded(lease=lease, why=why, kind="declined")), None
        if note.kind == "not_held":
            return self._own(AssignmentEnded(lease=lease, why=f"{agent} does not have it", kind="not_held")), None
        return None

    async def _take(self, arrivals: Iterable[Arrival]) -> None:
        """Admit, apply, decide until quiet; append; say."""
        records: list[Envelope] = []
        again: list[Envelope] = []
        position = self.state.position
        for envelope, agent in arrivals:
            verdict = self._admit(envelope, agent)
            if agent is not None and self.terms is not None:
                self._receipts.note(envelope, agent, verdict)
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
            self._confirm(envelope)
        for agent, note in self._receipts.take():
            self._say_to(agent, note)
        await self._out.flush()

    def _admit(self, envelope: Envelope, agent: str | None) -> Admission:
        if agent is None:
            begins = self.state.status == "new" or isinstance(envelope.event, RunForked)
            return Admission.RECORD if begins else admit(self.state, envelope)
        event = envelope.event
        lease = envelope.causation_id
        if isinstance(event, AssignmentEnded) and event.lease != lease:
            return Admission.WRONG
        work = self.state.under(lease)
        if work is None or agent not in {work.agent, work.lost_by} or not isinstance(event, FROM_AGENTS):
            return Admission.LATE if self.state.running else Admission.ENDED
        if not self.backed(agent, lease or "", event):
            self._ask_for_files(agent, lease or "")
            return Admission.WRONG
        in_turn = turn(self.state, lease, envelope.sequence)
        return admit(self.state, envelope) if in_turn is Admission.RECORD else in_turn

    def _ask_for_files(self, agent: str, lease: str) -> None:
        """Have an agent bring the files of its events, and say these again: it may have brought them to another hub.

        That happens between its bringing one and its naming it, so that it knows of none to bring as it is told of us.
        """
        if self._files_asked_for.may(lease, self.clock.now()):
            self._tell_moved(agent, lease)

    def _tell_moved(self, agent: str, lease: str) -> None:
        """Tell an agent that the run is with this hub, and is to hear here all that is not recorded."""
        reply_to = topics.hub_reply(self.hub, agent, self.state.run)
        self._tell_agent(agent, "moved", run=self.state.run, lease=lease, epoch=self.epoch, reply_to=reply_to)

    def _tell_agent(self, agent: str, kind: str, **fields: object) -> None:
        self._say_to(agent, Note(kind, fields))

    def _say_to(self, agent: str, note: Note) -> None:
        self._out.add(self.bus.publish_note, topics.agent_control(agent), note)

    def _tell_what_it_holds(self, agent: str) -> None:
        """Tell an agent all that it still holds of this run: it may be busy with what it was never told is over."""
        state = self.state
        leases = [lease for lease, work in state.leases.items() if work.agent == agent]
        leases += [lease for lease, work in state.lost.items() if work.lost_by == agent]
        self._tell_agent(agent, "holds", run=state.run, epoch=self.epoch, leases=leases, through=state.position)

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
                    cancel = cancel or self._lapsed
                case ModelAsked() | CallGranted() | ToolCalled() | CheckStarted():
                    self._confirm(envelope)
                case AssignmentEnded() | AgentLeft():
                    self._lapsed = True
                case WorkFailed() | PlanProposed() | RunPaused():
                    cancel = True
                case GoalAccepted() | GoalFailed():
                    cancel = True
                    self._out.add_watched(self.bus.publish, topics.run_outcome(run), envelope, retain=True)
                case _:
                    pass
            self._out.add_watched(self.bus.publish, topics.run_event(run, type(event).__name__), envelope)
            if self.on_record is not None:
                self.on_record(envelope)
        if cancel:
            self._cancel_lost_leases()

    async def _request(self, envelope: Envelope, agent: str) -> None:
        work = self.state.leases.get(envelope.id)
        if work is not None:  # else it ended in the batch it began in
            reply_to = topics.hub_reply(self.hub, agent, self.state.run)
            briefing = await self._briefing(work)
            attachments = {
                "briefing": briefing,
                "reply_to": reply_to,
                "remaining_ms": max(0, work.deadline_ms - self.clock.elapsed_ms),
                "epoch": self.epoch,
                "lease_s": self.terms.lease_s if self.terms else None,
            }
            self._leases.given(envelope.id, agent, briefing)
            self._out.add(self.bus.publish, topics.agent_request(agent, self.state.run), envelope, attachments)

    async def _briefing(self, work: Work) -> Briefing:
        journal = [effect async for effect in read_at(self.log, self.state.run, [*work.journal.values()])]
        return brief(self.state, work, tuple(journal))

    def _confirm(self, envelope: Envelope) -> None:
        """Tell an agent that its intent is recorded; a model call is confirmed once it is granted."""
        work = self.state.works.get(envelope.subject or "")
        event = envelope.event
        if work is None or work.agent is None or work.lease is None:
            return
        if not isinstance(event, ModelAsked | CallGranted | ToolCalled | CheckStarted):
            return
        number = getattr(event, "number", 0)
        fields: dict[str, object] = {"path": event.path, "number": number}
        if not isinstance(event, CallGranted):
            fields["asked"] = envelope.time
        if isinstance(event, ModelAsked | CallGranted):
            call = self.state.ledger.reserved.get((work.request, event.attempt, event.path, number))
            if call is None:
                return  # it waits
            fields["max_tokens"] = call.max_tokens
        self._tell_agent(work.agent, "confirmed", lease=work.lease, **fields)

    def _cancel_lost_leases(self) -> None:
        """Tell agents which leases they hold no more; one that ended without another being given is let run on."""
        for lease, agent in self._leases.holders():
            if not self.state.running or self.state.under(lease) is None:
                self._leases.ended(lease)
                self._tell_agent(agent, "cancel", lease=lease)
        self._lapsed = bool(self.state.lost)
