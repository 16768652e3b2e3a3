"""What agents are told of what they said: up to where it is recorded, which leases are over, what was passed over.

Told once all of a batch is recorded, a word for each lease and not for each message; objections sparingly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bus.envelope import Envelope
from bus.pubsub import Note
from swarm.core.admit import Admission
from swarm.core.state import RunState
from swarm.orchestration.lease_keeper import LeaseKeeper
from swarm.orchestration.sparing import Sparing

OBJECT_S = 1.0
"""Between two words to one agent on what was passed over."""


@dataclass(slots=True)
class Receipts:
    """The receipts of one run's agents. `now`: seconds of a monotonic clock."""

    state: RunState
    leases: LeaseKeeper
    now: Callable[[], float]
    _heard: dict[tuple[str, str], int] = field(default_factory=dict)
    """(agent, lease) -> the last of its messages that is recorded, where it is to be told so."""
    _not_theirs: dict[tuple[str, str], None] = field(default_factory=dict)
    """(agent, lease) that it speaks of, and that nobody gave it or that is over."""
    _objected: list[tuple[str, Note]] = field(default_factory=list)
    _objections: Sparing = field(default_factory=lambda: Sparing(OBJECT_S))

    def note(self, envelope: Envelope, agent: str, verdict: Admission) -> None:
        """Note what became of a message."""
        lease = envelope.causation_id or ""
        if verdict in {Admission.RECORD, Admission.REPEATED}:
            self._heard[agent, lease] = max(envelope.sequence, self._heard.get((agent, lease), 0))
        elif verdict in {Admission.LATE, Admission.ENDED} and self.state.under(lease) is None:
            self.note_not_theirs(agent, lease)
        elif self._objections.may(agent, self.now()):
            why = self._objection(envelope, verdict)
            self._objected.append((agent, Note("dropped", {"lease": lease, "sequence": envelope.sequence, "why": why})))

    def note_not_theirs(self, agent: str, lease: str) -> None:
        """Note that an agent speaks of a lease that it does not hold."""
        self._not_theirs[agent, lease] = None

    def take(self) -> Iterator[tuple[str, Note]]:
        """Yield what each agent is to be told now, and forget it."""
        for (agent, lease), through in self._heard.items():
            over = self.state.under(lease) is None
            if over:
                self.leases.ended(lease)
            yield agent, Note("recorded", {"lease": lease, "through": through, "over": over})
        for agent, lease in self._not_theirs:
            yield agent, Note("cancel", {"lease": lease})
        yield from self._objected
        self._heard.clear()
        self._not_theirs.clear()
        self._objected.clear()

    def _objection(self, envelope: Envelope, verdict: Admission) -> str:
        """Return why a message is passed over, in words that help whoever wrote the agent."""
        work = self.state.under(envelope.causation_id)
        effects = getattr(envelope.event, "effects", None)
        if work is not None and verdict is Admission.EARLY:
            if envelope.sequence != work.heard + 1:
                return f"number {work.heard + 1} of this lease is due"
            if effects is not None and effects != len(work.journal):
                return f"it says {effects} `effects`, and {len(work.journal)} are recorded"
        return str(verdict.value)
