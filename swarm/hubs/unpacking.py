"""A submission unpacked by the hub that runs it.

A submission is not trusted. It carries texts, files by their hash, and names of roles, tools and models; what acts is
the hub's own (`swarm/hubs/hub_config.py`). What it may not hold is refused in `swarm/submissions/refusals.py`, the
rest is checked by the same code as a file; nothing of it is looked for on the hub's disk.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from agents.briefing import Offer
from bus.setup import Limits
from swarm.core.plan import NOT_WORKERS
from swarm.errors import UsageError, cut
from swarm.hubs.hub_config import HubConfig, HubRole
from swarm.scenario.draft import Surroundings
from swarm.scenario.model import Scenario, ScenarioRole
from swarm.scenario.rules import BUILT_IN_TOOLS, GRANTED_ONLY, TOOL_NAME, is_slug
from swarm.submissions.caps import capped_limits, capped_permissions
from swarm.submissions.packing import checked
from swarm.submissions.refusals import refusing
from swarm.submissions.submission import Submission

_ABOUT = 200
"""Characters that are shown to a planner of what an agent says of its role."""


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A submission as a checked scenario, within what the hub allows."""

    scenario: Scenario
    """Its `workspace` is empty: the files are those of the submission."""
    elsewhere: tuple[str, ...]
    """Roles that only agents elsewhere bring: there is no class of theirs here."""
    missing_roles: tuple[str, ...]
    """Roles that nobody offers yet: of those elsewhere, of a person's plan, or all workers where none is offered."""


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
        folder_here=False,
        refuse=refusing(config.permissions),
    )
    scenario = checked(submission, around, folder, most_subtasks=config.limits.get("subtasks"))
    elsewhere = tuple(name for name in scenario.roles if name not in BUILT_IN_TOOLS and name not in brought)
    workers = {name for name in scenario.roles if name not in NOT_WORKERS}
    wanted = {one.role for one in scenario.plan or ()} or (workers if workers.isdisjoint(offers) else set())
    missing = tuple(name for name in scenario.roles if name not in offers and (name in wanted or name in elsewhere))
    return Unpacked(_as_run_here(scenario, config, offers), elsewhere, missing)


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
        name: _role(role, scenario.said_of(name), config.roles.get(name, HubRole()), offers.get(name), limits)
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
        window=role.window or hub.window,
        dialogue=role.dialogue or hub.dialogue,
        prompt=role.prompt or hub.prompt,
        uses=hub.uses,
        options=hub.options,
        about=hub.about or (offer.about if offer else ""),
    )


def _sound(offered: Mapping[str, Offer]) -> dict[str, Offer]:
    """Leave out what agents offer under names that no role or tool can have; shorten what they say."""
    return {
        name: Offer(name, cut(offer.about, _ABOUT), tuple(one for one in offer.tools if TOOL_NAME.fullmatch(one)))
        for name, offer in offered.items()
        if is_slug(name)
    }
