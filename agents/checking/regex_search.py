"""Regular expressions that we did not write: checked, then searched for in a child process with a deadline."""

import itertools
import re
import string
import unicodedata
import warnings
from collections.abc import Sequence

from agents.checking import bounded

LENGTH = 1_000
SPANNED = 1 << 16
"""Characters that the ranges of one expression may span together: compiling looks at each of them."""
FLAGS = re.MULTILINE
"""`^` and `$` are those of a line: what is searched is text."""

_ONE = re.compile(r"\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8}|\\N\{[^}]*\}|\\[0-7]{1,3}|\\.|.", re.DOTALL)


def fault(pattern: str) -> str | None:
    """Return why this is no usable regular expression, None where it is one."""
    if not pattern:
        return "it is empty"
    if len(pattern) > LENGTH:
        return f"it is longer than {LENGTH:,} characters"
    if _spanned(pattern) > SPANNED:
        return f"its ranges span more than {SPANNED:,} characters; say what is not meant instead, as in [^ -~]"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern, FLAGS)
    except (re.error, OverflowError) as error:
        return str(error)
    except RecursionError:
        return "its groups are nested too deeply"
    return None


def _spanned(pattern: str) -> int:
    """Return how many characters lie in the ranges of an expression, each `-` taken for that of one."""
    ones = _ONE.findall(pattern)
    ends = ((_code(low), _code(high)) for low, dash, high in zip(ones, ones[1:], ones[2:], strict=False) if dash == "-")
    return sum(max(high - low, 0) for low, high in ends)


def _code(one: str) -> int:
    """Return the code of a character as it is written in an expression."""
    if one[:2] in {"\\x", "\\u", "\\U"}:
        return int(one[2:] or "0", 16)
    if one.startswith("\\N{"):
        try:
            return ord(unicodedata.lookup(one[3:-1]))
        except (KeyError, TypeError):  # no name, or that of a sequence: no expression either
            return 0
    if one[1:] and set(one[1:]) <= set(string.octdigits):
        return int(one[1:], 8)
    return ord(one[-1])


def with_feeds(text: str, sought: str) -> str:
    """Return a text with line feeds alone at the ends of its lines, unless carriage returns are sought.

    So `$`, and what is sought over several lines, means every kind of end.
    """
    return text if "\r" in sought or "\\r" in sought else text.replace("\r\n", "\n")


def search(pattern: str, texts: Sequence[str], *, limit: int, timeout_s: float = 5.0) -> list[tuple[int, int]]:
    """Return the first `limit` texts in which `pattern` is found, by index, and where; blocks: call it from a thread.

    Raises `bounded.NoAnswer` where it takes too long.
    """
    answer = bounded.call("agents.checking.regex_search:found", pattern, list(texts), limit, timeout_s=timeout_s)
    assert isinstance(answer, list)  # noqa: S101 - for the type checker
    return [(index, at) for index, at in answer]


def found(pattern: str, texts: Sequence[str], limit: int) -> list[tuple[int, int]]:
    """Return the same, here and now, however long it takes: for the child process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        regex = re.compile(pattern, FLAGS)
    matches = ((index, regex.search(text)) for index, text in enumerate(texts))
    return list(itertools.islice(((index, match.start()) for index, match in matches if match), limit))
