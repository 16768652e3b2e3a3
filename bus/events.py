"""Every fact that a run can record: frozen models in one tagged union, `Event`.

Events are past-tense facts. A *request* event (`PlanRequested`, `SubtaskAssigned`, `ReviewRequested`) hands one attempt
to one agent: the id of its envelope is the lease, and a reply names it as its `causation_id`. An *effect* event has the
key (request, attempt, path), where the request is the envelope's `subject`. `docs/events.md` is generated from here.
"""

from typing import ClassVar, Literal

from pydantic import JsonValue

from bus.setup import Criterion, FileChange, FileRef, Setup, Subtask, Value

Path = tuple[int, ...]
"""Where in its role's code an effect stands: lanes, then a counter (`agents/journal.py`)."""

Message = dict[str, JsonValue]
"""One message of a conversation in the shape of Chat Completions."""


class Fact(Value):
    """Base of all events; `version` goes up when the meaning or shape of a class changes."""

    version: ClassVar[int] = 1


# The run


class GoalSubmitted(Fact):
    """A run begins. `hashes`: SHA-256 of prompts, schemas and role files by name; `software`: our version."""

    setup: Setup
    """The scenario as resolved."""
    workspace: tuple[FileRef, ...] = ()
    """The files it begins with."""
    hashes: dict[str, str] = {}
    software: str = ""
    out: str = ""
    """The folder that the outcome's files are handed over in."""
    client: str = ""
    """Who submitted it over the bus, as `user/instance`."""


class GoalAccepted(Fact):
    """The outcome holds all its criteria."""

    reason: str
    files: tuple[FileRef, ...] = ()


class GoalFailed(Fact):
    """The run ends without an accepted outcome; `files` are those of accepted results."""

    reason: str
    kind: Literal["limit", "attempts", "rounds", "plan", "no_progress", "no_agent", "bill", "cancelled"]
    missing: tuple[str, ...] = ()
    """Ids of the subtasks that are not accepted."""
    files: tuple[FileRef, ...] = ()


class RunPaused(Fact):
    """Nothing goes on until a person resumes. `kind` tells the exit status: a person 130, a missing part 3.

    `doubt`: an outward call was begun, and nobody knows whether it was done.
    """

    reason: str
    kind: Literal["person", "endpoint", "storage", "doubt"]


class RunResumed(Fact):
    """The run goes on, in a new process; leases of the old one are void. `changes`: limits raised, by name."""

    changes: dict[str, JsonValue] = {}


class RunMoved(Fact):
    """Another hub owns the run from here on; leases that agents hold go on."""

    hub: str
    """The one that owns it now."""
    epoch: int
    """Its number among the owners; every older one is fenced off."""


class CancelAsked(Fact):
    """A person wants the run to end as it stands."""

    reason: str


class RunForked(Fact):
    """A run begins at event `at` of another: what that one recorded until then is its past.

    What was under way is given out again; an attempt goes on over its recorded effects as long as it asks the same.
    """

    parent: str
    """The run it comes from."""
    at: int
    """The last event that they share."""
    changes: dict[str, JsonValue] = {}
    """What was changed, as it was said."""
    setup: Setup
    """The scenario as resolved, with the changes."""
    hashes: dict[str, str] = {}
    """SHA-256 of prompts and role files by name."""
    out: str = ""
    """The folder that the outcome's files are handed over in."""


class JournalCut(Fact):
    """In a fork, an attempt asked for something else than its recorded past has: from there on it lives.

    Its effects recorded after position `kept` do not count for it any more, nor do those whose outcome came after.
    """

    attempt: int
    kept: int
    """The position of the last one that counts; 0 for none."""


class TimePassed(Fact):
    """A deadline fired: the running time in the envelope is past it. Recorded only if something follows."""


class NoProgressNoticed(Fact):
    """The same again: `what` names it. It is told once; the next time the attempt or the plan fails.

    `edits`: two subtasks put back one another's version of a file.
    """

    what: Literal["call", "result", "plan", "edits"]
    detail: str
    """What was seen, in words."""
    attempt: int = 0


# Agents


class RoleOffer(Value):
    """A role that an agent brings and that the run's own scenario does not know."""

    name: str
    """What plans call it by."""
    about: str = ""
    """What it is for, in one line."""
    tools: tuple[str, ...] = ()
    """What it works with."""


class AgentJoined(Fact):
    """An agent offers its roles; `slots`: how many requests at once, over all its roles."""

    agent: str
    roles: tuple[str, ...]
    """Names of the roles it takes requests for."""
    slots: int
    versions: dict[str, str] = {}
    """By role: what stands for its code; another version may ask otherwise where it goes on with an attempt."""
    brings: tuple[RoleOffer, ...] = ()
    """Those of them that the run did not know."""


class AgentLeft(Fact):
    """An agent is gone; what it held is given to others."""

    agent: str
    why: str


class AssignmentEnded(Fact):
    """A lease ended without result or failure: its attempt goes to another agent and counts nowhere.

    `declined`: the agent did not take it, and gets no more before it says its card again. `silent`: it was not heard
    of. `handed_back`: it cannot finish. `not_held`: it never had it, or has it no more. `pause`: the part that is
    missing, where the run cannot go on without a person.
    """

    lease: str
    """The id of the request's envelope."""
    why: str
    kind: Literal["declined", "silent", "handed_back", "not_held"] = "handed_back"
    pause: str | None = None


# Requests and replies


class PlanRequested(Fact):
    """The planner is asked for a plan; `feedback` says why the one before is not enough."""

    attempt: int
    agent: str
    deadline_ms: int
    round: int
    """Which round of the run, from 1."""
    feedback: tuple[str, ...] = ()


class PlanProposed(Fact):
    """A plan: the planner's, or the scenario's own."""

    subtasks: tuple[Subtask, ...]
    effects: int = 0


class PlanRefused(Fact):
    """A plan that cannot work, with each reason; it goes back to the planner."""

    reasons: tuple[str, ...]
    """Each in words that a planner can act on."""


class SubtaskAssigned(Fact):
    """One attempt of a subtask is given to one agent. `deadline_ms`: running time at which it is over."""

    subtask: Subtask
    attempt: int
    agent: str
    deadline_ms: int
    feedback: tuple[str, ...] = ()


class ResultSubmitted(Fact):
    """What an attempt came to. `effects`: how many effect events belong to it, all recorded before it counts."""

    text: str
    files: tuple[FileChange, ...] = ()
    data: JsonValue = None
    """A structured answer, where the role gives one."""
    effects: int = 0


class WorkFailed(Fact):
    """An attempt ended without a result. Not `retryable`: another attempt would fail the same way.

    `files`: the hub did not take what it brought.
    """

    reason: str
    kind: Literal["error", "deadline", "answer", "model", "no_progress", "tool", "sandbox", "files"]
    retryable: bool = True
    effects: int = 0


class ReviewRequested(Fact):
    """The critic is asked about one result (`subtask`, `of_attempt`) or about the outcome (`subtask` None)."""

    attempt: int
    agent: str
    deadline_ms: int
    subtask: str | None
    of_attempt: int
    accept: tuple[Criterion, ...]


class Redo(Value):
    """One subtask that a rejection sends back, and why."""

    subtask: str
    why: str


class ReviewGiven(Fact):
    """The critic's word. `redo` names subtasks (only for the outcome); `named` the files that failed checks name."""

    accepted: bool
    """Whether all criteria hold."""
    feedback: str
    """What was seen; after a rejection what to change."""
    redo: tuple[Redo, ...] = ()
    named: tuple[str, ...] = ()
    effects: int = 0


class Clash(Value):
    """The `path` of a file that two results changed in ways that cannot be brought together, and why."""

    path: str
    why: str


class MergeTried(Fact):
    """A result met files that others had changed otherwise since its base; each was merged line by line, or clashed."""

    subtask: str
    attempt: int
    merged: tuple[FileChange, ...] = ()
    """What came of it where it could be done; `base` is the version that the run's tree had."""
    clashes: tuple[Clash, ...] = ()
    """Files that could not be merged."""


class FilesMerged(Fact):
    """An accepted result's files are in the run's tree. `files`: how they changed it, by which it can be told again."""

    subtask: str
    attempt: int
    files: tuple[FileChange, ...]
    merged: tuple[str, ...] = ()
    """Those of the paths whose content holds the changes of other results too."""


class FilesConflicted(Fact):
    """A result changed files that another accepted result had changed otherwise, and they could not be merged."""

    subtask: str
    attempt: int
    paths: tuple[str, ...]
    others: tuple[str, ...]
    """The subtasks that had changed them."""


# Effects


class Usage(Value):
    """Tokens of one call; `input` holds `cached`. `estimated`: the endpoint gave no believable figures."""

    input: int
    """Tokens of the prompt."""
    output: int
    """Tokens of the answer."""
    cached: int = 0
    """Tokens of the prompt that the endpoint had kept."""
    estimated: bool = False


class CallRequest(Value):
    """A tool call as the model wrote it; `arguments` is JSON text."""

    id: str
    """The call's id, which its result names."""
    name: str
    """The tool's name."""
    arguments: str


class ModelAsked(Fact):
    """A model call is wanted: `input_bound` and `max_tokens` are reserved before it is made.

    `messages` are those new since the ask at `follows` (a path; None begins a conversation): the whole is the first
    `keeps` messages of that ask, its answer included, then these.
    """

    attempt: int
    path: Path
    number: int
    """The try, from 1."""
    digest: str
    model: str
    messages: tuple[Message, ...]
    follows: Path | None = None
    keeps: int = 0
    tools: tuple[str, ...] = ()
    sampling: dict[str, JsonValue] = {}
    input_bound: int
    max_tokens: int


class CallGranted(Fact):
    """A call that had to wait, or whose `max_tokens` was lowered to what is left, may be made."""

    attempt: int
    path: Path
    number: int
    max_tokens: int


class CallRefused(Fact):
    """No room is left for this call, and none will come."""

    attempt: int
    path: Path
    number: int
    reason: str


class ModelTryFailed(Fact):
    """One try came to nothing. `unproven`: something was sent and no whole answer came, so it counts in full."""

    attempt: int
    path: Path
    number: int
    kind: str
    reason: str
    unproven: bool = False
    wait_ms: int | None = None
    """How long until the next try; None where there is none."""


class ModelAnswered(Fact):
    """A paid answer."""

    attempt: int
    path: Path
    number: int
    text: str | None
    calls: tuple[CallRequest, ...] = ()
    """The tool calls that the model wants."""
    finish: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"
    """Why the answer ends."""
    refusal: str | None = None
    """The words in which the model declined, where it did."""
    usage: Usage


class ToolCalled(Fact):
    """A tool that changes something is about to run. Tools that only read have no intent."""

    attempt: int
    path: Path
    digest: str
    tool: str
    arguments: dict[str, JsonValue]
    outward: bool = False
    """Whether it acts on the outside world, not only on the attempt's folder."""
    idempotent: bool = False
    """Whether to do it twice is the same as to do it once, by its own word or by the key that it is given."""


class ToolReturned(Fact):
    """What a tool gave back. `files` changed by it; `whole` holds the full text where `output` was cut."""

    attempt: int
    path: Path
    digest: str
    tool: str
    arguments: dict[str, JsonValue]
    output: str
    """The tool's answer, as the model sees it."""
    error: bool = False
    """The output is an error message."""
    wrong_arguments: bool = False
    """Nothing was run: the arguments do not fit the tool."""
    files: tuple[FileChange, ...] = ()
    whole: FileRef | None = None


class DoubtSettled(Fact):
    """A person's word on an outward call that was begun and whose outcome nobody knows.

    `retry`: it is done again. `skip`: it is taken as dealt with, and the agent is told. `fail`: its request ends.
    """

    request: str
    """The id of the request it was made for."""
    attempt: int
    path: Path
    digest: str
    tool: str
    verdict: Literal["retry", "skip", "fail"]
    """What the person said."""


class CheckStarted(Fact):
    """A check that runs code is about to run."""

    attempt: int
    path: Path
    digest: str
    criterion: Criterion


class CheckEnded(Fact):
    """Whether a criterion holds, and what shows it. `broken`: the check itself could not be made."""

    attempt: int
    path: Path
    digest: str
    criterion: Criterion
    verdict: Literal["holds", "fails", "broken"]
    """What came of it."""
    shows: str
    """What was seen, in words."""
    named: tuple[str, ...] = ()


class ValueDrawn(Fact):
    """The clock was read, or chance asked."""

    attempt: int
    path: Path
    kind: Literal["now", "random"]
    value: float


Request = PlanRequested | SubtaskAssigned | ReviewRequested
"""What hands one attempt to one agent."""
Reply = PlanProposed | ResultSubmitted | ReviewGiven | WorkFailed
Effect = (
    ModelAsked | ModelTryFailed | ModelAnswered | ToolCalled | ToolReturned | CheckStarted | CheckEnded | ValueDrawn
)
Event = (
    GoalSubmitted
    | GoalAccepted
    | GoalFailed
    | RunPaused
    | RunResumed
    | RunMoved
    | CancelAsked
    | RunForked
    | JournalCut
    | TimePassed
    | NoProgressNoticed
    | AgentJoined
    | AgentLeft
    | AssignmentEnded
    | Request
    | Reply
    | PlanRefused
    | MergeTried
    | FilesMerged
    | FilesConflicted
    | DoubtSettled
    | CallGranted
    | CallRefused
    | Effect
)

FROM_AGENTS: tuple[type[Fact], ...] = (*Effect.__args__, *Reply.__args__, JournalCut, AssignmentEnded)
"""All that an agent may say, under a lease that it holds."""

EVENTS: dict[str, type[Fact]] = {kind.__name__: kind for kind in Event.__args__}
"""Every event class by its name; the name and `version` make the CloudEvents type `swarm.NAME.vN`."""


def role_of(request: Request) -> str:
    """Return the role that a request goes to."""
    match request:
        case PlanRequested():
            return "planner"
        case SubtaskAssigned(subtask=subtask):
            return subtask.role
        case ReviewRequested():
            return "critic"
