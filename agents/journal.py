"""Effects by key and request digest: answered again instead of done again. Pure.

An effect of a role has the key (request, attempt, path). The journal holds what the log has of one attempt: when the
role is run again, each effect it begins is looked up by its path. Recorded outcomes go back to the role in the order of
the log, each only after every effect recorded before it has been begun again, so that a role which acts on the order of
arrival takes the same way again.

The path is a list of integers. A task counts its effects 0, 1, 2 …; each further asyncio task in which the role has
effects opens a *lane* under its parent's, numbered like an effect at its first one: (2, 0) is the first effect of the
task that took number 2 of the role's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agents.errors import Diverged
from bus.events import (
    CheckEnded,
    CheckStarted,
    Effect,
    Fact,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    Path,
    ToolCalled,
    ToolReturned,
    ValueDrawn,
)

KINDS: dict[type[Fact], str] = {
    ModelAsked: "model",
    ModelAnswered: "model",
    ModelTryFailed: "model",
    ToolCalled: "tool",
    ToolReturned: "tool",
    CheckStarted: "check",
    CheckEnded: "check",
    ValueDrawn: "value",
}
_INTENTS = frozenset({ModelAsked, ToolCalled, CheckStarted})


@dataclass(slots=True)
class Entry:
    """One recorded effect."""

    path: Path
    kind: str
    digest: str
    at: int
    """Which of the records its first is, from 0."""
    events: list[Effect] = field(default_factory=list)
    outcome: Effect | None = None
    """Its outcome; None where the log has only the intent, or a try that was to be followed by another."""
    begun: bool = False

    def add(self, event: Effect) -> None:
        """Add the next record of it."""
        self.events.append(event)
        again = type(event) in _INTENTS or (isinstance(event, ModelTryFailed) and event.wait_ms is not None)
        self.outcome = None if again else event

    @property
    def tries(self) -> int:
        """How many tries of a model call are recorded."""
        return sum(isinstance(event, ModelAsked) for event in self.events)


class Journal:
    """What the log has of one attempt's effects."""

    def __init__(self, records: Sequence[Effect]) -> None:
        self._records = records
        self._next = 0
        self._entries: dict[Path, Entry] = {}
        for at, event in enumerate(records):
            entry = self._entries.get(event.path)
            if entry is None:
                entry = self._entries[event.path] = Entry(event.path, KINDS[type(event)], digest_in(event), at)
            entry.add(event)

    @property
    def drained(self) -> bool:
        """Whether every recorded outcome has been handed out: from here on the role lives."""
        return self._next == len(self._records)

    def begin(self, intent: Effect) -> Entry | None:
        """Note that the role began an effect; return what the log has of it, None where it is new.

        `intent`: the effect as it would be recorded; what would come of it does not count. Raises `Diverged` where the
        log has another effect there.
        """
        entry = self._entries.get(intent.path)
        if entry is None:
            return None
        if (entry.kind, entry.digest) != (KINDS[type(intent)], digest_in(intent)):
            from agents.divergence import explain  # noqa: PLC0415 - what compares texts is needed here only

            raise Diverged(entry.at, explain(self._records, entry.at, intent))
        entry.begun = True
        return entry

    def deliverable(self) -> Entry | None:
        """Return the next entry whose outcome may go to the role now, and step past it; None where it has to wait."""
        while self._next < len(self._records):
            event = self._records[self._next]
            entry = self._entries[event.path]
            if not entry.begun:
                return None
            self._next += 1
            if event is entry.outcome:
                return entry
        return None

    @property
    def next(self) -> int:
        """Which of the records is handed out next, from 0."""
        return self._next

    def unbegun(self) -> int | None:
        """Return which of the records, from 0, is the first of an effect that the role has not begun."""
        for at in range(self._next, len(self._records)):
            if not self._entries[self._records[at].path].begun:
                return at
        return None

    def named(self, at: int) -> str:
        """Name one of the records, from 0."""
        from agents.divergence import named  # noqa: PLC0415 - likewise

        return named(self._records[at])


def digest_in(event: Effect) -> str:
    """Return what tells the request of an effect from another's at the same place."""
    return event.kind if isinstance(event, ValueDrawn) else getattr(event, "digest", "")


class Lane:
    """Numbers the effects of one task."""

    __slots__ = ("_count", "path")

    def __init__(self, path: Path = ()) -> None:
        self.path = path
        self._count = 0

    def next(self) -> Path:
        """Return the path of the next effect."""
        path = (*self.path, self._count)
        self._count += 1
        return path

    def open(self) -> "Lane":
        """Return a lane for a task below this one."""
        return Lane(self.next())
