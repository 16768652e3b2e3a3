"""Who may have which of a hub's files, and bring how much.

A hash is no secret: the live events of a run show it. So nobody gets a file by knowing its hash, nor by saying that a
call of theirs made it: what an agent may read is what its request names, and what it has brought itself.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agents.briefing import Briefing
from bus.events import Fact, ToolReturned
from bus.references import files_of
from swarm.latest import keep

MOST_A_LEASE = 256 * 1024 * 1024
"""Bytes that may be brought under one lease, or one run of a client."""
_CLAIMS_EACH = 64
_CLAIMANTS = 16_384


class Access(Protocol):
    """What an agent (or a client) may do under a lease (or a run). Who it is, the topic has proved."""

    def may_get(self, who: str, under: str, sha256: str) -> bool:
        """Tell whether it holds this lease, and the lease names this file."""
        ...

    def room(self, who: str, under: str) -> int:
        """Return how many bytes may be brought under this lease altogether; 0 where it does not hold it."""
        ...


def readable(briefing: Briefing) -> frozenset[str]:
    """Return the hashes of the files that a request names: those it starts from, and those of its effects so far."""
    trees: tuple[Mapping[str, object], ...] = (briefing.base, briefing.start, briefing.left)
    named = {ref.sha256 for tree in trees for ref in files_of(tuple(tree.values()))}
    for one in briefing.journal:
        if isinstance(one.event, ToolReturned):
            named.update(_hashes(one.event))
    return frozenset(sha256 for sha256 in named if sha256 is not None)


def unbacked(event: Fact, known: Iterable[str]) -> frozenset[str]:
    """Return the hashes that an agent's event says its work made, and that are none of `known`.

    `known`: what its request names (`readable`) and what it has brought under its lease (`Shelf.brought`). Whoever
    recorded others would give away files by their hash.
    """
    return frozenset(_hashes(event)).difference(known)


def _hashes(event: Fact) -> set[str]:
    return {one.sha256 for one in files_of(event) if one.sha256 is not None}


@dataclass(slots=True)
class Rights:
    """Meets `Access`: what was given out, until it is taken back."""

    most: int = MOST_A_LEASE
    _held: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)

    def give(self, who: str, under: str, sha256s: Iterable[str]) -> None:
        """Note that an agent holds a lease, and which files it names; given again, the new ones are added."""
        key = who, under
        self._held[key] = self._held.get(key, frozenset()).union(sha256s)

    def take_back(self, who: str, under: str) -> None:
        """Note that an agent does not hold a lease any more."""
        self._held.pop((who, under), None)

    def readable(self, who: str, under: str) -> frozenset[str]:
        """Return the hashes that an agent may read under a lease."""
        return self._held.get((who, under), frozenset())

    def may_get(self, who: str, under: str, sha256: str) -> bool:
        """See `Access`."""
        return sha256 in self._held.get((who, under), ())

    def room(self, who: str, under: str) -> int:
        """See `Access`."""
        return self.most if (who, under) in self._held else 0


class Claims:
    """Which payloads were claimed to whom; the newest ones of each."""

    def __init__(self) -> None:
        self._given: dict[str, dict[str, None]] = {}

    def give(self, who: str, sha256: str) -> None:
        """Note that a payload is claimed to an agent, a client, or to those who watch a run (`run_watchers`)."""
        mine = self._given.get(who, {})
        keep(mine, sha256, None, _CLAIMS_EACH)
        keep(self._given, who, mine, _CLAIMANTS)

    def has(self, who: str, sha256: str) -> bool:
        """Tell whether a payload was claimed to somebody."""
        return sha256 in self._given.get(who, ())


def run_watchers(run: str) -> str:
    """Return what stands for those who may read what is shown of a run; no agent or client has such a name."""
    return f"run:{run}"
