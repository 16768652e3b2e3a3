"""Which leases are lost because nobody was heard of: kept at the edge, by a clock of its own. Pure but for that clock.

Renewals are no facts of a run, so they stand in no log; that a lease ran out is one, and enters as `AssignmentEnded`.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

from swarm.terms import Terms


class Overdue(NamedTuple):
    """A lease that ran out, and why."""

    lease: str
    why: str


class LeaseKeeper:
    """The leases of one run. `now`: seconds of a monotonic clock."""

    def __init__(self, terms: Terms, now: Callable[[], float]) -> None:
        self._terms = terms
        self._now = now
        self._due: dict[str, tuple[float, str]] = {}
        """Lease -> when it runs out, and why it does then."""
        self._heap: list[tuple[float, str]] = []

    def given(self, lease: str) -> None:
        """Note that an agent is told of a lease; it has to accept it soon."""
        self._set(lease, self._terms.accept_s, f"not accepted within {self._terms.accept_s:g} s")

    def heard(self, lease: str) -> None:
        """Note a word of the agent that holds a lease."""
        if lease in self._due:
            self._set(lease, self._terms.lease_s, f"not heard of for {self._terms.lease_s:g} s")

    def ended(self, lease: str) -> None:
        """Forget a lease."""
        self._due.pop(lease, None)

    def next_due(self) -> float | None:
        """Return when the next lease may run out; None for never."""
        while self._heap:
            at, lease = self._heap[0]
            due = self._due.get(lease)
            if due is None:
                heapq.heappop(self._heap)
            elif due[0] > at:  # it was heard of meanwhile: its one entry moves to where it belongs
                heapq.heapreplace(self._heap, (due[0], lease))
            else:
                return at
        return None

    def overdue(self) -> Iterator[Overdue]:
        """Yield the leases that have run out, and forget them."""
        while (at := self.next_due()) is not None and at <= self._now():
            _, lease = heapq.heappop(self._heap)
            yield Overdue(lease, self._due.pop(lease)[1])

    def _set(self, lease: str, after_s: float, why: str) -> None:
        due = self._now() + after_s
        if lease not in self._due:
            heapq.heappush(self._heap, (due, lease))
        self._due[lease] = due, why
