"""Launching bubblewrap, and seeing that all of what it starts ends.

Reads the output always, watches what the whole tree uses, ends it at its deadline, and returns only when no process
of it lives. What the program may see is the business of bubblewrap's options.
"""

import asyncio
import contextlib
import io
import json
import os
import signal
import subprocess
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.errors import SandboxUnavailable
from agents.sandbox import Bounds, Completed, Ended
from agents.sandboxes.parts import usage
from agents.sandboxes.parts.capped_output import CappedOutput

PAUSE_S = 0.05
"""Between two looks at what the tree uses."""
RELIEF = 10
"""A look that took long is followed by a pause of this many times that: watching costs a tenth of a core at most."""
REWRITES = 4
"""How many times its folder's bound a program may write to disk in all."""
CHUNK = 65_536
SIGNALLED = 128
"""Added to the number of a signal to make an exit status, as shells do."""
IN_MEMORY = ("/tmp", "/dev/shm")  # noqa: S108 - the sandbox's own
"""File systems of the sandbox that lie in memory."""


@dataclass(frozen=True, slots=True)
class Launched:
    """How it went; `began` is false where bubblewrap failed and the program never ran: the output says why."""

    completed: Completed
    began: bool


async def launch(
    argv: Sequence[str], *, passed: Sequence[int], folder: Path, timeout_s: float, bounds: Bounds
) -> Launched:
    """Run bubblewrap with these options and this program to the end.

    Call it in a thread that lives as long as the program may: bubblewrap dies with the thread that started it. Raises
    `SandboxUnavailable` where it cannot be started. A cancellation is passed on when all processes are dead.
    """
    with contextlib.ExitStack() as stack:
        output_end, output_start = _pipe(stack)
        status_end, status_start = _pipe(stack)
        go_end, go_start = _pipe(stack)
        inherited = (status_start.fileno(), go_end.fileno(), *passed)
        line = [argv[0], "--json-status-fd", str(inherited[0]), "--block-fd", str(inherited[1]), *argv[1:]]
        process = _start(line, output_start, inherited)
        tree = _Tree(process, status_end, go_start)
        stack.callback(tree.close)
        for theirs in (output_start, status_start, go_end):
            theirs.close()
        output = CappedOutput(bounds.output)
        ended = await _supervise(tree, output_end, output, folder=folder, timeout_s=timeout_s, bounds=bounds)
        while data := output_end.read(CHUNK):
            output.add(data)
        text, cut = output.result()
        return Launched(Completed(tree.exit_status, ended, text, cut), tree.began)


def _start(argv: Sequence[str], output: io.FileIO, inherited: Sequence[int]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(  # noqa: S603 - there is no shell
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, pass_fds=inherited, env={}
        )
    except OSError as error:
        raise SandboxUnavailable(
            f"{argv[0]!r} cannot be started: {error.strerror}.", "Is it executable, and the command not too long?"
        ) from error


async def finish(work: Coroutine[object, object, None]) -> None:
    """Await something to its end, come what may; a cancellation meanwhile is passed on afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled:
        raise cancelled


async def _supervise(
    tree: "_Tree", output_end: io.FileIO, output: CappedOutput, *, folder: Path, timeout_s: float, bounds: Bounds
) -> Ended:
    """Return why it ended; when this returns or raises, no process of the tree lives."""
    loop = asyncio.get_running_loop()
    ending: asyncio.Future[Ended] = loop.create_future()

    def end(why: Ended) -> None:
        if not ending.done():
            ending.set_result(why)
            if why is not Ended.EXIT:
                tree.kill()  # here, not after the look at a large folder that may be going on

    def read_output() -> None:
        data = output_end.read(CHUNK)
        if data == b"":
            loop.remove_reader(output_end)  # all have closed it; they may live on
        output.add(data or b"")
        if output.flooded:
            end(Ended.OUTPUT)

    timer = loop.call_later(timeout_s, end, Ended.DEADLINE)
    try:
        with (
            _reader(output_end.fileno(), read_output),
            _reader(tree.status_end.fileno(), tree.read_status),
            _reader(tree.descriptor, lambda: end(Ended.EXIT)),
        ):
            await _watch(tree, folder, bounds, ending, end)
    finally:
        timer.cancel()
        tree.kill()
        await finish(tree.gone())
    why = ending.result()
    if why is Ended.EXIT and await asyncio.to_thread(usage.exceeds, folder, size=bounds.folder, files=bounds.files):
        return Ended.DISK  # it was done before we looked
    return why


async def _watch(
    tree: "_Tree", folder: Path, bounds: Bounds, ending: asyncio.Future[Ended], end: Callable[[Ended], None]
) -> None:
    """Look at what the tree uses until it ends or has used too much."""
    loop = asyncio.get_running_loop()
    pause = PAUSE_S
    while not (await asyncio.wait({ending}, timeout=pause))[0]:
        begun = loop.time()
        if excess := await asyncio.to_thread(_excess, tree.process.pid, tree.first, folder, bounds):
            end(excess)
        pause = max(PAUSE_S, RELIEF * (loop.time() - begun))


def _excess(root: int, first: int | None, folder: Path, bounds: Bounds) -> Ended | None:
    pids = usage.family(root)
    in_memory = [usage.mounted(first, path) for path in IN_MEMORY] if first is not None else []
    size, files = sum(used for used, _ in in_memory), sum(there for _, there in in_memory)
    if size + usage.memory(pids, limit=bounds.memory - size) > bounds.memory:
        return Ended.MEMORY
    if files > bounds.files or usage.written(pids) > REWRITES * bounds.folder:
        return Ended.DISK
    return Ended.DISK if usage.exceeds(folder, size=bounds.folder, files=bounds.files) else None


class _Tree:
    """Bubblewrap's own process, and the first of the namespace it made: with that one, all others end."""

    def __init__(self, process: "subprocess.Popen[bytes]", status_end: io.FileIO, go_start: io.FileIO) -> None:
        self.process = process
        self.status_end = status_end
        self.descriptor = os.pidfd_open(process.pid)
        self.first: int | None = None
        self.began = False
        self._go_start = go_start
        self._first_descriptor: int | None = None
        self._status = b""

    @property
    def exit_status(self) -> int:
        """The program's, once it is gone."""
        status = self.process.returncode
        return status if status >= 0 else SIGNALLED - status

    def read_status(self) -> None:
        """Take what bubblewrap says of itself, lines of JSON; once its child is known to us, let the program begin."""
        data = self.status_end.read(CHUNK)
        if data == b"":
            asyncio.get_running_loop().remove_reader(self.status_end)
        *lines, self._status = (self._status + (data or b"")).split(b"\n")
        for line in lines:
            said: dict[str, int] = json.loads(line)
            if "child-pid" in said:
                self._adopt(said["child-pid"])
            self.began |= "exit-code" in said

    def _adopt(self, pid: int) -> None:
        """Get hold of the namespace's first process, which waits for our word before it runs anything of the program.

        Where bubblewrap is dead the child is too, and its number may be anybody's.
        """
        with contextlib.suppress(ProcessLookupError, BrokenPipeError):
            descriptor = os.pidfd_open(pid)
            if pid not in usage.family(self.process.pid):
                os.close(descriptor)
                return
            self.first, self._first_descriptor = pid, descriptor
            self._go_start.write(b"\n")

    def kill(self) -> None:
        """End every process, now."""
        for descriptor in (self._first_descriptor, self.descriptor):
            if descriptor is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    async def gone(self) -> None:
        """Wait until every process is dead, and leave no zombie."""
        await _readable(self.descriptor)
        self.process.wait()
        if self._first_descriptor is not None:
            await _readable(self._first_descriptor)
            with contextlib.suppress(
                ChildProcessError
            ):  # ours only where we adopt orphans, as the first of a container
                os.waitid(os.P_PIDFD, self._first_descriptor, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222 - it is dead
        self.read_status()

    def close(self) -> None:
        """Let go of the descriptors."""
        for descriptor in (self.descriptor, self._first_descriptor):
            if descriptor is not None:
                os.close(descriptor)


def _pipe(stack: contextlib.ExitStack) -> tuple[io.FileIO, io.FileIO]:
    """Return the end to read from, which never blocks, and the end to write to; neither is inherited by accident."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    return stack.enter_context(io.FileIO(reading, "r")), stack.enter_context(io.FileIO(writing, "w"))


@contextlib.contextmanager
def _reader(descriptor: int, callback: Callable[[], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, callback)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


async def _readable(descriptor: int) -> None:
    """Wait for it; a process's descriptor is readable once the process is dead."""
    ready = asyncio.Event()
    with _reader(descriptor, ready.set):
        await ready.wait()
