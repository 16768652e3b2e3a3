"""Calls a pure function in a child process, with bounded time and memory.

A regular expression or a JSON schema from a model may take for ever, and Python's `re` keeps the interpreter's lock
while it searches: a thread would stop the whole event loop with it. A process can be killed.
"""

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
    command = [sys.executable, "-I", "-S", __file__, function, str(math.ceil(timeout_s) + 1)]
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and file
            command, input=json.dumps(arguments).encode(), capture_output=True, timeout=timeout_s, env={}, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NoAnswer(f"it took longer than {timeout_s:g} s") from error
    if child.returncode:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2][:200]
        raise NoAnswer(last or f"it ended with status {child.returncode}")
    answer: object = json.loads(child.stdout)
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
