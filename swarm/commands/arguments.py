"""Arguments that several commands take."""

import argparse
import os
from pathlib import Path

from swarm.errors import UsageError


def position(text: str) -> int:
    """Return a position in a log. Raises `ArgumentTypeError`."""
    if not text.isascii() or not text.isdecimal() or len(text) > 18 or int(text) < 1:  # noqa: PLR2004 - 64 bits
        raise argparse.ArgumentTypeError(f"{text!r} is no position: they are 1, 2, 3 …")
    return int(text)


def new_folder(text: str, option: str) -> Path:
    """Return the folder that an option names. Raises `UsageError` now where files could not be written in the end."""
    out = Path(text)
    if out.exists() or out.is_symlink():
        raise UsageError(f"{option} {out} is there already, and nothing is ever overwritten. Name a new folder.")
    parent = next(parent for parent in out.absolute().parents if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise UsageError(f"{option} {out} cannot be made: {parent} is no folder that you may write to.")
    return out
