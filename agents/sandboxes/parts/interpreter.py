"""Where a Python interpreter lies: what a sandbox must show of the machine for it to run."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from agents.errors import SandboxUnavailable

ASK = "import json, sys; print(json.dumps([sys.executable, sys.prefix, sys.base_prefix]))"
ASK_TIMEOUT_S = 20.0
_ENVIRONMENT = ("PATH", "HOME")
"""What finding an interpreter may need where a script of a version manager stands for it; no key is among it."""
MOST_LINKS = 16
SYSTEM = ("/usr", "/bin")
"""What every program needs and every sandbox shows."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An interpreter's file, the folders it needs, and the links (place, target) that lead from one to the other."""

    executable: str
    folders: tuple[str, ...]
    links: tuple[tuple[str, str], ...]
    is_venv: bool


async def find(python: str | None) -> Interpreter:
    """Look at an interpreter by running it once; None is the one we run on ourselves.

    Raises `SandboxUnavailable` where it is none, or where its folders would show more than an interpreter.
    """
    if python is None:
        return _laid_out(sys.executable, sys.prefix, sys.base_prefix)
    try:
        process = await asyncio.create_subprocess_exec(
            *(python, "-I", "-c", ASK),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
        )
    except OSError as error:
        raise _unusable(python, error.strerror or str(error)) from error
    try:
        answer, _ = await asyncio.wait_for(process.communicate(), ASK_TIMEOUT_S)
        executable, prefix, base_prefix = json.loads(answer)
    except (TimeoutError, ValueError) as error:
        raise _unusable(python, "it does not answer as Python does") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return _laid_out(executable, prefix, base_prefix)


def _laid_out(executable: str, prefix: str, base_prefix: str) -> Interpreter:
    """Follow the links that an environment is made of: its interpreter is a link to a base, which may be one, too."""
    folders = {place for folder in (prefix, base_prefix) for place in (folder, os.path.realpath(folder))}
    for folder in folders:
        if Path.home().is_relative_to(folder) or Path("/etc").is_relative_to(folder):
            raise _unusable(executable, f"its folder {folder} holds more than an interpreter")
    links: list[tuple[Path, Path]] = []
    executable = os.path.normpath(executable)  # as `prefix` is: started as ../venv/bin/python, it keeps the dots
    place = Path(executable)
    while place.is_symlink() and len(links) < MOST_LINKS:
        target = Path(os.path.normpath(place.parent / place.readlink()))
        links.append((place, target))
        place = target
    seen_anyway = folders | set(SYSTEM)
    links = [(place, target) for place, target in links if not _inside(place, seen_anyway)]
    if not _inside(place, seen_anyway):
        raise _unusable(executable, f"its file {place} lies outside its own folders")
    shown = tuple((str(place), str(target)) for place, target in links)
    return Interpreter(executable, tuple(sorted(folders)), shown, is_venv=prefix != base_prefix)


def _inside(place: Path, folders: set[str]) -> bool:
    return any(place.is_relative_to(folder) for folder in folders)


def _unusable(python: str, why: str) -> SandboxUnavailable:
    return SandboxUnavailable(
        f"The interpreter {python!r} cannot be used in the sandbox: {why}.",
        "Name one of a virtual environment, made by `python -m venv`.",
    )
