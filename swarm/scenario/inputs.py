"""Inputs: `${{ inputs.NAME }}` in a scenario's texts, replaced by what the person gave or the default.

A value goes in as text and is not looked at again. Into a command it never goes (it could become part of the command):
there the sandbox's variable `$INPUT_NAME` stands for it. `$${{ … }}` writes `${{ … }}` itself.
"""

import re
from collections.abc import Mapping

from pydantic import JsonValue

from swarm.errors import listed, nearest, quote
from swarm.scenario.draft import Draft
from swarm.scenario.source import MOST_BYTES, FieldPath

_INSERTION = re.compile(r"(\$?)\$\{\{(?:([^{}]{0,200}?)\}\})?")


def insert_inputs(draft: Draft) -> dict[str, str]:
    """Insert the inputs in all texts of the draft; return their values. What cannot be is noted as a fault."""
    declared = draft.data.get("inputs")
    names = declared if isinstance(declared, dict) else {}
    values: dict[str, str] = {}
    for name, section in names.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name):
            hint = "Use a to z, 0 to 9 and _: in a command it is the variable $INPUT_NAME."
            draft.fault("value", ("inputs", name), f"{quote(name)} is no name for an input", hint, at_key=True)
        default = section.get("default") if isinstance(section, dict) else None
        if name in draft.given:
            values[name] = draft.given[name]
        elif isinstance(default, str):
            values[name] = default
            if "${{" in default:
                draft.fault("input", ("inputs", name, "default"), "a default is text and takes no ${{ … }}")
        elif isinstance(section, dict) and "default" not in section:
            hint = f"Give it with --set {name}=VALUE, or write a default."
            draft.fault("input", ("inputs", name), f"the input {quote(name)} has no value", hint, at_key=True)
    for name in draft.given.keys() - names.keys():
        message = f"there is no input {quote(name)} (there are: {listed(names)})"
        draft.fault("input", ("inputs", name), message, nearest(name, names))
    for key in draft.data.keys() - {"inputs"}:
        draft.data[key] = _inserted(draft, draft.data[key], (key,), values, names)
    return values


def _inserted(
    draft: Draft, value: JsonValue, path: FieldPath, values: Mapping[str, str], names: Mapping[str, JsonValue]
) -> JsonValue:
    match value:
        case str() if "${{" in value:
            return _INSERTION.sub(lambda match: _one(draft, match, path, values, names), value)
        case list():
            return [_inserted(draft, item, (*path, index), values, names) for index, item in enumerate(value)]
        case dict():
            return {key: _inserted(draft, item, (*path, key), values, names) for key, item in value.items()}
        case _:
            return value


def _one(
    draft: Draft, match: re.Match[str], path: FieldPath, values: Mapping[str, str], names: Mapping[str, JsonValue]
) -> str:
    escaped, inside = match[1], match[2]
    if escaped:
        return match[0][1:]
    expression = (inside or "").strip()
    kind, _, name = expression.partition(".")
    if inside is None:
        draft.fault("input", path, "`${{` is not closed", "Write ${{ inputs.NAME }}, or $${{ for the characters.")
    elif kind == "env":
        hint = "Here it would reach a model. An endpoint's key is written by name, as `key: NAME`; else use an input."
        draft.fault("input", path, f"${{{{ env.{quote(name)[1:-1]} }}}} goes only to a process or a client", hint)
    elif kind != "inputs" or not name:
        hint = "There is ${{ inputs.NAME }}; write $${{ for the characters themselves."
        draft.fault("input", path, f"{quote(expression)} means nothing in ${{{{ }}}}", hint)
    elif name not in names:
        message = f"there is no input {quote(name)} (there are: {listed(names)})"
        draft.fault("input", path, message, nearest(name, names, otherwise="Inputs are declared under `inputs:`."))
    elif _is_command(path):
        variable = f"$INPUT_{name.upper()}"
        message = f"an input cannot stand in a command; its value is in {variable} there"
        draft.fault("input", path, message, f'Write "{variable}", with the quotes.')
    if kind != "inputs" or name not in values:
        return match[0]
    return _counted(draft, path, values[name])


def _counted(draft: Draft, path: FieldPath, value: str) -> str:
    """Return the value, or nothing once too much was inserted: a short file must not become one that fills memory."""
    within = draft.inserted <= MOST_BYTES
    draft.inserted += len(value)
    if within and draft.inserted > MOST_BYTES:
        draft.fault("input", path, f"inputs bring more than {MOST_BYTES:,} characters into it", "Give them as files.")
    return value if draft.inserted <= MOST_BYTES else ""


def _is_command(path: FieldPath) -> bool:
    return path[-1] == "run" and (path[0] == "accept" or path[2:3] == ("accept",))
