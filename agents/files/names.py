"""Which names a file of the project may have, which are never part of a result, and which a pattern means. Pure.

A path is relative, has `/` between its parts and stands for one file on every system we may hand it to: so what only
some systems take (`con`, `a:b`, two names that differ in case alone) is refused on all of them.
"""

import difflib
import fnmatch
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from agents.errors import ToolRefused

PATH_BYTES = 4096
PART_BYTES = 255

TEMPORARY = ".swarm-tmp-"
"""Beginning of the names under which files are written before they are renamed."""

_NEVER = re.compile(
    "|".join(
        fnmatch.translate(pattern)
        for pattern in (
            *("__pycache__", "*.pyc", "*.pyo", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"),
            *(".ipynb_checkpoints", ".cache", ".tox", ".nox", ".git", ".hg", ".svn", ".swarm", ".DS_Store"),
            f"{TEMPORARY}*",
        )
    )
)
_WINDOWS = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE)
_HIDING = {
    "Cc": "a control character",
    "Cf": "an invisible character",  # bidi overrides among them
    "Cs": "a byte that is not UTF-8",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
_JOINERS = "\u200c\u200d"  # several scripts, and emoji, cannot be written without them


def fault(path: str) -> str | None:
    """Return why `path` may not name a file of the project, None where it may; `.` and `//` are not looked at."""
    if not path:
        return "it is empty"
    for character in path:
        category = unicodedata.category(character)
        if category in _HIDING and character not in _JOINERS:
            return f"it holds {_HIDING[category]} ({character!a})"
    if len(path.encode()) > PATH_BYTES:
        return f"it is longer than {PATH_BYTES} bytes"
    if path.startswith("/"):
        return "it is absolute; paths are relative to the project's folder"
    for sign in "\\:":
        if sign in path:
            return f"it holds {sign!r}; parts are separated by '/', and not every system has names with that sign"
    return next((why for part in path.split("/") if (why := _part_fault(part))), None)


def _part_fault(part: str) -> str | None:
    if part == "..":
        return "'..' leads out of the project's folder"
    if part != "." and part.endswith((".", " ")):
        return f"{part!r} ends in a dot or a space, which some systems drop"
    if len(part.encode()) > PART_BYTES:
        return f"the part {part[:20]!r}… is longer than {PART_BYTES} bytes"
    if _WINDOWS.fullmatch(part):
        return f"{part!r} is the name of a device on Windows"
    return None


def parts_of(path: str) -> tuple[str, ...]:
    """Return the parts of a path in NFC, without `.` and empty ones; none for the project's folder itself.

    Raises `ToolRefused` where the path may not be used.
    """
    normal = unicodedata.normalize("NFC", path)
    if normal in ("", ".", "./"):
        return ()
    if why := fault(normal):
        inside = normal.removeprefix("/project").lstrip("/")
        hint = f" Perhaps {inside[:PART_BYTES]!r}?" if normal.startswith("/") and inside and not fault(inside) else ""
        raise ToolRefused(f"The path {_shown(normal)} may not be used: {why}.{hint}")
    return tuple(part for part in normal.split("/") if part not in ("", "."))


def never_kept(parts: Iterable[str]) -> str | None:
    """Return the part that makes a path a cache, a byproduct or a repository's own: never part of a result."""
    return next((part for part in parts if _NEVER.match(part)), None)


def fault_of_kept(path: str) -> str | None:
    """Return why no file of a run may be kept under `path`, None where it may: it is as `parts_of` would write it."""
    if why := fault(path):
        return why
    if never := never_kept(path.split("/")):
        return f"{never!r} is never part of a result"
    if "/".join(parts_of(path)) != path:
        return "it is not written in the composed form of Unicode (NFC), without a part that is empty or '.'"
    return None


def folded(path: str) -> str:
    """Return what two names share that some file systems take for one: NFC, case folded."""
    if path.isascii():
        return path.lower()  # the same, in a third of the time
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def clash(name: str, others: Iterable[str]) -> str | None:
    """Return another name that some file systems cannot keep apart from `name`."""
    same = folded(name)
    return next((other for other in others if other != name and folded(other) == same), None)


class SideBySide:
    """Files of one folder, and which others cannot lie beside them on every system.

    Neither those whose name, or a folder's on their way, differs from one of theirs by what only some systems see, nor
    those that make a folder of a file, or a file of a folder.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        ways: dict[str, str] = {}
        for path in paths:
            for name in _way(path):
                if name in ways:  # and with it the folders that lead to it
                    break
                ways[name] = path
        self._there = {_shared(name): (name, path) for name, path in ways.items()}

    def in_the_way(self, path: str) -> str | None:
        """Return a file beside which `path` cannot lie."""
        for name in _way(path):
            there, other = self._there.get(_shared(name), (name, path))
            if there != name:
                return other
        return None

    def add(self, paths: Iterable[str]) -> dict[str, str]:
        """Add files one by one, and return those that cannot lie beside what is there, each with a file in its way."""
        found: dict[str, str] = {}
        for path in paths:
            if (other := self.in_the_way(path)) is not None:
                found[path] = other
            else:
                self._there.update((_shared(name), (name, path)) for name in _way(path))
        return found


def _way(path: str) -> Iterator[str]:
    """Yield a file, then the folders that lead to it, each with a `/` at its end, the innermost first."""
    yield path
    end = path.rfind("/")
    while end >= 0:
        yield path[: end + 1]
        end = path.rfind("/", 0, end)


def _shared(name: str) -> str:
    """Return what a file or folder shares with all that cannot lie beside it."""
    return folded(name.removesuffix("/"))


def near(path: str, known: Iterable[str], limit: int = 5) -> list[str]:
    """Return known paths that `path` may have meant: same file name elsewhere first, then alike ones."""
    paths = list(known)[:2_000]
    name = folded(path).rpartition("/")[2]
    same = [other for other in paths if folded(other).rpartition("/")[2] == name]
    alike = difflib.get_close_matches(
        path[:PART_BYTES], [other for other in paths if other not in same], limit, cutoff=0.5
    )
    return [*same, *alike][:limit]


def pattern(glob: str) -> Callable[[str], bool]:
    """Return whether a path is meant by a glob pattern: `*` stays within a part, `**` spans any number of them.

    A pattern without `/` means the file's name, in whichever folder. The time it takes grows with pattern times path,
    whatever the pattern: it may come from a model.
    """
    parts = [part for part in glob.removeprefix("./").split("/") if part]
    if len(parts) == 1 and not glob.endswith("/"):
        parts = ["**", *parts]
    if glob.endswith("/"):
        parts.append("**")
    tests = [None if part == "**" else re.compile(fnmatch.translate(part)) for part in parts]

    def means(path: str) -> bool:
        states = _with_skips(tests, {0})
        for part in path.split("/"):
            states = _with_skips(tests, _after(tests, states, part))
        return len(tests) in states

    return means


_Tests = list[re.Pattern[str] | None]
"""A test for each part of a pattern, None for `**`; a state is how many of them are behind us."""


def _after(tests: _Tests, states: set[int], part: str) -> set[int]:
    reached = set()
    for state in states - {len(tests)}:
        test = tests[state]
        if test is None:
            reached.add(state)
        elif test.match(part):
            reached.add(state + 1)
    return reached


def _with_skips(tests: _Tests, states: set[int]) -> set[int]:
    for state, test in enumerate(tests):
        if test is None and state in states:
            states.add(state + 1)  # `**` may also stand for no part at all
    return states


def _shown(path: str) -> str:
    return repr(path) if len(path) <= PART_BYTES else f"{path[:PART_BYTES]!r}…"
