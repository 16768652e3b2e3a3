"""A scenario: a goal and what agents may use to reach it, read from a file or a mapping and checked as a whole.

`Scenario` is what the person wrote, with defaults and inputs filled in; it still lacks what is found elsewhere: which
model each role gets, at which price. `resolve` adds those and gives the `Setup` that a run is started with.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

from pydantic import JsonValue

from bus.setup import Criterion, Endpoint, Limits, Permissions, Price, RoleSetup, Setup, Subtask
from swarm.errors import Fault, ScenarioError, UsageError, listed, quote
from swarm.scenario.changes import apply_settings, give_inputs, set_goal
from swarm.scenario.draft import Draft, Places, Surroundings, begin, refuse_what_is_not_there_yet
from swarm.scenario.file import PermissionsSection, PriceSection, RoleSection, ScenarioFile, schema
from swarm.scenario.inputs import insert_inputs
from swarm.scenario.rules import BUILT_IN_TOOLS, GRANTED_ONLY, check_rules, prompt_file
from swarm.scenario.schemas import schema_files, take_schemas_in
from swarm.scenario.source import FieldPath, Source
from swarm.scenario.validation import good_rest, good_roles, validate
from swarm.scenario.yaml_source import read_source

__all__ = [
    "Dialogue",
    "RoleModel",
    "Scenario",
    "ScenarioRole",
    "change_limits",
    "load",
    "named_schemas",
    "prompt_files",
    "schema",
]

MAX_TOKENS = 4_096
"""Of one answer, where a role says no other."""
_ALONE = Surroundings()
Dialogue = Literal["native", "json"]


@dataclass(frozen=True, slots=True)
class ScenarioRole:
    """One role as written, defaults filled in. `model` and `dialogue`: None where the file does not say."""

    agents: int
    deadline_ms: int
    model: str | None = None
    tools: tuple[str, ...] | None = None
    """None: what the role's class declares, which is known only when it is loaded."""
    max_tokens: int = MAX_TOKENS
    window: int | None = None
    """Tokens of its model's context window, where the file says it."""
    dialogue: Dialogue | None = None
    prompt: str | None = None
    """The prompt's text, also where the file names another file."""
    prompt_file: Path | None = None
    uses: str | None = None
    about: str = ""
    """What it is for, where no class here says it."""
    options: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoleModel:
    """The model that a role gets, `provider:name`, with what is known of it."""

    model: str
    dialogue: Dialogue = "native"
    window: int | None = None
    temperature: float | None = None
    timeout_ms: int = 120_000
    """Of one try at an answer of `MAX_TOKENS`; a longer one may take as much longer."""
    price: Price | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario. `folder` (absolute): relative paths in it begin there. `file`: None if it was a mapping."""

    name: str
    goal: str
    folder: Path
    roles: Mapping[str, ScenarioRole]
    file: Path | None = None
    description: str = ""
    model: str | None = None
    """The model of every role that names none; None: what is found."""
    accept: tuple[Criterion, ...] = ()
    schemas: Mapping[Path, str] = field(default_factory=dict)
    """The texts of the schemas that were read for it, by their file; they stand in `accept`, parsed."""
    plan: tuple[Subtask, ...] | None = None
    limits: Limits = field(default_factory=Limits)
    permissions: Permissions = field(default_factory=Permissions)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)
    """Prices by endpoint, where the scenario gives them."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    workspace: tuple[str, ...] = ()
    """Paths that are still to be copied in, as written: `.` means the folder's contents."""
    outcome: tuple[str, ...] = ()
    sandbox: str | None = None
    python: str | None = None
    warnings: tuple[str, ...] = ()
    """What is allowed, but likely not meant; lines for people."""
    written: Mapping[str, JsonValue] = field(default_factory=dict)
    """What stands in the file, changed by what the command line said; inputs not yet filled in."""
    places: Places = field(default=Places(Source(None)), compare=False, repr=False)
    """Where its parts were written, for what is found wrong only later."""

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        goal: str | None = None,
        settings: Sequence[str] = (),
        inputs: Mapping[str, str] | None = None,
        around: Surroundings = _ALONE,
    ) -> Self:
        """Read a scenario file. `settings`: `PATH=VALUE` as of `--set`. Raises `ScenarioError` with every fault."""
        file = Path(path)
        draft = begin(read_source(file), file.parent.absolute(), around)
        return cls._checked(draft, file, goal=goal, settings=settings, inputs=inputs)

    @classmethod
    def from_dict(
        cls,
        mapping: Mapping[str, object],
        *,
        folder: str | Path = ".",
        goal: str | None = None,
        settings: Sequence[str] = (),
        inputs: Mapping[str, str] | None = None,
        around: Surroundings = _ALONE,
    ) -> Self:
        """Take a scenario from a mapping with a file's keys. Raises `ScenarioError`, whose faults have no lines."""
        draft = begin(mapping, Path(folder).absolute(), around)
        return cls._checked(draft, None, goal=goal, settings=settings, inputs=inputs)

    @classmethod
    def of(
        cls,
        what: "str | Path | Mapping[str, object] | Scenario",
        *,
        folder: str | Path = ".",
        inputs: Mapping[str, str] | None = None,
        around: Surroundings = _ALONE,
    ) -> "Scenario":
        """Take a scenario as programs give one: a path from `folder`, a dict of a file's keys, or one that is loaded.

        Raises `ScenarioError`, and `UsageError` for inputs of one that is loaded: they are in it already.
        """
        if isinstance(what, Scenario):
            if inputs:
                raise UsageError("inputs: this scenario is loaded, and has them. Give them to `Scenario.load(…)`.")
            return what
        if isinstance(what, Mapping):
            return cls.from_dict(what, folder=folder, inputs=inputs, around=around)
        return cls.load(Path(folder) / what, inputs=inputs, around=around)

    @classmethod
    def _checked(
        cls,
        draft: Draft,
        path: Path | None,
        *,
        goal: str | None,
        settings: Sequence[str],
        inputs: Mapping[str, str] | None,
    ) -> Self:
        if goal is not None:
            set_goal(draft, goal)
        give_inputs(draft, inputs or {})
        apply_settings(draft, settings)  # last: in a fork they change inputs that are recorded
        written_down = deepcopy(draft.data)
        draft.around.refuse(draft)
        refuse_what_is_not_there_yet(draft)
        values = insert_inputs(draft)
        draft.around.refuse(draft)
        take_schemas_in(draft)
        file = validate(draft)
        check_rules(draft)
        if file is None or draft.faults:
            raise ScenarioError(draft.in_order())
        return replace(cls._of(file, path, draft, values), written=written_down)

    @classmethod
    def _of(cls, file: ScenarioFile, path: Path | None, draft: Draft, inputs: Mapping[str, str]) -> Self:
        folder, around = draft.folder, draft.around
        limits = Limits(time_ms=file.limits.time, **file.limits.model_dump(exclude={"time"}))
        names = dict.fromkeys([*BUILT_IN_TOOLS, *file.roles, *around.roles, *(one.role for one in file.plan or ())])
        plan = tuple(
            Subtask(id=one.id, role=one.role, instruction=one.do, needs=tuple(one.needs), accept=tuple(one.accept))
            for one in file.plan or ()
        )
        python = file.sandbox.python
        return cls(
            name=file.name or _name_of(path),
            goal=file.goal,
            folder=folder,
            roles={name: _role(name, file.roles.get(name, RoleSection()), limits, draft) for name in names},
            file=path,
            description=file.description,
            model=file.model,
            accept=tuple(file.accept),
            schemas=draft.schemas,
            plan=plan or None,
            limits=limits,
            permissions=permissions_of(file.permissions),
            endpoints={name: Endpoint(url=one.url, key=one.key) for name, one in file.endpoints.items()},
            prices={name: price_of(one.price) for name, one in file.endpoints.items() if one.price},
            inputs=dict(inputs),
            workspace=() if around.taken_in else tuple(file.workspace or ()),
            outcome=tuple(file.outcome or ()),
            sandbox=file.sandbox.use,
            python=str(folder / python) if python and "/" in python else python,
            warnings=tuple(draft.warnings),
            places=draft.places,
        )

    def said_of(self, role: str) -> Mapping[str, JsonValue]:
        """Return what is written of a role; nothing where it has no entry."""
        roles = self.written.get("roles")
        said = roles.get(role) if isinstance(roles, dict) else None
        return said if isinstance(said, dict) else {}

    def resolve(
        self,
        models: Mapping[str, RoleModel],
        *,
        declared: Mapping[str, Sequence[str]] | None = None,
    ) -> Setup:
        """Return what a run is started with.

        `models`: each role's model, with what is known of it; what the scenario says goes before that. `declared`: the
        tools that the classes of one's own declare, by role; used where the scenario names none. Raises
        `ScenarioError` where a class declares what only a scenario grants.
        """
        roles = {}
        for name, role in self.roles.items():
            model = models[name]
            provider = model.model.partition(":")[0]
            roles[name] = RoleSetup(
                model=model.model,
                about=role.about,
                tools=self._tools(name, (declared or {}).get(name)),
                agents=role.agents,
                max_tokens=role.max_tokens,
                dialogue=role.dialogue or model.dialogue,
                prompt=role.prompt,
                uses=role.uses,
                options=dict(role.options),
                window=role.window or model.window,
                temperature=model.temperature,
                timeout_ms=model.timeout_ms * max(role.max_tokens, MAX_TOKENS) // MAX_TOKENS,
                deadline_ms=role.deadline_ms,
                price=self.prices.get(provider) or model.price,
            )
        return Setup(
            name=self.name,
            goal=self.goal,
            roles=roles,
            accept=self.accept,
            plan=self.plan,
            limits=self.limits,
            permissions=self.permissions,
            endpoints=dict(self.endpoints),
            inputs=dict(self.inputs),
            outcome=self.outcome,
            sandbox=self.sandbox,
            python=self.python,
            written=dict(self.written),
            folder=str(self.folder),
        )

    def _tools(self, name: str, declared: Sequence[str] | None) -> tuple[str, ...]:
        written = self.roles[name].tools
        if written is not None:
            return written
        if declared is None:
            raise KeyError(f"the tools that the class of role {name!r} declares are needed here")
        if claimed := GRANTED_ONLY & set(declared):
            message = f"its class declares tools that only a scenario grants: {listed(claimed)}"
            hint = f"Write `tools: [{', '.join(declared)}]` under the role, if you want it to have them."
            file = str(self.file) if self.file else None
            raise ScenarioError([Fault("value", message, file, field=f"roles.{name}.tools", hint=hint)])
        return tuple(declared)


load = Scenario.load


def prompt_files(written: Mapping[str, object], inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the files that a scenario has prompts in, by role. Raises `ScenarioError` where there is nothing in it."""
    named = {
        name: prompt_file(role.prompt) for name, role in good_roles(_filled(written, inputs)).items() if role.prompt
    }
    return {name: file for name, file in named.items() if file}


def named_schemas(written: Mapping[str, object], inputs: Mapping[str, str]) -> dict[FieldPath, str]:
    """Return the files that a scenario's checks have schemas in, by where they are named. Raises `ScenarioError`."""
    return schema_files(_filled(written, inputs).data)


def workspace_paths(written: Mapping[str, object], inputs: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths that a scenario names as its workspace. Raises `ScenarioError` where there is nothing in it."""
    rest = good_rest(_filled(written, inputs))
    return tuple(rest.workspace or ()) if rest else ()


def _filled(written: Mapping[str, object], inputs: Mapping[str, str]) -> Draft:
    draft = begin(written, Path())
    give_inputs(draft, inputs)
    insert_inputs(draft)
    return draft


def change_limits(settings: Sequence[str]) -> dict[str, int]:
    """Return the limits that `resume --set limits.X=V` names, as fields of `Limits`. Raises `ScenarioError`."""
    faults = [
        Fault(
            "setting",
            f"only limits can change now, not {quote(one.partition('=')[0])}",
            f"--set {quote(one)[1:-1]}",
            hint="`swarm fork` goes on from here with another model, role or goal; the past is paid for once.",
        )
        for one in settings
        if not one.startswith("limits.")
    ]
    if faults:
        raise ScenarioError(faults)
    draft = begin({"goal": "-"}, Path())
    apply_settings(draft, settings)
    file = validate(draft)
    if file is None or draft.faults:
        raise ScenarioError(draft.in_order())
    changed = file.limits.model_dump(include=file.limits.model_fields_set)
    return {"time_ms" if name == "time" else name: value for name, value in changed.items()}


def _name_of(path: Path | None) -> str:
    """Return a name made of the file's."""
    stem = path.stem.lower() if path else ""
    kept = "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "-" for char in stem)
    return kept.strip("-_")[:63] or "scenario"


def _role(name: str, role: RoleSection, limits: Limits, draft: Draft) -> ScenarioRole:
    tools = BUILT_IN_TOOLS.get(name) if role.uses is None else None
    written = prompt_file(role.prompt) if role.prompt else None
    text = draft.around.text(written) if written else None
    file = draft.folder / written if written and text is None and draft.around.folder_here else None
    return ScenarioRole(
        agents=role.agents or limits.parallel,
        deadline_ms=role.deadline or max(1, limits.time_ms // 3),
        model=role.model,
        tools=tools if role.tools is None else tuple(dict.fromkeys(role.tools)),
        max_tokens=role.max_tokens or MAX_TOKENS,
        window=role.window,
        dialogue=role.dialogue,
        prompt=file.read_text("utf-8") if file else text or role.prompt,
        prompt_file=file,
        uses=role.uses,
        options=role.options or {},
    )


def price_of(section: PriceSection) -> Price:
    """Return what tokens cost; cached ones as others where it is not said."""
    cached = section.input if section.cached is None else section.cached
    return Price(input=section.input, output=section.output, cached=cached)


def permissions_of(section: PermissionsSection) -> Permissions:
    """Return where a run may reach."""
    fetch: Literal["public", "none"] | tuple[str, ...] = tuple(section.fetch)
    if section.fetch == ["public"]:
        fetch = "public"
    elif section.fetch in (["none"], []):
        fetch = "none"
    return Permissions(fetch=fetch, private_hosts=tuple(section.private_hosts))
