"""The fields of every note, and which messages may come on which topic: what `docs/wire.md` and its schema are made of.

Whoever reads a note passes over fields that it does not know, so that a newer version may add some. Each sender writes
its notes where it has cause to; a test holds what goes over a broker in whole runs against these shapes.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from bus import topics
from bus.cards import AgentCard, HubCard
from bus.events import FROM_AGENTS, Event, GoalAccepted, GoalFailed, Request

Lease = Annotated[str, Field(min_length=1, max_length=256)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0, le=256 * 1024 * 1024)]
Base64 = Annotated[str, Field(max_length=174_764, json_schema_extra={"contentEncoding": "base64"})]
CallId = Annotated[str, Field(min_length=1, max_length=128)]


class Shape(BaseModel):
    """Base of what stands in a message beside events; `kind`: of the note that holds it, "" where none does."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)
    kind: ClassVar[str] = ""


class Attachments(Shape):
    """What goes with a request and is no part of its event: `data.attachments`."""

    reply_to: str
    """The topic for every answer to this request."""
    lease_s: Annotated[float, Field(gt=0)]
    """An agent that says nothing for so long has lost the lease: say `progress` three times as often."""
    remaining_ms: Annotated[int, Field(ge=0)]
    """How long the attempt may take from now on, in running time of the run."""
    epoch: int
    """Which owner of the run speaks: a request of a smaller epoch than one seen for this run is passed over."""
    briefing: dict[str, JsonValue]
    """What the role is told beyond the event."""


# An agent to a hub


class Accepted(Shape):
    """The agent has the request and works on it. Said again for a request that comes again.

    Any word under the lease says as much: who has more to say at once need not say this.
    """

    kind = "accepted"
    lease: Lease


class Declined(Shape):
    """The agent does not take the request; it is offered no more of this role until it says its card again."""

    kind = "declined"
    lease: Lease
    why: str = ""
    """In words; `busy` and `draining` are usual. 400 characters of it are recorded."""


class Progress(Shape):
    """The agent is still at it: renews the lease."""

    kind = "progress"
    lease: Lease


class NotHeld(Shape):
    """The agent was told that a run has moved, and does not have this lease of it: the work goes out anew."""

    kind = "not_held"
    lease: Lease


# A hub to an agent


class Recorded(Shape):
    """What the agent said under this lease is recorded, up to a number: it need not be said again."""

    kind = "recorded"
    lease: Lease
    through: Annotated[int, Field(ge=0)]
    """The `sequence` of the last message that is recorded."""
    over: bool = False
    """The lease has ended with it: forget it."""


class Confirmed(Shape):
    """An intent (`ModelAsked`, `ToolCalled`, `CheckStarted`) is recorded, and a model call granted: it may be done."""

    kind = "confirmed"
    lease: Lease
    path: tuple[int, ...]
    """That of the intent."""
    number: int = 0
    """The try of a model call; else 0."""
    max_tokens: int | None = None
    """Of a model call: the most that its answer may have, perhaps fewer than were asked for."""
    asked: str | None = None
    """The `time` of the intent as it was said; none where a call had to wait. Who asks anew says it with a new one."""


class Cancel(Shape):
    """The agent does not hold this lease, or not any more: stop, and forget it."""

    kind = "cancel"
    lease: Lease


class Dropped(Shape):
    """Something that the agent said was passed over. Said once a second at most: an example, not a list of all."""

    kind = "dropped"
    why: Annotated[str, Field(max_length=400)]
    lease: Lease | None = None
    """Under which it came, where that could be read."""
    sequence: int | None = None
    """Its number."""


class Moved(Shape):
    """The run is with another hub now: what is not recorded is said again, there, and all that follows too.

    Answered with `not_held` by who does not have the lease.
    """

    kind = "moved"
    run: str
    lease: Lease
    epoch: int
    """Of the new owner; smaller than one heard before: pass it over."""
    reply_to: str
    """The topic for answers from now on."""


class Holds(Shape):
    """All that the agent holds of a run: what else was asked up to that position is over. Follows `declined`."""

    kind = "holds"
    run: str
    epoch: int
    """Of the owner that says so."""
    leases: tuple[Lease, ...]
    """What it holds."""
    through: Annotated[int, Field(ge=0)]
    """The position in the log, with which the `sequence` of requests is compared."""


# Files. Who is no client names the lease; clients name the run, and the hub that they ask.


class _OfAFile(Shape):
    lease: Annotated[str, Field(max_length=256)] | None = None
    """Of agents: their right to it; "" for a payload that was claimed."""
    run: Annotated[str, Field(max_length=256)] | None = None
    """Of clients: their right to it."""
    sha256: Hash
    """Which file."""


class _FileCall(_OfAFile):
    hub: str | None = None
    """Of a client: the hub that is to answer."""
    offset: Size
    """Where the part begins."""
    parcel: bool = False
    """Whether it is a payload (`claim`), which no event names, and not a file."""


class Get(_FileCall):
    """A part of a file is wanted, 128 KiB from an offset on, or up to its end."""

    kind = "get"


class Put(_FileCall):
    """A part of a file is brought; one with an empty chunk asks up to where the hub has it."""

    kind = "put"
    bytes: Size
    """The size of the whole."""
    chunk: Base64
    """The part, at most 128 KiB of it."""


class Chunk(_OfAFile):
    """The part that was asked for."""

    kind = "chunk"
    bytes: Size
    """The size of the whole."""
    offset: Size
    """Where the part begins."""
    chunk: Base64
    """The part."""


class More(_OfAFile):
    """The hub has the file up to here; go on from there."""

    kind = "more"
    offset: Size
    """Up to where."""


class Stored(_OfAFile):
    """The hub has the whole file, and its hash is right."""

    kind = "stored"


class Refused(_OfAFile):
    """The file is not given, or not taken; asking again changes nothing."""

    kind = "refused"
    why: Annotated[str, Field(max_length=1_000)] = ""
    held: bool = True
    """False: the lease or run is not theirs any more, whatever the file."""


# Payloads too large to travel


class Claim(Shape):
    """Stands for a payload of more than 64 KiB, on the topic where that would have come: fetch it as a `parcel`."""

    kind = "claim"
    sha256: Hash
    """Of the payload."""
    bytes: Annotated[int, Field(gt=0, le=64 * 1024 * 1024)]
    """Its size."""
    hub: str | None = None
    """Whose it is: the hub to fetch it from. A claim to a hub has none: the payload was brought there before."""
    lease: str | None = None
    """By what right an agent brought it."""
    run: str | None = None
    """By what right a client brought it, or may fetch it."""


# A client to hubs


class _Call(Shape):
    id: CallId
    """Drawn by the client; the answer bears it. The same call may come twice."""
    hub: str | None = None
    """Which hub is to answer; left out: the one that carries the run on, or any that has it where none does."""


class Submit(_Call):
    """Begin a run. Its id is the client's; the same submission twice is one run."""

    kind = "submit"
    submission: dict[str, JsonValue]
    """The scenario and what belongs to it."""


class Pause(_Call):
    """Pause a run of the client's user."""

    kind = "pause"
    run: str


class CancelRun(_Call):
    """End a run of the client's user as it stands."""

    kind = "cancel"
    run: str


class Resume(_Call):
    """Go on with a run that is paused, or that failed at a limit."""

    kind = "resume"
    run: str
    limits: dict[str, JsonValue] = {}
    """Limits to raise, by name."""
    in_doubt: Literal["retry", "skip", "fail"] | None = None
    """What becomes of outward calls of which nobody knows whether they were done."""


class Lines(_Call):
    """A page of a run's log is wanted."""

    kind = "lines"
    run: str
    start: Annotated[int, Field(ge=1, alias="from")] = 1
    """The position to begin at."""


class ListRuns(_Call):
    """The runs of the client's user are wanted."""

    kind = "list"


# A hub to a client


class _Answer(Shape):
    id: CallId
    """That of the call."""
    hub: str
    """Who answers."""


class RunAccepted(_Answer):
    """The run has begun, or had begun before."""

    kind = "accepted"
    run: str
    warnings: tuple[str, ...] = ()
    """What else there is to say of the scenario."""
    again: bool = False
    """It had begun before."""


class RunWants(_Answer):
    """Files that the hub lacks: bring them, then submit again."""

    kind = "wants"
    run: str
    files: tuple[Hash, ...]
    """Their hashes."""


class RunDone(_Answer):
    """What was asked for is done."""

    kind = "done"
    run: str


class RunLines(_Answer):
    """A page of a log: go on at the position behind its last line, until `length` is passed."""

    kind = "lines"
    run: str
    start: Annotated[int, Field(ge=1, alias="from")]
    """The position of the first."""
    lines: tuple[dict[str, JsonValue], ...]
    """Events as CloudEvents."""
    length: int
    """How many events the log has now."""


class RunListed(Shape):
    """One run of the client's user."""

    run: str
    length: int
    """How many events its log has."""
    here: bool
    """Whether the hub that answers carries it on."""
    created: str | None = None
    """When it began, RFC 3339."""


class RunsListed(_Answer):
    """The runs, the newest first."""

    kind = "runs"
    runs: tuple[RunListed, ...]
    """At most 200; more are there, and can be asked about by their ids."""


class CallFault(Shape):
    """One thing that is wrong with a call."""

    kind_of: Annotated[str, Field(alias="kind")] = "value"
    """Which kind of fault, as `swarm check --json` names them."""
    message: str
    """What, in words."""
    field: str | None = None
    """Where in the submission."""
    hint: str | None = None
    """What to do about it."""


class CallFailed(_Answer):
    """The call does not go through."""

    kind = "refused"
    errors: tuple[CallFault, ...]
    """Why, at most 50 of them."""


ON: Mapping[topics.Kind, tuple[type[BaseModel], ...]] = MappingProxyType(
    {
        "agent_card": (AgentCard,),
        "agent_request": (*Request.__args__, Claim),
        "agent_control": (Recorded, Confirmed, Cancel, Moved, Holds, Dropped),
        "agent_files": (Chunk, More, Stored, Refused),
        "hub_card": (HubCard,),
        "hub_reply": (Accepted, Declined, Progress, NotHeld, *FROM_AGENTS, Claim),
        "hub_files": (Get, Put),
        "submission": (Submit, Pause, CancelRun, Resume, Lines, ListRuns, Get, Put, Claim),
        "client_answer": (RunAccepted, RunWants, RunDone, RunLines, RunsListed, CallFailed, Claim),
        "client_files": (Chunk, More, Stored, Refused),
        "run_event": (*Event.__args__, Claim),
        "run_outcome": (GoalAccepted, GoalFailed, Claim),
    }
)
"""What may come on the topics of a kind: notes, and events by their class."""


def kind_of(shape: type[BaseModel]) -> str:
    """Return the kind of the note that a shape is of."""
    return "card" if shape in {AgentCard, HubCard} else getattr(shape, "kind", "")
