"""What an agent holds: its assignments by lease, and what hubs say of them.

What is over is kept in mind for a while, so that a request that comes once more is not begun again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from bus import topics
from bus.errors import BusError, LogError
from bus.event_log import Files
from bus.pubsub import Bus, Note
from swarm.latest import keep
from swarm.working.assignment import Assignment

REMEMBERED = 4096
"""Leases that are over, kept so that a request that comes twice is not taken twice; and runs, by their epoch."""

log = logging.getLogger("swarm.worker")


@dataclass(slots=True)
class Held:
    """The assignments of one agent."""

    agent: str
    bus: Bus
    files: Callable[[Assignment], Files]
    """Where the files of an assignment come from and go to."""
    dropped: Counter[str]
    """Why messages were passed over, and how often."""
    _held: dict[str, Assignment] = field(default_factory=dict)
    _over: dict[str, None] = field(default_factory=dict)
    """Leases that are over; the latest of them."""
    _epochs: dict[str, int] = field(default_factory=dict)
    _fewer: asyncio.Event = field(default_factory=asyncio.Event)

    def __iter__(self) -> Iterator[Assignment]:
        """Return those that are held now."""
        return iter([*self._held.values()])

    def __contains__(self, lease: str) -> bool:
        """Tell whether an assignment is held."""
        return lease in self._held

    def is_known(self, lease: str) -> bool:
        """Tell of what is held, or over."""
        return lease in self._held or lease in self._over

    def is_old(self, assignment: Assignment) -> bool:
        """Tell whether an assignment is of a hub that its run is no longer with."""
        return assignment.epoch < self._epochs.get(assignment.run, 0)

    @property
    def busy(self) -> int:
        """How many need a slot."""
        return sum(not one.ended for one in self._held.values())

    def note_epoch(self, run: str, epoch: int) -> None:
        """Keep in mind which owner a run has by now; of the runs that are long over, not for ever."""
        keep(self._epochs, run, max(epoch, self._epochs.get(run, 0)), REMEMBERED)

    def add(self, assignment: Assignment) -> None:
        """Hold one more."""
        self._held[assignment.lease] = assignment

    def forget(self, held: Assignment) -> None:
        """Let go of an assignment: it is recorded whole, or not held any more."""
        self._held.pop(held.lease, None)
        keep(self._over, held.lease, None, REMEMBERED)
        if held.task is not None and not held.ended:
            held.task.cancel()
        self._fewer.set()

    async def none_left(self) -> None:
        """Wait until nothing is held."""
        while self._held:
            self._fewer.clear()
            await self._fewer.wait()

    async def say_again(self) -> None:
        """Say again what no hub has confirmed."""
        for assignment in self:
            await assignment.say_again()

    def hear(self, note: Note, group: asyncio.TaskGroup) -> None:
        """Take a hub's word on what is held."""
        if note.kind == "holds":
            self._forget_all_but(note)
            return
        if note.kind == "dropped":  # what is not recorded is said again by and by
            self.dropped["a hub passed it over"] += 1
            level = logging.INFO if note.fields.get("lease") else logging.WARNING
            log.log(level, "a hub passed something over: %.400s", note.fields.get("why"), extra={"agent": self.agent})
            return
        held = self._held.get(str(note.fields.get("lease", "")))
        try:
            if held is not None:
                self._word(held, note, group)
            elif note.kind == "moved":
                self._not_held(note, group)
        except (LookupError, TypeError, ValueError) as error:
            self.dropped["a note that cannot be read"] += 1
            log.info("a note %.40r cannot be read: %r", note.kind, error, extra={"agent": self.agent})

    def _not_held(self, note: Note, group: asyncio.TaskGroup) -> None:
        """Tell a hub that took a run over that there is nothing to wait for; should the request come yet, it is old."""
        run, lease, reply_to = (str(note.fields[name]) for name in ("run", "lease", "reply_to"))
        if topics.parse(reply_to).kind != "hub_reply":
            raise ValueError(f"{reply_to!r:.80} is no topic for replies")
        self.note_epoch(run, int(note.fields["epoch"]))
        keep(self._over, lease, None, REMEMBERED)
        group.create_task(self._say(reply_to, Note("not_held", {"lease": lease})), name=f"{self.agent} has no {lease}")

    async def _say(self, topic: str, note: Note) -> None:
        try:
            await self.bus.publish_note(topic, note)
        except BusError as error:
            log.info("not said: %s", error, extra={"agent": self.agent})  # the lease runs out

    def _word(self, held: Assignment, note: Note, group: asyncio.TaskGroup) -> None:
        fields = note.fields
        match note.kind:
            case "confirmed":
                path = tuple(int(one) for one in fields["path"])
                asked = str(fields["asked"]) if "asked" in fields else None
                stale = held.confirmed(path, int(fields["number"]), int(fields.get("max_tokens", 0)), asked)
                if stale is not None:
                    group.create_task(held.say(stale), name=f"{self.agent} asks again")
            case "recorded":
                held.recorded(int(fields["through"]))
                if fields.get("over"):
                    self.forget(held)
            case "cancel":
                self.forget(held)
            case "moved":
                held.moved(str(fields["reply_to"]), int(fields["epoch"]))
                self.note_epoch(held.run, held.epoch)
                group.create_task(self._bring_again(held), name=f"{self.agent} moves {held.lease}")
            case _:
                self.dropped["a note of a kind that is not known"] += 1

    def _forget_all_but(self, note: Note) -> None:
        """Take a hub's word on all that is held of a run, as of a position of its log: the rest is over.

        Who was to tell us so may be gone, and so may its word.
        """
        fields = note.fields
        leases, epoch, through = fields.get("leases"), fields.get("epoch"), fields.get("through")
        if not (isinstance(leases, list) and isinstance(epoch, int) and isinstance(through, int)):
            self.dropped["a note 'holds' that cannot be read"] += 1
            return
        for held in self:
            known = held.run == fields.get("run") and held.epoch <= epoch and held.envelope.sequence <= through
            if known and held.lease not in leases:
                self.forget(held)

    async def _bring_again(self, held: Assignment) -> None:
        """Say again to the hub that a run is with now what was not recorded; the files that it names come first."""
        files = self.files(held)
        try:
            for sha256 in held.names():
                await files.put(await files.get(sha256))
            await held.say_again()
        except (BusError, LogError) as error:
            log.warning("not brought to another hub: %s", error, extra={"agent": self.agent})
