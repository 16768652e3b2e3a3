"""What is kept in mind of many, whoever may bring them about: the latest."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def keep(latest: dict[K, V], key: K, value: V, most: int) -> None:
    """Keep something as the latest of its kind; the one that was kept longest ago goes where there are too many."""
    latest.pop(key, None)
    latest[key] = value
    if len(latest) > most:
        del latest[next(iter(latest))]
