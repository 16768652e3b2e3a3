"""What a person wants to know of a run that goes on: a fold of its own over the envelopes, for the live view."""

from dataclasses import dataclass, field
from typing import cast

from bus.envelope import Envelope
from bus.events import (
    AssignmentEnded,
    Event,
    FilesMerged,
    GoalAccepted,
    GoalFailed,
    GoalSubmitted,
    PlanProposed,
    PlanRefused,
    PlanRequested,
    ResultSubmitted,
    ReviewGiven,
    ReviewRequested,
    RunForked,
    RunPaused,
    RunResumed,
    SubtaskAssigned,
    WorkFailed,
)
from bus.setup import Subtask
from swarm.core.state import RunState
from swarm.views.wording import doing


@dataclass(slots=True)
class Row:
    """One subtask as it is drawn."""

    subtask: Subtask
    status: str = "waiting"
    attempt: int = 0


@dataclass(slots=True)
class Doing:
    """What one agent is at."""

    request: str
    role: str
    subtask: str | None
    did: str = "begins"


@dataclass(slots=True)
class Glance:
    """What a person wants to know of a run that goes on."""

    run: str = ""
    state: RunState = field(default_factory=lambda: RunState(""))
    """As the rules have it: what is spent, and the limits. It goes on by itself."""
    rows: dict[str, Row] = field(default_factory=dict)
    at_work: dict[str, Doing] = field(default_factory=dict)
    """Lease -> what its agent is at."""
    elapsed_ms: int = 0
    last: str = ""
    running: bool = False
    _before: dict[str, Row] = field(default_factory=dict)

    def fold(self, envelope: Envelope) -> None:  # noqa: C901, PLR0912 - one line a kind of event
        """Take one more event in."""
        event = cast("Event", envelope.event)
        self.run, self.elapsed_ms = envelope.correlation_id, envelope.elapsed_ms
        lease = envelope.causation_id or ""
        match event:
            case GoalSubmitted() | RunForked() | RunResumed():
                self.running = True
                self.at_work.clear()
            case RunPaused() | GoalAccepted() | GoalFailed():
                self.running = False
                self.at_work.clear()
            case PlanRequested():
                self.at_work[envelope.id] = Doing(envelope.subject or "", "planner", None)
            case SubtaskAssigned(subtask=subtask, attempt=attempt):
                self.rows[subtask.id] = Row(subtask, "working", attempt)
                self.at_work[envelope.id] = Doing(subtask.id, subtask.role, subtask.id)
            case ReviewRequested(subtask=name):
                self.at_work[envelope.id] = Doing(envelope.subject or "", "critic", name)
                self._mark(name, "in review")
            case PlanProposed(subtasks=subtasks):
                self.at_work.pop(lease, None)
                self._before = self.rows
                self.rows = {one.id: self._kept(one) for one in subtasks}
            case PlanRefused():
                self.rows = self._before
            case ResultSubmitted():
                gone = self.at_work.pop(lease, None)
                row = self.rows.get(gone.subtask or "") if gone else None
                if row is not None and not row.subtask.accept and not event.files:
                    row.status = "accepted"  # nothing to judge and nothing to merge: no event will say so
            case WorkFailed():
                gone = self.at_work.pop(lease, None)
                self._mark(gone.subtask if gone else None, "failed")
            case ReviewGiven(accepted=accepted, redo=redo):
                gone = self.at_work.pop(lease, None)
                self._mark(gone.subtask if gone and not accepted else None, "sent back")
                for one in redo:
                    self._mark(one.subtask, "sent back")
            case FilesMerged(subtask=name):
                self._mark(name, "accepted")
            case AssignmentEnded(lease=ended):
                self.at_work.pop(ended, None)
            case _:
                if (told := doing(event)) and lease in self.at_work:
                    self.at_work[lease].did = told

    def _kept(self, subtask: Subtask) -> Row:
        """Return the row of a subtask that stays in a new plan as it was, else a fresh one."""
        before = self.rows.get(subtask.id)
        return before if before and before.subtask == subtask and before.status == "accepted" else Row(subtask)

    def _mark(self, name: str | None, status: str) -> None:
        if name in self.rows:
            self.rows[name].status = status
