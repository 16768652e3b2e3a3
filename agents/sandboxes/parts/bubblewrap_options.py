"""Bubblewrap's options: all that a sandboxed program will see, and the limits it runs under.

bwrap(1); why an option is there is said where it is not plain.
"""

import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agents.errors import SandboxUnavailable
from agents.sandbox import Bounds
from agents.sandboxes.parts.interpreter import Interpreter

PROJECT = "/project"
OUR_BIN = "/run/python"
"""Where `python` and `python3` are links to an interpreter that is not in an environment of its own."""
TMP_BYTES = 256 * 2**20
SHM_BYTES = 64 * 2**20
USER = ("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL")
ROOT = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"),
    *("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"),
    *("--cap-add", "CAP_DAC_READ_SEARCH"),
)
"""The capabilities are for setpriv(1), which drops them; the last one for going into a folder that is another's."""


def options(
    interpreter: Interpreter, folder: Path, env: Mapping[str, str], *, as_root: bool, known_as: int | None = None
) -> list[str]:
    """Return bubblewrap's options: all that the program will see, and nothing else exists for it.

    `known_as`: the user and group id by which an ordinary user's program knows itself, where that is not to be ours.
    """
    return [
        *(ROOT if as_root else USER),
        *(() if known_as is None else ("--uid", str(known_as), "--gid", str(known_as))),
        *("--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *("--ro-bind", "/usr", "/usr"),
        *_system_folders(),
        *("--perms", "0755", "--dir", "/etc"),
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        *("--ro-bind-try", "/etc/alternatives", "/etc/alternatives"),
        *("--proc", "/proc"),
        *(("--ro-bind", "/proc/sys", "/proc/sys") if as_root else ()),
        *("--dev", "/dev"),
        *("--size", str(SHM_BYTES), "--perms", "1777", "--tmpfs", "/dev/shm"),  # noqa: S108 - the sandbox's own
        *("--remount-ro", "/dev"),  # else it is memory that anyone may fill
        *("--size", str(TMP_BYTES), "--perms", "1777", "--tmpfs", "/tmp"),  # noqa: S108
        *_interpreter_options(interpreter),
        *("--bind", str(folder), PROJECT, "--chdir", PROJECT, "--remount-ro", "/"),
        *itertools.chain.from_iterable(("--setenv", *item) for item in _environment(interpreter, env).items()),
    ]


def _system_folders() -> Iterator[str]:
    """/bin and its like: links into /usr on most systems, folders of their own on others."""
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        folder = Path("/", name)
        if folder.is_symlink():
            yield from ("--symlink", str(folder.readlink()), str(folder))
        elif folder.is_dir():
            yield from ("--ro-bind", str(folder), str(folder))


def _interpreter_options(interpreter: Interpreter) -> Iterator[str]:
    places = [(folder, ("--ro-bind", folder, folder)) for folder in interpreter.folders]
    places += [(place, ("--symlink", target, place)) for place, target in interpreter.links]
    if not interpreter.is_venv:
        for name in ("python", "python3"):
            places.append((f"{OUR_BIN}/{name}", ("--symlink", interpreter.executable, f"{OUR_BIN}/{name}")))
    for place, words in places:
        if Path(place).is_relative_to("/usr"):
            continue  # it is there already
        for parent in reversed(Path(place).parents[:-1]):  # else root's bubblewrap makes them for itself alone
            yield from ("--perms", "0755", "--dir", str(parent))
        yield from words


def _environment(interpreter: Interpreter, env: Mapping[str, str]) -> dict[str, str]:
    first = Path(interpreter.executable).parent if interpreter.is_venv else OUR_BIN
    return {
        "LANG": "C.UTF-8",
        "HOME": "/tmp",  # noqa: S108
        "OPENBLAS_NUM_THREADS": "1",  # each thread takes address space for its arena
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp",  # noqa: S108
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",  # else what a program printed is lost with it when it is killed
        "PYTEST_ADDOPTS": "-p no:eventswarm",  # our plugin: installed from a checkout it is not to be found inside
        **env,
        "PATH": f"{first}:/usr/local/bin:/usr/bin:/bin",
    }


def limited(argv: Sequence[str], bounds: Bounds, uid: int | None) -> Iterator[str]:
    """Yield the words that start a program under its limits, and as `uid` where that is given.

    They are set inside: outside, all of the user's processes would count as its own.
    """
    if uid is not None:
        yield from (_tool("setpriv"), f"--reuid={uid}", f"--regid={uid}", "--clear-groups")
        yield from ("--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    yield _tool("prlimit")
    yield from (f"--nproc={bounds.processes}", f"--as={bounds.address_space}", f"--fsize={bounds.file}")
    yield from (f"--cpu={bounds.cpu_s}:{bounds.cpu_s + 1}", f"--nofile={bounds.open_files}", "--core=0", "--")
    yield from argv


def _tool(name: str) -> str:
    if found := shutil.which(name):
        return found
    raise SandboxUnavailable(f"There is no {name!r} here, which sets limits.", "Install it: apt-get install util-linux")
