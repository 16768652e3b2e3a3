"""A draft held against the file's shape: every fault in our words, and the parts that are good enough to go on with."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import pydantic

from swarm.errors import listed, nearest, quote
from swarm.scenario.draft import Draft
from swarm.scenario.file import SECTIONS, RoleSection, ScenarioFile, Section, Sections, SubtaskSection, known_keys

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from swarm.scenario.source import FieldPath

_Part = TypeVar("_Part", bound=Section)

_WANTED = {
    "string_type": "must be a text",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


def validate(draft: Draft) -> ScenarioFile | None:
    """Return the whole file, or note each fault and return None."""
    return validated(draft, ScenarioFile, SECTIONS)


def validated(draft: Draft, kind: type[_Part], sections: Sections) -> _Part | None:
    """Return a whole file of any kind, whose parts are `sections`, or note each fault and return None."""
    try:
        return kind.model_validate(draft.data)
    except pydantic.ValidationError as error:
        for details in error.errors(include_url=False):
            _note(draft, details, sections)
        return None


def good_roles(draft: Draft) -> dict[str, RoleSection]:
    """Return the roles, each without what is wrong in it, so that the rest is looked at too."""
    written = draft.data.get("roles")
    found = {name: _good(RoleSection, role) for name, role in written.items()} if isinstance(written, dict) else {}
    return {name: role for name, role in found.items() if role}


def good_subtasks(draft: Draft) -> dict[int, SubtaskSection]:
    """Return the plan's subtasks by their index, each without what is wrong in it."""
    written = draft.data.get("plan")
    found = dict(enumerate(_good(SubtaskSection, one) for one in written)) if isinstance(written, list) else {}
    return {index: subtask for index, subtask in found.items() if subtask}


def good_rest(draft: Draft) -> ScenarioFile | None:
    """Return the file without roles and plan, and without what is wrong in the rest."""
    rest = {key: value for key, value in draft.data.items() if key not in {"roles", "plan"}}
    return _good(ScenarioFile, rest | {"goal": "-"})


def _good(kind: type[_Part], written: object) -> _Part | None:
    if not isinstance(written, Mapping):
        return None
    try:
        return kind.model_validate(dict(written))
    except pydantic.ValidationError as error:
        wrong = {details["loc"][0] for details in error.errors(include_url=False, include_input=False)}
    try:
        return kind.model_validate({key: value for key, value in written.items() if key not in wrong})
    except pydantic.ValidationError:
        return None


def _note(draft: Draft, details: "ErrorDetails", sections: Sections) -> None:
    path: FieldPath = tuple(part for part in details["loc"] if part != "[key]")
    name, value, kind = str(path[-1]), details["input"], details["type"]
    context: dict[str, Any] = details.get("ctx", {})
    if kind == "missing":
        field = known_keys(path[:-1], sections)
        draft.fault("missing", path, f"'{name}' is missing", f"Keys here: {listed(field)}.", at_key=True)
    elif kind == "extra_forbidden":
        known = known_keys(path[:-1], sections)
        message = f"unknown key {quote(name)} (known: {listed(known)})"
        draft.fault("unknown_key", path, message, nearest(name, known), at_key=True)
    elif kind == "value_error":
        draft.fault("value", path, str(context["error"]), at_key="[key]" in details["loc"])
    elif kind == "literal_error":
        draft.fault("value", path, f"must be {context['expected']}, not {quote(value)}")
    elif kind in _WANTED:
        scalar = isinstance(value, int | float)
        hint = "Put it in quotes if it is meant as text." if kind == "string_type" and scalar else ""
        message = _WANTED[kind] if kind.endswith("short") else f"{_WANTED[kind]}, not {quote(value)}"
        draft.fault("type", path, message, hint)
    else:
        draft.fault("type", path, details["msg"])
