"""A scenario while it is read: plain data that still knows where each part was written, and what is wrong so far.

A fault in what a command line option brought (`swarm/scenario/changes.py`) names the option in place of the file.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import JsonValue

from swarm.errors import Fault, FaultKind, ScenarioError, quote
from swarm.scenario.source import MOST_DEPTH, MOST_VALUES, FieldPath, Source

_NOT_YET: Mapping[FieldPath, str] = {
    ("mcp",): "Drop it; tools of your own are written as ./my_tools.py:name.",
    ("memory",): "Drop it; every run begins without memory.",
    ("permissions", "approve"): "Drop it; grant only tools that may act without being asked.",
    ("permissions", "sandbox"): "Drop it; code in the sandbox has no network.",
}


def _nothing(draft: "Draft") -> None:
    """Refuse nothing."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a scenario is checked against beside our own tables: what others offer, and what this one may not hold.

    A file that is run where it lies is held against nothing more than our tables (`Surroundings()`). One that is
    submitted is checked twice: by the submitter, who does not know what the hub knows, and by the hub, which sees no
    folder of the submitter's. One that a run goes on from has been read before: what it was given then is recorded.
    """

    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Roles that are there beside ours, each with tools that its agents bring themselves."""
    tools: frozenset[str] = frozenset()
    """Tools that are there beside ours."""
    providers: frozenset[str] = frozenset()
    """Providers of models that are there beside ours and the scenario's."""
    waits: bool = False
    """Whether a role may be named that nobody knows: it is waited for."""
    elsewhere: bool = False
    """Whether somebody else says which tools and providers there are: here any well-formed name will do."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """By name, the files that the scenario reads and whose text is there already; the others lie in its folder."""
    folder_here: bool = True
    """Whether there is a folder of its own here."""
    taken_in: bool = False
    """Whether its workspace is with a run already, and not looked for."""
    refuse: Callable[["Draft"], None] = _nothing
    """Notes what may not stand in it, and puts something harmless there; called before and after inputs go in."""

    def text(self, name: str) -> str | None:
        """Return a file's text, None where it is not there already."""
        return self.texts.get(text_name(name))


@dataclass(frozen=True, slots=True)
class Places:
    """Where each part of a scenario was written: in its file, or in a command line option."""

    source: Source
    options: Mapping[FieldPath, str] = field(default_factory=dict)
    """Which command line option brought the value at a path."""

    def fault(self, kind: FaultKind, path: FieldPath, message: str, hint: str = "", *, at_key: bool = False) -> Fault:
        """Return what is wrong with the value at `path` (or, `at_key`, with its key), and where that stands."""
        file, line, column = self.of(path, at_key=at_key)
        name = ".".join(quote(str(part)).strip("'") for part in path)
        return Fault(kind, message, file, line, column, name or None, hint)

    def of(self, path: FieldPath, *, at_key: bool) -> tuple[str | None, int | None, int | None]:
        """Return file or option, line and column of a value or its key; of what is not there, of what it belongs to."""
        for where, option in self.options.items():
            made_on_the_way = where[: len(path)] == path and path not in self.source.values
            if path and (path[: len(where)] == where or made_on_the_way):
                return option, None, None
        mark = self.source.keys.get(path) if at_key else None
        for end in range(len(path), -1, -1):
            mark = mark or self.source.values.get(path[:end])
        return (self.source.file, mark.line, mark.column) if mark else (self.source.file, None, None)


@dataclass(slots=True)
class Draft:
    """The data, and where it comes from. `folder`: relative paths in it begin here."""

    source: Source
    folder: Path
    around: Surroundings = field(default_factory=Surroundings)
    """What it is checked against beside our own tables."""
    data: dict[str, JsonValue] = field(default_factory=dict)
    options: dict[FieldPath, str] = field(default_factory=dict)
    """Which command line option brought the value at a path."""
    given: dict[str, str] = field(default_factory=dict)
    """Inputs as the person gave them."""
    values: int = 0
    """How many values it has had, to stop at too many."""
    schemas: dict[Path, str] = field(default_factory=dict)
    """The texts of the schemas that lie beside it, by their file."""
    inserted: int = 0
    """Characters that inputs brought into its texts, to stop at too many."""
    faults: list[Fault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def places(self) -> Places:
        """Where its parts were written."""
        return Places(self.source, self.options)

    def fault(self, kind: FaultKind, path: FieldPath, message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Note what is wrong with the value at `path` (or, `at_key`, with its key)."""
        self.faults.append(self.places.fault(kind, path, message, hint, at_key=at_key))

    def warn(self, path: FieldPath, message: str) -> None:
        """Note what is allowed, but likely not meant."""
        file, line, column = self.places.of(path, at_key=False)
        self.warnings.append(str(Fault("value", message, file, line, column, ".".join(map(str, path)))))

    def in_order(self) -> list[Fault]:
        """Return the faults in the order of the file; those without a line last."""
        return sorted(self.faults, key=lambda one: (one.line is None, one.line or 0, one.column or 0))


def text_name(path: str) -> str:
    """Return the name of a file among the texts: its path without `./`."""
    return str(PurePosixPath(path))


def tree_prefix(source: Path, written: str) -> str:
    """Return how the names of files in a folder of the workspace begin in the tree: not at all for `.`."""
    return "" if written in {".", "./"} else f"{source.resolve().name}/"


def begin(
    written: Source | Mapping[str, object],
    folder: Path,
    around: Surroundings = Surroundings(),
) -> Draft:
    """Return the draft of a file or a mapping. Raises `ScenarioError` where there is nothing to go on with."""
    source, data = (written, written.data) if isinstance(written, Source) else (Source(None), written)
    draft = Draft(source, folder, around, faults=list(source.faults))
    if not data and (data is None or isinstance(data, Mapping)):
        draft.fault("missing", (), "there is nothing in it", "A scenario needs at least `goal: what is to be reached`.")
    elif not isinstance(data, Mapping):
        draft.fault("type", (), f"a scenario is a mapping, not {quote(data)}", "Begin with `goal: …`.")
    else:
        copied = plain(draft, data, ())
        draft.data = copied if isinstance(copied, dict) else {}
        return draft
    raise ScenarioError(draft.faults)


def refuse_what_is_not_there_yet(draft: Draft, *, below: FieldPath = ()) -> None:
    """Note each key (below one, where that is given) whose feature is not in this version, and drop it."""
    for path, hint in _NOT_YET.items():
        if path[: len(below)] != below:
            continue
        parent: JsonValue = draft.data
        for part in path[:-1]:
            parent = parent.get(str(part)) if isinstance(parent, dict) else None
        if isinstance(parent, dict) and path[-1] in parent and parent.pop(str(path[-1])) != []:
            draft.fault("not_yet", path, f"the key '{path[-1]}' is not in this version yet", hint, at_key=True)


def plain(draft: Draft, value: object, path: FieldPath) -> JsonValue:
    """Return a copy in JSON's types; what has no place there is noted and becomes a harmless value."""
    draft.values += 1
    if len(path) > MOST_DEPTH or draft.values > MOST_VALUES:
        if draft.values <= MOST_VALUES + 1:  # once is enough
            draft.fault("value", path[:3], f"nested more than {MOST_DEPTH} deep, or more than {MOST_VALUES:,} values")
        return None
    copied: JsonValue = None
    match value:
        case None | bool():
            copied = value
        case str() | Path():
            copied = _text(draft, str(value), path)
        case Mapping():
            copied = _mapping(draft, value, path)
        case list() | tuple():
            copied = [plain(draft, item, (*path, index)) for index, item in enumerate(value)]
        case int() if abs(value) < 2**63:
            copied = value
        case float() if math.isfinite(value):
            copied = value
        case _:
            draft.fault("type", path, f"{quote(value)} has no place in a scenario")
    return copied


def _mapping(draft: Draft, value: Mapping[object, object], path: FieldPath) -> JsonValue:
    copied: dict[str, JsonValue] = {}
    for key, item in value.items():
        if not isinstance(key, str):
            draft.fault("type", path, f"a key must be a text, not {quote(key)}")
        elif item is None and not _may_be_null((*path, key)):
            draft.fault("type", (*path, key), "nothing is written here", "Write a value, or drop the key.", at_key=True)
        else:
            copied[_text(draft, key, path)] = plain(draft, item, (*path, key))
    return copied


def _may_be_null(path: FieldPath) -> bool:
    """Tell whether a null here is somebody else's data."""
    return path[2:3] in {("with",), ("accept",)} or path[0] in {"accept", "mcp", "memory"}


def _text(draft: Draft, text: str, path: FieldPath) -> str:
    if "\0" in text or any("\ud800" <= char <= "\udfff" for char in text):
        draft.fault("value", path, "it has a character that no program takes (NUL, or half a surrogate pair)")
        return text.replace("\0", "").encode("utf-8", "replace").decode()
    return text
