"""`run: python -m unittest -q`: a command at the root of the tree, in the sandbox, that ends with status 0."""

import asyncio
import re
from collections.abc import Iterable
from typing import ClassVar

from agents.check import CheckContext, Verdict
from agents.checking import criteria
from agents.errors import SandboxUnavailable, ToolFailed
from agents.sandbox import OUT_OF_CPU, Bounds, Completed, Ended
from bus.setup import Criterion

NAMED = 20
TEST_TOOLS = frozenset({"coverage", "flake8", "hypothesis", "mypy", "nose2", "pylint", "pytest", "ruff", "tox"})
"""Modules that a check runs with `python -m`, and that no agent is asked to write."""
_NOT_FOUND = 127  # POSIX: the shell did not find the command
_MODULE = re.compile(r": No module named '?([\w.]+)")
_COMMAND = re.compile(r"^(?:/bin/)?sh: (?:(?:line )?\d+: )?([^\s/:]+): (?:command )?not found$", re.MULTILINE)
_QUOTED = re.compile(r'File "([^"\n]+)"')
_BARE = re.compile(r"([^\s\"'`()\[\]<>,:;=]+)")
_WHY = {
    Ended.DEADLINE: "took longer than {timeout} s",
    Ended.OUTPUT: "printed too much",
    Ended.MEMORY: "used too much memory",
    Ended.DISK: "wrote too much",
}


class RunCheck:
    """Runs a command with `sh -c`; what it lacks in this sandbox is `broken`, not a fault of the tree."""

    key: ClassVar[str] = "run"
    runs_code: ClassVar[bool] = True

    def __init__(self, criterion: Criterion) -> None:
        criteria.known_keys(criterion, ("run", "timeout"))
        self.command = criteria.text(criterion, "run")
        self.timeout_s = criteria.seconds(criterion, "timeout", 60)
        self.bounds = Bounds(cpu_s=max(Bounds().cpu_s, self.timeout_s))  # who waits for it lets it compute

    async def judge(self, context: CheckContext) -> Verdict:
        """Run it, and say how it ended with the end of what it printed."""
        if context.sandbox is None:
            return Verdict("broken", "There is no sandbox to run this in. `swarm doctor sandbox` says what to install.")
        try:
            paths = [entry.path for entry in await asyncio.to_thread(context.folder.entries)]
            completed = await context.sandbox.run(
                ("sh", "-c", self.command),
                folder=context.folder.root,
                timeout_s=self.timeout_s,
                env=context.env,
                bounds=self.bounds,
            )
        except SandboxUnavailable as error:
            return Verdict("broken", criteria.cut(str(error)))
        except ToolFailed as error:  # too many files to look through
            return Verdict("fails", criteria.cut(str(error)))
        return self._verdict(completed, paths, str(context.folder.root))

    def _verdict(self, completed: Completed, paths: list[str], root: str) -> Verdict:
        holds = completed.ended is Ended.EXIT and completed.status == 0
        lacking = None if holds else _lacking(self.command, completed, paths)
        lines = [f"`{_first_line(self.command)}` {self._ended(completed)}.", lacking, tail(completed.output)]
        return Verdict(
            "holds" if holds else "broken" if lacking else "fails",
            "\n".join(line for line in lines if line),
            files_named(completed.output, paths, root),
        )

    def _ended(self, completed: Completed) -> str:
        if completed.ended is Ended.EXIT and completed.status == OUT_OF_CPU:
            return f"used up its {self.bounds.cpu_s} s of processor time"
        if completed.ended is Ended.EXIT:
            return f"ended with status {completed.status}"
        return _WHY[completed.ended].format(timeout=self.timeout_s)


def _first_line(command: str) -> str:
    """Return what names a command; a script in it would only hide what it printed."""
    first, *rest = command.strip().split("\n", 1)
    return f"{criteria.cut(first, 200)} …" if rest else criteria.cut(first, 200)


def tail(output: str) -> str:
    """Return the end of what a program printed, from the beginning of a line: that is where errors stand."""
    output = output.rstrip()
    if len(output) <= criteria.SHOWN:
        return output
    end = output[-criteria.SHOWN :]
    first, _, rest = end.partition("\n")
    end = rest or first
    return f"… ({len(output) - len(end):,} characters before)\n{end}"


def files_named(output: str, paths: Iterable[str], root: str) -> tuple[str, ...]:
    """Return the files of the tree that an output names, each once, in the order of the output."""
    known = set(paths)
    words = {match.start(1): match[1] for regex in (_BARE, _QUOTED) for match in regex.finditer(output)}
    named = dict.fromkeys(_in_tree(words[start], root) for start in sorted(words))
    return tuple(path for path in named if path in known)[:NAMED]


def _in_tree(word: str, root: str) -> str:
    for prefix in ("/project/", f"{root}/", "./"):
        word = word.removeprefix(prefix)
    return word.rstrip(".!?")


def _lacking(command: str, completed: Completed, paths: list[str]) -> str | None:
    """Return what to do about a tool that the check itself needs and the sandbox has not; None where it has all.

    A module that the tree's own code imports in vain is a fault of the tree: whoever wrote it can mend it.
    """
    words = set(re.split(r"[^\w.-]+", command))
    parts = {part for path in paths for part in path.split("/")}
    for name in _MODULE.findall(completed.output):
        module = name.partition(".")[0]
        if module in TEST_TOOLS and module in words:
            return (
                f"The module {module!r} is not installed where this runs: install it, or name another interpreter "
                "with `sandbox: {python: …}`."
            )
    if completed.status == _NOT_FOUND and (match := _COMMAND.search(completed.output)):
        missing = match[1]
        if missing in words and missing not in parts:
            return f"The command {missing!r} is not there in the sandbox: install it, or check with another."
    return None
