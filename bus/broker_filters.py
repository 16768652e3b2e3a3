"""The filters of one client that its broker knows: which, by how many wanted, and numbered where they overlap. Pure.

A broker may send a message once for each filter that it matches, and tells by which numbers it came. So filters that
overlap bear one each, and of several copies the one with the smallest number counts.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bus.topics import covers, matches, overlap


@dataclass(slots=True, eq=False)
class BrokerFilter:
    """A filter that the broker knows."""

    pattern: str
    users: int = 0
    """How many subscriptions here live by it."""
    identifier: int | None = None


class BrokerFilters:
    """All filters that are wanted of the broker at present. Iterating yields them."""

    def __init__(self) -> None:
        self._known: dict[str, BrokerFilter] = {}
        self._identifiers = itertools.count(1)

    def __iter__(self) -> Iterator[BrokerFilter]:
        return iter(self._known.values())

    def hold(self, patterns: Sequence[str], held: list[BrokerFilter]) -> list[BrokerFilter]:
        """Add to `held` the filters by which what these patterns match comes; return those new to the broker."""
        new = []
        for pattern in _widest(patterns):
            known = next((it for it in self if covers(it.pattern, pattern)), None)
            if known is None:
                known = self._known[pattern] = BrokerFilter(pattern)
                new.append(known)
            known.users += 1
            held.append(known)
        return new

    def let_go(self, held: Iterable[BrokerFilter]) -> list[str]:
        """Undo `hold`; return the patterns that nobody wants any more."""
        gone = []
        for it in held:
            it.users -= 1
            if it.users == 0:
                gone.append(it.pattern)
                del self._known[it.pattern]
        return gone

    def number_overlapping(self, new: Sequence[BrokerFilter]) -> list[BrokerFilter]:
        """Give numbers to filters that overlap; return those that the broker knows without theirs."""
        again = []
        for it in new:
            for other in self:
                if other is not it and overlap(it.pattern, other.pattern):
                    for one in (other, it):
                        if one.identifier is None:
                            one.identifier = next(self._identifiers)
                            again += [one] if one not in new else []
        return again

    def cover(self, topic: str) -> bool:
        """Tell whether what is said on a topic is wanted."""
        return any(matches(pattern, topic) for pattern in self._known)

    def is_copy(self, topic: str, came_by: Sequence[int]) -> bool:
        """Tell whether a message came by these numbers, while another copy came or comes by a smaller one."""
        numbers = [it.identifier for it in self if it.identifier is not None and matches(it.pattern, topic)]
        return bool(numbers) and min(numbers) not in came_by


def _widest(patterns: Sequence[str]) -> list[str]:
    """Return the patterns that no other one covers."""
    once = list(dict.fromkeys(patterns))
    return [
        one
        for place, one in enumerate(once)
        if not any(
            covers(other, one) and (not covers(one, other) or at < place)
            for at, other in enumerate(once)
            if at != place
        )
    ]
