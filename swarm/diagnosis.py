"""What `swarm doctor` says of each thing that it looked at, with the remedy."""

from typing import NamedTuple


class Diagnosis(NamedTuple):
    """One thing that was looked at."""

    what: str
    good: bool
    told: str
    remedy: str = ""
