"""Whether a person has said that this very code, these very servers and these files of theirs may be used.

A scenario that brings code or endpoints, or reads files from outside of its folder, is hashed with all of it; a hash
said yes to is kept in the user's configuration. Asking is the command line's.
"""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from agents.roles import ROLES
from swarm.scenario.may import code_files, outside_files
from swarm.scenario.model import Scenario

OURS = "eventswarm:"
"""Before the names of files of our own roles."""


def content_hash(scenario: Scenario) -> str | None:
    """Return the SHA-256 of all that the scenario brings and that could act or take; None where that is nothing.

    Code counts by content and place beside the scenario, endpoints by address and by the variable their key is in. An
    endpoint on this very machine is no stranger's: nothing leaves by it. Files from outside of the scenario's folder
    count by their place: a scenario of a stranger may not help itself to what it did not bring. What a class of its own
    is made with counts as code does.
    """
    code = [[_place(path, scenario.folder), file_hash(path)] for path in code_files(scenario)]
    servers = [
        [name, endpoint.url, endpoint.key]
        for name, endpoint in sorted(scenario.endpoints.items())
        if not _is_here(endpoint.url)
    ]
    outside = sorted(map(str, outside_files(scenario)))
    given = [[name, role.uses, role.options] for name, role in sorted(scenario.roles.items()) if role.uses]
    if not code and not servers and not outside:
        return None
    return hashlib.sha256(json.dumps([code, servers, outside, given], sort_keys=True).encode()).hexdigest()


def file_hashes(scenario: Scenario) -> dict[str, str]:
    """Return the SHA-256 of the scenario's file, prompts, schemas and code by name, as `GoalSubmitted` records them."""
    prompts = [role.prompt_file for role in scenario.roles.values() if role.prompt_file]
    own = [scenario.file.absolute()] if scenario.file and scenario.file.is_file() else []
    files = (*own, *code_files(scenario), *prompts, *scenario.schemas)
    return {_place(path, scenario.folder): file_hash(path) for path in files}


def role_hashes(roles: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of the code and prompts of our own roles among these, by their name."""
    ours = resources.files("agents.roles")
    paths = [ours / f"{name}{end}" for name in roles if name in ROLES for end in (".py", ".md")]
    return {f"{OURS}{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def differing(hashes: Mapping[str, str], folder: Path, roles: Iterable[str]) -> list[str]:
    """Return which of the files whose hashes a run recorded are gone or other by now; `folder`: the scenario's."""
    ours = role_hashes(roles)
    return [
        name
        for name, digest in hashes.items()
        if ours.get(name, digest) != digest
        or (not name.startswith(OURS) and (not (folder / name).is_file() or file_hash(folder / name) != digest))
    ]


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def store_path() -> Path:
    """Return where trusted hashes are kept; a relative `XDG_CONFIG_HOME` is ignored, as its specification wants."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    base = Path(configured) if Path(configured).is_absolute() else Path.home() / ".config"
    return base / "eventswarm" / "trusted"


def is_trusted(digest: str, store: Path | None = None) -> bool:
    """Tell whether this hash was said yes to. A store that others could have written says no."""
    path = store or store_path()
    try:
        about = path.stat()
        if about.st_uid != os.getuid() or about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return False
    return any(line.split(maxsplit=1)[:1] == [digest] for line in lines)


def trust(digest: str, name: str = "", store: Path | None = None) -> None:
    """Keep this hash, with the scenario's name for the person who reads the store. Raises `OSError`."""
    path = store or store_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as stream:
        os.fchmod(handle, 0o600)
        stream.write(f"{digest} {' '.join(name.split())}\n")


def _is_here(url: str) -> bool:
    """Tell whether an endpoint is on this machine."""
    host = urlsplit(url).hostname or ""
    return host in {"localhost", "::1"} or bool(re.fullmatch(r"127\.\d+\.\d+\.\d+", host))


def _place(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
