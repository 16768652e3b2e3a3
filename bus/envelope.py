"""Who said it, when, in answer to what: a CloudEvents 1.0 envelope around one event.

On the wire and in the log the attributes bear the CloudEvents names (`correlationid`, `elapsedms` …): `bus/codec.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from bus.events import Fact


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event with its circumstances."""

    id: str
    """Unique; that of a request event is its lease."""
    source: str
    """`/swarm/hub/ID` or `/swarm/agent/ID`."""
    event: Fact
    """What happened."""
    correlation_id: str
    """The run."""
    time: str
    """RFC 3339, UTC; for people only."""
    subject: str | None = None
    """The id of the request it belongs to."""
    causation_id: str | None = None
    """The id of the event it answers; for a reply and an effect this is the lease."""
    sequence: int = 0
    """Position in the run's log, from 1; 0 while it is not recorded."""
    elapsed_ms: int = 0
    """The run's own clock: running time, pauses not counted."""
    traceparent: str | None = None
    """W3C Trace Context, where an agent says one: kept, and looked at by nobody here."""
    label: str | None = None
    """What an agent says of what the event may contain: kept, and looked at by nobody here."""

    @property
    def type(self) -> str:
        """The CloudEvents type, such as `swarm.GoalSubmitted.v1`."""
        return f"swarm.{type(self.event).__name__}.v{self.event.version}"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Makes envelopes for one source; the caller brings ids and time, so that tests and replays can."""

    source: str
    new_id: Callable[[], str]
    now: Callable[[], str]

    def __call__(  # noqa: D102 - the class says it
        self,
        run: str,
        event: Fact,
        *,
        subject: str | None = None,
        causation_id: str | None = None,
        sequence: int = 0,
        elapsed_ms: int = 0,
    ) -> Envelope:
        return Envelope(self.new_id(), self.source, event, run, self.now(), subject, causation_id, sequence, elapsed_ms)
