"""Roles run with every interleaving a seed draws: grants, answers and tools come when they are released.

Nothing sleeps and nothing is sent: each thing that a role waits for from outside is a future, and the seed says how
many turns of the loop pass before which of them is released.
"""

import asyncio
import hashlib
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path as Folder

from agents.briefing import Briefing
from agents.context import Context, Means
from agents.effects import Effects, reply_of
from agents.files.attempt_folder import AttemptFolder
from agents.model import EndpointHealth, ModelReply, ModelRequest
from agents.tool import tool
from bus.events import CallRequest, Effect, ModelAnswered, ModelAsked, Path, ToolReturned, Usage
from bus.file_store import MemoryFileStore
from bus.setup import RoleSetup

RoleCode = Callable[[Context], Awaitable[object]]
FEW_TURNS = 100
MOST_IDLE_TURNS = 10_000
"""Turns in which the role is quiet and nothing can be released."""


@dataclass
class World:
    """What is outside of a role. `order`: what is released in this order and no other; the rest as the seed says."""

    seed: int
    order: Sequence[str] = ()
    log: list[Effect] = field(default_factory=list)
    health: EndpointHealth = field(default_factory=EndpointHealth)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.waiting: list[tuple[str | None, asyncio.Future[None]]] = []
        self.due = deque(self.order)
        self.happened: list[str] = []
        """What was released and taken, in that order."""
        self.effects: Effects | None = None
        self.missed: list[str] = []
        """What was due and never asked for."""

    async def released(self, what: str | None = None) -> None:
        """Wait until the world lets this happen; `what` names an outcome."""
        future = asyncio.get_running_loop().create_future()
        entry = what, future
        self.waiting.append(entry)
        try:
            await future
        finally:
            if entry in self.waiting:
                self.waiting.remove(entry)
        if what is not None:
            self.happened.append(what)

    # The way to the orchestrator

    async def ask(self, event: Effect) -> int:
        self.log.append(event)
        await self.released()
        return getattr(event, "max_tokens", 0)

    async def tell(self, event: Effect) -> None:
        self.log.append(event)

    # A model

    async def model(self, request: ModelRequest) -> ModelReply:
        said = str(request.messages)
        await self.released(said)
        digest = hashlib.sha256(said.encode()).hexdigest()[:8]
        usage = Usage(input=1, output=1)
        if request.tools and request.messages[-1]["role"] == "user":
            calls = tuple(
                CallRequest(id=str(n), name="look", arguments=f'{{"at": "{digest}{n}"}}')
                for n in range(1 + int(digest, 16) % 2)
            )
            return ModelReply(None, usage, calls, "tool_calls")
        return ModelReply(f"said {digest}", usage)

    async def run(self, role: RoleCode, folder: Folder, recorded: Sequence[Effect] = ()) -> object:
        """Run a role over what is recorded, to its end."""
        self.log += recorded
        done = asyncio.create_task(self._attempt(role, folder, recorded))
        idle = 0
        while not done.done() and idle < MOST_IDLE_TURNS:
            for _ in range(0 if self.due else self.chance.choice((0, 0, 1, 1, 2, 5, 40))):
                await asyncio.sleep(0)
            idle = 0 if self._release() or self._busy() else idle + 1
            if idle > FEW_TURNS and self.due:
                self.missed.append(self.due.popleft())
                idle = 0
            await asyncio.sleep(0)
        if not done.done():
            done.cancel()
            await asyncio.wait([done])
            raise AssertionError(f"seed {self.seed}: the role waits for nothing that can come")
        return done.result()

    def _busy(self) -> bool:
        return self.effects is None or self.effects.stirs

    def _release(self) -> bool:
        free = [
            (what, future)
            for what, future in self.waiting
            if not future.done() and (what is None or not self.due or what == self.due[0])
        ]
        if not free:
            return False
        entry = self.chance.choice(free)
        self.waiting.remove(entry)
        if entry[0] is not None and self.due:
            self.due.popleft()
        entry[1].set_result(None)
        return True

    async def _attempt(self, role: RoleCode, folder: Folder, recorded: Sequence[Effect]) -> object:
        @tool(effect="reads")
        async def look(at: str) -> str:
            """Look at a place."""
            await self.released(at)
            return f"seen {at}"

        effects = Effects(recorded, self)
        setup = RoleSetup(model="test:model")
        context = Context(
            role="tester",
            request="r",
            attempt=1,
            feedback=(),
            briefing=Briefing("the goal", setup),
            means=Means(_Model(self), {"look": look}),
            effects=effects,
            folder=AttemptFolder(folder, MemoryFileStore(), {}, {}),
            deadline_s=600,
        )

        async def at_work() -> object:
            await context.folder()  # laid out at once: threads take their own time
            self.effects = effects
            return await role(context)

        return await reply_of(effects, at_work())


@dataclass
class _Model:
    world: World

    @property
    def health(self) -> EndpointHealth:
        return self.world.health

    async def ask(self, request: ModelRequest) -> ModelReply:
        return await self.world.model(request)

    async def close(self) -> None:
        pass


def keys(log: Sequence[Effect]) -> set[tuple[str, Path, str | None]]:
    """Return (type, path, digest) of every effect begun."""
    return {(type(e).__name__, e.path, e.digest) for e in log if isinstance(e, ModelAsked | ToolReturned)}


def awaited(log: Sequence[Effect]) -> int:
    """Return how many outcomes of a log had to be released."""
    return sum(isinstance(event, ModelAnswered | ToolReturned) for event in log)
