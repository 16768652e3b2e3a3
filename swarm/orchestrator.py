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
from swarm import merging
from swarm.clock import RunClock
from swarm.core import meetings
from swarm.core.admit import Admission, admit, turn
from swarm.core.apply import apply
from swarm.core.decide import decide, next_deadline
from swarm.core.request import brief
from swarm.core.state import RunState, Work
from swarm.hubs.file_rights import Rights, readable
from swarm.intake import Inbox, together
from swarm.lease_keeper import LeaseKeeper, Overdue
from swarm.outgoing import Outgoing
from swarm.roster import said
from swarm.sparing import Sparing
from swarm.terms import IN_ONE_PROCESS, Terms

LONGEST_LEASE = 200
"""Characters; of what an agent says of others no more is kept, or said back."""

Arrival = tuple[Envelope, str | None]
"""An envelope and the agent that sent it; None for the orchestrator's own edges."""
OBJECT_S = 1.0
"""Between two words to one agent on what was passed over."""
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
    _held: dict[str, str] = field(default_factory=dict)
    """Lease -> agent, as far as agents have been told."""
    _lapsed: bool = False
    """Whether a lease has ended whose agent may still be at it."""
    _nap: asyncio.Timeout | None = None
    _keeper: LeaseKeeper | None = None
    _heard: dict[tuple[str, str], int] = field(default_factory=dict)
    """(agent, lease) -> the last of its messages that is recorded, where it is to be told so."""
    _unknown: dict[tuple[str, str], None] = field(default_factory=dict)
    """(agent, lease) that it speaks of, and that nobody gave it or that is over."""
    _asked_for: dict[str, float] = field(default_factory=dict)
    """Lease -> when its agent may be asked again for the files of what it says."""
    _objections: Sparing = field(default_factory=lambda: Sparing(OBJECT_S))
    _out: Outgoing = field(init=False)

    def __post_init__(self) -> None:
        self._out = Outgoing(may_be_lost=self.terms is not None)
        if self.terms is not None:
            self._keeper = LeaseKeeper(self.terms, self.clock.now)

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
            if self._keeper is not None:
                arrivals += [(self._own(self._lost(one)), None) for one in self._keeper.overdue()]
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
        setup = self.state.setup
        self.tell(said(agent, card, why, known=lambda role: setup is None or role in setup.roles))

    async def moved(self) -> None:
        """Tell those that work on this run, by its log, that this hub owns it now.

        One that does not have a lease hands it back: the other hub may have died before it could say the request.
        """
        for lease, work in self.state.leases.items():
            agent = work.agent or ""
            self._held[lease] = agent
            if self._keeper is not None:
                self._keeper.given(lease)
            reply_to = topics.hub_reply(self.hub, agent, self.state.run)
            if self.rights is not None:
                self.rights.give(agent, lease, readable(await self._briefing(work)))
            self._tell_agent(agent, "moved", run=self.state.run, lease=lease, epoch=self.epoch, reply_to=reply_to)
        await self._out.flush()

    def let_go(self) -> None:
        """Take back the rights to files that were given for this run's leases; they are for its owner to give."""
        if self.rights is not None:
            for lease, agent in self._held.items():
                self.rights.take_back(agent, lease)

    async def _wait(self, get: Callable[[], Awaitable[Received[Any]]]) -> Received[Any] | None:
        """Wait for a message, for a local event, or until the next deadline."""
        if self._local:
            return None
        due = next_deadline(self.state)
        wait_s = None if due is None else max(0.0, (due - self.clock.elapsed_ms) / 1000) + 0.001
        if self._keeper is not None and (runs_out := self._keeper.next_due()) is not None:
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
        why = f"{self._held.get(overdue.lease, 'its agent')}: {overdue.why}"
        return AssignmentEnded(lease=overdue.lease, why=why, kind="silent")

    def _open(self, item: Received[Any]) -> Arrival | None:
        """Return what a message says, and who said it by the topic it came on."""
        address = topics.parse(item.topic)
        if address.run != self.state.run:
            return None
        if isinstance(item.content, Note):
            return self._note(item.content, address.agent)
        if self._keeper is not None and self._held.get(item.envelope.causation_id or "") == address.agent:
            self._keeper.heard(item.envelope.causation_id or "")
        return item.envelope, address.agent

    def _note(self, note: Note, agent: str) -> Arrival | None:
        """Take word of a lease: it is accepted, worked on, or not wanted."""
        lease = str(note.fields.get("lease", ""))[:LONGEST_LEASE]
        if self._held.get(lease) != agent or lease not in self.state.leases:
            self._unknown[agent, lease] = None
            self.dropped[Admission.LATE.value] += 1
            return None
        if self._keeper is not None and note.kind in {"accepted", "progress"}:
            self._keeper.heard(lease)
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
            if agent is not None:
                self._answer(envelope, agent, verdict)
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
        self._acknowledge()
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
        now = self.clock.now()
        if now >= self._asked_for.get(lease, now):
            self._asked_for[lease] = now + ASK_AGAIN_S
            reply_to = topics.hub_reply(self.hub, agent, self.state.run)
            self._tell_agent(agent, "moved", run=self.state.run, lease=lease, epoch=self.epoch, reply_to=reply_to)

    def _answer(self, envelope: Envelope, agent: str, verdict: Admission) -> None:
        """Note what an agent is to be told of what it said, once all is recorded."""
        lease = envelope.causation_id or ""
        if verdict in {Admission.RECORD, Admission.REPEATED}:
            self._heard[agent, lease] = max(envelope.sequence, self._heard.get((agent, lease), 0))
        elif verdict in {Admission.LATE, Admission.ENDED} and self.state.under(lease) is None:
            self._unknown[agent, lease] = None
        elif self.terms is not None and self._objections.may(agent, self.clock.now()):
            why = self._objection(envelope, verdict)
            self._tell_agent(agent, "dropped", lease=lease, sequence=envelope.sequence, why=why)

    def _objection(self, envelope: Envelope, verdict: Admission) -> str:
        """Return why an agent's message is passed over, in words that help whoever wrote the agent."""
        work = self.state.under(envelope.causation_id)
        effects = getattr(envelope.event, "effects", None)
        if work is None or verdict is not Admission.EARLY:
            return str(verdict.value)
        if envelope.sequence != work.heard + 1:
            return f"number {work.heard + 1} of this lease is due"
        if effects is not None and effects != len(work.journal):
            return f"it says {effects} `effects`, and {len(work.journal)} are recorded"
        return str(verdict.value)

    def _tell_agent(self, agent: str, kind: str, **fields: object) -> None:
        self._out.add(self.bus.publish_note, topics.agent_control(agent), Note(kind, fields))

    def _tell_what_it_holds(self, agent: str) -> None:
        """Tell an agent all that it still holds of this run: it may be busy with what it was never told is over."""
        state = self.state
        leases = [lease for lease, work in state.leases.items() if work.agent == agent]
        leases += [lease for lease, work in state.lost.items() if work.lost_by == agent]
        self._tell_agent(agent, "holds", run=state.run, epoch=self.epoch, leases=leases, through=state.position)

    def _acknowledge(self) -> None:
        """Tell agents up to where what they said is recorded, and which leases they hold no more."""
        heard, unknown = self._heard, self._unknown
        if not (heard or unknown):
            return
        self._heard, self._unknown = {}, {}
        if self.terms is None:
            return
        for (agent, lease), through in heard.items():
            over = self.state.under(lease) is None
            if over and self._keeper is not None:
                self._keeper.ended(lease)
            if over and self._held.pop(lease, None) is not None and self.rights is not None:
                self.rights.take_back(agent, lease)
            self._tell_agent(agent, "recorded", lease=lease, through=through, over=over)
        for agent, lease in unknown:
            self._tell_agent(agent, "cancel", lease=lease)

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
                    self._out.add(self.bus.publish, topics.run_outcome(run), envelope, retain=True)
                case _:
                    pass
            self._out.add(self.bus.publish, topics.run_event(run, type(event).__name__), envelope)
            if self.on_record is not None:
                self.on_record(envelope)
        if cancel:
            self._cancel_lost_leases()

    async def _request(self, envelope: Envelope, agent: str) -> None:
        work = self.state.leases.get(envelope.id)
        if work is not None:  # else it ended in the batch it began in
            self._held[envelope.id] = agent
            reply_to = topics.hub_reply(self.hub, agent, self.state.run)
            briefing = await self._briefing(work)
            attachments = {
                "briefing": briefing,
                "reply_to": reply_to,
                "remaining_ms": max(0, work.deadline_ms - self.clock.elapsed_ms),
                "epoch": self.epoch,
                "lease_s": self.terms.lease_s if self.terms else None,
            }
            if self._keeper is not None:
                self._keeper.given(envelope.id)
            if self.rights is not None:
                self.rights.give(agent, envelope.id, readable(briefing))
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
        if isinstance(event, ModelAsked | CallGranted):
            call = self.state.ledger.reserved.get((work.request, event.attempt, event.path, number))
            if call is None:
                return  # it waits
            fields["max_tokens"] = call.max_tokens
        self._tell_agent(work.agent, "confirmed", lease=work.lease, **fields)

    def _cancel_lost_leases(self) -> None:
        """Tell agents which leases they hold no more; one that ended without another being given is let run on."""
        for lease, agent in list(self._held.items()):
            if not self.state.running or self.state.under(lease) is None:
                del self._held[lease]
                self._tell_agent(agent, "cancel", lease=lease)
                if self.rights is not None:
                    self.rights.take_back(agent, lease)
        self._lapsed = bool(self.state.lost)
