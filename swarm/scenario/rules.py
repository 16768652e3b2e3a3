"""What must fit together in a scenario: roles and what they use, models, files on disk.

Each rule looks at what is well-formed and notes every fault it finds; none stops at the first, none imports or runs
what a scenario brings.
"""

import importlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue

from agents.models import LOCAL_SERVERS
from swarm.errors import listed, nearest, quote
from swarm.scenario import own_code
from swarm.scenario.draft import Draft
from swarm.scenario.file import EndpointSection, RoleSection, ScenarioFile
from swarm.scenario.plan import check_criteria, check_plan
from swarm.scenario.source import MOST_BYTES, FieldPath
from swarm.scenario.validation import good_rest, good_roles, good_subtasks

BUILT_IN_TOOLS: Mapping[str, tuple[str, ...]] = {
    "planner": (),
    "researcher": ("read_file", "list_files", "search_files"),
    "coder": ("read_file", "list_files", "search_files", "write_file", "edit_file", "run_python"),
    "critic": ("read_file", "list_files", "search_files"),
}
"""The roles that are always there, and the tools each has unless the scenario says otherwise."""

GRANTED_ONLY = frozenset({"run_command", "fetch_page"})
"""Tools of ours that no class may claim: a scenario grants them."""

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What a tool may be called."""

_SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NO_TOOLS_YET = frozenset({"search_web"})
_OUR_TOOLS = frozenset(BUILT_IN_TOOLS["coder"]) | GRANTED_ONLY
_OUR_MODELS = frozenset({"openai", "local", "recorded", "scripted"})
_FILE_MODELS = frozenset({"recorded", "scripted"})
_OF_THE_SYSTEM = frozenset(("/", name) for name in ("proc", "sys", "dev"))
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_INPUT_OF_A_CALL = 2_000
"""Tokens that an ordinary request reserves beside its `max_tokens`."""


def check_rules(draft: Draft) -> None:
    """Note every fault that only shows when parts are looked at together."""
    roles, subtasks, rest = good_roles(draft), good_subtasks(draft), good_rest(draft)
    known = known_roles(draft.data) | {*draft.around.roles}
    if draft.around.waits:
        known |= {one.role for one in subtasks.values() if is_slug(one.role)}
    for name, role in roles.items():
        check_role(draft, name, role, known)
    check_plan(draft, subtasks, known)
    check_criteria(draft)
    if rest:
        _check_rest(draft, rest)
        _warn_of_few_tokens(draft, rest, roles)


def known_roles(data: Mapping[str, JsonValue]) -> set[str]:
    """Return the names that a subtask may give as its role."""
    written = data.get("roles")
    own = {name for name, role in written.items() if isinstance(role, dict)} if isinstance(written, dict) else set()
    return {*BUILT_IN_TOOLS, *_table("roles"), *own}


def names_a_file(model: str) -> bool:
    """Tell whether `provider:name` means a file on disk."""
    provider, _, name = model.partition(":")
    return provider in _FILE_MODELS or (provider == "local" and ("/" in name or name.endswith(".gguf")))


def is_slug(name: str) -> bool:
    """Tell whether a role, an endpoint or a scenario may be called this."""
    return bool(_SLUG.fullmatch(name))


def ours_and(tools: Iterable[str]) -> frozenset[str]:
    """Return the names of our tools, and of these."""
    return (_OUR_TOOLS | _table("tools") | frozenset(tools)) - _NO_TOOLS_YET


def prompt_file(prompt: str) -> str | None:
    """Return the path that a `prompt` names, None where it is the text itself."""
    return prompt if re.match(r"\.{0,2}/", prompt) and "\n" not in prompt.strip() else None


def _table(kind: str) -> frozenset[str]:
    """Return the short names in one of the tables of `agents`, such as `agents.tools.TOOLS`."""
    return frozenset(vars(importlib.import_module(f"agents.{kind}")).get(kind.upper(), ()))


def check_role(draft: Draft, name: str, role: RoleSection, known: set[str]) -> None:
    """Note what is wrong with one entry of `roles`."""
    path: FieldPath = ("roles", name)
    there = {*BUILT_IN_TOOLS, *_table("roles"), *draft.around.roles}
    stranger = name not in there and not draft.around.waits
    if stranger and role.uses is None and not _written(draft, (*path, "uses")):
        hint = nearest(name, known - {name}, otherwise="For a role of your own, add `uses: ./my_file.py:MyRole`.")
        draft.fault("unknown_name", path, f"role {quote(name)} is unknown (known: {listed(there)})", hint, at_key=True)
    if role.uses is not None:
        try:
            declared = own_code.declared_tools(*own_code.find(role.uses, draft.folder))
        except own_code.CodeFault as fault:
            draft.fault("code", (*path, "uses"), str(fault), fault.hint)
        else:
            for tool in declared if role.tools is None else ():
                _check_declared_tool(draft, path, tool)
    elif role.options is not None:
        hint = "Add `uses:` with a class of your own, or drop `with`."
        draft.fault("value", (*path, "with"), "keyword arguments are for a class of your own", hint, at_key=True)
    for index, tool in enumerate(role.tools or ()):
        _check_tool(draft, (*path, "tools", index), tool)
    if role.model is not None:
        check_model(draft, (*path, "model"), role.model)
    if role.prompt is not None:
        _check_prompt(draft, (*path, "prompt"), role.prompt)


def _check_declared_tool(draft: Draft, role: FieldPath, tool: str) -> None:
    """Hold a tool that a class claims for itself against what only a scenario grants."""
    facts = _check_tool(draft, (*role, "uses"), tool)
    if tool in GRANTED_ONLY or (facts and facts.network):
        hint = "Write `tools: […]` under the role with all it may use, if you want it to have this one."
        draft.fault("value", (*role, "uses"), f"its class declares {quote(tool)}, which only a scenario grants", hint)


def _check_tool(draft: Draft, path: FieldPath, tool: str) -> own_code.ToolFacts | None:
    """Note what is wrong with a tool; return what is known of one of one's own."""
    if not own_code.is_reference(tool):
        around, role = draft.around, str(path[1])
        known = ours_and(around.tools | around.roles.get(role, frozenset()))
        if tool in _NO_TOOLS_YET:
            hint = "Grant fetch_page, and name the pages in the goal."
            draft.fault("not_yet", path, f"the tool '{tool}' is not in this version yet", hint)
        elif tool not in known and not (TOOL_NAME.fullmatch(tool) and _tools_unknown(draft, role)):
            ours = "For a tool of your own, write ./my_tools.py:name."
            theirs = "Name one that the hub or the role's agents have."
            hint = nearest(tool, known, otherwise=ours if around.folder_here else theirs)
            draft.fault("unknown_name", path, f"tool {quote(tool)} is unknown (known: {listed(known)})", hint)
        return None
    return check_own_tool(draft, path, tool)


def _tools_unknown(draft: Draft, role: str) -> bool:
    """Tell whether nobody here can know a role's tools, since nobody here knows the role."""
    around = draft.around
    known = role in BUILT_IN_TOOLS or role in around.roles or _written(draft, ("roles", role, "uses"))
    return around.elsewhere or (around.waits and not known)


def check_own_tool(draft: Draft, path: FieldPath, tool: str) -> own_code.ToolFacts | None:
    """Note what is wrong with a tool of one's own; return what its source says."""
    try:
        facts = own_code.tool_facts(*own_code.find(tool, draft.folder))
    except own_code.CodeFault as fault:
        draft.fault("code", path, str(fault), fault.hint)
        return None
    if facts.effect not in {"reads", "folder", "outward"}:
        hint = 'Write @tool(effect="reads"), "folder" or "outward" above it, as the text itself.'
        message = f"{quote(tool)} does not declare its effect, so it needs approval, which is not in this version yet"
        draft.fault("not_yet", path, message, hint)
    elif facts.needs_approval:
        draft.fault("not_yet", path, f"{quote(tool)} needs approval, which is not in this version yet")
    return facts


def check_model(draft: Draft, path: FieldPath, model: str) -> None:
    """Note what is wrong with `provider:name`."""
    provider, _, name = model.partition(":")
    endpoints = draft.data.get("endpoints")
    own = set(endpoints if isinstance(endpoints, dict) else ())
    known = _OUR_MODELS | _table("models") | set(LOCAL_SERVERS) | draft.around.providers | own
    if not name:
        hint = f"Such as openai:{'NAME' if model.endswith(':') else model}."
        draft.fault("value", path, f"{quote(model)} is no model; write provider:name", hint)
    elif provider not in known and not (draft.around.elsewhere and is_slug(provider)):
        ours = "An endpoint of your own is declared under `endpoints:`."
        theirs = "Name a model of an endpoint that the hub has."
        hint = nearest(provider, known, otherwise=ours if draft.around.folder_here else theirs)
        draft.fault("unknown_name", path, f"{quote(provider)} has no models (known: {listed(known)})", hint)
    elif provider == "scripted":
        _check_there(draft, path, name)


def _check_prompt(draft: Draft, path: FieldPath, prompt: str) -> None:
    name = prompt_file(prompt)
    if name is None:
        if re.fullmatch(r"[\w.-]+\.(md|txt)", prompt.strip()):
            draft.warn(path, f"{quote(prompt)} is taken as the prompt's text; for the file write ./{prompt.strip()}")
        return
    text = draft.around.text(name)
    if text is not None or not draft.around.folder_here:
        if not (text or "").strip():
            draft.fault("file", path, f"the text of {quote(name)} was not sent along, or is empty")
        return
    file = draft.folder / name
    try:
        if file.stat().st_size > MOST_BYTES:
            draft.fault("file", path, f"{quote(name)} has more than {MOST_BYTES:,} bytes")
        elif not file.read_text("utf-8").strip():
            draft.fault("file", path, f"{quote(name)} is empty")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        draft.fault("file", path, f"{quote(name)} cannot be read: {reason}", f"It is looked for in {draft.folder}.")
    check_place(draft, path, file)


def _check_rest(draft: Draft, file: ScenarioFile) -> None:
    if file.model is not None:
        check_model(draft, ("model",), file.model)
    for path in () if draft.around.taken_in else file.workspace or ():
        _check_there(draft, ("workspace",), path)
    check_endpoints(draft, file.endpoints)
    if file.sandbox.python is not None and "/" in file.sandbox.python:
        _check_there(draft, ("sandbox", "python"), file.sandbox.python)
    sandboxes = _table("sandboxes")
    if file.sandbox.use is not None and sandboxes and file.sandbox.use not in sandboxes:
        message = f"sandbox {quote(file.sandbox.use)} is unknown (known: {listed(sandboxes)})"
        draft.fault("unknown_name", ("sandbox", "use"), message, nearest(file.sandbox.use, sandboxes))


def check_endpoints(draft: Draft, endpoints: Mapping[str, EndpointSection]) -> None:
    """Note what is wrong with the endpoints; warn where a key would go unencrypted."""
    for name, endpoint in endpoints.items():
        where: FieldPath = ("endpoints", name)
        if name in _OUR_MODELS | _table("models"):
            draft.fault("value", where, f"{quote(name)} is a provider of ours", "Choose another name.", at_key=True)
        address = urlsplit(endpoint.url)
        if endpoint.key and address.scheme == "http" and address.hostname not in _LOOPBACK:
            draft.warn((*where, "url"), f"the key in {endpoint.key} goes to {address.netloc} unencrypted")


def _check_there(draft: Draft, path: FieldPath, name: str) -> None:
    if not draft.around.folder_here:
        return  # its folder is on another machine
    try:
        found = (draft.folder / name).exists()
    except OSError:  # a name longer than the file system takes
        found = False
    if not found:
        draft.fault("file", path, f"there is no {quote(name)}", f"It is looked for in {draft.folder}.")
    elif path != ("sandbox", "python"):
        check_place(draft, path, draft.folder / name)


def check_place(draft: Draft, path: FieldPath, file: Path) -> None:
    """Note where a file is no file, or lies outside of the scenario's folder; links are followed."""
    place = Path(os.path.realpath(file))
    if place.parts[:2] in _OF_THE_SYSTEM:
        draft.fault("value", path, f"{quote(str(file))} is no file, but a view of the machine and of this very process")
    elif not place.is_relative_to(draft.folder.resolve()):
        draft.warn(path, f"{quote(str(file))} lies outside of the scenario's folder")


def _warn_of_few_tokens(draft: Draft, file: ScenarioFile, roles: Mapping[str, RoleSection]) -> None:
    longest = max([4_096, *(role.max_tokens or 0 for role in roles.values())])
    wanted = file.limits.parallel * (longest + _INPUT_OF_A_CALL)
    if file.limits.tokens < wanted:
        draft.warn(
            ("limits", "tokens"),
            f"{file.limits.tokens} tokens are few for {file.limits.parallel} agents in parallel: a call reserves about "
            f"{longest} + {_INPUT_OF_A_CALL}, so some will wait; {wanted} let all work, or lower limits.parallel",
        )


def _written(draft: Draft, path: FieldPath) -> bool:
    place: JsonValue = draft.data
    for part in path:
        place = place.get(str(part)) if isinstance(place, dict) else None
    return place is not None
