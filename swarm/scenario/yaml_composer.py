"""The events of a YAML parser composed into plain data with its positions, within bounds.

Composed here and not by the parser's own composer, so that depth, size and aliases are bounded before anything is
built, plain values follow the core schema of YAML 1.2 (section 10.3.2) alone, and every key has a place.
"""

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

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

from swarm.errors import Fault, ScenarioError, cut, quote
from swarm.scenario.source import MOST_ALIASED, MOST_DEPTH, MOST_VALUES, FieldPath, Mark, Source, fault, mark_after

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CONSTANTS: dict[str, JsonValue] = dict.fromkeys(("", "~", "null", "Null", "NULL"))
_CONSTANTS |= dict.fromkeys(("true", "True", "TRUE"), True) | dict.fromkeys(("false", "False", "FALSE"), False)
_LARGEST_INTEGER = 2**63 - 1


def compose(text: str, file: str | None) -> Source:
    """Return what YAML text says. Raises `ScenarioError` where it is no YAML, or past the bounds."""
    composer = _Composer(_events(text, file), file)
    root = composer.document()
    keys: dict[FieldPath, Mark] = {}
    values: dict[FieldPath, Mark] = {}
    data = _flatten(root, (), keys, values) if root else None
    return Source(data, file, keys, values, tuple(composer.faults))


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
        raise fault("yaml", f"not YAML: {cut(words, 160)}", file, mark, _advice(words)) from error
    except ReaderError as error:
        mark = mark_after(text[: error.position])
        raise fault("yaml", f"not YAML: the character U+{ord(text[error.position]):04X}", file, mark) from error
    except (YAMLError, ValueError, LookupError, AssertionError) as error:  # the last three: slips of the parser
        raise fault("yaml", f"not YAML: {cut(str(error), 160) or type(error).__name__}", file) from error


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
        self.faults.extend(fault("yaml", message, self.file, _mark(event), hint).faults)

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
