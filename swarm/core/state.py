"""What a run's log adds up to: `RunState`, the fold of `apply` over the events. Only `apply` changes it."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, get_args

from agents.briefing import Deed, Finding
from bus.events import (
    GoalAccepted,
    GoalFailed,
    MergeTried,
    NoProgressNoticed,
    Path,
    ResultSubmitted,
    ReviewGiven,
    RunPaused,
    ToolCalled,
)
from bus.setup import Criterion, FileChange, FileRef, Limits, RoleSetup, Setup, Subtask
from swarm.core.limits import CallKey, Ledger

MOST_LOST = 3
"""An agent that lost so many leases in a row gets no more for a while, and longer with each that it loses after that.

Not for ever: what was wrong may have been the network, or a hub, and nobody else may offer its roles.
"""
REST_MS, MOST_DOUBLED = 15_000, 6
"""The first rest, and how often it is doubled."""

WorkKind = Literal["plan", "review", "subtask"]
Verdict = Literal["retry", "skip", "fail"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Status(StrEnum):
    """Where a subtask stands."""

    WAITING = "waiting"
    READY = "ready"
    WORKING = "working"
    REVIEWED = "reviewed"
    ACCEPTED = "accepted"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"


@dataclass(slots=True)
class SubtaskState:
    """One subtask of the present plan."""

    spec: Subtask
    status: Status = Status.WAITING
    attempts: int = 0
    """Number of its last attempt; goes on over revisions of the plan."""
    uncounted: int = 0
    """Attempts that no longer count against `limits.attempts`: those before the present plan."""
    order: int = 0
    """Position at which it was first handed out; 0 before."""
    unmet: int = 0
    """How many of its needs are not accepted yet."""
    feedback: tuple[str, ...] = ()
    result: ResultSubmitted | None = None
    rejected: ResultSubmitted | None = None
    """The result that was sent back; the next attempt starts from its files."""
    carried: dict[str, FileChange] = field(default_factory=dict)
    """By path: changes that stand for the rejected result's own, since they hold what others changed too."""
    unfinished: dict[str, FileChange] = field(default_factory=dict)
    """By path: what attempts changed that have ended since without a result; the next one starts from it, too."""
    beside: tuple[str, ...] = ()
    """Subtasks whose files it works on top of, beyond its needs, since their changes met."""
    accepted_at: int = 0
    """Position at which its present result was accepted."""
    applied: tuple[FileChange, ...] = ()
    """Once accepted: how its result changed the run's tree, which differs from the result's own where it was merged."""
    merged_onto: frozenset[str] = frozenset()
    """Once accepted: the subtasks whose changes of the same files its own were merged with."""
    stands_on: frozenset[str] = frozenset()
    """Once accepted: the subtasks whose files its attempt was given, those that they were merged with included."""
    sources: frozenset[str] = frozenset()
    """Once accepted: whose files its own belong with: `stands_on`, what it was merged with, itself if it has any."""
    repeats: int = 0
    outward: dict[str, Deed] = field(default_factory=dict)
    """By digest: what its attempts did to the outside world."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a subtask goes on from that the present plan has not, should a later plan bring it back.

    The number of an attempt is never given twice, and nothing is done twice to the outside world.
    """

    attempts: int
    outward: dict[str, Deed]


@dataclass(frozen=True, slots=True)
class PlannerTold:
    """What a planner is told of the run: how it stood when the request was first handed out."""

    findings: tuple[Finding, ...]
    files: Mapping[str, FileRef]
    most_subtasks: int
    brought: Mapping[str, RoleSetup] = field(default_factory=dict)
    """Roles that agents brought by then."""


@dataclass(slots=True)
class Work:
    """One request that is open: wanted, or in an agent's hands."""

    request: str
    kind: WorkKind
    role: str
    attempt: int
    feedback: tuple[str, ...] = ()
    subtask: str | None = None
    of_attempt: int = 0
    accept: tuple[Criterion, ...] = ()
    round: int = 0
    order: int = 0
    """Position at which it was first handed out; 0 before."""
    lease: str | None = None
    agent: str | None = None
    version: str = ""
    """What stands for the code of the agent that had it last."""
    cut: bool = False
    """Whether some of its recorded effects no longer count."""
    heard: int = 0
    """How many messages have been recorded under its last lease (`admit.turn`)."""
    lost: str | None = None
    """The lease that ended without a reply, while no other was given: what still comes under it counts."""
    lost_by: str | None = None
    """The agent that had it."""
    given_ms: int = 0
    """Running time at which it was last handed out."""
    deadline_ms: int = 0
    journal: dict[tuple[str, Path, int], int] = field(default_factory=dict)
    """(type, path, try) -> position of each of its recorded effects, in the order of the log.

    The effects themselves stay in the log: who gives the request out reads them there.
    """
    told: PlannerTold | None = None
    """For a plan, once handed out: a planner that is run again must be told the same."""
    forked: bool = False
    """In a fork: whether its agent may part from the effects of the past, where it asks for something else."""
    open_calls: set[CallKey] = field(default_factory=set)
    outward: dict[Path, ToolCalled] = field(default_factory=dict)
    """Outward calls that have begun and not ended."""
    changes: dict[Path, tuple[FileChange, ...]] = field(default_factory=dict)
    """What its tools changed in its folder."""
    settled: dict[str, Verdict] = field(default_factory=dict)
    """By digest: what a person said of its calls that were in doubt."""


@dataclass(slots=True)
class AgentState:
    """One agent that has joined."""

    agent: str
    roles: tuple[str, ...]
    slots: int
    busy: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    """By role: what stands for its code."""
    lost: int = 0
    """Leases in a row under which it was not heard of, or that it handed back."""
    declined: set[str] = field(default_factory=set)
    """Roles for which it took no request, since it said its card."""
    pace_ms: dict[str, int] = field(default_factory=dict)
    """By role: how long its requests take, the later ones counting more."""

    def offers(self, role: str) -> bool:
        """Tell whether it may be given requests for a role at all, be it after a rest."""
        return self.slots > 0 and role in self.roles and role not in self.declined


@dataclass(frozen=True, slots=True)
class Stuck:
    """The present plan cannot go on as it is."""

    kind: Literal["attempts", "rounds", "plan", "no_progress"]
    reason: str
    redo: tuple[tuple[str, str], ...] = ()
    """Subtasks to do again, each with why; none: the planner is asked."""
    final: bool = False
    """No further round can help."""


@dataclass(slots=True)
class RunState:
    """The state of one run."""

    run: str
    position: int = 0
    elapsed_ms: int = 0
    status: Literal["new", "running", "paused", "accepted", "failed"] = "new"
    setup: Setup | None = None
    limits: Limits = field(default_factory=Limits)
    ledger: Ledger = field(default_factory=lambda: Ledger(Limits()))
    ended: GoalAccepted | GoalFailed | None = None
    paused: RunPaused | None = None
    tool_calls: int = 0
    out: str = ""
    parent: str | None = None
    """The run it was forked from last."""
    handed_over: int = 0
    """How often it ended with files before, and was gone on with: each time has a folder of its own."""

    # agents
    agents: dict[str, AgentState] = field(default_factory=dict)
    works: dict[str, Work] = field(default_factory=dict)
    leases: dict[str, Work] = field(default_factory=dict)
    lost: dict[str, Work] = field(default_factory=dict)
    """Lease -> request that nobody works on, whose last agent may still be heard of."""
    wanted: dict[str, list[tuple[int, int, str]]] = field(default_factory=dict)
    """Role -> heap of (priority, order of arrival, request) that nobody works on."""
    arrivals: int = 0
    lacking: dict[str, int] = field(default_factory=dict)
    """Role that is wanted and that no agent offers -> running time since when."""
    declined: dict[str, str] = field(default_factory=dict)
    """Role -> why an agent declined a request for it last."""
    brought: dict[str, RoleSetup] = field(default_factory=dict)
    """Roles that agents brought, and that the scenario does not know, or by name alone."""
    resting: dict[str, int] = field(default_factory=dict)
    """Agent that lost too many leases -> running time until which it gets no more."""
    at_work: dict[str, int] = field(default_factory=dict)
    """Role -> requests in agents' hands."""
    deadlines: list[tuple[int, str]] = field(default_factory=list)
    """Heap of (running time, lease)."""

    # plan
    subtasks: dict[str, SubtaskState] = field(default_factory=dict)
    needed_by: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, Dropped] = field(default_factory=dict)
    """By id: subtasks that were at work once and that the present plan has not."""
    assigned: set[str] = field(default_factory=set)
    """Ids of all subtasks ever assigned."""
    not_accepted: int = 0
    plan_number: int = 0
    round: int = 1
    refused_plan: tuple[str, ...] = ()
    """Why the plan just proposed cannot work."""
    refusals: int = 0
    tried_plans: set[str] = field(default_factory=set)
    plan_repeats: int = 0
    stuck: Stuck | None = None
    notice: NoProgressNoticed | None = None
    notice_about: str | None = None
    outcome_review: ReviewGiven | None = None
    reviews_of_outcome: int = 0

    # files
    workspace: dict[str, FileRef] = field(default_factory=dict)
    tree: dict[str, FileRef] = field(default_factory=dict)
    changed_by: dict[str, str] = field(default_factory=dict)
    """Path -> the subtask whose accepted result changed it last."""
    accepted_order: list[str] = field(default_factory=list)
    to_merge: deque[str] = field(default_factory=deque)
    tried: MergeTried | None = None
    """What the edge found where the first of `to_merge` met others' changes."""
    first_base: dict[tuple[str, str | None], str | None] = field(default_factory=dict)
    """For each version of a file that was ever handed in (path, hash): the version that it was made from."""
    put_back: set[tuple[str, frozenset[str | None]]] = field(default_factory=set)
    """Pairs of versions of a file of which one was put in the other's place without being made from it."""

    # calls in doubt
    unknown: dict[tuple[str, str], ToolCalled] = field(default_factory=dict)
    """(request, digest) -> outward call whose outcome nobody knows, and that would be repeated by going on."""
    verdicts: dict[tuple[str, str], Verdict] = field(default_factory=dict)
    """(request, digest) -> what a person said of it."""

    # what ends or stops it
    call_refused: str | None = None
    cancelled: str | None = None
    pause_wanted: str | None = None

    @property
    def running(self) -> bool:
        """Whether events may follow."""
        return self.status == "running"

    def under(self, lease: str | None) -> Work | None:
        """Return the request that a lease was given for, if what comes under it counts."""
        return self.leases.get(lease or "") or self.lost.get(lease or "")

    def role(self, name: str) -> RoleSetup | None:
        """Return what is known of a role: the scenario's own, else one that an agent brought."""
        return (self.setup.roles.get(name) if self.setup else None) or self.brought.get(name)

    def knows(self, role: str) -> bool:
        """Tell whether the scenario knows a role by itself: not where it only names one that agents are to bring."""
        said = self.setup.roles.get(role) if self.setup else None
        return said is not None and (bool(said.about) or not said.brought)

    @property
    def out_folder(self) -> str | None:
        """The folder for the outcome's files: `out`, or beside it where an earlier end has used that.

        None where the run has none of its own: a hub's files are with the hub.
        """
        if not self.out:
            return None
        return f"{self.out}-{self.handed_over + 1}" if self.handed_over else self.out

    def stays_ended(self, changes: Mapping[str, object]) -> bool:
        """Tell whether the run has ended and limits that a person changes do not reopen it.

        Only a failed one is reopened, and by no limit that is lower than it was.
        """
        return self.status == "accepted" or (
            self.status == "failed" and not any(self._leaves_room(name, value) for name, value in changes.items())
        )

    def _leaves_room(self, limit: str, value: object) -> bool:
        """Tell whether a limit, as it would be, holds what it held."""
        before = getattr(self.limits, limit)
        return value is None or (before is not None and isinstance(value, int) and value >= before)

    @property
    def all_accepted(self) -> bool:
        """Whether the plan is done."""
        return bool(self.subtasks) and self.not_accepted == 0


def finding_of(subtask: SubtaskState) -> Finding:
    """Return what others are told of a subtask as it stands."""
    result = subtask.result or subtask.rejected
    spec = subtask.spec
    text = result.text if result else ""
    files = tuple(change.path for change in result.files if change.sha256) if result else ()
    return Finding(spec.id, spec.role, spec.instruction, text, files, subtask.status.value, subtask.feedback)
