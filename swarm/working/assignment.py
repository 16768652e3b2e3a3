"""One attempt in a worker's hands: the way of its effects to the run's orchestrator, and back.

What is sent is numbered under its lease from 1 on. Where the bus can lose it, it is kept until the orchestrator's word
that it is recorded, and said again: a paid answer does not die with a broker or a hub.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self, cast

from bus import topics
from bus.envelope import Envelope, Stamp
from bus.errors import BusUnavailable
from bus.events import (
    AssignmentEnded,
    Effect,
    Fact,
    Request,
    role_of,
)
from bus.pubsub import Bus, Note
from bus.references import files_of

GRACE_S = 60.0
"""How long after its deadline an assignment is kept that no hub has a word on."""
FRESH_S = 5.0
"""A confirmation that took longer is asked for anew. No lease is lost sooner than that, however its agent vanished."""


@dataclass(slots=True)
class Intent:
    """What was asked for and is not confirmed yet."""

    envelope: Envelope
    """As it was said last: each time it is asked anew bears its own."""
    granted: asyncio.Future[int]
    until: float
    """Until when its confirmation is fresh."""
    span_s: float = FRESH_S
    anew: bool = False
    """Whether it was asked anew."""


@dataclass(slots=True)
class Assignment:
    """One attempt in this worker's hands: the reporter of its effects."""

    envelope: Envelope
    reply_to: str
    bus: Bus
    stamp: Stamp
    remaining_s: float
    """Running time left as it came."""
    epoch: int = 0
    keeps: bool = False
    """Whether what is sent is kept until it is recorded."""
    task: "asyncio.Task[None] | None" = None
    ended: bool = False
    """Whether its reply is on the way: it needs no slot any more."""
    waiting: dict[tuple[tuple[int, ...], int], Intent] = field(default_factory=dict)
    """By path and try."""
    heard_of: bool = False
    """Whether anything was said of it, which tells that it is accepted."""
    _sent: int = 0
    _outbox: dict[int, Envelope] = field(default_factory=dict)
    _gone_at: float = 0.0

    @classmethod
    def of(
        cls, envelope: Envelope, attachments: Mapping[str, Any], bus: Bus, stamp: Stamp, *, keeps: bool = False
    ) -> Self:
        """Return the assignment that a request makes. Raises `ValueError` for attachments that are none."""
        reply_to, left = attachments.get("reply_to"), attachments.get("remaining_ms")
        if not isinstance(reply_to, str) or topics.parse(reply_to).kind != "hub_reply":
            raise ValueError(f"reply_to is no topic for replies: {reply_to!r:.80}")
        if not isinstance(left, int) or not isinstance(epoch := attachments.get("epoch", 0), int):
            raise ValueError("remaining_ms and epoch are whole numbers")  # noqa: TRY004 - of a message, as below
        if not isinstance(envelope.event, Request):
            raise ValueError(f"a {type(envelope.event).__name__} is no request")  # noqa: TRY004 - of a message, not an argument
        made = cls(envelope, reply_to, bus, stamp, left / 1000, epoch, keeps)
        made._gone_at = asyncio.get_running_loop().time() + left / 1000 + GRACE_S
        return made

    @property
    def lease(self) -> str:
        """The id of the request event."""
        return self.envelope.id

    @property
    def run(self) -> str:
        """The run it is of."""
        return self.envelope.correlation_id

    @property
    def hub(self) -> str:
        """The hub that the run is with."""
        return topics.parse(self.reply_to).hub

    @property
    def role(self) -> str:
        """Who is to do it."""
        return role_of(cast("Request", self.envelope.event))

    @property
    def overdue(self) -> bool:
        """Whether its deadline is so long over that no hub can want it any more."""
        return asyncio.get_running_loop().time() > self._gone_at

    # What its role does

    async def tell(self, event: Effect) -> None:
        """Send an outcome."""
        await self.send(event)

    async def ask(self, event: Effect) -> int:
        """Send an intent and wait until it is recorded, and granted."""
        loop, envelope = asyncio.get_running_loop(), self._next(event)
        intent = Intent(envelope, loop.create_future(), loop.time() + FRESH_S)
        self.waiting[event.path, getattr(event, "number", 0)] = intent
        await self._publish(envelope)
        return await intent.granted

    async def send(self, event: Fact) -> None:
        """Send any event in answer to the request."""
        await self._publish(self._next(event))

    async def hand_back(self, why: str) -> None:
        """Stop, and let another agent go on."""
        if self.task is not None and not self.ended:
            self.task.cancel()
            self.ended = True
            await self.send(AssignmentEnded(lease=self.lease, why=why))

    # Between edges

    async def note(self, kind: str, **fields: object) -> None:
        """Say something of the lease that is no fact of the run."""
        try:
            await self.bus.publish_note(self.reply_to, Note(kind, {"lease": self.lease, **fields}))
        except BusUnavailable:
            return  # the lease runs out, or the word is said again

    def confirmed(self, path: tuple[int, ...], number: int, max_tokens: int, asked: str | None) -> Envelope | None:
        """Take the orchestrator's word that an intent is recorded, and granted.

        Return what is to be asked again instead, where the word took so long that the lease may be another's by now: it
        may have waited here for this process to go on, and what it allows may have been done and paid for since. From
        then on only the word on what was asked last counts (`asked`, the time that this bears): those on what was asked
        before may have come twice, and still lie here.
        """
        intent = self.waiting.get((path, number))
        if intent is None or asked not in {None, intent.envelope.time}:
            return None
        now = asyncio.get_running_loop().time()
        if self.keeps and now > intent.until:
            self._ask_anew(intent, now)
            return intent.envelope
        if intent.anew and asked is None:
            return intent.envelope
        del self.waiting[path, number]
        if not intent.granted.done():
            intent.granted.set_result(max_tokens)
        return None

    def _ask_anew(self, intent: Intent, now: float) -> None:
        intent.envelope = replace(intent.envelope, time=self.stamp.now())
        intent.span_s *= 2  # a way that is slow is not asked for ever
        intent.until = now + intent.span_s
        intent.anew = True
        if intent.envelope.sequence in self._outbox:
            self._outbox[intent.envelope.sequence] = intent.envelope

    def recorded(self, through: int) -> None:
        """Take the orchestrator's word that all up to a number is recorded."""
        for number in [number for number in self._outbox if number <= through]:
            del self._outbox[number]

    def moved(self, reply_to: str, epoch: int) -> None:
        """Take a hub's word that the run is with it now. Raises `ValueError` for a topic that is none."""
        if topics.parse(reply_to).kind != "hub_reply":
            raise ValueError(f"{reply_to!r:.80} is no topic for replies")
        if epoch >= self.epoch:
            self.reply_to, self.epoch = reply_to, epoch

    def names(self) -> list[str]:
        """Return the hashes of the files that are named by what is not recorded."""
        found = {
            ref.sha256: None for one in self._outbox.values() for ref in files_of(one.event) if ref.sha256 is not None
        }
        return [*found]

    async def say_again(self) -> None:
        """Send all that is not recorded, or not confirmed, once more, in its order."""
        asked = {intent.envelope.sequence: intent.envelope for intent in self.waiting.values()}
        if not self.ended:
            await self.note("progress")
        for _, envelope in sorted({**asked, **self._outbox}.items()):
            await self.say(envelope)

    async def say(self, envelope: Envelope) -> None:
        """Send once more what is not recorded, or not confirmed."""
        await self._publish(envelope)

    def _next(self, event: Fact) -> Envelope:
        self._sent += 1
        envelope = self.stamp(
            self.run, event, subject=self.envelope.subject, causation_id=self.lease, sequence=self._sent
        )
        if self.keeps:
            self._outbox[self._sent] = envelope
        return envelope

    async def _publish(self, envelope: Envelope) -> None:
        self.heard_of = True
        try:
            await self.bus.publish(self.reply_to, envelope)
        except BusUnavailable:
            if not self.keeps:
                raise
