"""Write a scenario to begin with: a commented starter, or a copy of one that comes with us. Overwrites nothing."""

import argparse
import os
import shutil
from pathlib import Path

from swarm.errors import MissingPart, UsageError

SUMMARY = "write a scenario to begin with"
EXAMPLES = """\
  swarm init
  swarm init brief.yaml
  swarm init my/brief.yaml --from research_brief
"""

STARTER = """\
# A scenario: say what is to be reached; agents plan it, do it and check it.
#   swarm check {file}     what is wrong with it, or what it may do
#   swarm run {file}       runs it
#   swarm schema > scenario.schema.json, and an editor completes the keys:
# yaml-language-server: $schema=./scenario.schema.json

goal: |
  Write fizzbuzz.py with a function fizzbuzz(n) that returns the lines from 1 to n as a list of texts:
  "Fizz" for multiples of 3, "Buzz" for multiples of 5, "FizzBuzz" for both, else the number itself.
  Write test_fizzbuzz.py with unittest cases for it, n = 0 included.

# What must hold in the end. `run` is a command in the sandbox; `ask` costs a call of the critic's model.
accept:
  - file: fizzbuzz.py
  - run: python -m unittest -q
# - ask: The tests cover zero, one, and a multiple of fifteen.

# Which model, as provider:name. Left out: what is found here (`swarm doctor models`).
# model: openai:gpt-5-mini

# Files that the agents get to begin with: a path beside this file.
# workspace: ./material

# Hard limits. `money` needs a model whose price is known.
limits: {{time: 15m, tokens: 200k}}
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("file", metavar="FILE", nargs="?", help="the file to write; by default scenario.yaml")
    parser.add_argument("--from", dest="origin", metavar="NAME", help="copy one that comes with us, with its folder")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    from swarm.views.terminal import say  # noqa: PLC0415 - loads only where it is used

    target = Path(args.file or (f"{args.origin}.yaml" if args.origin else "scenario.yaml"))
    try:
        made = _copy(args.origin, target) if args.origin else [_write(target, STARTER.format(file=target).encode())]
    except FileExistsError as error:
        raise UsageError(
            f"{error.filename} is there already, and nothing is ever overwritten. Name another file."
        ) from error
    except OSError as error:
        raise MissingPart(f"{error.filename or target} cannot be written: {error.strerror}.") from error
    for path in made:
        say(f"wrote {path}")
    say(f"next: swarm run {target}")
    return 0


def _write(target: Path, data: bytes) -> Path:
    """Write a new file; its folder may be new too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as stream:
        stream.write(data)
    return target


def _copy(name: str, target: Path) -> list[Path]:
    """Copy a shipped scenario and the folder of its material, which keeps its name since the file refers to it."""
    from swarm.commands.shipped import shipped  # noqa: PLC0415 - loads only where it is used
    from swarm.errors import listed, nearest  # noqa: PLC0415 - likewise

    known = shipped()
    if name not in known:
        raise UsageError(
            f"no scenario {name!r} comes with us (there are: {listed(known)}). {nearest(name, known)}".strip()
        )
    origin = known[name]
    folder = origin.with_suffix("")
    beside = target.parent / folder.name
    for path in (target, beside):
        if os.path.lexists(path):
            raise FileExistsError(17, "exists", str(path))
    made = [_write(target, origin.read_bytes())]
    if folder.is_dir():
        shutil.copytree(folder, beside, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        made.append(beside)
    return made
