"""What a role is told beyond its request event: derived from the log as a request is sent, never recorded itself.

In one process it travels as it is; over a broker as a JSON object with the same names, in which the journal is a list
of CloudEvents.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Self, cast

import orjson
from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from bus import codec
from bus.envelope import Envelope
from bus.errors import BadEnvelope
from bus.setup import FileRef, Permissions, RoleSetup

_FAULTS_TOLD = 5


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

    def on_wire(self) -> dict[str, object]:
        """Return it as an object that `orjson.dumps` writes. Raises `BadEnvelope` for what could not be read again."""
        try:  # by pydantic: `orjson` knows no integers beyond 64 bits, and a model may well have named one to a tool
            written: dict[str, object] = {
                one.name: orjson.Fragment(to_json(getattr(self, one.name)))
                for one in fields(self)
                if one.name != "journal"
            }
        except (PydanticSerializationError, ValueError) as error:
            raise BadEnvelope(f"a briefing of {self.run or 'a run'} cannot be written: {error}") from error
        return written | {"journal": [orjson.Fragment(codec.encode(one)) for one in self.journal]}

    @classmethod
    def read(cls, value: object) -> Self:
        """Return a briefing as it came: what is one already as it is, else what a parsed JSON object holds.

        Keys that this version does not know are passed over, so that newer hubs can add some. Raises `BadEnvelope` with
        what is wrong, `TooNew` where the journal has events of a newer version.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise BadEnvelope(f"no briefing: a JSON object is wanted, this is {type(value).__name__}")
        journal = value.get("journal", [])
        if not isinstance(journal, list):
            raise BadEnvelope(f"bad briefing: journal: a list is wanted, this is {type(journal).__name__}")
        told = {name: part for name, part in value.items() if name != "journal"}
        try:
            found = _reader().validate_json(to_json(told), strict=True, extra="ignore")
            events = tuple(codec.decode(to_json(one)) for one in journal)
        except ValidationError as error:
            raise BadEnvelope(f"bad briefing: {_reasons(error)}") from error
        except (PydanticSerializationError, ValueError) as error:  # nested too deeply, half a surrogate pair
            raise BadEnvelope(f"bad briefing: {error}") from error
        return cast("Self", replace(found, journal=events))


@cache
def _reader() -> TypeAdapter[Briefing]:
    """Make what reads a briefing; in the first use, since most processes never do."""
    return TypeAdapter(Briefing)


def _reasons(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in faults[:_FAULTS_TOLD]]
    return "; ".join([*told, f"and {len(faults) - _FAULTS_TOLD} more"] if len(faults) > _FAULTS_TOLD else told)
