"""What a hub brings itself and what it allows at most: the file of `swarm hub --config FILE`.

All that a submission may only name stands here: code of roles and tools, endpoints with the names of their keys, hosts
of the private network. Relative paths in it begin at its own folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue

from bus import topics
from bus.setup import Endpoint, Permissions, Price
from swarm.core.plan import NOT_WORKERS
from swarm.errors import ScenarioError, quote
from swarm.scenario import own_code, rules
from swarm.scenario.draft import Draft, Surroundings, begin, refuse_what_is_not_there_yet
from swarm.scenario.file import EndpointSection, PermissionsSection, PriceSection, RoleSection, Section, Sections
from swarm.scenario.model import Dialogue, permissions_of, price_of
from swarm.scenario.source import fault
from swarm.scenario.validation import good_roles, validated
from swarm.scenario.values import Count, Duration, Model, Money, Slug, SmallCount, Text
from swarm.scenario.yaml_source import read_source


def _tool_name(name: str) -> str:
    if not rules.TOOL_NAME.fullmatch(name):
        raise ValueError(f"{quote(name)} is no name of a tool; use letters, digits, - and _, at most 64")
    return name


User = Annotated[str, AfterValidator(topics.check_name)]


class HubRoleSection(RoleSection):
    """A role that the hub brings, or what holds for one that agents elsewhere bring."""

    about: str = Field(default="", description="What it is for, in one line: planners choose by it.")
    users: list[User] | None = Field(
        default=None,
        description="Users of the broker whose agents may take it; left out: all, for a planner or critic that the hub "
        "brings its own user alone.",
    )


class LimitCaps(Section):
    """What a submission cannot exceed; what is left out is not capped."""

    time: Duration | None = Field(default=None, description="Running time of a run.")
    tokens: Count | None = Field(default=None, description="Tokens of a run.")
    money: Money | None = Field(default=None, description="What the model calls of a run may cost.")
    rounds: SmallCount | None = Field(default=None, description="Reviews of the whole outcome.")
    attempts: SmallCount | None = Field(default=None, description="Tries of one subtask.")
    subtasks: SmallCount | None = Field(default=None, description="Subtasks of a run.")
    parallel: SmallCount | None = Field(default=None, description="Agents of a run at work at once.")
    calls: SmallCount | None = Field(default=None, description="Model calls in flight to one endpoint.")


class HubFile(Section):
    """What a hub brings and allows."""

    roles: dict[Slug, HubRoleSection] = Field(default={}, description="Roles that submissions may name.")
    endpoints: dict[Slug, EndpointSection] = Field(default={}, description="Chat Completions endpoints by their name.")
    model: Model | None = Field(default=None, description="Model of roles for which nobody names one.")
    tools: dict[Annotated[str, AfterValidator(_tool_name)], Text] = Field(
        default={}, description="Tools that submissions may name: package.module:name or ./file.py:name."
    )
    permissions: PermissionsSection = Field(default=PermissionsSection(), description="Where runs may reach at most.")
    limits: LimitCaps = Field(default=LimitCaps(), description="What a submission cannot exceed.")
    users: list[User] | None = Field(default=None, description="Users of the broker that may submit; left out: all.")


SECTIONS: Sections = {
    (): HubFile,
    ("roles", "*"): HubRoleSection,
    ("endpoints", "*"): EndpointSection,
    ("endpoints", "*", "price"): PriceSection,
    ("permissions",): PermissionsSection,
    ("limits",): LimitCaps,
}


@dataclass(frozen=True, slots=True)
class HubRole:
    """What the hub says of a role; None where it says nothing."""

    about: str = ""
    model: str | None = None
    tools: tuple[str, ...] | None = None
    agents: int | None = None
    deadline_ms: int | None = None
    max_tokens: int | None = None
    window: int | None = None
    dialogue: Dialogue | None = None
    prompt: str | None = None
    """The prompt's text."""
    uses: str | None = None
    """Its class; a file by its whole path. None: our own of that name, or one that agents elsewhere bring."""
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    users: frozenset[str] | None = None
    """Whose agents may take it; None: not said."""


@dataclass(frozen=True, slots=True)
class HubConfig:
    """What a hub brings and allows. Without a file it brings nothing of its own and reaches the public web."""

    folder: Path = Path()
    """Where the file lies: tools that a class of it declares are found from here."""
    roles: Mapping[str, HubRole] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By endpoint, where the file gives them."""
    model: str | None = None
    tools: Mapping[str, str] = field(default_factory=dict)
    """By name, where each is; a file by its whole path."""
    permissions: Permissions = field(default_factory=Permissions)
    limits: Mapping[str, int] = field(default_factory=dict)
    """By the fields of `Limits`; what is not there is not capped."""
    users: frozenset[str] | None = None
    """Who may submit; None: everyone."""
    warnings: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the file. Raises `ScenarioError` with every fault and its line."""
        source = read_source(Path(path))
        if source.data is not None and not isinstance(source.data, dict):
            raise fault("type", f"a hub's configuration is a mapping, not {quote(source.data)}", source.file)
        if not source.data:
            if source.faults:
                raise ScenarioError(source.faults)
            return cls()
        folder = Path(path).parent.absolute()
        own, tools = source.data.get("roles"), source.data.get("tools")
        brought = (
            [name for name, role in own.items() if isinstance(role, dict) and "uses" in role]
            if isinstance(own, dict)
            else []
        )
        around = Surroundings(
            roles=dict.fromkeys(brought, frozenset()),
            tools=frozenset(tools) if isinstance(tools, dict) else frozenset(),
            waits=True,
        )
        draft = begin(source, folder, around)
        refuse_what_is_not_there_yet(draft, below=("permissions",))
        file = validated(draft, HubFile, SECTIONS)
        _check(draft, file)
        if file is None or draft.faults:
            raise ScenarioError(draft.in_order())
        return cls(
            folder=folder,
            roles={name: _role(role, folder) for name, role in file.roles.items()},
            endpoints={name: Endpoint(url=one.url, key=one.key) for name, one in file.endpoints.items()},
            prices={name: price_of(one.price) for name, one in file.endpoints.items() if one.price},
            model=_whole_model(file.model, folder),
            tools={name: _whole(reference, folder) for name, reference in file.tools.items()},
            permissions=permissions_of(file.permissions),
            limits=_limits(file.limits),
            users=None if file.users is None else frozenset(file.users),
            warnings=tuple(draft.warnings),
        )

    def may_submit(self, user: str) -> bool:
        """Tell whether a user of the broker may submit runs."""
        return self.users is None or user in self.users

    def may_offer(self, user: str, role: str, *, own: str | None) -> bool:
        """Tell whether agents of a user may take requests for a role; `own`: the hub's user, where it brings agents.

        Who plans and who accepts decides over the work of all others: where nothing is said that is left to the hub.
        """
        if own is not None and user == own:
            return True
        said = self.roles[role].users if role in self.roles else None
        if said is not None:
            return user in said
        return own is None or role not in NOT_WORKERS


def _check(draft: Draft, file: HubFile | None) -> None:
    """Note what does not fit together, or is not where it should be."""
    roles = good_roles(draft)
    known = {*rules.BUILT_IN_TOOLS, *roles}
    for name, role in roles.items():
        own = [tool for tool in role.tools or () if own_code.is_reference(tool)]
        if own:
            hint = "Declare it under `tools: {NAME: …}`, and write the name here: requests carry names only."
            draft.fault("value", ("roles", name, "tools"), f"{quote(own[0])} is code, not a name", hint)
        rules.check_role(draft, name, role, known)
    if file is None:
        return
    rules.check_endpoints(draft, file.endpoints)
    if file.model is not None:
        rules.check_model(draft, ("model",), file.model)
    for name, reference in file.tools.items():
        if name in rules.ours_and(()):
            draft.fault(
                "value", ("tools", name), f"{quote(name)} is a tool of ours", "Choose another name.", at_key=True
            )
        rules.check_own_tool(draft, ("tools", name), reference)


def _role(role: HubRoleSection, folder: Path) -> HubRole:
    file = rules.prompt_file(role.prompt) if role.prompt else None
    return HubRole(
        about=role.about,
        model=_whole_model(role.model, folder),
        tools=None if role.tools is None else tuple(dict.fromkeys(role.tools)),
        agents=role.agents,
        deadline_ms=role.deadline,
        max_tokens=role.max_tokens,
        window=role.window,
        dialogue=role.dialogue,
        prompt=(folder / file).read_text("utf-8") if file else role.prompt,
        uses=_whole(role.uses, folder) if role.uses else None,
        options=role.options or {},
        users=None if role.users is None else frozenset(role.users),
    )


def _whole(reference: str, folder: Path) -> str:
    """Return a reference that means the same from any folder."""
    target, _, name = reference.rpartition(":")
    is_file = "/" in target or target.endswith(".py")
    return f"{folder / target}:{name}" if is_file else reference


def _whole_model(model: str | None, folder: Path) -> str | None:
    """Return a model that means the same from any folder."""
    if model is None or not rules.names_a_file(model):
        return model
    provider, _, name = model.partition(":")
    return f"{provider}:{folder / Path(name).expanduser()}"


def _limits(caps: LimitCaps) -> dict[str, int]:
    said: dict[str, int] = caps.model_dump(exclude_none=True)
    return {"time_ms" if name == "time" else name: most for name, most in said.items()}
