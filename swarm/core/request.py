"""What a role is told: the attachments of a request, derived from the state as it is sent."""

from dataclasses import replace

from agents.briefing import Briefing, Offer
from bus.envelope import Envelope
from bus.setup import FileRef, Setup
from swarm.core import tree
from swarm.core.plan import NOT_WORKERS
from swarm.core.state import RunState, Work, finding_of

GOAL_TOLD = 1_200
"""Characters of the goal that a worker is told; planners and critics are told all of it.

Small planners drop details on the way from the goal to a subtask; who sees the goal as well can still keep them.
"""


def brief(state: RunState, work: Work, journal: tuple[Envelope, ...]) -> Briefing:
    """Return what the agent that works on a request must know besides the request itself.

    `journal`: the records at the positions of `work.journal`.
    """
    return replace(
        _told(state, work),
        journal=journal,
        forked=work.forked,
        settled=dict(work.settled),
        private=bool(state.workspace),
        run=state.run,
        env={f"INPUT_{name.upper().replace('-', '_')}": value for name, value in _setup(state).inputs.items()},
    )


def _told(state: RunState, work: Work) -> Briefing:
    """Return what differs by the kind of request."""
    setup = _setup(state)
    role = state.role(work.role)
    if role is None:
        raise AssertionError(f"a plan with role {work.role!r} is not adopted")
    match work.kind:
        case "subtask":
            subtask = state.subtasks[work.subtask or ""]
            base = tree.base_of(state, subtask)
            return Briefing(
                shortened(setup.goal),
                role,
                setup.permissions,
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
            return Briefing(
                setup.goal,
                role,
                setup.permissions,
                base=files,
                start=files,
                findings=findings,
            )
        case "plan":
            told = work.told
            if told is None:
                raise AssertionError("a plan is asked for once its request is handed out")
            offers = tuple(
                Offer(name, offered.about, offered.tools)
                for name, offered in {**told.brought, **setup.roles}.items()
                if name not in NOT_WORKERS
            )
            return Briefing(
                setup.goal,
                role,
                setup.permissions,
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
    """Return a goal as a worker is told it."""
    goal = goal.strip()
    return goal if len(goal) <= GOAL_TOLD else goal[: GOAL_TOLD - 1] + "…"


def _moved(ref: FileRef) -> FileRef:
    return ref.model_copy(update={"path": f"{tree.LEFT}{ref.path}"})
