"""Results and reviews: what is approved, sent back, done again, and where a plan ends. In place, for `apply`."""

from collections.abc import Iterable

from bus.envelope import Envelope
from bus.events import (
    DoubtSettled,
    FilesConflicted,
    FilesMerged,
    NoProgressNoticed,
    ResultSubmitted,
    ReviewGiven,
    WorkFailed,
)
from bus.setup import FileChange
from swarm.core import leases, meetings, plans, subtasks, tree
from swarm.core.state import RunState, Status, Stuck, SubtaskState, Work

FEEDBACK_KEPT = 3
_HANDED_IN_AGAIN = "the same result as the rejected one was handed in again"


def result(state: RunState, envelope: Envelope, event: ResultSubmitted) -> None:
    """Take what an attempt handed in."""
    work = leases.under(state, envelope)
    leases.answered(state, work, envelope)
    subtask = state.subtasks[work.subtask or ""]
    subtask.result = event
    if subtask.feedback and subtask.rejected is not None and _same_result(subtask.rejected, event):
        state.notice = NoProgressNoticed(what="result", detail=_HANDED_IN_AGAIN, attempt=work.attempt)
        state.notice_about = subtask.spec.id
    elif undone := meetings.put_back_again(state, subtask, event):
        state.notice = NoProgressNoticed(what="edits", detail=undone, attempt=work.attempt)
        state.notice_about = subtask.spec.id
    elif subtask.spec.accept:
        subtask.status = Status.REVIEWED
        subtasks.want_review(state, subtask)
    else:
        subtasks.approve(state, subtask)
    meetings.note_versions(state, event)


def _same_result(one: ResultSubmitted, other: ResultSubmitted) -> bool:
    """Tell whether nothing is different, not even what files were before: what met another's edits may now go in."""
    return (one.text, one.data, one.files) == (other.text, other.data, other.files)


def merge(state: RunState, _: Envelope, event: FilesMerged) -> None:
    """Bring an accepted result's files into the tree."""
    state.to_merge.popleft()
    state.tried = None
    meetings.note_put_back(state, event)
    subtask = state.subtasks[event.subtask]
    subtask.applied = event.files
    subtask.merged_onto = frozenset(state.changed_by[path] for path in event.merged if path in state.changed_by)
    tree.overlay(state.tree, event.files)
    state.changed_by.update((change.path, event.subtask) for change in event.files)
    subtasks.accept(state, subtask)


def conflict(state: RunState, _: Envelope, event: FilesConflicted) -> None:
    """Send a result back that met another's changes; its next attempt builds on those."""
    state.to_merge.popleft()
    subtask = state.subtasks[event.subtask]
    subtask.beside = tuple(dict.fromkeys((*subtask.beside, *event.others)))
    tried, state.tried = state.tried, None
    why = "; ".join(f"{clash.path}: {clash.why}" for clash in tried.clashes) if tried else ", ".join(event.paths)
    by = f" by {', '.join(event.others)}" if event.others else ""
    told = (
        f"{', '.join(event.paths)}: changed meanwhile{by}, and the two versions cannot be "
        f"merged ({why}). Your folder now holds that version; make your change again on top of it."
    )
    _send_back(state, subtask, told, carried=tried.merged if tried else ())


def review(state: RunState, envelope: Envelope, event: ReviewGiven) -> None:
    """Take the critic's word."""
    work = leases.under(state, envelope)
    leases.answered(state, work, envelope)
    if work.subtask is None:
        _outcome_review(state, event)
    elif event.accepted:
        subtasks.approve(state, state.subtasks[work.subtask])
    else:
        _send_back(state, state.subtasks[work.subtask], event.feedback)


def _outcome_review(state: RunState, event: ReviewGiven) -> None:
    state.outcome_review = event
    if event.accepted:
        return
    redo = {item.subtask: item.why for item in event.redo if item.subtask in state.subtasks}
    for path in event.named:
        if path in state.changed_by:
            redo.setdefault(state.changed_by[path], event.feedback)
    tries = state.limits.attempts
    left = all(state.subtasks[name].attempts - state.subtasks[name].uncounted < tries for name in redo)
    state.stuck = Stuck("rounds", event.feedback, tuple(redo.items()) if left else ())
    go_on(state)


def _send_back(state: RunState, subtask: SubtaskState, why: str, *, carried: Iterable[FileChange] = ()) -> None:
    """Reject the present result: another attempt follows, or, if none is left, another plan.

    `carried`: changes that the next attempt starts from in place of the result's own.
    """
    subtask.rejected, subtask.result = subtask.result, None
    subtask.carried = {change.path: change for change in carried}
    subtask.unfinished = {}
    _retry(state, subtask, why)


def _retry(state: RunState, subtask: SubtaskState, why: str, *, retryable: bool = True) -> None:
    subtask.feedback = (*subtask.feedback, why)[-FEEDBACK_KEPT:]
    if retryable and subtask.attempts - subtask.uncounted < state.limits.attempts:
        subtasks.ready(state, subtask)
        return
    subtask.status = Status.FAILED
    times = f"{subtask.attempts} attempts" if subtask.attempts > 1 else "1 attempt"
    state.stuck = Stuck("attempts", f"subtask {subtask.spec.id!r} failed after {times}: {why}")
    go_on(state)


def go_on(state: RunState) -> None:
    """Leave a dead end by another round, if one is left: redo what was named, else ask the planner."""
    stuck = state.stuck
    if stuck is None or stuck.final or state.round >= state.limits.rounds:
        return
    state.stuck = None
    if any(work.kind == "plan" for work in state.works.values()):
        return  # another way is being looked for already
    state.round += 1
    if stuck.redo:
        _redo(state, dict(stuck.redo))
    else:
        plans.want_plan(state, (stuck.reason,))


def _redo(state: RunState, why: dict[str, str]) -> None:
    """Do accepted subtasks again, and all that was built on them."""
    again = tree.built_on(state, why)
    merging = subtasks.take_out(state, again)
    open_again = again.union(merging)
    for name in again:
        subtask = state.subtasks[name]
        subtask.rejected, subtask.result = subtask.result, None
        subtask.unfinished = {}
        subtask.status = Status.WAITING
        subtask.unmet = sum(need in open_again for need in subtask.spec.needs)
        if name in why:
            subtask.feedback = (*subtask.feedback, why[name])[-FEEDBACK_KEPT:]
        else:
            subtask.uncounted = subtask.attempts
        _start_from_what_was_judged(subtask, without=open_again)
    state.not_accepted += len(open_again)
    for name in sorted(again):
        if state.subtasks[name].unmet == 0:
            subtasks.ready(state, state.subtasks[name])


def _start_from_what_was_judged(subtask: SubtaskState, *, without: set[str]) -> None:
    """Give the next attempt the merged files, and the files of those they were merged with, as far as these stay."""
    others = dict.fromkeys((*subtask.beside, *sorted(subtask.merged_onto)))
    subtask.beside = tuple(name for name in others if name not in without)
    subtask.carried = {change.path: change for change in subtask.applied}
    subtask.applied, subtask.merged_onto = (), frozenset()


def failure(state: RunState, envelope: Envelope, event: WorkFailed) -> None:
    """Take the end of an attempt that has no result."""
    work = leases.under(state, envelope)
    retryable = event.retryable and not (work.kind == "subtask" and event.kind == "no_progress")
    _end_attempt(state, work, event.reason, retryable=retryable)


def give_up(state: RunState, event: DoubtSettled) -> None:
    """End a request whose outward call is in doubt, as a person said."""
    work = state.works.get(event.request)
    if work is not None:
        why = f"{event.tool} was begun, nobody knows whether it was done, and a person said to end it here"
        _end_attempt(state, work, why, retryable=False)


def _end_attempt(state: RunState, work: Work, why: str, *, retryable: bool) -> None:
    leases.close(state, work)
    if work.kind == "subtask":
        subtask = state.subtasks[work.subtask or ""]
        if work.changes:
            made = (change for changes in work.changes.values() for change in changes)
            tree.leave_unfinished(subtask, tree.base_of(state, subtask), made)
        _retry(state, subtask, why, retryable=retryable)
    elif retryable and work.attempt < state.limits.attempts:
        again = Work(work.request, work.kind, work.role, work.attempt + 1, feedback=(*work.feedback, why))
        again.subtask, again.of_attempt, again.accept, again.round = (
            work.subtask,
            work.of_attempt,
            work.accept,
            work.round,
        )
        leases.want(state, again)
    elif not retryable and work.subtask is not None and state.setup is not None and state.setup.plan is None:
        # A check that cannot be made: the planner wanted it, and may find a plan without.
        _retry(state, state.subtasks[work.subtask], why, retryable=False)
    else:
        state.stuck = Stuck("plan" if work.kind == "plan" else "attempts", f"{work.request}: {why}", final=True)


def no_progress(state: RunState, _: Envelope, event: NoProgressNoticed) -> None:
    """Act on the same again: it is told once, then another way is looked for."""
    state.notice = None
    if event.what == "plan":
        state.plan_repeats += 1
    elif state.notice_about is not None:
        subtask, state.notice_about = state.subtasks[state.notice_about], None
        subtask.repeats += 1
        subtask.result = None
        if event.what == "edits":
            told = f"{event.detail}; keep what the other made of it, and add only what is yours"
        else:
            told = f"{event.detail}; whatever else you do, change it. What was wrong: {subtask.feedback[-1]}"
        _retry(state, subtask, told, retryable=subtask.repeats == 1)
