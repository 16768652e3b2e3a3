"""YAML 1.2 read with its positions and within bounds: what a person wrote, as plain data, and where each part stands.

The parser's events are composed here and not by its own composer, so that depth, size and aliases are bounded before
anything is built, plain values follow the core schema of YAML 1.2 (section 10.3.2) alone, and every key has a place.
"""

import io
import math
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

from pydantic import JsonValue
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from swarm.errors import Fault, FaultKind, ScenarioError, cut, quote

MOST_BYTES = 1_048_576
MOST_VALUES = 20_000
MOST_ALIASED = 1_000
MOST_DEPTH = 50

FieldPath = tuple[str | int, ...]
"""Keys and indexes from the top of the file down to a value."""

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CONSTANTS: dict[str, JsonValue] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_CONSTANTS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_LARGEST_INTEGER = 2**63 - 1


class Mark(NamedTuple):
    """A place in a file, counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file as plain data. `faults`: what is wrong but did not keep us from reading on."""

    data: JsonValue
    file: str | None = None
    keys: Mapping[FieldPath, Mark] = field(default_factory=dict)
    values: Mapping[FieldPath, Mark] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


def read_source(path: Path) -> Source:
    """Read a file. Raises `ScenarioError` where it cannot be read, is too large, not UTF-8 or not YAML."""
    return parse_source(_decode(_read_bytes(path), str(path)), str(path))


def parse_source(text: str, file: str | None = None) -> Source:
    """Read YAML text. Raises `ScenarioError` where it is no YAML, or past the bounds."""
    if len(text) > MOST_BYTES:
        raise _error("yaml", _too_large(len(text)), file)
    composer = _Composer(_events(text, file), file)
    root = composer.document()
    keys: dict[FieldPath, Mark] = {}
    values: dict[FieldPath, Mark] = {}
    data = _flatten(root, (), keys, values) if root else None
    return Source(data, file, keys, values, tuple(composer.faults))


def _read_bytes(path: Path) -> bytes:
    file = str(path)
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise _error("file", "this is a folder, a scenario is a file", file, hint="Name the .yaml file in it.")
        if not stat.S_ISREG(kind):
            raise _error("file", "this is no regular file", file)
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
            if len(raw) > MOST_BYTES:
                raise _error("file", _too_large(path.stat().st_size), file)
            return raw
    except FileNotFoundError as error:
        raise _error("file", "there is no such file", file, hint=_neighbours(path)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _error("file", f"it cannot be read: {reason}", file) from error


def _neighbours(path: Path) -> str:
    try:
        names = sorted(one.name for one in path.parent.iterdir() if one.suffix in {".yaml", ".yml"})
    except OSError:
        return "Its folder is not there either." if not path.parent.exists() else ""
    return f"Beside it: {', '.join(cut(name) for name in names[:8])}." if names else ""


def _decode(raw: bytes, file: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _error("file", "this is UTF-16, a scenario is UTF-8", file, hint="Save it as UTF-8.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        message = f"this is not UTF-8 (byte 0x{raw[error.start]:02x})"
        raise _error("file", message, file, _mark_after(before), "Save it as UTF-8.") from error


def _mark_after(before: str) -> Mark:
    return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _events(text: str, file: str | None) -> Iterator[Event]:
    """Yield the parser's events; lazily, so that a bound met stops the parser too."""
    try:
        yield from YAML(typ="safe", pure=True).parse(io.StringIO(text))
    except MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        if "end of stream" in (error.problem or ""):
            at = error.context_mark or at  # where the quote was opened says more than where the file ends
        words = ", ".join(part for part in (error.problem, error.context) if part)
        mark = Mark(at.line + 1, at.column + 1) if at else None
        raise _error("yaml", f"not YAML: {cut(words, 160)}", file, mark, _advice(words)) from error
    except ReaderError as error:
        mark = _mark_after(text[: error.position])
        raise _error("yaml", f"not YAML: the character U+{ord(text[error.position]):04X}", file, mark) from error
    except (YAMLError, ValueError, LookupError, AssertionError) as error:  # the last three: slips of the parser
        raise _error("yaml", f"not YAML: {cut(str(error), 160) or type(error).__name__}", file) from error


def _advice(problem: str) -> str:
    if "\\t" in problem:
        return "Indent with spaces, not tabs."
    if "mapping values are not allowed" in problem:
        return "A text with a colon and a space in it needs quotes; a key needs its right indentation."
    if "block end" in problem or "expected ':'" in problem:
        return "Look at the indentation, and for a missing colon or quote, here and in the line above."
    return ""


@dataclass(slots=True)
class _Node:
    """A value before aliases are expanded. `size`, `height`: how many values it holds, and how deep, once they are."""

    mark: Mark
    scalar: JsonValue = None
    items: "list[_Node] | None" = None
    pairs: "dict[str, tuple[Mark, _Node]] | None" = None
    size: int = 1
    height: int = 1
    open: bool = True

    def enclose(self, inner: "list[_Node]") -> None:
        """Count the values within."""
        self.size += sum(node.size for node in inner)
        self.height += max((node.height for node in inner), default=0)


class _Composer:
    """Makes nodes of events, and counts."""

    def __init__(self, events: Iterator[Event], file: str | None) -> None:
        self.events = events
        self.file = file
        self.faults: list[Fault] = []
        self.anchors: dict[str, _Node] = {}
        self.values = 0
        self.aliased = 0

    def document(self) -> _Node | None:
        """Return the one document, None where there is none."""
        root = None
        for event in self.events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    self._stop(event, "a second document begins here", "A scenario is one document: drop the `---`.")
                if event.version not in (None, (1, 2)):
                    self._note(event, "scenarios are YAML 1.2", "Drop the %YAML line.")
                root = self._node(next(self.events), 1)
            elif isinstance(event, StreamEndEvent):
                break
        return root

    def _node(self, event: Event, depth: int) -> _Node:
        self.values += 1
        if self.values > MOST_VALUES:
            self._stop(event, f"more than {MOST_VALUES:,} values")
        if depth > MOST_DEPTH:
            self._stop(event, f"nested more than {MOST_DEPTH} deep")
        if isinstance(event, AliasEvent):
            return self._alias(event, depth)
        if not isinstance(event, NodeEvent):
            self._stop(event, "a value was expected here")
        node = _Node(_mark(event))
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        if (tag := getattr(event, "ctag", None)) is not None:
            self._note(event, f"the tag {quote(str(tag))} is not allowed", "Scenarios are plain data: drop it.")
        if isinstance(event, ScalarEvent):
            node.scalar = self._scalar(event) if event.implicit[0] else event.value
        elif isinstance(event, SequenceStartEvent):
            node.items = list(self._items(depth))
            node.enclose(node.items)
        elif isinstance(event, MappingStartEvent):
            node.pairs = self._pairs(depth)
            node.enclose([value for _, value in node.pairs.values()])
        node.open = False
        return node

    def _alias(self, event: AliasEvent, depth: int) -> _Node:
        name = str(event.anchor)
        node = self.anchors.get(name)
        if node is None:
            self._stop(event, f"nothing is anchored as {quote(name)}", f"Write &{cut(name)} before the value it means.")
        if node.open:
            self._stop(event, f"the alias {quote(name)} stands inside what it means")
        self.aliased += node.size
        if depth + node.height - 1 > MOST_DEPTH:
            self._stop(event, f"nested more than {MOST_DEPTH} deep")
        if self.aliased > MOST_ALIASED:
            self._stop(event, f"more than {MOST_ALIASED:,} values reached through aliases")
        return node

    def _items(self, depth: int) -> Iterator[_Node]:
        while not isinstance(event := next(self.events), SequenceEndEvent):
            yield self._node(event, depth + 1)

    def _pairs(self, depth: int) -> dict[str, tuple[Mark, _Node]]:
        pairs: dict[str, tuple[Mark, _Node]] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            key = self._node(event, depth + 1)
            name = event.value if isinstance(event, ScalarEvent) else key.scalar
            value = self._node(next(self.events), depth + 1)
            if not isinstance(name, str):
                self._note(event, "a key must be a text")
            elif name == "<<":
                self._note(event, "`<<` is not in YAML 1.2", "Write the keys out, or use an alias for a whole value.")
            elif name in pairs:
                first = pairs[name][0].line
                self._note(event, f"the key {quote(name)} stands twice", f"It is in line {first} already; keep one.")
            else:
                pairs[name] = (_mark(event), value)
        return pairs

    def _scalar(self, event: ScalarEvent) -> JsonValue:
        """Return a plain scalar's value by the core schema of YAML 1.2."""
        text: str = event.value
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text):
            number = int(text, 0 if text[:2] in {"0o", "0x"} else 10) if len(text) <= 30 else _LARGEST_INTEGER + 1  # noqa: PLR2004
            if abs(number) <= _LARGEST_INTEGER:
                return number
        elif _FLOAT.fullmatch(text):
            if math.isfinite(fraction := float(text)):
                return fraction
        elif not _NO_NUMBER.fullmatch(text):
            return text
        self._note(event, f"the number {quote(text)} is out of bounds", "Put it in quotes if it is meant as text.")
        return None

    def _note(self, event: Event, message: str, hint: str = "") -> None:
        self.faults.extend(_error("yaml", message, self.file, _mark(event), hint).faults)

    def _stop(self, event: Event, message: str, hint: str = "") -> NoReturn:
        self._note(event, message, hint)
        raise ScenarioError(self.faults)


def _flatten(node: _Node, path: FieldPath, keys: dict[FieldPath, Mark], values: dict[FieldPath, Mark]) -> JsonValue:
    """Return a node's plain data; note where each key and value stands."""
    values[path] = node.mark
    if node.items is not None:
        return [_flatten(item, (*path, index), keys, values) for index, item in enumerate(node.items)]
    if node.pairs is not None:
        keys |= {(*path, name): mark for name, (mark, _) in node.pairs.items()}
        return {name: _flatten(value, (*path, name), keys, values) for name, (_, value) in node.pairs.items()}
    return node.scalar


def _mark(event: Event) -> Mark:
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _too_large(size: int) -> str:
    return f"it has {size:,} bytes; a scenario has at most {MOST_BYTES:,}"


def _error(kind: FaultKind, message: str, file: str | None, mark: Mark | None = None, hint: str = "") -> ScenarioError:
    line, column = mark or (None, None)
    return ScenarioError([Fault(kind, message, file, line, column, hint=hint)])
