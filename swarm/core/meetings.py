"""Where results meet: files that two changed differently or that cannot lie side by side; edits that undo one another.

Facts, no bytes.
"""

from dataclasses import dataclass

from bus.events import FilesMerged, MergeTried, ResultSubmitted
from bus.setup import FileChange, FileRef
from swarm.core import tree
from swarm.core.state import RunState, SubtaskState


@dataclass(frozen=True, slots=True)
class Meeting:
    """One file that a result and the run's tree have changed differently; None where it is not there."""

    path: str
    base: FileRef | None
    """What both began with."""
    ours: FileRef | None
    """What the result made of it."""
    theirs: FileRef | None
    """What stands in the tree."""
    beside: str | None = None
    """Another file of the tree, where what they meet in is that the two cannot lie side by side."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A merge that the rules wait for: whoever has the bytes tries it and hands in `MergeTried`."""

    subtask: str
    attempt: int
    meetings: tuple[Meeting, ...]


def wanted(state: RunState) -> Wanted | None:
    """Return the merge that is to be tried now."""
    if not (state.running and state.to_merge) or state.tried is not None:
        return None
    subtask = state.subtasks[state.to_merge[0]]
    met = changes_met(state, subtask.result)
    if not met:
        return None
    base = tree.base_of(state, subtask)
    changes = [change for change in (subtask.result.files if subtask.result else ()) if change.path in met]
    meetings = tuple(_meeting(state, base, change, met[change.path]) for change in changes)
    return Wanted(subtask.spec.id, subtask.attempts, meetings)


def answers(state: RunState, event: MergeTried) -> bool:
    """Tell whether this is the outcome of the merge that is to be tried now."""
    now = wanted(state)
    if now is None or (now.subtask, now.attempt) != (event.subtask, event.attempt):
        return False
    paths = [*(change.path for change in event.merged), *(clash.path for clash in event.clashes)]
    theirs = {meeting.path: meeting.theirs and meeting.theirs.sha256 for meeting in now.meetings}
    return sorted(paths) == sorted(theirs) and all(theirs[change.path] == change.base for change in event.merged)


def changes_met(state: RunState, result: ResultSubmitted | None) -> dict[str, str]:
    """Return the files in which a result meets what others have made since its base, each with theirs in the tree.

    That is the same file where they have changed it otherwise, or another beside which it cannot lie.
    """
    changes = result.files if result else ()
    found = tree.in_the_way(state.tree, changes)
    for change in changes:
        if tree.hash_at(state.tree, change.path) not in (change.base, change.sha256):
            found[change.path] = change.path
    return found


def _meeting(state: RunState, base: dict[str, FileRef], change: FileChange, there: str) -> Meeting:
    before = base.get(change.path)
    if before is not None and before.sha256 != change.base:
        before = None  # its sender says it began with something else than it was given
    beside = there if there != change.path else None
    return Meeting(change.path, before, tree.ref_of(change), state.tree.get(change.path), beside)


# Edits that undo one another
#
# A subtask that was told of another's change and hands in its own old version all the same has undone that change. Once
# may be meant; the second time with the same two versions, in either direction, it is two that will go on for ever.


def note_versions(state: RunState, result: ResultSubmitted) -> None:
    """Remember of each version that is handed in what it was made from, the first time."""
    for change in result.files:
        state.first_base.setdefault((change.path, change.sha256), change.base)


def note_put_back(state: RunState, event: FilesMerged) -> None:
    """Remember the versions that a result puts in the place of others'. The tree is still that before it."""
    state.put_back.update(_pair(change) for change in _putting_back(state, event.subtask, event.files))


def put_back_again(state: RunState, subtask: SubtaskState, result: ResultSubmitted) -> str | None:
    """Return in words which edits a result undoes that were put back before; None where it does not."""
    for change in _putting_back(state, subtask.spec.id, result.files):
        if _pair(change) in state.put_back:
            return (
                f"{change.path}: {subtask.spec.id!r} and {state.changed_by[change.path]!r} put back "
                "one another's version of it again and again"
            )
    return None


def _putting_back(state: RunState, name: str, changes: tuple[FileChange, ...]) -> list[FileChange]:
    return [
        change
        for change in changes
        if state.changed_by.get(change.path, name) != name
        and tree.hash_at(state.tree, change.path) == change.base != change.sha256
        and state.first_base.get((change.path, change.sha256), change.base) != change.base
    ]


def _pair(change: FileChange) -> tuple[str, frozenset[str | None]]:
    return change.path, frozenset((change.base, change.sha256))
