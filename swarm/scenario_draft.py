"""A scenario while it is read: plain data that still knows where each part was written, and what is wrong so far.

`--set` and `--goal` change it, and a fault in what they brought names the option in place of the file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from swarm.errors import Fault, FaultKind, ScenarioError, listed, nearest, quote
from swarm.scenario_file import known_keys
from swarm.yaml_source import MOST_DEPTH, FieldPath, Source, parse_source

_NOT_YET: Mapping[FieldPath, str] = {
    ("mcp",): "Drop it; tools of your own are written as ./my_tools.py:name.",
    ("memory",): "Drop it; every run begins without memory.",
    ("permissions", "approve"): "Drop it; grant only tools that may act without being asked.",
    ("permissions", "sandbox"): "Drop it; code in the sandbox has no network.",
}


@dataclass(slots=True)
class Draft:
    """The data, and where it comes from. `folder`: relative paths in it begin here."""

    source: Source
    folder: Path
    data: dict[str, JsonValue] = field(default_factory=dict)
    options: dict[FieldPath, str] = field(default_factory=dict)
    """Which command line option brought the value at a path."""
    given: dict[str, str] = field(default_factory=dict)
    """Inputs as the person gave them."""
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def fault(self, kind: FaultKind, path: FieldPath, message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Note what is wrong with the value at `path` (or, `at_key`, with its key)."""
        file, line, column = self._place(path, at_key=at_key)
        name = ".".join(quote(str(part)).strip("'") for part in path)
        self.faults.append(Fault(kind, message, file, line, column, name or None, hint))

    def in_order(self) -> list[Fault]:
        """Return the faults in the order of the file; those without a line last."""
        return sorted(self.faults, key=lambda one: (one.line is None, one.line or 0, one.column or 0))

    def _place(self, path: FieldPath, *, at_key: bool) -> tuple[str | None, int | None, int | None]:
        for where, option in self.options.items():
            if path[: len(where)] == where:
                return option, None, None
        mark = self.source.keys.get(path) if at_key else None
        for end in range(len(path), -1, -1):
            mark = mark or self.source.values.get(path[:end])
        return (self.source.file, mark.line, mark.column) if mark else (self.source.file, None, None)


def begin(source: Source, folder: Path) -> Draft:
    """Return the draft of a source. Raises `ScenarioError` where it is no mapping at all."""
    draft = Draft(source, folder, faults=list(source.faults))
    if source.data is None or source.data == {}:
        draft.fault("missing", (), "there is nothing in it", "A scenario needs at least `goal: what is to be reached`.")
        raise ScenarioError(draft.faults)
    if not isinstance(source.data, Mapping):
        draft.fault("type", (), f"a scenario is a mapping, not {quote(source.data)}", "Begin with `goal: …`.")
        raise ScenarioError(draft.faults)
    data = _plain(draft, source.data, ())
    draft.data = data if isinstance(data, dict) else {}
    return draft


def refuse_what_is_not_there_yet(draft: Draft) -> None:
    """Note each key whose feature is not in this version, and drop it."""
    for path, hint in _NOT_YET.items():
        parent: JsonValue = draft.data
        for part in path[:-1]:
            parent = parent.get(str(part)) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and path[-1] in parent and parent.pop(str(path[-1])) != []:
            draft.fault("not_yet", path, f"the key '{path[-1]}' is not in this version yet", hint, at_key=True)


def give_inputs(draft: Draft, inputs: Mapping[str, str]) -> None:
    """Take inputs from the person."""
    for name, value in inputs.items():
        draft.options["inputs", name] = f"input {quote(name)}"
        if isinstance(value, str):
            draft.given[name] = str(_plain(draft, value, ("inputs", name)))
        else:
            draft.fault("type", ("inputs", name), f"must be a text, not {quote(value)}")


def apply_settings(draft: Draft, settings: Sequence[str]) -> None:
    """Apply each `PATH=VALUE` of `--set`, in order; VALUE is read as YAML, for an input it is text."""
    for setting in settings:
        name, equals, text = setting.partition("=")
        path: FieldPath = tuple(name.split("."))
        option = f"--set {quote(name).strip(chr(39))}"
        if not equals or not all(path):
            draft.faults.append(
                Fault("setting", "PATH=VALUE was expected", option, hint="Such as --set limits.time=10m.")
            )
            continue
        inputs = draft.data.get("inputs")
        declared = inputs if isinstance(inputs, dict) else {}
        is_input = len(path) == 1 and path[0] in declared and path[0] not in known_keys(())
        if is_input or (path[0] == "inputs" and len(path) == 2):  # noqa: PLR2004
            give_inputs(draft, {str(path[-1]): _input_text(text)})
            draft.options["inputs", path[-1]] = option
        else:
            _set(draft, path, text, option)


def set_goal(draft: Draft, goal: str) -> None:
    """Take the goal from `--goal`."""
    draft.options["goal",] = "--goal"
    draft.data["goal"] = _plain(draft, goal, ("goal",))


def _input_text(text: str) -> str:
    """Return the text that YAML means where it means one, else what was written: `1.10` stays `1.10`."""
    try:
        data = parse_source(text).data
    except ScenarioError:
        return text
    return data if isinstance(data, str) else text


def _set(draft: Draft, path: FieldPath, text: str, option: str) -> None:
    try:
        source = parse_source(text, option)
    except ScenarioError as error:
        draft.faults += error.faults
        return
    place: JsonValue = draft.data
    names = set(draft.data.get("inputs") or ()) if isinstance(draft.data.get("inputs"), dict) else set()
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        here = ".".join(map(str, path[:depth])) or "the scenario"
        if isinstance(place, list):
            if not (part := str(part)).isdecimal() or int(part[:6]) >= len(place):
                message = f"there is no {quote(part)} in {here}; it is a list of {len(place)}, counted from 0"
                draft.faults.append(Fault("setting", message, option))
                return
            path = (*path[:depth], int(part), *path[depth + 1 :])
            if last:
                break
            place = place[int(part)]
        elif isinstance(place, dict):
            known = known_keys(path[:depth])
            if known and part not in known:
                there = [*known, *names] if depth == 0 else known
                message = f"there is no {quote(part)} in {here} (there are: {listed(there)})"
                draft.faults.append(Fault("setting", message, option, hint=nearest(str(part), there)))
                return
            if last:
                break
            place = place.setdefault(str(part), {})
        else:
            draft.faults.append(Fault("setting", f"{here} is {quote(place)} and has no parts", option))
            return
    draft.options[path] = option
    value = _plain(draft, source.data, path)
    if isinstance(place, list):
        place[int(path[-1])] = value
    elif isinstance(place, dict) and value is not None:
        place[str(path[-1])] = value
    elif isinstance(place, dict):
        draft.fault("type", path, "nothing is written after the =", "Give a value.")


def _plain(draft: Draft, value: object, path: FieldPath) -> JsonValue:
    """Return a copy in JSON's types; what has no place there is noted and becomes a harmless value."""
    if len(path) > MOST_DEPTH:
        draft.fault("value", path[:3], f"nested more than {MOST_DEPTH} deep")
        return None
    match value:
        case str():
            return _text(draft, value, path)
        case None | bool():
            return value
        case int() if abs(value) < 2**63:
            return value
        case float() if math.isfinite(value):
            return value
        case Mapping():
            return _mapping(draft, value, path)
        case list() | tuple():
            return [_plain(draft, item, (*path, index)) for index, item in enumerate(value)]
        case Path():
            return str(value)
        case _:
            draft.fault("type", path, f"{quote(value)} has no place in a scenario")
            return None


def _mapping(draft: Draft, value: Mapping[object, object], path: FieldPath) -> JsonValue:
    copied: dict[str, JsonValue] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            draft.fault("type", path, f"a key must be a text, not {quote(key)}")
        elif item is None and not _may_be_null((*path, key)):
            draft.fault("type", (*path, key), "nothing is written here", "Write a value, or drop the key.", at_key=True)
        else:
            copied[_text(draft, key, path)] = _plain(draft, item, (*path, key))
    return copied


def _may_be_null(path: FieldPath) -> bool:
    """Tell whether a null here is somebody else's data."""
    return path[2:3] in {("with",), ("accept",)} or path[0] in {"accept", "mcp", "memory"}


def _text(draft: Draft, text: str, path: FieldPath) -> str:
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        draft.fault("value", path, "it has a character that no program takes (NUL, or half a surrogate pair)")
        return text.replace("\0", "").encode("utf-8", "replace").decode()
    return text
