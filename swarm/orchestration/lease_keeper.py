"""Who has been told of which lease of a run, by when a word of it is due, and which files go with it.

Renewals are no facts of a run, so they stand in no log; that a lease ran out is one, and enters as `AssignmentEnded`.
Pure but for its clock, and for the rights to files that it gives and takes back.
"""

import heapq
from collections.abc import Callable, Iterator
from typing import NamedTuple

from agents.briefing import Briefing
from swarm.files.rights import Rights, readable
from swarm.orchestration.terms import Terms


class Overdue(NamedTuple):
    """A lease that ran out, who had it, and why."""

    lease: str
    agent: str
    why: str


class LeaseKeeper:
    """The leases of one run, as far as agents were told of them.

    `now`: seconds of a monotonic clock. `terms`: None where leases need no keeping: then none ever runs out. `rights`:
    which files agents may have, where they have no disk in common with us.
    """

    def __init__(self, terms: Terms | None, now: Callable[[], float], rights: Rights | None) -> None:
        self._terms = terms
        self._now = now
        self._rights = rights
        self._holders: dict[str, str] = {}
        """Lease -> agent."""
        self._due: dict[str, tuple[float, str]] = {}
        """Lease -> when it runs out, and why it does then."""
        self._heap: list[tuple[float, str]] = []

    def holder(self, lease: str) -> str | None:
        """Return the agent that was told of a lease, and not yet that it is over."""
        return self._holders.get(lease)

    def holders(self) -> list[tuple[str, str]]:
        """Return all leases with their agents."""
        return [*self._holders.items()]

    def given(self, lease: str, agent: str, briefing: Briefing) -> None:
        """Note that an agent is told of a lease: it may have the files that it names, and has to accept it soon."""
        self._holders[lease] = agent
        if self._rights is not None:
            self._rights.give(agent, lease, readable(briefing))
        if self._terms is not None:
            self._set(lease, self._terms.accept_s, f"not accepted within {self._terms.accept_s:g} s")

    def heard(self, lease: str) -> None:
        """Note a word of the agent that holds a lease."""
        if self._terms is not None and lease in self._due:
            self._set(lease, self._terms.lease_s, f"not heard of for {self._terms.lease_s:g} s")

    def ended(self, lease: str) -> None:
        """Forget a lease, and let its agent have no more files for it."""
        self._due.pop(lease, None)
        agent = self._holders.pop(lease, None)
        if agent is not None and self._rights is not None:
            self._rights.take_back(agent, lease)

    def let_go(self) -> None:
        """Take back the rights to files that were given; they are for the run's next owner to give."""
        if self._rights is not None:
            for lease, agent in self._holders.items():
                self._rights.take_back(agent, lease)

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
        """Yield the leases that have run out; they are due no more, and their agents still hold them."""
        while (at := self.next_due()) is not None and at <= self._now():
            _, lease = heapq.heappop(self._heap)
            yield Overdue(lease, self._holders.get(lease, "its agent"), self._due.pop(lease)[1])

    def _set(self, lease: str, after_s: float, why: str) -> None:
        due = self._now() + after_s
        if lease not in self._due:
            heapq.heappush(self._heap, (due, lease))
        self._due[lease] = due, why
