"""All that a run needs to begin, found and checked: models, roles, tools, prices. Nothing is recorded or asked yet."""

import dataclasses
import inspect
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.completions.prices import is_nearby, price_of
from agents.role import Role
from agents.roles import ROLES
from agents.tool import Tool
from bus.envelope import Envelope
from bus.setup import Limits, Price, Setup
from swarm.errors import Fault, MissingPart, ScenarioError, UsageError, listed, nearest, quote
from swarm.preparation.model_choice import (
    Choice,
    Wanted,
    choose,
    defaults_of,
    is_recorded,
    named,
    place_of,
    split_model,
    without,
)
from swarm.preparation.parts import load_tool, role_class
from swarm.scenario.model import RoleModel, Scenario
from swarm.scenario.source import FieldPath
from swarm.settings import Settings


@dataclass(frozen=True, slots=True)
class Ready:
    """A scenario with all that a run of it needs to begin."""

    scenario: Scenario
    setup: Setup
    choices: Mapping[str, Choice]
    recordings: Mapping[str, Path] = field(default_factory=dict)
    """By role: the recording that is asked first, and that gets what it does not know."""
    elsewhere: frozenset[str] = frozenset()
    """Roles that only agents elsewhere bring."""
    behind: Sequence[Envelope] = ()
    """A log whose answers the recordings have given by now: they go on behind it."""


def elsewhere(scenario: Scenario) -> frozenset[str]:
    """Return the roles that have no class here, since the scenario was checked to wait for them."""
    return frozenset(name for name, role in scenario.roles.items() if role.uses is None and name not in ROLES)


async def prepare(
    scenario: Scenario,
    settings: Settings,
    *,
    models: Sequence[str] = (),
    record_new: bool = False,
    elsewhere: Collection[str] = (),
) -> Ready:
    """Choose the models and load the roles and tools of a scenario; nothing is recorded or asked yet.

    `models`: `M` for all roles or `ROLE=M`. `record_new`: what recorded models do not know goes to live ones, and is
    added to the recording. `elsewhere`: roles that have no class here; each of their agents uses its own model, unless
    one is named for its role. Raises `ScenarioError`, `MissingPart`, `ModelUnavailable`, `NotFound`, `UsageError`.
    """
    choices = await chosen(scenario, settings, models=models, elsewhere=elsewhere)
    asked = {name: _known_here(choice.model, scenario, settings) for name, choice in choices.items()}
    files: dict[str, Path] = {}
    if record_new or any(is_recorded(choice.model) for choice in choices.values()):
        choices, asked, files = await _recorded(
            scenario, settings, choices, models=models, record_new=record_new, elsewhere=elsewhere
        )
    wanted = _wanted(scenario, models)
    for name in elsewhere:
        own = wanted.command_roles.get(name) or wanted.roles.get(name)
        asked[name] = _known_elsewhere(own) if own else OF_THE_AGENT
    closed = settings.closed
    classes = {name: _class_of(scenario, name, closed) for name in scenario.roles if name not in elsewhere}
    if faults := [fault for name, one in classes.items() for fault in _misfits(scenario, name, one)]:
        raise ScenarioError(faults)
    declared = {name: tuple(one.tools) for name, one in classes.items()} | dict.fromkeys(elsewhere, ())
    setup = scenario.resolve(asked, declared=declared)
    for name in classes:
        for tool in setup.roles[name].tools:
            if _tool_of(scenario, name, tool, closed).needs_approval:
                raise _refused(name, tool)
    roles = {
        name: role.model_copy(update={"about": classes[name].about()} if name in classes else {"brought": True})
        for name, role in setup.roles.items()
    }
    setup = setup.model_copy(update={"roles": roles})
    _money_can_be_kept(setup.limits, _prices(setup))
    return Ready(scenario, setup, choices, files if record_new else {}, frozenset(elsewhere))


async def prepare_for_agents(
    scenario: Scenario, settings: Settings, *, models: Sequence[str] = (), elsewhere: Collection[str] = ()
) -> Setup:
    """Return a scenario as resolved for agents that bring their own code, models and tools.

    `elsewhere`: roles that have no class here. Where nobody names a model, each agent uses its own. Raises as
    `prepare`.
    """
    wanted = _wanted(scenario, models)
    asked: dict[str, RoleModel] = {}
    for name in scenario.roles:
        choice = named(name, wanted, settings)
        asked[name] = _known_elsewhere(choice.model) if choice else OF_THE_AGENT
    here = {
        name: role_class(name, role.uses, scenario.folder, closed=settings.closed)
        for name, role in scenario.roles.items()
        if name not in elsewhere
    }
    setup = scenario.resolve(asked, declared={name: tuple(one.tools) for name, one in here.items()})
    roles = {
        name: role.model_copy(update={"about": role.about or here[name].about()} if name in here else {"brought": True})
        for name, role in setup.roles.items()
    }
    setup = setup.model_copy(update={"roles": roles})
    _money_can_be_kept(setup.limits, _prices(setup))
    return setup


NEARBY_TIMEOUT_MS = 600_000
"""Of one try at an endpoint on a machine of one's own, which may have no more than a processor."""
OF_THE_AGENT = RoleModel("", "native", None, None, NEARBY_TIMEOUT_MS, None)
"""What is known of a model that nobody names here."""


async def _recorded(
    scenario: Scenario,
    settings: Settings,
    choices: dict[str, Choice],
    *,
    models: Sequence[str],
    record_new: bool,
    elsewhere: Collection[str],
) -> tuple[dict[str, Choice], dict[str, RoleModel], dict[str, Path]]:
    """Return the choices, what the roles ask as their recordings want it, and the recordings by role."""
    from swarm.preparation import recordings  # noqa: PLC0415 - only recorded models need it

    files = recordings.files_of(choices, scenario.folder)
    known = {path: recordings.opened(path, may_be_new=record_new) for path in {*files.values()}}
    if record_new:
        choices = await live_choices(scenario, settings, models=models, elsewhere=elsewhere)
    asked = {name: _known_here(choice.model, scenario, settings) for name, choice in choices.items()}
    for name, path in files.items():
        asked[name] = (
            recordings.as_recorded(asked[name], name, known[path])
            if record_new
            else recordings.played(choices[name].model, name, known[path])
        )
    return choices, asked, files


async def chosen(
    scenario: Scenario, settings: Settings, *, models: Sequence[str] = (), elsewhere: Collection[str] = ()
) -> dict[str, Choice]:
    """Choose the model of each role here, loading and asking nothing.

    Raises `UsageError`, `ModelUnavailable`, and `ScenarioError` where money is limited and a price is not known.
    """
    choices = await choose(
        [name for name in scenario.roles if name not in elsewhere], _wanted(scenario, models), settings
    )
    prices = [(one.model, price_here(one.model, scenario, settings)) for one in choices.values()]
    _money_can_be_kept(scenario.limits, prices)
    return choices


async def live_choices(
    scenario: Scenario, settings: Settings, *, models: Sequence[str] = (), elsewhere: Collection[str] = ()
) -> dict[str, Choice]:
    """Choose as if nobody had named a recorded model. Raises `UsageError` where nobody has, `ModelUnavailable`."""
    wanted = _wanted(scenario, models)
    lived = without(wanted, is_recorded)
    if lived == wanted and not is_recorded(settings.model or ""):
        raise UsageError("--record-new: no role has a recorded model. Name one: --model recorded:FILE")
    if is_recorded(settings.model or ""):
        settings = dataclasses.replace(settings, model=None)
    return await choose([name for name in scenario.roles if name not in elsewhere], lived, settings)


def _wanted(scenario: Scenario, models: Sequence[str]) -> Wanted:
    """Sort `--model` by role. Raises `UsageError` for a role that is not there."""
    by_role: dict[str, str] = {}
    for_all: str | None = None
    for one in models:
        role, equals, model = one.partition("=")
        if not equals or ":" in role:
            for_all = one
        elif role not in scenario.roles:
            raise UsageError(f"--model {one}: role {role!r} is unknown (known: {', '.join(sorted(scenario.roles))})")
        else:
            by_role[role] = model
    written = {name: role.model for name, role in scenario.roles.items() if role.model}
    return Wanted(by_role, for_all, written, scenario.model)


def price_here(model: str, scenario: Scenario, settings: Settings) -> Price | None:
    """Return what a model costs where this process reaches it; None where that is not known. Raises `NoSuchModel`."""
    return _price_at(place_of(model, scenario.endpoints, settings).url, model, scenario)


def _price_at(url: str | None, model: str, scenario: Scenario) -> Price | None:
    provider, name = split_model(model)
    return scenario.prices.get(provider) or price_of(provider, name, url)


def _known_here(model: str, scenario: Scenario, settings: Settings) -> RoleModel:
    url = place_of(model, scenario.endpoints, settings).url
    known = _known(model, _price_at(url, model, scenario))
    if url is None or not is_nearby(url):
        return known
    return dataclasses.replace(known, timeout_ms=max(known.timeout_ms, NEARBY_TIMEOUT_MS))


def _known_elsewhere(model: str) -> RoleModel:
    """Return what is known of a model of agents that reach it themselves: they may have it from somewhere else."""
    return _known(model, price_of(*split_model(model)))


def _known(model: str, price: Price | None) -> RoleModel:
    """Return a model with what our tables know of it."""
    known = defaults_of(model)
    return RoleModel(model, known.dialogue, known.context, known.temperature, int(known.timeout_s * 1000), price)


def _class_of(scenario: Scenario, name: str, closed: Sequence[Path]) -> type[Role[Any, Any]]:
    """Return the class of a role. Raises `NotFound`, `ScenarioError` for what is none."""
    try:
        return role_class(name, scenario.roles[name].uses, scenario.folder, closed=closed)
    except MissingPart as error:
        raise _no_such_code(scenario, ("roles", name, "uses"), error) from error


def _tool_of(scenario: Scenario, role: str, tool: str, closed: Sequence[Path]) -> Tool:
    """Return a tool of a role. Raises `NotFound`, `ScenarioError` for what is none."""
    try:
        return load_tool(tool, scenario.folder, closed=closed)
    except MissingPart as error:
        granted = scenario.roles[role].tools
        where: FieldPath = ("uses",) if granted is None else ("tools", granted.index(tool))
        raise _no_such_code(scenario, ("roles", role, *where), error) from error


def _no_such_code(scenario: Scenario, path: FieldPath, error: MissingPart) -> ScenarioError:
    return ScenarioError([scenario.places.fault("code", path, error.reason.rstrip("."), error.remedy)])


def _misfits(scenario: Scenario, name: str, role: type[Role[Any, Any]]) -> Iterator[Fault]:
    """Find where what `with` says is not what a role's class takes; it is looked at, and none is made."""
    given, path = scenario.roles[name].options, ("roles", name, "with")
    parameters = inspect.signature(role).parameters.values()
    takes = {one.name: one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    for key in () if takes_any else given:
        if key not in takes:
            message = f"unknown key {quote(key)} (known: {listed(takes)})"
            yield scenario.places.fault("unknown_key", (*path, key), message, nearest(key, takes), at_key=True)
    for key, one in takes.items():
        if one.default is one.empty and key not in given:
            hint = f"Its class takes: {listed(takes)}."
            yield scenario.places.fault("missing", (*path, key), f"'{key}' is missing", hint)


def _prices(setup: Setup) -> Iterator[tuple[str, Price | None]]:
    return ((role.model, role.price) for role in setup.roles.values())


def _money_can_be_kept(limits: Limits, prices: Iterable[tuple[str, Price | None]]) -> None:
    """Raise `ScenarioError` where money is limited, and the price of a model is not known."""
    unknown = sorted({model or "the agents' own models" for model, price in prices if price is None})
    if unknown and limits.money is not None:
        raise ScenarioError(
            [
                Fault(
                    "value",
                    f"the price of {', '.join(unknown)} is not known, so `money` cannot be kept",
                    field="limits.money",
                    hint="Give the price under `endpoints` (USD a million tokens), or leave `money` out.",
                )
            ]
        )


def _refused(role: str, tool: str) -> ScenarioError:
    return ScenarioError(
        [
            Fault(
                "not_yet",
                f"tool {tool!r} asks a person before it acts, and approvals are not in this version",
                field=f"roles.{role}.tools",
                hint='Declare what it does: @tool(effect="reads"), or effect="outward" with needs_approval=False.',
            )
        ]
    )
