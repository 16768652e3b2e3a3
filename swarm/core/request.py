"""What a role is told: the attachments of a request, derived from the state as it is sent."""

from collections.abc import Mapping
from typing import NamedTuple

from agents.briefing import Briefing, Deed, Finding, Offer
from bus.envelope import Envelope
from bus.setup import FileRef, Setup
from swarm.core import tree
from swarm.core.plan import NOT_WORKERS
from swarm.core.state import RunState, Work, finding_of

GOAL_TOLD = 1_200
"""Characters of the goal that a role on subtasks is told; planners and critics are told all of it.

Small planners drop details on the way from the goal to a subtask; who sees the goal as well can still keep them.
"""


def brief(state: RunState, work: Work, journal: tuple[Envelope, ...]) -> Briefing:
    """Return what the agent that works on a request must know besides the request itself.

    `journal`: the records at the positions of `work.journal`.
    """
    setup, role = _setup(state), state.role(work.role)
    if role is None:
        raise AssertionError(f"a plan with role {work.role!r} is not adopted")
    told = _told(state, work, setup)
    return Briefing(
        goal=told.goal,
        role=role,
        permissions=setup.permissions,
        journal=journal,
        forked=work.forked,
        outward=told.outward,
        settled=dict(work.settled),
        private=bool(state.workspace),
        base=told.base,
        start=told.start,
        left=told.left,
        findings=told.findings,
        offers=told.offers,
        most_subtasks=told.most_subtasks,
        run=state.run,
        env={f"INPUT_{name.upper().replace('-', '_')}": value for name, value in setup.inputs.items()},
    )


class _Told(NamedTuple):
    """What differs by the kind of request; see `Briefing`."""

    goal: str
    base: Mapping[str, FileRef]
    start: Mapping[str, FileRef]
    findings: tuple[Finding, ...]
    left: Mapping[str, FileRef] = {}
    outward: Mapping[str, Deed] = {}
    offers: tuple[Offer, ...] = ()
    most_subtasks: int = 0


def _told(state: RunState, work: Work, setup: Setup) -> _Told:
    match work.kind:
        case "subtask":
            subtask = state.subtasks[work.subtask or ""]
            base = tree.base_of(state, subtask)
            return _Told(
                shortened(setup.goal),
                outward={
                    name: deed for name, deed in subtask.outward.items() if work.cut or deed.attempt < work.attempt
                },
                base=base,
                start=tree.start_of(subtask, base),
                left={f"{tree.LEFT}{ref.path}": _moved(ref) for ref in tree.left_behind(subtask, base)},
                findings=tuple(finding_of(state.subtasks[need]) for need in subtask.spec.needs),
            )
        case "review":
            if work.subtask is None:
                files = state.tree
                findings = tuple(finding_of(subtask) for subtask in state.subtasks.values())
            else:
                subtask = state.subtasks[work.subtask]
                files = tree.base_of(state, subtask)
                if subtask.result is not None:
                    tree.overlay(files, subtask.result.files)
                findings = (finding_of(subtask),)
            return _Told(setup.goal, base=files, start=files, findings=findings)
        case "plan":
            told = work.told
            if told is None:
                raise AssertionError("a plan is asked for once its request is handed out")
            offers = tuple(
                Offer(name, offered.about or told.brought.get(name, offered).about, offered.tools)
                for name, offered in {**told.brought, **setup.roles}.items()
                if name not in NOT_WORKERS
            )
            return _Told(
                setup.goal,
                base=state.workspace,
                start=told.files,
                findings=told.findings,
                offers=offers,
                most_subtasks=told.most_subtasks,
            )


def _setup(state: RunState) -> Setup:
    if state.setup is None:
        raise AssertionError("no request comes before the goal")
    return state.setup


def shortened(goal: str) -> str:
    """Return a goal as a role that works on subtasks is told it."""
    goal = goal.strip()
    return goal if len(goal) <= GOAL_TOLD else goal[: GOAL_TOLD - 1] + "…"


def _moved(ref: FileRef) -> FileRef:
    return ref.model_copy(update={"path": f"{tree.LEFT}{ref.path}"})
