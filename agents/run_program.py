"""Running a program for a model: in the sandbox or not at all, and its end told in few words."""

from collections.abc import Sequence

from agents.errors import SandboxUnavailable, ToolFailed, ToolRefused, TooMuchWritten
from agents.sandbox import OUT_OF_CPU, Bounds, Completed, Ended
from agents.tool import ToolContext

SHOWN = 16_000
"""Characters of output that a model is shown: the ends say most, and every one of them is paid for."""
LONGEST = 120_000
"""Bytes of one word of a command line; the kernel allows 131,071."""


async def run_program(argv: Sequence[str], context: ToolContext, timeout_s: float) -> str:
    """Run a program at the root of the project and return what a model should know of it.

    Raises `ToolRefused` without a usable sandbox, `ToolFailed` where the command line is none, `TooMuchWritten`.
    """
    if context.permissions.sandbox:
        hosts = ", ".join(context.permissions.sandbox)
        raise ToolRefused(
            f"`permissions.sandbox` grants code the hosts {hosts}; this version gives code none. Leave it out."
        )
    if context.sandbox is None:
        raise ToolRefused(
            "Code runs only in a sandbox, and there is none here. Install one: apt-get install bubblewrap"
        )
    for word in argv:
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in word):
            raise ToolFailed("A command line cannot hold a zero byte or half of a surrogate pair.")
        if len(word.encode()) > LONGEST:
            raise ToolFailed(f"More than {LONGEST:,} bytes at once: write it to a file of the project and run that.")
    bounds = Bounds()
    try:
        completed = await context.sandbox.run(argv, folder=context.folder.root, timeout_s=timeout_s, bounds=bounds)
    except SandboxUnavailable as error:
        raise ToolRefused(f"Nothing was run: code runs only in a sandbox. {error}") from error
    said = told(completed, timeout_s, bounds)
    if completed.ended is Ended.DISK:
        raise TooMuchWritten(said)
    return said


def told(completed: Completed, timeout_s: float, bounds: Bounds) -> str:
    """Say why a program ended, then what it said."""
    match completed.ended:
        case Ended.EXIT if completed.status == OUT_OF_CPU:
            why = f"killed: {bounds.cpu_s} s of processor time used up"
        case Ended.EXIT:
            why = f"exit status {completed.status}"
        case Ended.DEADLINE:
            why = f"killed: not done after {timeout_s:g} s"
        case Ended.OUTPUT:
            why = f"killed: far more than {bounds.output:,} bytes of output"
        case Ended.MEMORY:
            why = f"killed: its processes used more than {bounds.memory:,} bytes of memory"
        case Ended.DISK:
            why = (
                f"killed: more than {bounds.folder:,} bytes or {bounds.files:,} files in its folders, or too deep ones."
                " What it wrote is taken back"
            )
    return f"{why}\n{_ends(completed.output)}" if completed.output else f"{why}, no output"


def _ends(text: str) -> str:
    if len(text) <= SHOWN:
        return text
    half = SHOWN // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"
