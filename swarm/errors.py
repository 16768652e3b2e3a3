"""What can go wrong where a run is described and put together.

SwarmError            its text is for people: what happened, why, what to do
├── ScenarioError     a scenario, `--set` or `--goal` that cannot be used, with every fault found; exit status 2
├── UsageError        a command that cannot be carried out as it was given; exit status 2
└── MissingPart       a part that we need is not there: model, broker, sandbox, disk; exit status 3
"""

import difflib
import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

FaultKind = Literal[
    "file",  # not there, a folder, unreadable, too large, not UTF-8
    "yaml",  # not YAML 1.2, or past its bounds
    "missing",  # a key that must be there
    "unknown_key",
    "unknown_name",  # a role, tool, model or sandbox that nobody offers
    "type",  # a list where a text belongs, and the like
    "value",
    "not_yet",  # its feature is not in this version
    "input",  # `inputs`, or `${{ … }}` that cannot be filled
    "setting",  # `--set` that leads nowhere
    "plan",  # cycles, equal ids, needs that are not there
    "criterion",  # an `accept` entry that no check understands
    "code",  # a class or tool of one's own that is not as it should be
    "refused",  # what a submission may not hold
]

_SHOWN = 50
"""Faults printed of one file; more help nobody."""
_LARGEST_SHOWN = 10**40
"""Python refuses to print integers of thousands of digits."""
_LONGEST_NAME = 100
_NAMES_LISTED = 30
_NAMES_COMPARED = 60
"""Bounds that keep a hostile file with thousands of names from costing minutes."""


class SwarmError(Exception):
    """Base of all that `swarm` raises on purpose."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `line` and `column` count from 1; `field` is a dotted path such as `plan.0.needs`."""

    kind: FaultKind
    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    field: str | None = None
    hint: str = ""

    def __str__(self) -> str:
        """Place, field and message on one line, then what to do."""
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        head = ": ".join(part for part in (place, self.field, self.message) if part)
        return f"{head}\n  {self.hint}" if self.hint else head

    def as_dict(self) -> dict[str, str | int | None]:
        """Return the object that `--json` prints."""
        return asdict(self)


class ScenarioError(SwarmError):
    """A scenario that cannot be used; `faults` in the order of the file, at least one."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__(self.faults)

    def __str__(self) -> str:
        """All faults, or the first of many."""
        shown = [str(fault) for fault in self.faults[:_SHOWN]]
        if len(self.faults) > _SHOWN:
            shown.append(f"… and {len(self.faults) - _SHOWN} more")
        return "\n".join(shown)


class UsageError(SwarmError):
    """A command that cannot be carried out as it was given: no such run, owned by another process, and the like."""


class MissingPart(SwarmError):
    """A part that we need is not there. `remedy` says what to do."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason} {remedy}".strip())
        self.reason = reason
        self.remedy = remedy


def cut(text: str, limit: int = 60) -> str:
    """Return the text for a terminal: at most `limit` characters, control, bidi and line characters replaced."""
    short = text if len(text) <= limit else text[: limit - 1] + "…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in short)


def nearest(name: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return the hint for a name that is not known: the one it looks like, then what else helps."""
    close = difflib.get_close_matches(name[:_LONGEST_NAME], [*itertools.islice(known, _NAMES_COMPARED)], n=1)
    return " ".join(part for part in (f"Did you mean '{cut(close[0])}'?" if close else "", otherwise) if part)


def listed(names: Iterable[str]) -> str:
    """Return names as a message shows them: sorted, cut, not too many."""
    first = heapq.nsmallest(_NAMES_LISTED + 1, names)
    shown = ", ".join(cut(name) for name in first[:_NAMES_LISTED])
    return f"{shown}, …" if len(first) > _NAMES_LISTED else shown or "none"


def quote(value: object) -> str:
    """Return a value as messages show it: texts and numbers cut and quoted, the rest by its kind."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return cut(str(value)) if abs(value) < _LARGEST_SHOWN else "a huge number"
    if isinstance(value, str):
        return f"'{cut(value)}'"
    if isinstance(value, Mapping):
        return "a mapping"
    return "a list" if isinstance(value, Sequence) else f"a {type(value).__name__}"
