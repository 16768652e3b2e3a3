"""A scenario's workspace, taken into the file store: what is copied in, what never is, and how much may be."""

import asyncio
import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NoReturn

from agents.files import names as file_names
from bus.event_log import FileStore
from bus.setup import FileRef
from swarm.errors import Fault, ScenarioError, cut, quote
from swarm.scenario.draft import tree_prefix
from swarm.scenario.model import Scenario

MOST_BYTES = 256 * 1024 * 1024
MOST_FILES = 10_000
NEVER = (".env*", ".swarmignore")
"""Beside what is never part of a result either, such as `.git` and `__pycache__`."""
_FAULTS_SHOWN = 5
_OnError = Callable[[OSError], None] | None
_LESS = "Name only what is needed, or list the rest in a file `.swarmignore` there, a pattern a line."


async def take_in(
    scenario: Scenario, store: FileStore, *, home: Path, runs: Container[str] = ()
) -> tuple[FileRef, ...]:
    """Store the workspace's files and return them by their path in the tree.

    `.` gives its contents, any other path itself under its last name. `runs`: the runs there are; a folder in it that
    has the name of one holds what that handed over, and is none of the project's. Raises `ScenarioError` where it is
    too large, a file cannot be read, or a name cannot be one of the tree.
    """
    refs: dict[str, FileRef] = {}
    files = _files(scenario, home, runs)
    while (found := await asyncio.to_thread(next, files, None)) is not None:
        name, _, data = found
        refs[name] = FileRef(path=name, sha256=await store.put(data), bytes=len(data))
    return tuple(refs[name] for name in sorted(refs))


def look_through(scenario: Scenario, *, home: Path) -> tuple[tuple[FileRef, ...], dict[str, Path]]:
    """Return the workspace's files by their path in the tree, and where each content lies, by its hash.

    For sending them: what is sent is hashed again then, since a file may change meanwhile. Raises as `take_in`.
    """
    refs: dict[str, FileRef] = {}
    places: dict[str, Path] = {}
    for name, path, data in _files(scenario, home):
        digest = hashlib.sha256(data).hexdigest()
        refs[name] = FileRef(path=name, sha256=digest, bytes=len(data))
        places[digest] = path
    return tuple(refs[name] for name in sorted(refs)), places


def differing(
    paths: Iterable[str], folder: Path, begun: Iterable[FileRef], *, home: Path, runs: Container[str], out: Path
) -> list[str]:
    """Return which files are gone, other or new since a run took its workspace in, by their path in the tree.

    `paths`: what the scenario names. What lies in `out` is what the run handed over, and not new.
    """
    before = {ref.path: ref for ref in begun}
    now = {name: path for written in paths for path, name in _listed(folder / written, written, home, runs)}
    new = [name for name, path in now.items() if name not in before and not path.is_relative_to(out)]
    return sorted([*new, *(name for name, ref in before.items() if name not in now or not _holds(now[name], ref))])


def _holds(path: Path, ref: FileRef) -> bool:
    """Tell whether a file has a content still; one that cannot be read has not."""
    try:
        return path.stat().st_size == ref.bytes and hashlib.sha256(_read(path)).hexdigest() == ref.sha256
    except OSError:
        return False


def _files(scenario: Scenario, home: Path, runs: Container[str] = ()) -> Iterator[tuple[str, Path, bytes]]:
    """Yield each file's path in the tree, where it lies, and its bytes. Raises `ScenarioError` where it is too much."""
    total = 0
    for name, path in _places(scenario, home, runs).items():
        try:
            total += path.lstat().st_size
            data = _read(path) if total <= MOST_BYTES else b""
        except OSError as error:
            raise _fault(scenario, f"{_shown(path)} cannot be read: {error.strerror}") from error
        if total > MOST_BYTES:
            raise _fault(scenario, f"the workspace is {too_large()} (with {_shown(path)})", _LESS)
        yield name, path, data


def _places(scenario: Scenario, home: Path, runs: Container[str]) -> dict[str, Path]:
    """Return where each file lies, by its path in the tree.

    Raises `ScenarioError` where they are too many, or some could not be laid out for an attempt.
    """
    places: dict[str, Path] = {}
    faults: list[str] = []
    beside = file_names.SideBySide(())
    for written in scenario.workspace:
        try:
            listed = _listed(scenario.folder / written, written, home, runs, on_error=_raise)
        except OSError as error:
            raise _fault(
                scenario, f"{cut(str(error.filename), 400)} cannot be read: {error.strerror}", _LESS
            ) from error
        for path, name in listed:
            if (other := places.setdefault(name, path)) is not path:
                if path.resolve() != other.resolve():
                    faults.append(f"{_shown(other)} and {_shown(path)} would both be {quote(name)}")
            elif why := name_fault(name, beside):
                faults.append(f"{_shown(path)} cannot be taken in: {why}")
    if len(places) > MOST_FILES:
        raise _fault(scenario, f"the workspace is {too_large()}", _LESS)
    if faults:
        more = [f"and {len(faults) - _FAULTS_SHOWN} more"] if len(faults) > _FAULTS_SHOWN else []
        raise _fault(scenario, "; ".join([*faults[:_FAULTS_SHOWN], *more]), _LESS)
    return places


def _shown(path: Path) -> str:
    return cut(str(path), 400)


def _raise(error: OSError) -> NoReturn:
    raise error


def _listed(
    source: Path, written: str, home: Path, runs: Container[str], *, on_error: _OnError = None
) -> list[tuple[Path, str]]:
    """Return each file to copy with its path in the tree, which is composed (NFC) as all paths there are.

    `on_error` is given why a folder cannot be looked into; without it that one is left out.
    """
    if source.is_file():  # also by a link, since it is named
        return [(source.resolve(), unicodedata.normalize("NFC", source.name))]
    prefix = tree_prefix(source, written)
    return [
        (path, unicodedata.normalize("NFC", prefix + path.relative_to(source).as_posix()))
        for path in _walk(source, _ignored(source), home, runs, on_error)
    ]


def _walk(root: Path, ignored: tuple[str, ...], home: Path, runs: Container[str], on_error: _OnError) -> Iterator[Path]:
    """Yield regular files, sorted; links are never followed, and never copied."""
    for folder, names, files in os.walk(root, onerror=on_error):
        here = Path(folder)
        names[:] = sorted(
            name
            for name in names
            if not (name in runs or _left_out(here / name, root, ignored) or (here / name).resolve() == home.resolve())
        )
        for name in sorted(files):
            path = here / name
            if not _left_out(path, root, ignored) and stat.S_ISREG(path.lstat().st_mode):
                yield path


def _ignored(root: Path) -> tuple[str, ...]:
    """Return the patterns of `.swarmignore`: one a line, `#` begins a comment."""
    file = root / ".swarmignore"
    if not file.is_file():
        return ()
    # names that are not UTF-8 are written here as they are there
    lines = (line.strip() for line in file.read_text("utf-8-sig", "surrogateescape").splitlines())
    return tuple(line.rstrip("/") for line in lines if line and not line.startswith("#"))


def too_large() -> str:
    """Return what is said of a workspace beyond the bounds."""
    return f"larger than {MOST_FILES:,} files or {MOST_BYTES >> 20} MiB"


def never_taken(name: str) -> bool:
    """Tell whether a file or folder of this name is never part of a workspace."""
    return any(fnmatchcase(name, pattern) for pattern in NEVER) or file_names.never_kept([name]) is not None


def name_fault(name: str, beside: file_names.SideBySide) -> str | None:
    """Return why no run may have a file of this path; where it may, it lies with those `beside` from then on."""
    if why := file_names.fault_of_kept(name):
        return why
    if other := beside.add([name]).get(name):
        return f"it cannot lie beside {quote(other)} on every system"
    return None


def _left_out(path: Path, root: Path, ignored: tuple[str, ...]) -> bool:
    if never_taken(path.name):
        return True
    inside = path.relative_to(root).as_posix()
    ways = (path.name, inside, f"/{inside}")  # as in .gitignore, `/x` is only the one there, and `**/x` that one too
    return any(fnmatchcase(way, pattern) for pattern in ignored for way in ways)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor: no link can come between
        return file.read()


def _fault(scenario: Scenario, message: str, hint: str = "") -> ScenarioError:
    file = str(scenario.file) if scenario.file else None
    return ScenarioError([Fault("file", message, file, field="workspace", hint=hint)])
