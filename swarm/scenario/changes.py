"""What a person changes of a scenario as a run is started: `--set PATH=VALUE`, `--goal TEXT`, inputs."""

from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from swarm.errors import Fault, ScenarioError, listed, nearest, quote
from swarm.scenario.draft import Draft, plain
from swarm.scenario.file import known_keys
from swarm.scenario.source import FieldPath
from swarm.scenario.yaml_source import parse_source


def set_goal(draft: Draft, goal: str) -> None:
    """Take the goal from `--goal`."""
    draft.options["goal",] = "--goal"
    draft.data["goal"] = plain(draft, goal, ("goal",))


def give_inputs(draft: Draft, inputs: Mapping[str, str]) -> None:
    """Take the values of inputs."""
    for name, value in inputs.items():
        _give(draft, name, value, f"input {quote(name)}")


def apply_settings(draft: Draft, settings: Sequence[str]) -> None:
    """Apply each `PATH=VALUE`, in order. VALUE is read as YAML; for an input it is text. Faults are noted."""
    for setting in settings:
        name, equals, text = setting.partition("=")
        path = tuple(name.split("."))
        option = f"--set {quote(name)[1:-1]}"
        if not equals or not all(path):
            hint = "Such as --set limits.time=10m."
            draft.faults.append(Fault("setting", "PATH=VALUE was expected", option, hint=hint))
        elif path[0] == "inputs" and len(path) == 2:  # noqa: PLR2004
            _give(draft, path[1], _input_text(text), option)
        elif name in _inputs(draft) and name not in known_keys(()):
            _give(draft, name, _input_text(text), option)
        else:
            try:
                _set(draft, path, text, option)
            except ScenarioError as error:
                draft.faults += error.faults


def _give(draft: Draft, name: str, value: object, option: str) -> None:
    draft.options["inputs", name] = option
    if isinstance(value, str):
        draft.given[name] = str(plain(draft, value, ("inputs", name)))
    else:
        draft.fault("type", ("inputs", name), f"must be a text, not {quote(value)}")


def _inputs(draft: Draft) -> Mapping[str, JsonValue]:
    declared = draft.data.get("inputs")
    return declared if isinstance(declared, dict) else {}


def _input_text(text: str) -> str:
    """Return the text that YAML means where it means one, else what was written: `1.10` stays `1.10`."""
    try:
        data = parse_source(text).data
    except ScenarioError:
        return text
    return data if isinstance(data, str) else text


def _set(draft: Draft, path: tuple[str, ...], text: str, option: str) -> None:
    """Set the value at a path, making the mappings on the way. Raises `ScenarioError` where it leads nowhere."""
    source = parse_source(text, option)
    draft.faults += source.faults
    place: JsonValue = draft.data
    walked: FieldPath = ()
    for part in path[:-1]:
        key = _key(draft, place, part, walked, option)
        walked = (*walked, key)
        if isinstance(place, list) and isinstance(key, int):
            place = place[key]
        elif isinstance(place, dict):
            place = place.setdefault(str(key), {})
    last = _key(draft, place, path[-1], walked, option)
    walked = (*walked, last)
    draft.options[walked] = option
    value = plain(draft, source.data, walked)
    if value is None:
        draft.fault("type", walked, "nothing is written after the =", "Give a value.")
    elif isinstance(place, list) and isinstance(last, int):
        place[last] = value
    elif isinstance(place, dict):
        place[str(last)] = value


def _key(draft: Draft, place: JsonValue, part: str, walked: FieldPath, option: str) -> str | int:
    """Return the key or index that `part` means in `place`. Raises `ScenarioError` where there is none."""
    here = ".".join(map(str, walked)) or "the scenario"
    hint = ""
    if isinstance(place, list):
        if part.isascii() and part.isdecimal() and int(part[:6]) < len(place):
            return int(part)
        message = f"there is no {quote(part)} in {here}: it is a list of {len(place)}, counted from 0"
    elif isinstance(place, dict):
        known = known_keys(walked)
        if not known or part in known or part in place:
            return part
        there = [*known, *_inputs(draft)] if not walked else known
        message = f"there is no {quote(part)} in {here} (there are: {listed(there)})"
        hint = nearest(part, there)
    else:
        message = f"{here} is {quote(place)} and has no parts"
    raise ScenarioError([Fault("setting", message, option, hint=hint)])
