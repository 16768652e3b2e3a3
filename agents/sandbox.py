"""Contract: run this command shut in.

A sandbox shows a program one folder (read and write, as `/project`) and the interpreter, and nothing else of the
machine: no network, no environment but what is given, bounded time, memory, processes and output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

OUT_OF_CPU = 128 + 24
"""The exit status of what SIGXCPU ended: it used up its processor time."""


class Ended(StrEnum):
    """Why a program ended."""

    EXIT = "exit"
    DEADLINE = "deadline"
    OUTPUT = "output"
    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one program may use; sizes in bytes. The sums count all of its processes.

    `folder` (in blocks of the disk) and `files` (folders among them) count also what lies there before it begins: a
    workspace as large as it may be leaves it as much again.
    """

    memory: int = 1_181_116_006
    address_space: int = 1_073_741_824
    cpu_s: int = 30
    processes: int = 64
    open_files: int = 256
    file: int = 67_108_864
    folder: int = 536_870_912
    files: int = 20_000
    output: int = 1_048_576


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended. `output`: standard output and error together, its middle cut where it was too long."""

    status: int
    """Exit status; 128 + N for signal N."""
    ended: Ended
    output: str
    cut_bytes: int = 0


class Sandbox(Protocol):
    """Runs programs shut in. Making one is cheap; `probe` tells whether it works here."""

    name: str

    async def probe(self) -> None:
        """Run a tiny program that must succeed and must fail where it should.

        Raises `SandboxUnavailable` with the reason and what to install. The answer is remembered.
        """
        ...

    async def run(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
    ) -> Completed:
        """Run a program in `folder`; `python` as its first word is the sandbox's interpreter.

        Raises `SandboxUnavailable`. Cancelling kills the whole tree of processes before it returns.
        """
        ...
