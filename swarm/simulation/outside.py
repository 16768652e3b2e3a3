"""What lies outside of a swarm: the model endpoint and the world that tools act on. Both count."""

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pydantic import JsonValue

from agents.canonical import digest_of
from agents.model import EndpointHealth, ModelReply, ModelRequest, TryFailed, TryKind
from agents.tool import Tool, ToolContext

if TYPE_CHECKING:
    from swarm.simulation.watch import Watch

Answer = Callable[[ModelRequest], ModelReply]
"""Answers by what it is asked and nothing else: the same request may come again, from another agent."""

FAILURES: tuple[tuple[TryKind, bool], ...] = (
    ("rate_limited", False),
    ("server", False),
    ("lost", True),
    ("nonsense", True),
)
"""Kinds of failed tries, and whether they may have been paid."""


@dataclass(slots=True)
class Outside:
    """One endpoint for all. `faults`: how often, of 1, a call fails; `latency_s`: how long one takes, on average."""

    answer: Answer
    watch: "Watch"
    chance: random.Random
    faults: float = 0.0
    latency_s: float = 0.5
    away_until: float = 0.0
    calls: int = 0

    async def ask(self, request: ModelRequest, model: str) -> ModelReply:
        """Answer one try. Raises `TryFailed`."""
        sampling: dict[str, JsonValue] = {} if request.temperature is None else {"temperature": request.temperature}
        digest = digest_of(
            {
                "messages": list(request.messages),
                "model": model,
                "sampling": sampling,
                "tools": [tool.name for tool in request.tools],
            }
        )
        self.calls += 1
        self.watch.asked(digest)
        await asyncio.sleep(min(self.chance.expovariate(1 / self.latency_s), 10 * self.latency_s))
        if asyncio.get_running_loop().time() < self.away_until:
            raise TryFailed("server", "the endpoint is away")
        if self.faults and self.chance.random() < self.faults:
            kind, unproven = self.chance.choice(FAILURES)
            retry_after_s = self.chance.uniform(0.5, 5.0) if kind == "rate_limited" else None
            raise TryFailed(kind, f"{kind}, as drawn", unproven=unproven, retry_after_s=retry_after_s)
        return self.answer(request)


@dataclass(slots=True)
class SimulatedModel:
    """Meets `agents.model.Model` for one process."""

    outside: Outside
    name: str
    """As the scenario calls it, with its provider."""
    health: EndpointHealth

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Make one try. Raises `TryFailed`."""
        reply = await self.outside.ask(request, self.name)
        self.health.answered += 1
        return reply

    async def close(self) -> None:
        """Hold nothing, close nothing."""


@dataclass(frozen=True, slots=True)
class _Counted(Tool):
    """A tool that acts on the outside world, under the eyes of the watch."""

    watch: "Watch | None" = None

    async def run(self, arguments: Mapping[str, JsonValue], context: ToolContext) -> str:
        """Act, and be counted."""
        if self.watch is not None:
            self.watch.acted(context.idempotency_key, idempotent=self.idempotent)
        return await Tool.run(self, arguments, context)


def counted(tool: Tool, watch: "Watch") -> Tool:
    """Return a tool that is counted where it acts outward; any other as it is."""
    if tool.effect != "outward":
        return tool
    return _Counted(**{one.name: getattr(tool, one.name) for one in fields(Tool)}, watch=watch)
