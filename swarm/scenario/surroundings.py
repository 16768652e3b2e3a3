"""What a scenario is checked against beside our own tables: what others offer, and what this one may not hold.

A file that is run where it lies is held against nothing more than our tables (`Surroundings()`). One that is submitted
is checked twice: by the submitter, who does not know what the hub knows, and by the hub, which sees no folder of the
submitter's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.scenario.draft import Draft


def _nothing(draft: "Draft") -> None:
    """Refuse nothing."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known around a scenario."""

    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Roles that are there beside ours, each with tools that its agents bring themselves."""
    tools: frozenset[str] = frozenset()
    """Tools that are there beside ours."""
    providers: frozenset[str] = frozenset()
    """Providers of models that are there beside ours and the scenario's."""
    waits: bool = False
    """Whether a role may be named that nobody knows: it is waited for."""
    elsewhere: bool = False
    """Whether somebody else says which tools and providers there are: here any well-formed name will do."""
    texts: Mapping[str, str] | None = None
    """The files that the scenario reads, by name, where there is no folder; None: they lie in its folder."""
    refuse: Callable[["Draft"], None] = _nothing
    """Notes what may not stand in it, and puts something harmless there; called before and after inputs go in."""

    def text(self, name: str) -> str | None:
        """Return a file's text, None where it was not brought along."""
        return (self.texts or {}).get(text_name(name))


def text_name(path: str) -> str:
    """Return the name of a file among the texts: its path without `./`."""
    return str(PurePosixPath(path))
