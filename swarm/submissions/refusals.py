"""What a submission may not hold, and why: it names what the hub knows, and brings nothing that acts.

Looked for before and after the inputs go in, since an input's text may become a tool's name or a path. What is refused
is noted and taken out, so that nothing of it is looked up on the hub's disk by what checks the rest. `${{ env.X }}` no
scenario may hold: `swarm/scenario/inputs.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from pydantic import JsonValue

from bus.setup import Permissions
from swarm.errors import quote
from swarm.scenario import own_code
from swarm.scenario.draft import Draft
from swarm.scenario.rules import names_a_file, prompt_file
from swarm.scenario.source import FieldPath
from swarm.submissions.caps import common_hosts

_HARMLESS_TOOL = "read_file"
_HARMLESS_MODEL = "openai:none"
_WHOLE: Mapping[FieldPath, tuple[str, str]] = {
    ("mcp",): ("a submission brings no servers: they would run with the hub's rights", "Name tools that the hub has."),
    ("endpoints",): (
        "a submission brings no endpoints: with the name of a key, it could have the hub's key sent to any host",
        "Name a model of an endpoint that the hub has.",
    ),
    ("sandbox", "python"): ("the interpreter is the hub's choice, not a submission's", "Drop it."),
}
_OF_A_ROLE = {
    "uses": (
        "a submission brings no code: it would run with the hub's rights",
        "Name a role that the hub has, or attach yours: swarm attach FILE:CLASS --bus URL.",
    ),
    "with": ("a submission has no say in what the hub's code is made with", "Drop it."),
}


def refusing(cap: Permissions | None) -> Callable[[Draft], None]:
    """Return what refuses in a draft; `cap`: the hub's, None where nobody knows it yet."""
    return partial(refuse, cap=cap)


def refuse(draft: Draft, cap: Permissions | None) -> None:
    """Note each part that a submission may not hold, and take it out."""
    for path, (why, hint) in _WHOLE.items():
        parent = _mapping(draft.data, path[:-1])
        if path[-1] in parent:
            draft.fault("refused", path, why, hint, at_key=True)
            del parent[str(path[-1])]
    for name, role in _mapping(draft.data, ("roles",)).items():
        if isinstance(role, dict):
            _refuse_of_role(draft, ("roles", name), role)
    _refuse_model(draft, (), draft.data)
    _refuse_paths(draft)
    _refuse_hosts(draft, _mapping(draft.data, ("permissions",)), cap)


def model_fault(model: str) -> str | None:
    """Return why a submission may not name this model, None where it may."""
    if names_a_file(model):
        return f"{quote(model)} is a file, and files on the hub's disk are not a submission's"
    return None


def path_fault(path: str) -> str | None:
    """Return why a submission may not name this path, None where it may."""
    if path.startswith(("/", "~")):
        return f"{quote(path)} is no path within the scenario's folder, which is all that a submission knows"
    if ".." in path.split("/"):
        return f"{quote(path)} leads out of the scenario's folder, which is all that a submission knows"
    return None


def _refuse_of_role(draft: Draft, path: FieldPath, role: dict[str, JsonValue]) -> None:
    for key, (why, hint) in _OF_A_ROLE.items():
        if key in role:
            draft.fault("refused", (*path, key), why, hint, at_key=True)
            del role[key]
    tools = _list(role.get("tools"))
    for index, tool in enumerate(tools):
        if isinstance(tool, str) and own_code.is_reference(tool):
            hint = "Name a tool that the hub or the role's agents have."
            draft.fault(
                "refused", (*path, "tools", index), f"{quote(tool)} is code, and a submission brings none", hint
            )
            tools[index] = _HARMLESS_TOOL
    _refuse_model(draft, path, role)
    prompt = role.get("prompt")
    if isinstance(prompt, str) and (file := prompt_file(prompt)) and (outside := path_fault(file.strip())):
        draft.fault("refused", (*path, "prompt"), outside, "Put the file beside the scenario.")
        del role["prompt"]


def _refuse_model(draft: Draft, path: FieldPath, place: dict[str, JsonValue]) -> None:
    model = place.get("model")
    if isinstance(model, str) and (why := model_fault(model)):
        draft.fault("refused", (*path, "model"), why, "Name a model that the hub can reach, or none.")
        place["model"] = _HARMLESS_MODEL


def _refuse_paths(draft: Draft) -> None:
    written = draft.data.get("workspace")
    whys = [path_fault(one) for one in ([written] if isinstance(written, str) else _texts(written))]
    for why in filter(None, whys):
        draft.fault("refused", ("workspace",), why, "Put the files beside the scenario.")
    if any(whys):
        del draft.data["workspace"]


def _refuse_hosts(draft: Draft, permissions: dict[str, JsonValue], cap: Permissions | None) -> None:
    """Refuse hosts beyond the cap: what a run was promised is not left out silently."""
    if cap is None:
        return
    allowed: Mapping[str, Callable[[str], bool]] = {
        "private_hosts": lambda host: host in cap.private_hosts,
        "sandbox": lambda host: host in common_hosts([host], cap.sandbox),
    }
    for key, is_allowed in allowed.items():
        wanted = permissions.get(key)
        beyond = [one for one in _texts(wanted) if not is_allowed(one.lower())]
        for one in beyond:
            why = f"{quote(one)} is not among the hosts that this hub allows"
            draft.fault("refused", ("permissions", key), why, "Its owner can allow it under `permissions` there.")
        if beyond:
            del permissions[key]


def _mapping(data: dict[str, JsonValue], path: FieldPath) -> dict[str, JsonValue]:
    """Return the mapping at a path; an empty one where there is none."""
    place: JsonValue = data
    for part in path:
        place = place.get(str(part)) if isinstance(place, dict) else None
    return place if isinstance(place, dict) else {}


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _texts(value: JsonValue) -> Iterator[str]:
    yield from (one for one in _list(value) if isinstance(one, str))
