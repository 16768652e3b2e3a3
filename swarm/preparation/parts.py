"""The parts that a run's roles work with, each made when it is first needed: models, tools, sandbox, role classes."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agents.briefing import Briefing
from agents.context import Means
from agents.model import Model, Prepared
from agents.role import Role
from agents.roles import ROLES
from agents.sandbox import Sandbox
from agents.sandboxes import SANDBOXES
from agents.tool import Tool
from agents.tools import TOOLS
from bus import lookup
from bus.envelope import Envelope
from bus.errors import NotFound
from bus.raised_at import raised_at
from bus.setup import RoleSetup, Setup
from swarm.errors import MissingPart
from swarm.preparation.model_choice import is_recorded
from swarm.preparation.open_models import OpenModels
from swarm.settings import Settings

if TYPE_CHECKING:
    from agents.conversation.recording import Recording
    from agents.models.recorded import Recorded


class Parts(OpenModels):
    """What is shared by the workers of one run. Use it with `async with`; it closes what it opened.

    `announce` is told what takes long, such as a download. `recordings`: by role, the file of one that is asked before
    the role's model. `behind`: a log whose answers recordings have given by now.
    """

    def __init__(
        self,
        setup: Setup,
        settings: Settings,
        *,
        announce: Callable[[str], None] = lambda _: None,
        recordings: Mapping[str, Path] | None = None,
        behind: Sequence[Envelope] = (),
    ) -> None:
        folder = Path(setup.folder)
        super().__init__(setup.endpoints, settings, calls=setup.limits.calls, folder=folder, announce=announce)
        self.setup = setup
        self._closed = settings.closed
        self._means: dict[str, Means] = {}
        self._recordings = recordings or {}
        self._recorded: dict[Path, Recording] = {}
        self._behind = behind
        self._sandbox: Sandbox | None = None

    def role(self, name: str, spec: RoleSetup) -> Role[Any, Any]:
        """Make a role as the scenario says. Raises `NotFound`, `MissingPart`."""
        made = role_class(name, spec.uses, Path(self.setup.folder), closed=self._closed)
        try:
            return made(**spec.options)
        except TypeError as error:
            raise MissingPart(
                f"role {name!r} cannot be made with {sorted(spec.options)}: {error}{raised_at(error)}"
            ) from error

    def narrowed(self, name: str, briefing: Briefing) -> Briefing:  # noqa: ARG002 - `Workshop` has it
        """Return a briefing as it is: a scenario that is run here grants what it says."""
        return briefing

    def refusal(self, name: str, briefing: Briefing) -> str | None:  # noqa: ARG002 - `Workshop` has it
        """Return None: nothing is refused here."""
        return None

    def means(self, name: str, spec: RoleSetup) -> Means:
        """Return what a role's agents work with. Raises `NotFound`, `MissingPart`, `ModelUnavailable`."""
        if name not in self._means:
            tools = [load_tool(tool, Path(self.setup.folder), closed=self._closed) for tool in spec.tools]
            model = self._recorded_first(name, self.model(spec.model))
            self._means[name] = Means.of(spec, model, tools, sandbox=self.sandbox)
        return self._means[name]

    def model(self, name: str) -> Model:
        """Return the model `provider:name`, a recorded one behind what it has answered. Raises `ModelUnavailable`."""
        is_open = name in self._models
        model = super().model(name)
        if self._behind and is_recorded(name) and not is_open:
            cast("Recorded", model).pass_over(self._behind)
        return model

    def _recorded_first(self, role: str, model: Model) -> Model:
        path = self._recordings.get(role)
        if path is None:
            return model
        from agents.models.recorded import RecordedFirst  # noqa: PLC0415 - only recorded models need it
        from swarm.preparation.recordings import opened  # noqa: PLC0415 - likewise

        if path not in self._recorded:  # each answer is given once, whichever role asks
            self._recorded[path] = opened(path, may_be_new=True, behind=self._behind)
        return RecordedFirst(self._recorded[path], model)

    @property
    def sandbox(self) -> Sandbox:
        """The sandbox to use; whether it works is found when it is first used."""
        if self._sandbox is None:
            name = self.setup.sandbox or next(iter(SANDBOXES))
            self._sandbox = cast("Sandbox", cast("Any", lookup.load(name, SANDBOXES))(python=self.setup.python))
        return self._sandbox

    async def prepare(self) -> None:
        """Get ready, before a clock runs, what takes long: a local model's download and start.

        Raises `ModelUnavailable`.
        """
        for name in dict.fromkeys(role.model for role in self.setup.roles.values() if not role.brought):
            model = self.model(name)
            if isinstance(model, Prepared):
                await model.prepare()


def role_class(name: str, uses: str | None, base: Path, *, closed: Sequence[Path] = ()) -> type[Role[Any, Any]]:
    """Return the class of a role; `closed` is as in `lookup.load`. Raises `NotFound`, `MissingPart` if it is none."""
    if uses is None and ":" in name:  # a name is no reference, whoever gave it to a role
        raise NotFound(f"there is no role {name!r}: code of one's own stands under its `uses`.")
    found = lookup.load(uses or name, ROLES, base, closed=closed)
    if not (isinstance(found, type) and issubclass(found, Role)):
        raise MissingPart(f"{uses or name!r} is no role.", "Derive the class from `swarm.Role`.")
    return found


def load_tool(name: str, base: Path, *, closed: Sequence[Path] = ()) -> Tool:
    """Return a tool; `closed` is as in `lookup.load`. Raises `NotFound`, `MissingPart` if it is none."""
    found = lookup.load(name, TOOLS, base, closed=closed)
    if not isinstance(found, Tool):
        raise MissingPart(f"{name!r} is no tool.", "Put `@swarm.tool(effect=...)` above the function.")
    return found
