"""Text for people: safe to show, and coloured only where a terminal shows colour."""

import os
import re
import sys
import unicodedata
from typing import TextIO

_NOT_ASCII = re.compile(r"[^\x00-\x7e]")
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36"}


def has_colour(stream: TextIO) -> bool:
    """Tell whether to colour: a terminal that can, and a person who did not say no (`NO_COLOR`, https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def paint(text: str, style: str, *, colour: bool) -> str:
    """Return the text in a style such as `bold red`, with nothing added where `colour` is False or the style empty."""
    if not colour or not style or not text:
        return text
    codes = ";".join(_CODES[name] for name in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def shown(text: str) -> str:
    """Return text from anywhere as it may be shown: nothing in it that a terminal obeys."""
    from agents.web.readable import visible  # noqa: PLC0415 - not needed for `--help`

    return visible(text)


def one_line(text: str, limit: int) -> str:
    """Return text as one line of at most `limit` characters, safe to show."""
    # Cut first: what a model or a tool wrote may be megabytes.
    line = " ".join(shown(text[: 4 * limit]).split())
    return line if len(line) <= limit and len(text) <= 4 * limit else f"{line[: limit - 1].rstrip()}…"


def say(text: str = "") -> None:
    """Print a result: standard output."""
    print(_printable(text, sys.stdout))  # noqa: T201 - this is where the command line prints


def say_json(text: str) -> None:
    """Print JSON as a result: on a terminal with escapes for what that would obey or hide, which is the same JSON."""
    say(_NOT_ASCII.sub(_escaped, text) if sys.stdout.isatty() else text)


def note(text: str) -> None:
    """Print what is about the result: standard error."""
    print(_printable(text, sys.stderr), file=sys.stderr, flush=True)  # noqa: T201 - likewise


def _escaped(found: re.Match[str]) -> str:
    """Return the escapes of a character, one for each unit of UTF-16, or what needs none as it is."""
    character = found.group()
    if unicodedata.category(character) not in {"Cc", "Cf"}:
        return character
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def _printable(text: str, stream: TextIO) -> str:
    """Return what the stream's encoding can hold of a text."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
