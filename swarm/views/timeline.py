"""An event log as text for people: one line an event that says when, who, what, to whom, why, and what it cost.

What models, tools and files said is shown cut and with nothing in it that a terminal would obey.
"""

from dataclasses import dataclass, field
from typing import cast

from bus.envelope import Envelope
from bus.events import (
    Event,
    GoalAccepted,
    GoalFailed,
    GoalSubmitted,
    ModelAnswered,
    Request,
    RunForked,
    RunMoved,
    RunPaused,
    RunResumed,
    role_of,
)
from bus.setup import Price
from swarm.core.limits import cost
from swarm.core.state import RunState
from swarm.runs.outcome import PICO
from swarm.views.terminal import one_line, paint
from swarm.views.wording import LONG, SHORT, clock, dollars, words


@dataclass(frozen=True, slots=True)
class Told:
    """One event in words."""

    sequence: int
    elapsed_ms: int
    who: str
    what: str
    style: str = ""
    cost: str = ""

    def line(self, *, colour: bool = False) -> str:
        """Return the whole line."""
        head = f"{self.sequence:>5}  {clock(self.elapsed_ms):>8}"
        tail = f"  [{self.cost}]" if self.cost else ""
        return (
            f"{paint(head, 'dim', colour=colour)}  {paint(f'{self.who:<11}', 'bold', colour=colour)}"
            f" {paint(self.what, self.style, colour=colour)}{paint(tail, 'dim', colour=colour)}"
        )


@dataclass(slots=True)
class Timeline:
    """Tells a run's envelopes, each once and in order; it remembers what later ones refer to."""

    _prices: dict[str, Price | None] = field(default_factory=dict)
    _roles: dict[str, str] = field(default_factory=dict)
    """Lease -> role."""

    @classmethod
    def after(cls, state: RunState) -> "Timeline":
        """Return one that goes on where a run stands thus: it knows all that later events can refer to."""
        prices = {name: role.price for name, role in state.setup.roles.items()} if state.setup else {}
        return cls(prices, {lease: work.role for lease, work in state.leases.items()})

    def tell(self, envelope: Envelope) -> Told:
        """Return what happened, in words."""
        event = cast("Event", envelope.event)
        if isinstance(event, GoalSubmitted | RunForked):
            self._prices = {name: role.price for name, role in event.setup.roles.items()}
        if isinstance(event, Request):
            self._roles[envelope.id] = role_of(event)
        what, style = words(event, one_line(envelope.subject or "", SHORT), planned=bool(envelope.subject))
        told = one_line(what, 4 * LONG)  # whatever an event holds, nothing in it is obeyed by a terminal
        return Told(envelope.sequence, envelope.elapsed_ms, who(envelope), told, style, self._cost(envelope, event))

    def _cost(self, envelope: Envelope, event: Event) -> str:
        if not isinstance(event, ModelAnswered):
            return ""
        usage = event.usage
        price = self._prices.get(self._roles.get(envelope.causation_id or "", ""))
        money = f", {dollars(cost(usage, price) / PICO)}" if price is not None else ""
        about = "about " if usage.estimated else ""
        return f"{about}{usage.input:,} + {usage.output:,} tokens{money}"


def headline(envelope: Envelope) -> str | None:
    """Return what a hub shows of an event of one of its runs, in a line; None for what is for those who follow it."""
    event = cast("Event", envelope.event)
    if not isinstance(event, GoalSubmitted | GoalAccepted | GoalFailed | RunPaused | RunResumed | RunMoved):
        return None
    what, _ = words(event, "", planned=False)
    return f"{envelope.correlation_id}  {one_line(what, LONG)}"


def who(envelope: Envelope) -> str:
    """Return who said it, as people call them: `swarm`, or an agent by its role."""
    name = envelope.source.removeprefix("/swarm/agent/local/").removeprefix("/swarm/agent/")
    return "swarm" if name.startswith("/swarm/hub/") else one_line(name, SHORT)
