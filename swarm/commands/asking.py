"""What a person is asked on a terminal. Ctrl-C and SIGTERM act at once; the end of input (Ctrl-D) says nothing."""

import asyncio
import os
import sys

from swarm.views.terminal import note


async def answer(question: str) -> str:
    """Ask, and return what the person writes in a line; "" where they say nothing."""
    note(question)
    # Not `readline`: that would hold the loop up, and with it the signals that stop us.
    terminal, line = sys.stdin.fileno(), b""
    while not line.endswith(b"\n"):
        await _readable(terminal)
        part = os.read(terminal, 4096)
        if not part:
            break
        line += part
    return line.decode(errors="replace").strip()


async def says_yes(question: str) -> bool:
    """Ask, and tell whether the person says yes."""
    return (await answer(f"{question} [y/N] ")).lower() in {"y", "yes"}


def secret(question: str) -> str:
    """Ask for what is not shown as it is written, and return it; "" where the person says nothing."""
    import getpass  # noqa: PLC0415 - loads only where it is used

    try:
        return getpass.getpass(question).strip()
    except EOFError:
        return ""


async def _readable(terminal: int) -> None:
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(terminal, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(terminal)
