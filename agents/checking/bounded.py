"""Calls a pure function in a child process, with bounded time and memory.

A regular expression or a JSON schema from a model may take for ever, and so may a page of the web. Python's `re` keeps
the interpreter's lock while it searches: a thread would stop the whole event loop with it. A process can be killed.
"""

import asyncio
import json
import math
import pkgutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

MEMORY = 1 << 30
"""Bytes of address space of the child."""


class NoAnswer(Exception):
    """The function did not come to an answer; the text says why."""


def call(function: str, *arguments: object, timeout_s: float) -> object:
    """Return what `module:function` says to arguments of JSON's types; blocks, so call it from a thread.

    The function's module imports the standard library alone. Raises `NoAnswer`.
    """
    command = _command(function, timeout_s, packages=False)
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and file
            command, input=json.dumps(arguments).encode(), capture_output=True, timeout=timeout_s, env={}, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise _too_long(timeout_s) from error
    return _answer(child.returncode, child.stdout, child.stderr)


async def ask(function: str, *arguments: object, timeout_s: float, packages: bool = False) -> object:
    """Return the same without a thread: who is cancelled leaves nothing running. Raises `NoAnswer`.

    `packages`: whether the function's module may import those that are installed, which takes longer to begin.
    """
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        *_command(function, timeout_s, packages=packages), stdin=pipe, stdout=pipe, stderr=pipe, env={}
    )
    try:
        async with asyncio.timeout(timeout_s):
            said, complaint = await child.communicate(json.dumps(arguments).encode())
    except TimeoutError as error:
        raise _too_long(timeout_s) from error
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return _answer(child.returncode, said, complaint)


def _command(function: str, timeout_s: float, *, packages: bool) -> list[str]:
    alone = ["-I"] if packages else ["-I", "-S"]
    return [sys.executable, *alone, __file__, function, str(math.ceil(timeout_s) + 1)]


def _too_long(timeout_s: float) -> NoAnswer:
    return NoAnswer(f"it took longer than {timeout_s:g} s")


def _answer(status: int | None, said: bytes, complaint: bytes) -> object:
    if status:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise NoAnswer(last or f"it ended with status {status}")
    answer: object = json.loads(said)
    return answer


def _be_called(function: str, cpu_s: int) -> None:
    with suppress(ImportError, ValueError, OSError):  # where these limits are not to be had, the deadline remains
        import resource  # noqa: PLC0415 - not on every system

        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.path.append(str(Path(__file__).parents[2]))
    answer = pkgutil.resolve_name(function)(*json.load(sys.stdin))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    _be_called(sys.argv[1], int(sys.argv[2]))
