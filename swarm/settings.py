"""The environment, read once: what a person has set outside of any scenario.

A `.env` file beside the scenario adds what the environment does not say. Where runs are kept is not among it: the run
would go where that says, and no command that knows of runs alone would find it. A URL from it counts only together with
a key from it: else a scenario from somewhere could have a person's own key sent to a place of its choice.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from bus.private_folder import WORK
from bus.store import is_on_server
from swarm.errors import UsageError

_MOST_BYTES = 64 * 1024
_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_QUOTED = re.compile(r"""'([^']*)'|"((?:[^"\\]|\\.)*)\"""")
_ENDPOINT = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for every run that is started from here."""

    home: Path
    """Where state lives (`SWARM_HOME`)."""
    model: str | None = None
    """`SWARM_MODEL`."""
    store: str | None = field(default=None, repr=False)
    """`SWARM_STORE`: the `postgresql://…` of a store that hubs share, in the place of the one below `home`."""
    openai_key: str | None = field(default=None, repr=False)
    openai_url: str | None = None
    """`OPENAI_BASE_URL`; None is OpenAI's own."""
    cache: Path | None = None
    """The user's cache, where `XDG_CACHE_HOME` moves it."""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The environment and `.env` together: keys of endpoints, `SWARM_LOG`."""
    unread: tuple[str, ...] = ()
    """What of `.env` could not be read, as `FILE:LINE`."""

    @property
    def closed(self) -> tuple[Path, ...]:
        """The folders below `home` that hold what agents and archives brought: no code is loaded from there."""
        return (self.home / "files", self.home / WORK)

    @property
    def place(self) -> Path | str:
        """Where runs and their files are kept."""
        return self.store or self.home


def read_settings(environ: Mapping[str, str], folder: Path | None = None) -> Settings:
    """Return the settings; `folder` is the scenario's, whose `.env` is read. Raises `UsageError`."""
    added, unread = read_env_file(folder / ".env") if folder else ({}, ())
    if "OPENAI_API_KEY" in environ or not added.get("OPENAI_API_KEY"):
        added.pop("OPENAI_BASE_URL", None)
    env = {**_kept(environ), **added, **environ} if _nothing_given(added, environ) else {**added, **environ}
    cache = environ.get("XDG_CACHE_HOME")
    store = environ.get("SWARM_STORE") or None
    if store is not None:
        check_store(store, "SWARM_STORE")
    return Settings(
        home=Path(environ.get("SWARM_HOME") or ".swarm"),
        model=env.get("SWARM_MODEL") or None,
        store=store,
        openai_key=env.get("OPENAI_API_KEY") or None,
        openai_url=env.get("OPENAI_BASE_URL") or None,
        cache=Path(cache) / "eventswarm" if cache else None,
        env=MappingProxyType(env),
        unread=unread,
    )


def check_store(store: str, said_by: str) -> None:
    """Raise `UsageError` where what is to be a store that hubs share is no URL of a server."""
    if not is_on_server(store):
        raise UsageError(
            f"{said_by} names no server: write postgresql://USER@HOST/DATABASE. SWARM_HOME names a folder."
        )


def config_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder of the user's configuration, None where there is no home. A relative one is ignored."""
    configured, home = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME", "")
    if Path(configured).is_absolute():
        return Path(configured) / "eventswarm"
    return Path(home) / ".config" / "eventswarm" if Path(home).is_absolute() else None


def _nothing_given(*places: Mapping[str, str]) -> bool:
    return not any(place.get(name) for place in places for name in _ENDPOINT)


def _kept(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the key and URL that `swarm setup` kept."""
    folder = config_folder(environ)
    found = read_env_file(folder / "env")[0] if folder else {}
    return {name: value for name, value in found.items() if name in _ENDPOINT}


def read_env_file(path: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables of a `.env` file, and the `FILE:LINE` of what is none; no file is an empty one.

    A value may be quoted: between `'` it stands as it is, between `"` with backslash escapes. Nothing is expanded.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            return {}, (f"{path}: larger than {_MOST_BYTES // 1024} KiB",)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}, ()
    except (OSError, UnicodeDecodeError) as error:
        return {}, (f"{path}: {error}",)
    found: dict[str, str] = {}
    unread = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if not bare or bare.startswith("#"):
            continue
        match = _LINE.fullmatch(bare)
        if match and "\0" not in bare:
            found[match.group(1)] = _value(match.group(2))
        else:
            unread.append(f"{path}:{number}")
    return found, tuple(unread)


def _value(written: str) -> str:
    quoted = _QUOTED.match(written)
    if quoted and quoted.group(1) is not None:
        return quoted.group(1)
    if quoted:
        return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match.group(1), match.group(1)), quoted.group(2))
    return re.split(r"\s#", written, maxsplit=1)[0].strip()
