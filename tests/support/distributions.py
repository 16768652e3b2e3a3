"""What an installation brings: `python distributions.py` prints it, and fails where it is more than we allow.

It imports nothing of ours and nothing but the standard library, so that it runs in an environment without `dev`.
"""

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from itertools import takewhile

MOST = 32
"""Distributions that `pip install eventswarm` brings beside itself; each further one needs a written reason."""


def closure(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Return the normalised names of all that a distribution needs, itself included, as installed here."""
    found: set[str] = set()
    done: set[tuple[str, str]] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    while waiting:
        here = waiting.pop()
        if here in done:
            continue
        done.add(here)
        try:
            requires = distribution(here[0]).requires or []
        except PackageNotFoundError:
            continue  # for another platform, or an extra that is not installed
        found.add(normal(here[0]))
        for requirement in requires:
            wanted = _wanted(requirement, here[1])
            if wanted:
                waiting += [(wanted[0], extra) for extra in ("", *wanted[1])]
    return found


def normal(name: str) -> str:
    """Return a distribution's name as the index compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence_of(found: Distribution) -> str:
    """Return a distribution's licence as it says itself: expression, classifier, or first words of the text."""
    said = found.metadata
    if expression := said.get("License-Expression"):
        return str(expression)
    classifiers = [
        one.rpartition(" :: ")[2]
        for one in said.get_all("Classifier") or ()
        if one.startswith("License :: OSI Approved ::")
    ]
    return ", ".join(classifiers) or str(said.get("License") or "not said").partition("\n")[0][:60]


def _wanted(requirement: str, extra: str) -> tuple[str, tuple[str, ...]] | None:
    """Return name and extras of a requirement, None where its marker asks for an extra that is not this one."""
    text, _, marker = requirement.partition(";")
    asked = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
    if (asked.group(1) if asked else "") != extra:
        return None
    name = "".join(takewhile(lambda char: char.isalnum() or char in "-_.", text.strip()))
    extras = re.search(r"\[([^\]]*)\]", text)
    return name, tuple(one.strip() for one in extras.group(1).split(",")) if extras else ()


def main() -> int:
    """Print the distributions; return 1 where there are too many."""
    names = sorted(closure("eventswarm") - {"eventswarm"})
    print(f"{len(names)} distributions beside eventswarm (at most {MOST}): {', '.join(names)}")
    return 1 if len(names) > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
