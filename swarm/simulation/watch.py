"""Promises that are looked at as things happen: who says, asks or does something before it may."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bus.envelope import Envelope
from bus.events import (
    DoubtSettled,
    Event,
    GoalAccepted,
    GoalFailed,
    ModelAnswered,
    ModelAsked,
    Path,
    RunPaused,
    ToolCalled,
)
from bus.simulation.disk import SimulatedDisk, at_once
from bus.transport import Message
from swarm.core.state import RunState
from swarm.raised import leaves

MOST_TOLD = 20


@dataclass(slots=True)
class Watch:
    """What one run's world has seen so far. `broken`: the promises that did not hold, in words."""

    disk: SimulatedDisk
    broken: list[str] = field(default_factory=list)
    log: list[Envelope] = field(default_factory=list)
    """What is durable, in its order."""
    sent: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Id of what an agent sent -> its lease and ordinal."""
    forged: set[str] = field(default_factory=set)
    """Ids of what was sent in another's name."""
    held: RunState | None = None
    """What the hub that ended the run held as it did."""
    ended: bool = False
    paused: bool = False
    acts: Counter[str] = field(default_factory=Counter)
    """By its key: how often something was done to the outside world."""
    _ordinals: dict[tuple[str, int], str] = field(default_factory=dict)
    _recorded: Counter[str] = field(default_factory=Counter)
    """Lease -> messages of its agent that are durable."""
    _granted: Counter[str] = field(default_factory=Counter)
    """Digest of a model call -> its tries that are durable."""
    _asked: Counter[str] = field(default_factory=Counter)
    _answered: set[tuple[str, int, Path]] = field(default_factory=set)
    _may_act: Counter[str] = field(default_factory=Counter)

    def breaks(self, what: str) -> None:
        """Note a promise that did not hold."""
        if len(self.broken) < MOST_TOLD:
            self.broken.append(what)

    def durable(self, run: str, epoch: int, records: Sequence[Envelope]) -> None:
        """Take in a batch as it becomes durable."""
        owned = at_once(self.disk.log.info(run)).epoch
        if epoch != owned:
            self.breaks(f"fencing: an owner of epoch {epoch} wrote while the run is at epoch {owned}")
        for record in records:
            self.log.append(record)
            self._take(record)

    def _take(self, record: Envelope) -> None:
        event: Event = record.event  # type: ignore[assignment] # a log holds events
        if record.source.startswith("/swarm/agent/"):
            self._recorded[record.causation_id or ""] += 1
        match event:
            case ModelAsked():
                self._granted[event.digest] += 1
                if (record.subject or "", event.attempt, event.path) in self._answered:
                    self.breaks(f"promise 2: {record.subject} asks {event.path} again, which is answered in the log")
            case ModelAnswered():
                self._answered.add((record.subject or "", event.attempt, event.path))
            case ToolCalled() if event.outward:
                self._may_act[f"{record.subject}:{event.digest[:32]}"] += 1
            case DoubtSettled(verdict="retry"):
                self._may_act[f"{event.request}:{event.digest[:32]}"] += 1
            case GoalAccepted() | GoalFailed():
                self.ended = True
            case _:
                pass
        self.paused = isinstance(event, RunPaused)

    def said(self, client: str, topic: str, message: Message) -> None:
        """Look at a message as it is handed to the broker."""
        envelope = message.envelope
        if client.startswith("hub"):
            if envelope is not None and envelope.sequence:
                self._said_of_log(envelope)
            elif message.attachments.get("note") == "recorded":
                lease, through = message.attachments["lease"], message.attachments["through"]
                if through > self._recorded[lease]:
                    self.breaks(
                        f"promise 1: {client} says {through} of {lease} are recorded: {self._recorded[lease]} are"
                    )
        elif envelope is not None and "/reply/" in topic and envelope.id not in self.forged:
            key = envelope.causation_id or "", envelope.sequence
            known = self._ordinals.setdefault(key, envelope.id)
            if known != envelope.id:
                self.breaks(f"two messages are number {key[1]} of lease {key[0]}: an agent works on it twice")
            self.sent[envelope.id] = key

    def _said_of_log(self, envelope: Envelope) -> None:
        at = envelope.sequence
        if at > len(self.log) or self.log[at - 1].id != envelope.id:
            self.breaks(f"promise 1: {type(envelope.event).__name__} at {at} was said before it was durable")

    def asked(self, digest: str) -> None:
        """Look at a model call as it comes to the endpoint."""
        self._asked[digest] += 1
        asked, granted = self._asked[digest], self._granted[digest]
        if asked > granted:
            self.breaks(f"promise 2: call {digest[:8]} was made {asked} times, with {granted} on record")

    def acted(self, key: str, *, idempotent: bool) -> None:
        """Look at something done to the outside world. `key`: `RUN:REQUEST:DIGEST`."""
        self.acts[key] += 1
        may = self._may_act[key.partition(":")[2]]
        if not idempotent and self.acts[key] > may:
            self.breaks(f"promise 3: {key} was done {self.acts[key]} times, with {may} on record")


def told(error: BaseException) -> str:
    """Return an error in a line, with the place it comes from."""
    error = next(leaves(error))
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" ({place.tb_frame.f_code.co_filename.rpartition('/')[2]}:{place.tb_lineno})" if place else ""
    return f"{type(error).__name__}: {error}{where}"
