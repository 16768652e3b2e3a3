"""Arguments that several commands take."""

import argparse
import re
from pathlib import Path


def position(text: str) -> int:
    """Return a position in a log. Raises `ArgumentTypeError`."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) < 1:  # noqa: PLR2004 - 64 bits
        raise argparse.ArgumentTypeError(f"{text!r} is no position: they are 1, 2, 3 …")
    return int(text)


def chain_hash(text: str) -> str:
    """Return the hash of an event, as logs print it. Raises `ArgumentTypeError` for what can be none."""
    if not re.fullmatch("[0-9a-fA-F]{64}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no hash of an event: they have 64 hex digits")
    return text.lower()


def bus_name(text: str) -> str:
    """Return a name that may stand in a topic. Raises `ArgumentTypeError`."""
    from bus.topics import check_name  # noqa: PLC0415 - only who names something needs it

    try:
        return check_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_bus(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Add `--bus URL`: the broker that a command speaks over."""
    parser.add_argument("--bus", metavar="URL", required=required, help="the broker: mqtt://HOST[:PORT] or mqtts://…")


def add_run_and_bus(parser: argparse.ArgumentParser) -> None:
    """Add what a command takes that moves a run of a hub."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    add_bus(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_optional_bus(parser: argparse.ArgumentParser) -> None:
    """Add `--bus URL` to a command that is otherwise for the runs of this machine."""
    parser.add_argument("--bus", metavar="URL", help="a run that was submitted to the hubs on this broker")


def new_folder(text: str, option: str) -> Path:
    """Return the folder that an option names. Raises `UsageError` now where files could not be written in the end."""
    from swarm.runs.handover import refuse_unusable  # noqa: PLC0415 - only who writes files needs it

    out = Path(text)
    refuse_unusable(out, option=option)
    return out
