"""The command `swarm`: parses, calls the command, tells what went wrong, exits.

Nothing heavy is imported here: `swarm --help` must feel immediate. The commands are in `swarm/commands/`.
"""

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from swarm.commands import COMMANDS
from swarm.commands.failures import STOPPED, quiet_broken_pipe, tell
from swarm.errors import MissingPart, UsageError

_BEGINS = {"agents": b'"""Who speaks', "bus": b'"""What is said'}
"""How our packages begin. Others have these common names too, and may even be installed into the same folder."""

_OVERVIEW = """\
State a goal; agents plan, use tools, write, check and finish on their own.

  swarm init && swarm run scenario.yaml      a first run
  swarm doctor                               what works here, and what to do about the rest
"""

_STATUSES = """\
exit status: 0 accepted, or nothing wrong found · 1 not accepted · 2 bad usage or a bad scenario
             3 a part is missing (model, sandbox, disk) · 130 stopped by a person
environment: SWARM_HOME (state, by default ./.swarm) · SWARM_STORE (a store that hubs share: postgresql://…)
             SWARM_MODEL · OPENAI_API_KEY · OPENAI_BASE_URL (or a `.env` beside the scenario) · NO_COLOR
             SWARM_BUS_USER · SWARM_BUS_PASSWORD, or SWARM_BUS_PASSWORD_FILE (the login at a broker)
             SWARM_LOG (what is reported beside a run: debug, info, warning, error; by default warning)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command line and return its exit status."""
    _streams_are_open()
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        _our_packages_are_ours()
        args = _parser().parse_args(words)
        _is_somewhere()
        status: int = args.command_module.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        return quiet_broken_pipe()
    except KeyboardInterrupt:
        return STOPPED
    except Exception as error:  # noqa: BLE001 - the edge: every error is told, and a bug keeps its traceback
        return _told(error, as_json=as_json)
    return status


def _streams_are_open() -> None:
    """Have nothing to read, and what is printed go nowhere, where a stream was closed, which Python has as None."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - a device, open to the end


def _is_somewhere() -> None:
    """Raise `UsageError` where the working folder is gone: no path that is not absolute means anything there."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise UsageError("the folder you are in has been removed: change into one that is there.") from error


def _told(error: Exception, *, as_json: bool) -> int:
    try:
        status = tell(error, as_json=as_json)
        sys.stdout.flush()
    except BrokenPipeError:
        return quiet_broken_pipe()
    return status


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="swarm", description=_OVERVIEW, epilog=_STATUSES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, place in COMMANDS.items():
        module = importlib.import_module(place)
        one = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            epilog=f"examples:\n{module.EXAMPLES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(one)
        one.set_defaults(command_module=module)
    return parser


class _Parser(argparse.ArgumentParser):
    """Raises what it finds wrong, so that `--json` tells it as JSON too."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}\n  `{self.prog} --help` shows how it is used.")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from swarm.version import VERSION  # noqa: PLC0415 - reads the installed packages

        sys.stdout.write(f"swarm {VERSION}\n")
        parser.exit()


def _our_packages_are_ours() -> None:
    """Raise `MissingPart` where another distribution's package stands in the place of one of ours."""
    home = Path(__file__).resolve().parent.parent
    for name, begins in _BEGINS.items():
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or origin != home / name / "__init__.py":
            there = origin.parent if origin else "nowhere"
        elif not origin.read_bytes().startswith(begins):
            there = f"{origin.parent}, overwritten"
        else:
            continue
        raise MissingPart(
            f"another package called {name!r} is in the way of ours (found: {there}; ours: {home / name}).",
            "Install eventswarm into an environment of its own, for instance with `pipx install eventswarm` "
            "(`openai-agents`, for one, installs a package `agents` too).",
        )
