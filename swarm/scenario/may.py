"""What a scenario may do, before it does anything: for `check`, `--dry-run`, and the question whether to trust it."""

import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from swarm.scenario import own_code
from swarm.scenario.model import Scenario


def may(scenario: Scenario) -> dict[str, JsonValue]:
    """Return what the scenario may do, as an object for `--json`; nothing is imported or started.

    `tools` of a role whose class says which they are hold what its source shows.
    """
    tools = {name: granted_tools(scenario, name) for name in scenario.roles}
    fetch = scenario.permissions.fetch
    criteria = [*scenario.accept, *(entry for subtask in scenario.plan or () for entry in subtask.accept)]
    return {
        "code": [*map(str, code_files(scenario))],
        "modules": [*sorted({ref for ref in references(scenario) if not _is_file(ref)})],
        "given": {name: dict(role.options) for name, role in scenario.roles.items() if role.uses and role.options},
        "environment": [*sorted({one.key for one in scenario.endpoints.values() if one.key})],
        "endpoints": {name: urlsplit(one.url).netloc for name, one in scenario.endpoints.items()},
        "fetch": fetch if isinstance(fetch, str) else list(fetch),
        "private_hosts": list(scenario.permissions.private_hosts),
        "tools": {name: [*granted] for name, granted in tools.items()},
        "outward_tools": [
            *sorted({tool for granted in tools.values() for tool in granted if _acts_outward(scenario, tool)})
        ],
        "commands": [str(entry["run"]) for entry in criteria if "run" in entry],
        "sandbox": {"use": scenario.sandbox, "python": scenario.python},
        "reads": [str(path) for path in read_files(scenario)],
        "reads_outside": [str(path) for path in outside_files(scenario)],
    }


def granted_tools(scenario: Scenario, role: str) -> tuple[str, ...]:
    """Return a role's tools; of a class of one's own those that its source declares."""
    about = scenario.roles[role]
    if about.tools is not None:
        return about.tools
    return own_code.declared_tools(*own_code.find(about.uses, scenario.folder)) if about.uses else ()


def references(scenario: Scenario) -> Iterator[str]:
    """Yield each reference to code of one's own: classes of roles, and tools."""
    for name, role in scenario.roles.items():
        if role.uses:
            yield role.uses
        yield from (tool for tool in granted_tools(scenario, name) if own_code.is_reference(tool))


def code_files(scenario: Scenario) -> tuple[Path, ...]:
    """Return all files of code that the scenario brings, with those they import from beside them.

    An interpreter that it names by a path is one, wherever that leads: it is run outside of the sandbox once.
    """
    found = {own_code.find(reference, scenario.folder)[0] for reference in references(scenario)}
    brought = own_code.brought_with(found)
    if scenario.python and "/" in scenario.python:
        brought = (*brought, Path(scenario.python))
    return tuple(sorted(set(brought)))


def read_files(scenario: Scenario) -> Iterator[Path]:
    """Yield the files and folders that are read from outside of the code: workspace, prompts and schemas."""
    yield from (scenario.folder / path for path in scenario.workspace)
    yield from (role.prompt_file for role in scenario.roles.values() if role.prompt_file)
    yield from scenario.schemas


def outside_files(scenario: Scenario) -> list[Path]:
    """Return those of `read_files` that lie outside of the scenario's folder, links followed."""
    folder = scenario.folder.resolve()
    places = [Path(os.path.realpath(path)) for path in read_files(scenario)]
    return [place for place in places if not place.is_relative_to(folder)]


def _is_file(reference: str) -> bool:
    target = reference.rpartition(":")[0]
    return "/" in target or target.endswith(".py")


def _acts_outward(scenario: Scenario, tool: str) -> bool:
    """Tell whether a tool acts outward; none of ours does."""
    own = own_code.is_reference(tool)
    return own and own_code.tool_facts(*own_code.find(tool, scenario.folder)).effect == "outward"
