"""What a role is told beyond its request event: derived from the log as a request is sent, never recorded itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from bus.envelope import Envelope
from bus.setup import FileRef, Permissions, RoleSetup


@dataclass(frozen=True, slots=True)
class Finding:
    """An accepted (or submitted) result of another subtask: its text, and its files by name."""

    subtask: str
    """Its id."""
    role: str
    """Who did it."""
    instruction: str
    """What was to do."""
    text: str
    files: tuple[str, ...] = ()
    """Paths that it made or changed."""
    status: str = "accepted"
    """Where it stands."""
    feedback: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """A role that a planner may give work to."""

    role: str
    about: str
    tools: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deed:
    """An outward call that was done, and what it gave."""

    tool: str
    arguments: Mapping[str, JsonValue]
    output: str
    attempt: int = 1


@dataclass(frozen=True, slots=True)
class Briefing:
    """The attachments of one request."""

    goal: str
    role: RoleSetup
    permissions: Permissions = field(default_factory=Permissions)
    journal: tuple[Envelope, ...] = ()
    """Effects recorded for this attempt so far, in the order of the log."""
    forked: bool = False
    """Whether the role may part from the journal, since its run is another future of that past."""
    outward: Mapping[str, Deed] = field(default_factory=dict)
    """By digest: what earlier attempts did to the outside world."""
    settled: Mapping[str, str] = field(default_factory=dict)
    """By digest: `retry`, `skip` or `fail`, a person's word on outward calls that were in doubt."""
    private: bool = False
    """Whether the run holds files of a person's, which must not leave it."""
    base: Mapping[str, FileRef] = field(default_factory=dict)
    """Files that the result's changes are told against, by path."""
    start: Mapping[str, FileRef] = field(default_factory=dict)
    """Files that the attempt finds in its folder."""
    left: Mapping[str, FileRef] = field(default_factory=dict)
    """Files that lie beside them to be read, no part of any result: what an earlier attempt made of files that others
    have changed since."""
    findings: tuple[Finding, ...] = ()
    """For a subtask the results it needs; for a review what is reviewed; for a planner the present plan."""
    offers: tuple[Offer, ...] = ()
    """For a planner: the roles there are."""
    most_subtasks: int = 24
    run: str = ""
    """Of which run the request is: the same request of another run is another one to the outside world."""
    env: Mapping[str, str] = field(default_factory=dict)
    """For programs in the sandbox: `INPUT_X`."""
