"""When marks are made, and which of them count: the edge around `swarm/core/marks.py`.

A mark saves folding a log from its beginning. It is made every thousand records and where a run ends or pauses, and
rides along with what is written anyway. One that other code has made is passed over: what that code took an event to
mean may not be what ours does.
"""

import hashlib
from functools import cache
from importlib.resources import files

from bus.envelope import Envelope
from bus.event_log import EventLog, Mark, MarkStore
from swarm.core.marks import BadMark, pack, unpack
from swarm.core.state import RunState
from swarm.version import VERSION

EVERY = 1_000
"""Records from one mark to the next, at least; folding so many takes some hundredths of a second."""
BYTES_A_RECORD = 64
"""A large state is marked less often, so that marks add no more than this many bytes a record to the log.

That is a tenth of it, or less; and making them stays in proportion to the records, however large the state grows.
"""
_MEANING = (
    "swarm.core",
    "agents.briefing",
    "agents.checking",
    "agents.checks",
    "agents.files.names",
    "bus.codec",
    "bus.envelope",
    "bus.events",
    "bus.setup",
)
"""The packages and modules whose code says what a log adds up to."""


class Marker:
    """Makes the marks of one run that goes on. `state` is as the log has it."""

    def __init__(self, store: MarkStore, state: RunState) -> None:
        self._store = store
        self._state = state
        self._last = state.position
        self._room = EVERY

    def recorded(self, envelope: Envelope) -> None:
        """Take in that a record is durable; with the last of its batch the log has all that the state has."""
        if envelope.sequence == self._state.position:
            self.look()

    def look(self) -> None:
        """Make a mark if one is due; the state's last record is durable. Raises what `MarkStore.keep` does."""
        state = self._state
        due = state.position >= EVERY if not state.running else state.position - self._last >= self._room
        if due and state.position > self._last:
            mark = keep(self._store, state)
            self._last = state.position
            self._room = max(EVERY, len(mark.data) // BYTES_A_RECORD)


def keep(store: MarkStore, state: RunState) -> Mark:
    """Mark a state. Raises what `MarkStore.keep` does."""
    mark = Mark(state.run, state.position, maker(), pack(state))
    store.keep(mark)
    return mark


async def nearest(log: EventLog, run: str, end: int | None) -> RunState:
    """Return a state from which the one at a position (by default the last) is near: at worst the very beginning.

    Raises what `EventLog.head` does.
    """
    length, _ = await log.head(run)
    if min(length, length if end is None else end) >= EVERY:  # shorter ones are folded sooner than marks are looked for
        mark = await log.marks.newest(run, maker(), end)
        if mark is not None:
            try:
                return unpack(run, mark.data)
            except BadMark:
                pass  # it may have been edited; the log says the same at more length
    return RunState(run)


@cache
def maker() -> str:
    """Return what stands for this code: marks of any other are passed over."""
    digest = hashlib.sha256(VERSION.encode())
    for name in _MEANING:
        package, _, module = name.rpartition(".")
        inside = files(name) if (files(package) / module).is_dir() else None
        sources = [files(package) / f"{module}.py"] if inside is None else [*inside.iterdir()]
        for source in sorted(sources, key=lambda source: source.name):
            if source.name.endswith(".py"):
                digest.update(f"{name}/{source.name}\0".encode() + source.read_bytes())
    return digest.hexdigest()
