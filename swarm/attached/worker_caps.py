"""What an attached worker allows: tools, hosts and models that it lends to requests, by its own configuration alone.

A request may ask for less, never for more. What it cannot do without is not left out silently: it is declined, with the
reason, and another agent may take it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agents.briefing import Briefing
from agents.tools import TOOLS
from bus.setup import Permissions
from swarm.errors import UsageError, cut, listed, nearest, quote
from swarm.scenario import own_code
from swarm.scenario.rules import GRANTED_ONLY, TOOL_NAME, names_a_file
from swarm.submissions.caps import NOTHING, Fetch, capped_permissions, is_host

_NETWORK_TOOLS = frozenset({"fetch_page"})
"""Tools of ours that are of no use without the network."""
_INPUT = "INPUT_"
"""How the variables begin that a request may set in the sandbox."""


@dataclass(frozen=True, slots=True)
class WorkerCaps:
    """The most that a request gets from this worker."""

    tools: frozenset[str]
    """Names of the tools that requests may use."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Those among them that are not ours, with where each is."""
    permissions: Permissions = NOTHING
    """Where requests may reach at most."""
    models: Mapping[str, str] = field(default_factory=dict)
    """By role, the model that its agents here speak with, whatever a request says."""

    @property
    def table(self) -> dict[str, str]:
        """Return where each tool that requests may use is."""
        return {name: self.own.get(name) or TOOLS[name] for name in sorted(self.tools)}


def worker_caps(
    declared: Iterable[str],
    *,
    tools: str | None = None,
    network: str | None = None,
    private_hosts: Iterable[str] = (),
    models: Mapping[str, str] | None = None,
    folder: Path,
) -> WorkerCaps:
    """Return the caps of `swarm attach`.

    `declared`: the role's own tools. `tools` (`--tools`): more of them, by comma: names of ours, `./file.py:name`,
    `package.module:name`, whose files are found from `folder`. `network` (`--network`): `public`, `none` or hosts, by
    comma. Raises `UsageError` with what is wrong.
    """
    own: dict[str, str] = {}
    ours: list[str] = []
    for one in [*declared, *_parts(tools)]:
        if own_code.is_reference(one):
            name, where = _own_tool(one, folder)
            own[name] = where
        elif one in TOOLS:
            ours.append(one)
        else:
            hint = nearest(one, TOOLS, otherwise="One of your own is written ./my_tools.py:name.")
            raise UsageError(f"--tools: {quote(one)} is no tool of ours (known: {listed(TOOLS)}). {hint}")
    return WorkerCaps(
        tools=frozenset({*ours, *own}),
        own=own,
        permissions=Permissions(fetch=_fetch(network), private_hosts=tuple(one.lower() for one in private_hosts)),
        models=dict(models or {}),
    )


def by_itself(declared: Iterable[str], caps: WorkerCaps) -> tuple[str, ...]:
    """Return the names of those of a role's own tools that it has where nobody grants it any.

    `declared`: as its class writes them. None is among them that only a scenario grants.
    """
    return tuple(name for name in map(_name, declared) if name in caps.tools and name not in GRANTED_ONLY)


def refusal(briefing: Briefing, caps: WorkerCaps, role: str = "", own_model: str = "") -> str | None:
    """Return why this agent does not do what a request asks, None where it does.

    `role`: who is asked, for the models that the agent sets by role. `own_model`: what it has for requests that name
    none.
    """
    wanted = {*map(_name, briefing.role.tools)}
    if refused := wanted - caps.tools:
        return f"this agent does not allow {listed(refused)} (allowed: {listed(caps.tools)}); its owner can, by --tools"
    needing = _NETWORK_TOOLS & wanted
    if needing and briefing.permissions.fetch != "none" and _reach(briefing, caps).fetch in ("none", ()):
        return f"{listed(needing)} needs hosts that this agent does not allow; its owner can, by --network"
    model = briefing.role.model
    if role not in caps.models and names_a_file(model) and model != own_model:
        return f"the model {quote(model)} is a file; this agent's owner can name one, by --model"
    return None


def capped(briefing: Briefing, caps: WorkerCaps, role: str = "") -> Briefing:
    """Return what a request is done with here: never more tools, hosts or variables than the worker allows.

    The class, and what it is made with, are the worker's own.
    """
    wanted = dict.fromkeys(map(_name, briefing.role.tools))
    allowed = tuple(name for name in wanted if name in caps.tools)
    own: dict[str, object] = {
        "tools": allowed,
        "uses": None,
        "options": {},
        "model": caps.models.get(role, briefing.role.model),
    }
    return replace(
        briefing,
        role=briefing.role.model_copy(update=own),
        permissions=_reach(briefing, caps),
        env={name: value for name, value in briefing.env.items() if name.startswith(_INPUT)},
    )


def _reach(briefing: Briefing, caps: WorkerCaps) -> Permissions:
    return capped_permissions(briefing.permissions, caps.permissions)


def _name(tool: str) -> str:
    """Return the name of a tool, also where a request writes the place that it has in a folder elsewhere."""
    return tool.rpartition(":")[2] if own_code.is_reference(tool) else tool


def _own_tool(reference: str, folder: Path) -> tuple[str, str]:
    """Return the name of a tool of one's own, and where it is, from any folder."""
    try:
        file, name = own_code.find(reference, folder)
        facts = own_code.tool_facts(file, name)
    except own_code.CodeFault as fault:
        raise UsageError(f"--tools {cut(reference)}: {fault}. {fault.hint}".rstrip()) from fault
    if name in TOOLS or not TOOL_NAME.fullmatch(name):
        raise UsageError(f"--tools {cut(reference)}: {quote(name)} is a tool of ours, or no name of a tool; rename it")
    if facts.needs_approval:
        raise UsageError(f"--tools {cut(reference)}: it needs approval, which is not in this version yet")
    target = reference.rpartition(":")[0]
    is_file = "/" in target or target.endswith(".py")
    return name, f"{(folder / target).resolve()}:{name}" if is_file else reference


def _fetch(network: str | None) -> Fetch:
    hosts = _parts(network)
    if hosts in ([], ["none"]):
        return "none"
    if hosts == ["public"]:
        return "public"
    for host in hosts:
        if not is_host(host) or host in ("public", "none"):
            hint = "Write public, none, or hosts such as example.org,*.example.org,example.org:8080."
            raise UsageError(f"--network: {quote(host)} is no host. {hint}")
    return tuple(dict.fromkeys(host.lower() for host in hosts))


def _parts(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").split(",") if part.strip()]
