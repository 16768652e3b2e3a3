"""A subtask's way from ready to accepted, and what follows when all are. In place, for `apply`."""

from collections.abc import Iterable

from swarm.core import leases, tree
from swarm.core.state import RunState, Status, SubtaskState, Work

_MOVED = (
    "what your last attempt stood on has changed since. Your folder holds the new version of it; "
    "what you had made before lies in"
)
_NAMED = 20
"""Files that are named to an attempt."""


def ready(state: RunState, subtask: SubtaskState) -> None:
    """Offer the next attempt of a subtask whose needs are met."""
    subtask.status = Status.READY
    spec = subtask.spec
    attempt = subtask.attempts + 1
    work = Work(spec.id, "subtask", spec.role, attempt, subtask=spec.id, feedback=subtask.feedback, order=subtask.order)
    if subtask.rejected is not None or subtask.unfinished:
        left = [ref.path for ref in tree.left_behind(subtask, tree.base_of(state, subtask))]
        for path in left:
            told = f"{path}: {_MOVED} {tree.LEFT}{path}, to be read; it is no part of your result."
            work.feedback = (*work.feedback, told)
        changed = [one.path for one in subtask.unfinished.values() if one.sha256 != one.base and one.path not in left]
        if changed:
            more = f" and {len(changed) - _NAMED} more files" if len(changed) > _NAMED else ""
            told = f"it ended before it was done; go on from what it made of {', '.join(changed[:_NAMED])}{more}"
            work.feedback = (*work.feedback, told)
    leases.want(state, work)


def want_review(state: RunState, subtask: SubtaskState) -> None:
    """Ask the critic about the present result."""
    name, attempt = subtask.spec.id, subtask.attempts
    work = Work(f"review-{name}-{attempt}", "review", "critic", 1, subtask=name, of_attempt=attempt)
    work.accept, work.order = subtask.spec.accept, subtask.order
    leases.want(state, work)


def approve(state: RunState, subtask: SubtaskState) -> None:
    """Take a result as good; if it brings files, they are merged first."""
    if subtask.result and subtask.result.files:
        subtask.status = Status.REVIEWED
        state.to_merge.append(subtask.spec.id)
    else:
        accept(state, subtask)


def accept(state: RunState, subtask: SubtaskState) -> None:
    """Make a result count; what waited for it may begin."""
    subtask.status, subtask.rejected, subtask.feedback, subtask.repeats = Status.ACCEPTED, None, (), 0
    subtask.carried, subtask.unfinished = {}, {}
    subtask.accepted_at, subtask.stands_on = state.position, tree.given(state, subtask)
    subtask.sources = tree.sources_of(state, subtask)
    state.accepted_order.append(subtask.spec.id)
    state.not_accepted -= 1
    for name in state.needed_by[subtask.spec.id]:
        other = state.subtasks[name]
        other.unmet -= 1
        if other.unmet == 0:
            ready(state, other)
    after_acceptance(state)


def review_again(state: RunState) -> None:
    """Let the outcome be judged anew, by what is wanted of it now."""
    state.outcome_review = state.stuck = None
    for work in [work for work in state.works.values() if work.kind == "review" and work.subtask is None]:
        leases.close(state, work)
    after_acceptance(state)


def after_acceptance(state: RunState) -> None:
    """Ask for the review of the outcome once all is accepted."""
    if state.all_accepted and state.setup:
        state.reviews_of_outcome += 1
        request = f"review-outcome-{state.reviews_of_outcome}"
        accept = state.setup.accept
        leases.want(
            state, Work(request, "review", "critic", 1, of_attempt=state.round, accept=accept, round=state.round)
        )


def take_out(state: RunState, out: Iterable[str]) -> list[str]:
    """Take accepted results out of the run's tree, and return those that must be merged again, in order.

    What was merged with a change that goes holds it still; so its own change is merged anew with what is left. `out`
    holds all that stands on what goes (`tree.built_on`): it is done again, not only merged.
    """
    gone = set(out)
    again: list[str] = []
    for name in state.accepted_order:  # who was merged with others was accepted after them
        if name not in gone and not state.subtasks[name].merged_onto.isdisjoint(gone):
            again.append(name)
            gone.add(name)
    state.accepted_order = [name for name in state.accepted_order if name not in gone]
    state.tree, state.changed_by = tree.rebuilt(state)
    for name in again:
        merge_again(state, state.subtasks[name])
    return again


def merge_again(state: RunState, subtask: SubtaskState) -> None:
    """Have an approved result merged, with nothing kept of how it was before."""
    subtask.status = Status.REVIEWED
    subtask.applied, subtask.merged_onto, subtask.uncounted = (), frozenset(), subtask.attempts
    state.to_merge.append(subtask.spec.id)
