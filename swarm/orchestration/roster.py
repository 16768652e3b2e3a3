"""Which agents are there: their cards as they come and go, told to each run of a hub.

An agent whose card is cleared (it left, or its broker says so by its last will) may come back as the same process,
after a cut of its connection: only after a while are its leases taken back. One that comes back as another process
has nothing of what its forerunner held.

Each change is recorded by every run that is open. So whoever says too many of them is heard sparingly: of each of its
agents the newest card counts, once there is room for it.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bus import topics
from bus.cards import PROTOCOL, AgentCard, read_agent_card
from bus.errors import BadEnvelope
from bus.events import AgentJoined, AgentLeft, RoleOffer, SubtaskAssigned
from bus.pubsub import Bus, Note, Received
from swarm.orchestration.sparing import Budget

MOST_OF_ONE_USER = 1_024
"""Agents of one user that are known at once: a user of the broker can make up as many names as it likes."""

OF_AN_AGENT = 8, 1.0
"""How often its card may change at once while runs hear of it, and then how often a second."""
OF_A_USER = 64, 8.0
"""Likewise of all agents of one user: names cost it nothing."""
AGAIN_S = 0.5
"""How long cards wait that came too often, before they are looked at again."""

log = logging.getLogger("swarm.hub")

Listener = Callable[[str, AgentCard | None, str], None]
"""Called with an agent, its card (None: it is gone) and why."""


@dataclass(slots=True)
class Roster:
    """The agents on a bus."""

    bus: Bus
    rejoin_s: float = 0.0
    may_offer: Callable[[str, str], bool] = lambda *_: True
    """Whether agents of a user may take requests for a role."""
    refused: Callable[[str, str], None] = lambda *_: None
    """Called with an agent whose card is passed over, or offers what it may not (as that is seen first), and why."""
    agents: dict[str, AgentCard] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)
    """Why cards were passed over, and how often."""
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it listens."""
    _listeners: list[Listener] = field(default_factory=list)
    _leaving: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    _waiting: dict[str, AgentCard] = field(default_factory=dict)
    """The newest cards of agents that have changed too often."""
    _again: asyncio.TimerHandle | None = None
    _agents_budget: Budget = field(default_factory=lambda: Budget(*OF_AN_AGENT))
    _users_budget: Budget = field(default_factory=lambda: Budget(*OF_A_USER))

    async def run(self) -> None:
        """Follow the cards until cancelled."""
        try:
            async with self.bus.subscribe(topics.agent_cards(), kinds=Note, capacity=4096) as inbox:
                self.started.set()
                async for received in inbox:
                    self._take(received)
                    received.acknowledge()
        finally:
            for handle in (*self._leaving.values(), *((self._again,) if self._again else ())):
                handle.cancel()

    @contextmanager
    def told(self, listener: Listener) -> Iterator[None]:
        """Tell a listener who is there, and then who comes and goes, as long as the context lasts."""
        self._listeners.append(listener)
        for agent, card in self.agents.items():
            listener(agent, card, "")
        try:
            yield
        finally:
            self._listeners.remove(listener)

    def present(self, agent: str, card: AgentCard | None) -> None:
        """Take in an agent of this process, or that it leaves: nobody else hears of it."""
        if card is None:
            self._gone(agent, "it left")
        else:
            self._card_said(agent, card)

    def again(self) -> None:
        """Tell the listeners once more who is there: what was lost with our own connection is not held against them."""
        for agent, card in self.agents.items():
            for listener in tuple(self._listeners):
                listener(agent, card, "")

    def offers(self, role: str) -> bool:
        """Tell whether anybody offers a role, and is not about to leave."""
        return any(role == one.name for card in self.agents.values() if card.slots for one in card.roles)

    def _take(self, received: Received[Note]) -> None:
        agent = topics.parse(received.topic).agent
        if not received.content.kind:
            self._waiting.pop(agent, None)
            self._card_cleared(agent)
            return
        try:
            card = read_agent_card(received.content)
        except BadEnvelope as error:
            self._pass_over(agent, "it cannot be read", f"its card cannot be read: {error}")
            return
        if PROTOCOL not in card.protocols:
            said = f"its card's `protocols` are {list(card.protocols)[:8]}, this hub speaks {PROTOCOL}"
            self._pass_over(agent, "its protocol version is another", said)
            return
        user = agent.partition("/")[0]
        allowed = tuple(one for one in card.roles if self.may_offer(user, one.name))
        if len(allowed) < len(card.roles):
            self._refused(agent, [one.name for one in card.roles if one not in allowed])
            card = card.model_copy(update={"roles": allowed})
        self._hear(agent, card)

    def _pass_over(self, agent: str, why: str, told: str) -> None:
        self.dropped[why] += 1
        self.refused(agent, told)

    def _pass_over_too_many(self, agent: str) -> None:
        self._pass_over(agent, "its user has too many agents", f"its user has {MOST_OF_ONE_USER:,} agents already")

    def _refused(self, agent: str, roles: Sequence[str]) -> None:
        self.dropped["its user may not offer the role"] += 1
        if agent not in self.agents:  # else it was said before
            user, told = agent.partition("/")[0], ", ".join(roles)
            self.refused(agent, f"not taken for {told}: the hub's --config does not name {user!r} under `users` of it")

    def _hear(self, agent: str, card: AgentCard) -> None:
        """Take a card in, now or as soon as its agent and its user have not changed too much any more."""
        known = self.agents.get(agent)
        if known is not None and known.nonce == card.nonce:
            self._stays(agent)
        if agent in self._waiting:
            self.dropped["its agent changes too often"] += 1
            self._waiting[agent] = card
        elif self._may_change(agent):
            self._card_said(agent, card)
        elif known is None and self._are_many(agent):
            self._pass_over_too_many(agent)
        else:
            self._waiting[agent] = card
            self._look_again()

    def _may_change(self, agent: str) -> bool:
        """Tell whether a card may be taken in now, which counts; where no run hears of it, it costs nothing."""
        if not self._listeners:
            return True
        now, user = asyncio.get_running_loop().time(), agent.partition("/")[0]
        if not (self._agents_budget.has(agent, now) and self._users_budget.has(user, now)):
            return False
        self._agents_budget.spend(agent, now)
        self._users_budget.spend(user, now)
        return True

    def _look_again(self) -> None:
        if self._again is None and self._waiting:
            self._again = asyncio.get_running_loop().call_later(AGAIN_S, self._take_waiting)

    def _take_waiting(self) -> None:
        self._again = None
        for agent, card in list(self._waiting.items()):
            if self._may_change(agent):
                del self._waiting[agent]
                self._card_said(agent, card)
        self._look_again()

    def _stays(self, agent: str) -> None:
        if (leaving := self._leaving.pop(agent, None)) is not None:
            leaving.cancel()

    def _card_said(self, agent: str, card: AgentCard) -> None:
        self._stays(agent)
        known = self.agents.get(agent)
        if known is None and self._are_many(agent):
            self._pass_over_too_many(agent)
            return
        if known is not None and known.nonce != card.nonce:
            self._gone(agent, "another process has taken its place")
        self.agents[agent] = card
        for listener in tuple(self._listeners):
            listener(agent, card, "")

    def _are_many(self, agent: str) -> bool:
        """Tell whether a user's agents are so many that each run would be full of their coming and going."""
        user = agent.partition("/")[0] + "/"
        here = sum(one.startswith(user) for one in self.agents)
        return here + sum(one.startswith(user) for one in self._waiting if one not in self.agents) >= MOST_OF_ONE_USER

    def _card_cleared(self, agent: str) -> None:
        if agent not in self.agents or agent in self._leaving:
            return
        if not self.rejoin_s:
            self._gone(agent, "its card was cleared")
            return
        loop = asyncio.get_running_loop()
        self._leaving[agent] = loop.call_later(self.rejoin_s, self._gone, agent, "its card was cleared")

    def _gone(self, agent: str, why: str) -> None:
        self._leaving.pop(agent, None)
        if self.agents.pop(agent, None) is not None:
            for listener in tuple(self._listeners):
                listener(agent, None, why)


def said(agent: str, card: AgentCard | None, why: str, *, known: Callable[[str], bool]) -> AgentJoined | AgentLeft:
    """Return what a run records of an agent; `known`: whether the run knows a role by itself."""
    if card is None:
        return AgentLeft(agent=agent, why=why)
    return AgentJoined(
        agent=agent,
        roles=tuple(one.name for one in card.roles),
        slots=card.slots,
        versions={one.name: one.version for one in card.roles if one.version},
        brings=tuple(
            RoleOffer(name=one.name, about=one.about, tools=one.tools)
            for one in card.roles
            if one.handles == SubtaskAssigned.__name__ and not known(one.name)
        ),
    )
