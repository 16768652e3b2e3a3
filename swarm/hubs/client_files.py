"""The files of a hub's clients: who may bring some for a submission, or have those of an outcome, and for how long."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from swarm.files.rights import Rights
from swarm.files.service import SWEPT_S
from swarm.files.shelf import Shelf

MOST_WAITING = 1024
"""Submissions whose files are still to come."""
MOST_EXPECTED = 256
"""Submissions that are being brought in parts."""
GONE_S = 600.0
"""After which a client that asks for none of a run's files and brings none is taken for gone."""

ClientRun = tuple[str, str]
"""A client, and the run whose files it is about."""


@dataclass(slots=True)
class ClientFiles:
    """What clients bring for submissions, and take of outcomes. `rights`: those by which the shelf answers."""

    shelf: Shelf
    rights: Rights
    _expected: dict[ClientRun, None] = field(default_factory=dict)
    """Submissions that are too large for one message, and are being brought."""
    _awaited: dict[ClientRun, None] = field(default_factory=dict)
    """Submissions whose files are still to come."""
    _heard: dict[ClientRun, float] = field(default_factory=dict)
    """Whose files they may have or bring: when they last asked for one, or brought one."""

    def heard(self, client: str, run: str) -> bool:
        """Note that a client speaks of a run's files; tell whether it may have or bring any."""
        may = self.rights.room(client, run) > 0
        if may:
            self._heard[client, run] = self.shelf.clock()
        return may

    def give(self, client: str, run: str, sha256s: Iterable[str] = ()) -> None:
        """Let a client bring files of a run, and have these."""
        self.rights.give(client, run, sha256s)
        self._heard[client, run] = self.shelf.clock()

    def expect(self, client: str, run: str) -> None:
        """Let a client bring a submission that comes in parts; of too many the oldest may not any more."""
        self._expected[client, run] = None
        self.give(client, run)
        if len(self._expected) > MOST_EXPECTED:
            oldest = next(iter(self._expected))
            del self._expected[oldest]
            if oldest not in self._awaited:
                self.take_back(*oldest)

    def wait_for(self, client: str, run: str) -> None:
        """Let a client bring the files of a submission; of too many the oldest may not any more."""
        self._awaited[client, run] = None
        self.give(client, run)
        if len(self._awaited) > MOST_WAITING:
            self.take_back(*next(iter(self._awaited)))

    def take_back(self, client: str, run: str) -> None:
        """Let a client neither have nor bring files of a run, until it submits or asks anew."""
        self.rights.take_back(client, run)
        for of_it in (self._heard, self._expected, self._awaited):
            of_it.pop((client, run), None)

    async def keep_sweeping(self) -> None:
        """Drop what is half there, and what belongs to clients that are gone, until cancelled."""
        while True:
            await asyncio.sleep(SWEPT_S)
            now = self.shelf.clock()
            for client, run in [one for one, at in self._heard.items() if now - at > GONE_S]:
                self.take_back(client, run)
            self.shelf.sweep()
