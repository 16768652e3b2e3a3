"""Two runs side by side: where their logs part, then plan, results, files and cost.

What differs between any two does not count: ids, times, leases, deadlines, the folders of their files.
"""

from collections.abc import AsyncIterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from bus.envelope import Envelope
from bus.setup import FileRef
from swarm.core.state import RunState, SubtaskState
from swarm.runs.outcome import Outcome, outcome_of

PASSED_OVER = frozenset({"deadline_ms", "out"})
"""Fields of events that differ between any two runs."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Side(_Frozen):
    """One event where two logs part."""

    type: str
    subject: str | None
    data: dict[str, JsonValue]


class Parting(_Frozen):
    """The first position at which two logs differ; a side is None where that log has ended."""

    position: int
    a: Side | None
    b: Side | None


class SubtaskPair(_Frozen):
    """One subtask in both runs: (status, attempts) and result; None where a run does not have it."""

    id: str
    a: tuple[str, int] | None
    b: tuple[str, int] | None
    result_a: str | None
    result_b: str | None


class FilePair(_Frozen):
    """One file of the runs' trees, where it differs."""

    path: str
    what: Literal["only in a", "only in b", "differs"]
    sha256_a: str | None
    sha256_b: str | None


class Comparison(_Frozen):
    """What differs between two runs; `subtasks` and `files` hold only what does."""

    a: Outcome
    b: Outcome
    parting: Parting | None
    subtasks: tuple[SubtaskPair, ...]
    files: tuple[FilePair, ...]

    @property
    def same(self) -> bool:
        """Whether both did and came to the same."""
        return self.parting is None


async def parting(a: AsyncIterator[Envelope], b: AsyncIterator[Envelope]) -> Parting | None:
    """Return the first position at which two logs part, reading no further."""
    position = 0
    while True:
        position += 1
        one, other = await anext(a, None), await anext(b, None)
        if one is None and other is None:
            return None
        if one is None or other is None or _key(one) != _key(other):
            return Parting(position=position, a=_side(one), b=_side(other))


def compare(a: RunState, b: RunState, where: Parting | None) -> Comparison:
    """Return what differs between two runs as they stand."""
    names = dict.fromkeys((*a.subtasks, *b.subtasks))
    pairs = [_pair(name, a.subtasks.get(name), b.subtasks.get(name)) for name in names]
    return Comparison(
        a=outcome_of(a),
        b=outcome_of(b),
        parting=where,
        subtasks=tuple(pair for pair in pairs if (pair.a, pair.result_a) != (pair.b, pair.result_b)),
        files=tuple(_files(a.tree, b.tree)),
    )


def _key(envelope: Envelope) -> tuple[str, str | None, object]:
    return envelope.type, envelope.subject, envelope.event.model_dump(exclude=set(PASSED_OVER))


def _side(envelope: Envelope | None) -> Side | None:
    if envelope is None:
        return None
    return Side(type=envelope.type, subject=envelope.subject, data=envelope.event.model_dump(mode="json"))


def _pair(name: str, a: SubtaskState | None, b: SubtaskState | None) -> SubtaskPair:
    return SubtaskPair(id=name, a=_standing(a), b=_standing(b), result_a=_result(a), result_b=_result(b))


def _standing(one: SubtaskState | None) -> tuple[str, int] | None:
    return (one.status.value, one.attempts) if one else None


def _result(one: SubtaskState | None) -> str | None:
    return one.result.text if one and one.result else None


def _files(a: dict[str, FileRef], b: dict[str, FileRef]) -> list[FilePair]:
    found = []
    for path in sorted(a.keys() | b.keys()):
        one, other = a.get(path), b.get(path)
        if one and other and one.sha256 == other.sha256:
            continue
        what: Literal["only in a", "only in b", "differs"] = (
            "differs" if one and other else "only in a" if one else "only in b"
        )
        hashes = (one.sha256 if one else None, other.sha256 if other else None)
        found.append(FilePair(path=path, what=what, sha256_a=hashes[0], sha256_b=hashes[1]))
    return found
