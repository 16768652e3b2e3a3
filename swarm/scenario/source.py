"""A scenario's file as plain data that knows where each part of it stands, and how much of it is read at most."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import JsonValue

from swarm.errors import Fault, FaultKind, ScenarioError

MOST_BYTES = 1_048_576
MOST_VALUES = 20_000
MOST_ALIASED = 1_000
MOST_DEPTH = 50

FieldPath = tuple[str | int, ...]
"""Keys and indexes from the top of the file down to a value."""


class Mark(NamedTuple):
    """A place in a file, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file as plain data. `faults`: what is wrong but did not keep us from reading on."""

    data: JsonValue
    file: str | None = None
    keys: Mapping[FieldPath, Mark] = field(default_factory=dict)
    values: Mapping[FieldPath, Mark] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def mark_after(before: str) -> Mark:
    """Return the place after some text."""
    return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def fault(kind: FaultKind, message: str, file: str | None, mark: Mark | None = None, hint: str = "") -> ScenarioError:
    """Return the error that ends the reading of a file."""
    line, column = mark or (None, None)
    return ScenarioError([Fault(kind, message, file, line, column, hint=hint)])
