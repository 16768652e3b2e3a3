"""Shorthand for quantities: durations `30m`, counts `200k`, money `0.50 USD`, prices in USD a million tokens.

All become exact integers: milliseconds, counts, picodollars. What is not a whole number of those is refused, not
rounded. Every function raises `ValueError` with a text for people.
"""

import re
from decimal import Decimal, InvalidOperation

from swarm.errors import quote

DURATION = r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+"
COUNT = r"[0-9]+(?:\.[0-9]+)?[kM]?"
MONEY = r"[0-9]+(?:\.[0-9]+)? *USD"
"""Regular expressions of the shorthands, for the JSON schema too."""

_DIGITS = 30
"""More digits than any sensible quantity has; keeps arithmetic exact and cheap."""
_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FACTORS = {"": 1, "k": 1_000, "M": 1_000_000}
_PICODOLLARS = 10**12

LONGEST_MS = 366 * _MILLISECONDS["d"]
LARGEST_COUNT = 10**12
MOST_MONEY = 1_000_000 * _PICODOLLARS
"""Upper bounds, all below 2^63."""


def parse_duration(value: object) -> int:
    """Return milliseconds of `30s`, `10m`, `1h30m`, `250ms`; more than zero, at most a year."""
    if not isinstance(value, str) or len(value) > _DIGITS or not re.fullmatch(DURATION, value):
        raise ValueError(f"{quote(value)} is no duration; write a number with ms, s, m, h or d, such as 30m")
    parts = re.findall(r"([0-9.]+)([a-z]+)", value)
    total = sum((Decimal(number) * _MILLISECONDS[unit] for number, unit in parts), Decimal(0))
    return _whole(total, value, most=LONGEST_MS, what="a duration", most_text="366d")


def parse_count(value: object) -> int:
    """Return the number of `24`, `"24"`, `200k`, `1.5M`; more than zero."""
    text = value if isinstance(value, str) else quote(value)
    if not isinstance(value, int | str) or len(text) > _DIGITS or not re.fullmatch(COUNT, text):
        raise ValueError(f"{quote(value)} is no count; write a whole number above 0, such as 24, 200k or 1.5M")
    number = text.rstrip("kM")
    return _whole(
        Decimal(number) * _FACTORS[text[len(number) :]],
        value,
        most=LARGEST_COUNT,
        what="a count",
        most_text="1000000M",
    )


def parse_money(value: object) -> int:
    """Return picodollars of `0.50 USD`; more than zero."""
    if not isinstance(value, str) or len(value) > _DIGITS or not re.fullmatch(MONEY, value):
        raise ValueError(f"{quote(value)} is no amount of money; write it in US dollars, such as 0.50 USD")
    amount = Decimal(value.removesuffix("USD").rstrip(" "))
    return _whole(amount * _PICODOLLARS, value, most=MOST_MONEY, what="an amount", most_text="1000000 USD")


def picodollars_per_token(value: object) -> int:
    """Return a price given in USD a million tokens as picodollars a token; zero is a price."""
    try:
        amount = Decimal(quote(value).strip("'"))  # a float's shortest text is what the person wrote
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0 or amount > MOST_MONEY // _PICODOLLARS:
        raise ValueError(f"{quote(value)} is no price; write US dollars a million tokens, such as 0.10")
    exact = amount * 1_000_000
    if exact != int(exact):
        raise ValueError(f"{quote(value)} has more than six decimals; prices are counted to the millionth of a dollar")
    return int(exact)


def _whole(amount: Decimal, value: object, *, most: int, what: str, most_text: str) -> int:
    if amount == 0:
        raise ValueError(f"{quote(value)} is zero; {what} here must be more than that")
    if amount != amount.to_integral_value():
        raise ValueError(f"{quote(value)} is too fine; it comes to no whole number of the smallest unit")
    if amount > most:
        raise ValueError(f"{quote(value)} is too large; at most {most_text}")
    return int(amount)
