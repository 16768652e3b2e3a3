"""Regular expressions that we did not write: checked, then searched for in a child process with a deadline."""

import itertools
import re
import warnings
from collections.abc import Sequence

from agents.checking import bounded

LENGTH = 1_000
FLAGS = re.MULTILINE
"""`^` and `$` are those of a line: what is searched is text."""


def fault(pattern: str) -> str | None:
    """Return why this is no usable regular expression, None where it is one."""
    if not pattern:
        return "it is empty"
    if len(pattern) > LENGTH:
        return f"it is longer than {LENGTH:,} characters"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(pattern, FLAGS)
    except (re.error, OverflowError) as error:
        return str(error)
    except RecursionError:
        return "its groups are nested too deeply"
    return None


def search(pattern: str, texts: Sequence[str], *, limit: int, timeout_s: float = 5.0) -> list[int]:
    """Return the indexes of the first `limit` texts in which `pattern` is found; blocks, so call it from a thread.

    Raises `bounded.NoAnswer` where it takes too long.
    """
    answer = bounded.call("agents.checking.regex_search:found", pattern, list(texts), limit, timeout_s=timeout_s)
    assert isinstance(answer, list)  # noqa: S101 - for the type checker
    return answer


def found(pattern: str, texts: Sequence[str], limit: int) -> list[int]:
    """Return the same, here and now, however long it takes: for the child process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        regex = re.compile(pattern, FLAGS)
    return list(itertools.islice((index for index, text in enumerate(texts) if regex.search(text)), limit))
