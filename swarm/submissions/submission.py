"""A scenario on its way to a hub: packed where it lies, unpacked where it is run.

A submission is not trusted. It carries texts, files by their hash, and names of roles, tools and models; what acts is
the hub's own (`swarm/hubs/hub_config.py`). What it may not hold is refused in `swarm/submissions/refusals.py`, the
rest is checked by the same code as a file; nothing of it is looked for on the hub's disk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import orjson
from pydantic import JsonValue, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from agents.briefing import Offer
from bus.setup import FileRef, Limits, Value
from swarm import workspace
from swarm.errors import Fault, ScenarioError, UsageError, cut
from swarm.hubs.hub_config import HubConfig, HubRole
from swarm.scenario.model import Scenario, ScenarioRole
from swarm.scenario.rules import BUILT_IN_TOOLS, GRANTED_ONLY, TOOL_NAME, is_slug
from swarm.scenario.surroundings import Surroundings, text_name
from swarm.submissions.caps import capped_limits, capped_permissions
from swarm.submissions.refusals import refusing
from swarm.submissions.submission_bounds import MOST_BYTES, faults_of

SUBMITTING = Surroundings(waits=True, elsewhere=True, refuse=refusing(None))
"""What a scenario is checked against where it is submitted: `Scenario.load(file, around=SUBMITTING)`."""

_ABOUT = 200
"""Characters that are shown to a planner of what an agent says of its role."""


class Submission(Value):
    """A scenario with all that a hub needs to run it; a value of JSON."""

    run: str
    """The id of the run: two hubs that get it begin one run."""
    written: dict[str, JsonValue]
    """The scenario's own mapping, changed by what the command line said."""
    inputs: dict[str, str] = {}
    models: tuple[str, ...] = ()
    """As given by `--model`: `M` or `ROLE=M`."""
    files: tuple[FileRef, ...] = ()
    """The workspace; the bytes are fetched by their hash."""
    texts: dict[str, str] = {}
    """The prompts that the scenario has in files, by their path beside it."""
    client: str = ""
    """Who submits, `user/instance`; the hub puts in whom the topic names."""

    def on_wire(self) -> dict[str, object]:
        """Return it as an object that `orjson.dumps` writes."""
        return {name: orjson.Fragment(to_json(getattr(self, name))) for name in type(self).model_fields}

    @classmethod
    def read(cls, value: object) -> Self:
        """Return what a parsed JSON object holds. Raises `ScenarioError` with each fault of its shape."""
        if isinstance(value, cls):
            return value
        try:
            written = to_json(value)
            if len(written) > MOST_BYTES:
                raise ScenarioError([Fault("value", f"a submission has at most {MOST_BYTES:,} bytes")])
            return cls.model_validate_json(written, strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise ScenarioError([Fault("type", one["msg"], field=_field(one["loc"])) for one in found]) from error
        except (PydanticSerializationError, ValueError) as error:  # nested too deeply, half a surrogate pair
            raise ScenarioError([Fault("value", f"this is no submission: {error}")]) from error


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A submission as a checked scenario, within what the hub allows."""

    scenario: Scenario
    """Its `workspace` is empty: the files are those of the submission."""
    elsewhere: tuple[str, ...]
    """Roles that only agents elsewhere bring: there is no class of theirs here."""
    missing_roles: tuple[str, ...]
    """Those among them that nobody offers yet."""


def pack(
    scenario: Scenario, *, run: str, client: str, home: Path, models: Sequence[str] = ()
) -> tuple[Submission, dict[str, Path]]:
    """Return a scenario as a submission, and where the contents of its files lie, by their hash.

    `home`: where state lives, which is never part of a workspace. Raises `ScenarioError` with each thing that no hub
    would take.
    """
    files, places = workspace.look_through(scenario, home=home)
    submission = Submission(
        run=run,
        written={**scenario.written, "name": scenario.name},
        inputs=dict(scenario.inputs),
        models=tuple(models),
        files=files,
        texts={
            _text_name(role.prompt_file, scenario.folder): role.prompt or ""
            for role in scenario.roles.values()
            if role.prompt_file
        },
        client=client,
    )
    try:
        _checked(submission, replace(SUBMITTING, texts=submission.texts), scenario.folder)
    except ScenarioError as error:
        file = str(scenario.file) if scenario.file else None
        raise ScenarioError([replace(fault, file=fault.file or file) for fault in error.faults]) from error
    return submission, places


def unpack(
    submission: Submission, config: HubConfig, *, folder: Path, offered: Mapping[str, Offer] | None = None
) -> Unpacked:
    """Return the scenario of a submission as this hub runs it: with its roles, models, endpoints, and within its caps.

    `folder`: what the run calls its scenario's folder; nothing is read from there. `offered`: by role, what agents say
    of it on their cards. Raises `ScenarioError` with each fault, `UsageError` for a user who may not submit.
    """
    user = submission.client.partition("/")[0]
    if not config.may_submit(user):
        raise UsageError(f"the user {cut(user)!r} may not submit runs to this hub: its configuration does not name it")
    offers = _sound(offered or {})
    brought = {name for name, role in config.roles.items() if role.uses}
    around = Surroundings(
        roles={
            **dict.fromkeys(brought, frozenset[str]()),
            **{name: frozenset(offer.tools) for name, offer in offers.items()},
        },
        tools=frozenset(config.tools),
        providers=frozenset(config.endpoints),
        waits=True,
        texts=submission.texts,
        refuse=refusing(config.permissions),
    )
    scenario = _checked(submission, around, folder, most_subtasks=config.limits.get("subtasks"))
    elsewhere = tuple(name for name in scenario.roles if name not in BUILT_IN_TOOLS and name not in brought)
    missing = tuple(name for name in elsewhere if name not in offers)
    return Unpacked(_as_run_here(scenario, config, offers), elsewhere, missing)


def _checked(
    submission: Submission, around: Surroundings, folder: Path, *, most_subtasks: int | None = None
) -> Scenario:
    """Return the scenario. Raises `ScenarioError` with all that is wrong with the submission."""
    faults = faults_of(submission)
    plan = submission.written.get("plan")
    if most_subtasks is not None and isinstance(plan, list) and len(plan) > most_subtasks:
        message = f"{len(plan)} subtasks are more than this hub allows ({most_subtasks})"
        faults.append(Fault("plan", message, field="plan", hint="Plan fewer, or submit it in parts."))
    try:
        scenario = Scenario.from_dict(submission.written, folder=folder, inputs=submission.inputs, around=around)
    except ScenarioError as error:
        raise ScenarioError([*faults, *error.faults]) from error
    if faults:
        raise ScenarioError(faults)
    return scenario


def _as_run_here(scenario: Scenario, config: HubConfig, offers: Mapping[str, Offer]) -> Scenario:
    limits = capped_limits(scenario.limits, config.limits)
    permissions = capped_permissions(scenario.permissions, config.permissions)
    told = [
        f"limits.{'time' if name == 'time_ms' else name}: this hub allows {most} at most"
        for name, most in config.limits.items()
        if getattr(limits, name) != getattr(scenario.limits, name)
    ]
    if permissions.fetch != scenario.permissions.fetch:
        told.append("permissions.fetch: this hub allows less of it")
    roles = {
        name: _role(role, _said(scenario, name), config.roles.get(name, HubRole()), offers.get(name), limits)
        for name, role in scenario.roles.items()
    }
    return replace(
        scenario,
        roles=roles,
        model=scenario.model or config.model,
        limits=limits,
        permissions=permissions,
        endpoints=config.endpoints,
        prices=config.prices,
        workspace=(),
        warnings=(*scenario.warnings, *told),
    )


def _role(
    role: ScenarioRole, said: Mapping[str, JsonValue], hub: HubRole, offer: Offer | None, limits: Limits
) -> ScenarioRole:
    """Return a role: what the submission says goes before what the hub says, and code is the hub's alone."""
    tools = role.tools
    if "tools" not in said and (hub.tools is not None or hub.uses):
        tools = hub.tools
    elif tools is None:  # none of ours
        tools = () if offer is None else tuple(one for one in offer.tools if one not in GRANTED_ONLY)
    return replace(
        role,
        agents=min(role.agents, limits.parallel) if "agents" in said else hub.agents or limits.parallel,
        deadline_ms=role.deadline_ms if "deadline" in said else hub.deadline_ms or max(1, limits.time_ms // 3),
        model=role.model or hub.model,
        tools=tools,
        max_tokens=role.max_tokens if "max_tokens" in said else hub.max_tokens or role.max_tokens,
        dialogue=role.dialogue or hub.dialogue,
        prompt=role.prompt or hub.prompt,
        uses=hub.uses,
        options=hub.options,
        about=hub.about or (offer.about if offer else ""),
    )


def _said(scenario: Scenario, role: str) -> Mapping[str, JsonValue]:
    """Return what a submission itself writes of a role."""
    roles = scenario.written.get("roles")
    said = roles.get(role) if isinstance(roles, dict) else None
    return said if isinstance(said, dict) else {}


def _sound(offered: Mapping[str, Offer]) -> dict[str, Offer]:
    """Leave out what agents offer under names that no role or tool can have; shorten what they say."""
    return {
        name: Offer(name, cut(offer.about, _ABOUT), tuple(one for one in offer.tools if TOOL_NAME.fullmatch(one)))
        for name, offer in offered.items()
        if is_slug(name)
    }


def _text_name(file: Path, folder: Path) -> str:
    return text_name(str(file.relative_to(folder) if file.is_relative_to(folder) else file))


def _field(location: Sequence[str | int]) -> str:
    return cut(".".join(map(str, location)), 100)
