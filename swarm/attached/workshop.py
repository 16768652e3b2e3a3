"""What an attached worker's roles are made of and work with: by its own configuration, within its own caps.

Nothing that a request says loads code here: roles are those that the worker was started with, tools those that its
owner allows, models those that it can reach with its own keys.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from agents.briefing import Briefing
from agents.context import Means
from agents.errors import AgentsError, NoSuchModel
from agents.model import EndpointHealth, Model, ModelReply, ModelRequest, Prepared, TryFailed
from agents.role import Role
from agents.sandbox import Sandbox
from agents.sandboxes import SANDBOXES
from bus import lookup
from bus.errors import BusError
from bus.setup import Endpoint, Limits, RoleSetup
from swarm.attached.worker_caps import WorkerCaps, by_itself, capped, refusal
from swarm.errors import MissingPart, SwarmError
from swarm.preparation.open_models import OpenModels
from swarm.preparation.parts import load_tool
from swarm.settings import Settings


@dataclass(frozen=True, slots=True)
class Craft:
    """A role that a worker brings: its class, and what it is made with."""

    role: type[Role[Any, Any]]
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    """The model for requests that name none."""


class _NoModel:
    """Stands for a model where none is named: whoever asks it is told so."""

    health = EndpointHealth()

    async def ask(self, request: ModelRequest) -> ModelReply:  # noqa: ARG002 - `Model` has it
        """Raise `TryFailed`: nothing was sent."""
        raise TryFailed(
            "unavailable",
            "no model is named, and this agent has none of its own.",
            remedy="Give it one by --model or SWARM_MODEL, then resume the run.",
        )

    async def close(self) -> None:
        """Nothing is open."""


class OwnWorkshop(OpenModels):
    """Meets `swarm.worker.Workshop` for requests from elsewhere. Use it with `async with`; it closes what it opened."""

    def __init__(
        self,
        crafts: Mapping[str, Craft],
        caps: Mapping[str, WorkerCaps],
        settings: Settings,
        *,
        folder: Path,
        endpoints: Mapping[str, Endpoint] | None = None,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(endpoints or {}, settings, calls=Limits().calls, folder=folder, announce=announce)
        self._crafts = crafts
        self._caps = caps
        self._tools_from = folder
        self._means: dict[tuple[object, ...], Means] = {}
        self._sandbox: Sandbox | None = None

    async def prepare(self) -> None:
        """Get ready what takes long for the models that are used where a request names none."""
        for craft in self._crafts.values():
            if craft.model and isinstance(model := self.model(craft.model), Prepared):
                await model.prepare()

    def role(self, name: str, spec: RoleSetup) -> Role[Any, Any]:  # noqa: ARG002 - its class is the worker's own
        """Make a role. Raises `MissingPart`."""
        craft = self._crafts[name]
        try:
            return craft.role(**craft.options)
        except TypeError as error:
            raise MissingPart(f"role {name!r} cannot be made with {sorted(craft.options)}: {error}") from error

    def means(self, name: str, spec: RoleSetup) -> Means:
        """Return what an agent of a role works with. Raises `NotFound`, `MissingPart`, `ModelUnavailable`."""
        model = spec.model or self._crafts[name].model
        key = (name, model, spec.tools, spec.window, spec.temperature, spec.timeout_ms)
        if key not in self._means:
            table = self._caps[name].table
            tools = [load_tool(table[tool], self._tools_from) for tool in spec.tools]
            self._means[key] = Means.of(spec, self.model(model), tools, sandbox=self.sandbox)
        return self._means[key]

    def narrowed(self, name: str, briefing: Briefing) -> Briefing:
        """Return the briefing of a role that grants no more than this worker allows."""
        caps, craft = self._caps[name], self._crafts[name]
        if briefing.role.brought and not briefing.role.tools:
            own = by_itself(craft.role.tools, caps)
            briefing = replace(briefing, role=briefing.role.model_copy(update={"tools": own}))
        found = capped(briefing, caps, name)
        if not found.role.model:
            role = found.role.model_copy(update={"model": craft.model})
            return replace(found, role=role)
        return found

    def refusal(self, name: str, briefing: Briefing) -> str | None:
        """Return why a request cannot be worked on here; None where it can."""
        why = refusal(briefing, self._caps[name], name, self._crafts[name].model)
        if why is None:
            try:
                self.means(name, self.narrowed(name, briefing).role)
            except NoSuchModel as error:  # its remedy is for who writes a scenario
                return f"{error.reason} This agent's owner can name a model that it has, by --model"
            except (AgentsError, BusError, SwarmError) as error:
                return str(error)
        return why

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox to use; whether it works is found when it is first used."""
        if self._sandbox is None:
            self._sandbox = cast("Sandbox", cast("Any", lookup.load(next(iter(SANDBOXES)), SANDBOXES))(python=None))
        return self._sandbox

    def model(self, name: str) -> Model:
        """Return the model `provider:name`; where none is named, one that says so to whoever asks it."""
        return super().model(name) if name else _NoModel()  # many a review asks none
