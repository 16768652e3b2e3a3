"""What a role is told: the attachments of a request, derived from the state as it is sent."""

from agents.briefing import Briefing, Offer
from swarm.core import tree
from swarm.core.plan import NOT_WORKERS
from swarm.core.state import RunState, Work, finding_of

GOAL_TOLD = 1_200
"""Characters of the goal that a worker is told; planners and critics are told all of it.

Small planners drop details on the way from the goal to a subtask; who sees the goal as well can still keep them.
"""


def brief(state: RunState, work: Work) -> Briefing:
    """Return what the agent that works on a request must know besides the request itself."""
    setup = state.setup
    if setup is None:
        raise AssertionError("no request comes before the goal")
    role = setup.roles[work.role]
    journal = tuple(work.journal)
    env = {f"INPUT_{name.upper().replace('-', '_')}": value for name, value in setup.inputs.items()}
    match work.kind:
        case "subtask":
            subtask = state.subtasks[work.subtask or ""]
            base = tree.base_of(state, subtask)
            return Briefing(
                shortened(setup.goal),
                role,
                setup.permissions,
                journal,
                outward={name: deed for name, deed in subtask.outward.items() if deed.attempt < work.attempt},
                settled=dict(work.settled),
                private=bool(state.workspace),
                base=base,
                start=tree.start_of(state, subtask, base),
                findings=tuple(finding_of(state.subtasks[need]) for need in subtask.spec.needs),
                run=state.run,
                env=env,
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
                journal,
                settled=dict(work.settled),
                private=bool(state.workspace),
                base=files,
                start=files,
                findings=findings,
                run=state.run,
                env=env,
            )
        case "plan":
            offers = tuple(
                Offer(name, offered.about, offered.tools)
                for name, offered in setup.roles.items()
                if name not in NOT_WORKERS
            )
            told = work.told
            if told is None:
                raise AssertionError("a plan is asked for once its request is handed out")
            return Briefing(
                setup.goal,
                role,
                setup.permissions,
                journal,
                settled=dict(work.settled),
                private=bool(state.workspace),
                base=state.workspace,
                start=told.files,
                findings=told.findings,
                offers=offers,
                most_subtasks=told.most_subtasks,
                run=state.run,
                env=env,
            )


def shortened(goal: str) -> str:
    """Return a goal as a worker is told it."""
    goal = goal.strip()
    return goal if len(goal) <= GOAL_TOLD else goal[: GOAL_TOLD - 1] + "…"
