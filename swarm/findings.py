"""What `swarm doctor` found: one thing each, with the remedy."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    good: bool
    told: str
    remedy: str = ""
