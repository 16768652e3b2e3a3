"""The bus of one process, with each message through bytes and back as over a broker; and one that loses messages."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from bus import wire
from bus.transport import Message
from bus.transports.memory import MemoryTransport


class WiredTransport(MemoryTransport):
    """Meets `bus.transport.Transport`; what cannot be sent, or is too large, is an error here too."""

    async def publish(self, topic: str, message: Message, *, retain: bool = False) -> None:
        payload = wire.encode(message, source="/swarm/test", note_id="n")
        await super().publish(topic, wire.decode(payload), retain=retain)


@dataclass
class Faults:
    """What becomes of messages on the topics it is for: lost, doubled, or after the ones that come later."""

    chance: random.Random
    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0
    on: Callable[[str], bool] = lambda topic: "/files" in topic
    seen: int = 0
    held: list[tuple[str, Message]] = field(default_factory=list)


class FaultyTransport(WiredTransport):
    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults

    async def publish(self, topic: str, message: Message, *, retain: bool = False) -> None:
        faults = self.faults
        if not faults.on(topic):
            await super().publish(topic, message, retain=retain)
            return
        faults.seen += 1
        if faults.chance.random() < faults.lost:
            return
        if faults.chance.random() < faults.late:
            faults.held.append((topic, message))
            return
        for _ in range(2 if faults.chance.random() < faults.doubled else 1):
            await super().publish(topic, message, retain=retain)
        while faults.held and faults.chance.random() < 0.5:
            await super().publish(*faults.held.pop(faults.chance.randrange(len(faults.held))))
