"""YAML 1.2 read with its positions and within bounds: what a person wrote as plain data, and where each part stands."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from swarm.errors import Fault, FaultKind, ScenarioError, cut

MOST_BYTES = 1_048_576
MOST_VALUES = 20_000
MOST_ALIASED = 1_000
MOST_DEPTH = 50

FieldPath = tuple[str | int, ...]
"""Keys and indexes from the top of the file down to a value."""


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
    from swarm.scenario.yaml_composer import compose  # noqa: PLC0415 - the parser loads where there is text to parse

    if len(text) > MOST_BYTES:
        raise fault("yaml", _too_large(len(text)), file)
    return compose(text, file)


def _read_bytes(path: Path) -> bytes:
    file = str(path)
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise fault("file", "this is a folder, a scenario is a file", file, hint="Name the .yaml file in it.")
        if not stat.S_ISREG(kind):
            raise fault("file", "this is no regular file", file)
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
            if len(raw) > MOST_BYTES:
                raise fault("file", _too_large(path.stat().st_size), file)
            return raw
    except FileNotFoundError as error:
        raise fault("file", "there is no such file", file, hint=_neighbours(path)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise fault("file", f"it cannot be read: {reason}", file) from error


def _neighbours(path: Path) -> str:
    try:
        names = sorted(one.name for one in path.parent.iterdir() if one.suffix in {".yaml", ".yml"})
    except OSError:
        return "Its folder is not there either." if not path.parent.exists() else ""
    return f"Beside it: {', '.join(cut(name) for name in names[:8])}." if names else ""


def _decode(raw: bytes, file: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise fault("file", "this is UTF-16, a scenario is UTF-8", file, hint="Save it as UTF-8.")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        message = f"this is not UTF-8 (byte 0x{raw[error.start]:02x})"
        raise fault("file", message, file, mark_after(before), "Save it as UTF-8.") from error


def mark_after(before: str) -> Mark:
    """Return the place after some text."""
    return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _too_large(size: int) -> str:
    return f"it has {size:,} bytes; a scenario has at most {MOST_BYTES:,}"


def fault(kind: FaultKind, message: str, file: str | None, mark: Mark | None = None, hint: str = "") -> ScenarioError:
    """Return the error that ends the reading of a file."""
    line, column = mark or (None, None)
    return ScenarioError([Fault(kind, message, file, line, column, hint=hint)])
