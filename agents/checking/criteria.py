"""Reads the keys of a criterion: each has one type, none is unknown, and an error names the field at fault."""

import difflib
import re
from collections.abc import Sequence
from decimal import Decimal

from agents.checking import regex_search
from agents.errors import BadCriterion, ToolRefused
from agents.files.names import never_kept, parts_of
from bus.setup import Criterion

SHOWN = 2_000
"""Characters of a file's or a program's text that a verdict quotes at most."""

_COUNT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([kM]?)")
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000}
_DURATION = re.compile(r"(\d{1,9})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


def known_keys(criterion: Criterion, known: Sequence[str]) -> None:
    """Raise `BadCriterion` for a key that is not known, with the nearest that is."""
    for key in criterion:
        if key not in known:
            raise BadCriterion(f"{key!r} is unknown in a check of {known[0]!r}. {nearest(key, known)}", key)


def nearest(word: str, known: Sequence[str]) -> str:
    """Return a sentence that helps who wrote `word`."""
    alike = difflib.get_close_matches(word[:100], known, 1)
    return f"Did you mean {alike[0]!r}?" if alike else f"Known: {', '.join(known)}."


def text(criterion: Criterion, key: str) -> str:
    """Return a text that is not blank."""
    value = criterion.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadCriterion(f"{key!r} should be a text that is not empty, not {_shown(value)}.", key)
    return value


def path(criterion: Criterion, key: str) -> str:
    """Return a path that may be used in the tree."""
    value = text(criterion, key)
    try:
        parts = parts_of(value)
    except ToolRefused as error:
        raise BadCriterion(str(error), key) from error
    if not parts or value.endswith("/"):
        raise BadCriterion(f"{key!r} should be the path of a file, not {_shown(value)}.", key)
    if never := never_kept(parts):
        raise BadCriterion(f"{key!r}: {_shown(value)} can never be there: {never!r} is never part of a result.", key)
    return "/".join(parts)


def texts(criterion: Criterion, key: str) -> tuple[str, ...]:
    """Return a list of texts, none where the key is not there; one text stands for a list of one."""
    value = criterion.get(key, [])
    values = value if isinstance(value, list) else [value]
    found = [one for one in values if isinstance(one, str) and one]
    if len(found) < len(values):
        raise BadCriterion(f"{key!r} should be a list of texts, not {_shown(value)}.", key)
    for one in found:
        if one.startswith("re:") and (why := regex_search.fault(one.removeprefix("re:"))):
            raise BadCriterion(f"{key!r}: {_shown(one)} is no regular expression: {why}.", key)
    return tuple(found)


def count(criterion: Criterion, key: str) -> int | None:
    """Return a whole number from 0, None where the key is not there; inputs bring it as a text, such as `1.5k`."""
    value = criterion.get(key)
    if isinstance(value, str) and (match := _COUNT.fullmatch(value)):
        amount = Decimal(match[1]) * _FACTORS[match[2]]
        value = int(amount) if amount == int(amount) else value
    if key in criterion and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise BadCriterion(f"{key!r} should be a whole number from 0, not {_shown(value)}.", key)
    return value if isinstance(value, int) else None


def seconds(criterion: Criterion, key: str, default: int) -> int:
    """Return a duration such as `30s`, `10m` or `2h`."""
    value = criterion.get(key, f"{default}s")
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match or not int(match[1]):
        raise BadCriterion(f"{key!r} should be a duration such as 30s, 10m or 2h, not {_shown(value)}.", key)
    return int(match[1]) * _SECONDS[match[2]]


def cut(shown: str, limit: int = SHOWN) -> str:
    """Return a text of bounded length: its beginning, and how much is left out."""
    return shown if len(shown) <= limit else f"{shown[:limit]}… ({len(shown) - limit:,} more characters)"


def _shown(value: object) -> str:
    return cut(repr(value), 80)
