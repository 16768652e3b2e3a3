"""YAML 1.2 read with its positions and within bounds: what a person wrote as plain data, and where each part stands."""

import stat
from pathlib import Path

from swarm.errors import cut
from swarm.scenario.source import MOST_BYTES, Source, fault, mark_after


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


def _too_large(size: int) -> str:
    return f"it has {size:,} bytes; a scenario has at most {MOST_BYTES:,}"
