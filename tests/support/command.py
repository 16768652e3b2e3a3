"""The command `swarm` for tests: as a process of its own, or in this one where that is cheaper."""

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from swarm.cli import main
from tests.support.endpoint import ChatEndpoint

ROOT = Path(__file__).resolve().parents[2]

SCENARIO = """\
goal: Write hello.txt
model: scripted:answers.yaml
plan:
  - {id: hello, role: coder, do: Write hello.txt with a greeting., accept: [{file: hello.txt}]}
accept:
  - file: hello.txt
"""
ANSWERS = """\
- {role: coder, call: {tool: write_file, arguments: {path: hello.txt, content: "hello\\n"}}}
- {role: coder, reply: It is written.}
"""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on standard output."""
        return orjson.loads(self.out)


Command = Callable[..., Ended]


def clean_env(home: Path, **more: str) -> dict[str, str]:
    """Return an environment with nothing of the person's who runs the tests."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def process(
    *args: str, cwd: Path, env: Mapping[str, str] | None = None, under: Sequence[str] = (), **options: Any
) -> Ended:
    """Run the command as a process, `under` another one if need be."""
    ended = subprocess.run(
        [*under, sys.executable, "-m", "swarm", *args],
        cwd=cwd,
        env=clean_env(cwd) if env is None else env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=options.pop("stdin", None if "input" in options else subprocess.DEVNULL),
        **options,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def in_this_process(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """Return what runs the command here, in `folder`, with a clean environment."""
    monkeypatch.chdir(folder)
    for name in list(os.environ):
        if name.startswith(("OPENAI", "SWARM", "XDG")) or name in {"NO_COLOR", "TERM"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))

    def command(*args: str) -> Ended:
        capsys.readouterr()
        status = main(args)
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return command


@contextmanager
def serving(**options: Any) -> Iterator[ChatEndpoint]:
    """Serve a model endpoint from a loop of its own, for commands that bring theirs."""
    endpoint = ChatEndpoint(**options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def do(what: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(what, loop).result(10)

    try:
        do(endpoint.__aenter__())
        try:
            yield endpoint
        finally:
            do(endpoint.__aexit__(None, None, None))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
