"""Sizes and ages as people say them."""

import datetime as dt

_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


def size(count: int) -> str:
    """Return a number of bytes in the unit that fits: `812 B`, `1.2 kB`, `34 MB`."""
    amount, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 1000:  # noqa: PLR2004 - a kilo
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f} {unit}" if unit != "B" and amount < 10 else f"{amount:.0f} {unit}"  # noqa: PLR2004


def age(since: str, now: str) -> str:
    """Return how long ago a time was (both RFC 3339): `5s`, `12m`, `3h`, `40d`; `?` where it is no time, or to come."""
    try:
        seconds = (dt.datetime.fromisoformat(now) - dt.datetime.fromisoformat(since)).total_seconds()
    except (TypeError, ValueError):
        return "?"
    for unit, length in (("d", _DAY), ("h", _HOUR), ("m", _MINUTE), ("s", 1)):
        if seconds >= length:
            return f"{int(seconds // length)}{unit}"
    return "0s" if seconds >= 0 else "?"
