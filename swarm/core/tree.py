"""The run's files as data: what an attempt starts from, what a result may merge, what is handed over."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from agents.files.names import SideBySide
from agents.files.names import pattern as file_pattern
from bus.setup import FileChange, FileRef
from swarm.core import plan
from swarm.core.state import RunState, Status, SubtaskState

LEFT = ".swarm/yours/"
"""Where an attempt finds what its predecessor had made and it does not start from; never part of a result."""


def overlay(tree: dict[str, FileRef], changes: Iterable[FileChange]) -> None:
    """Apply changes to a tree, in place."""
    for change in changes:
        if change.sha256 is None:
            tree.pop(change.path, None)
        else:
            tree[change.path] = FileRef(path=change.path, sha256=change.sha256, bytes=change.bytes)


def ref_of(change: FileChange) -> FileRef | None:
    """Return what a file is after a change; None where it is gone."""
    if change.sha256 is None:
        return None
    return FileRef(path=change.path, sha256=change.sha256, bytes=change.bytes)


def hash_at(tree: Mapping[str, FileRef], path: str) -> str | None:
    """Return the hash of what a tree has at a path; None where it has nothing."""
    here = tree.get(path)
    return here.sha256 if here else None


def in_the_way(tree: Mapping[str, FileRef], changes: Sequence[FileChange]) -> dict[str, str]:
    """Return which files that changes make cannot lie in the tree as changed, each with a file that is in its way."""
    made = [change.path for change in changes if change.sha256 is not None and change.path not in tree]
    if not made:
        return {}
    gone = {change.path for change in changes if change.sha256 is None}
    return SideBySide(path for path in tree if path not in gone).add(made)


# What an attempt works on


def base_of(state: RunState, subtask: SubtaskState) -> dict[str, FileRef]:
    """Return what an attempt's changes are told against: the workspace and the results it builds on."""
    tree = dict(state.workspace)
    accepted = {one.spec.id: one for one in _sources(state, (*subtask.spec.needs, *subtask.beside))}
    for one in sorted(accepted.values(), key=lambda one: one.accepted_at):
        overlay(tree, one.applied)
    return tree


def start_of(subtask: SubtaskState, base: dict[str, FileRef]) -> dict[str, FileRef]:
    """Return the files an attempt finds in its folder: its base, and what its predecessors had made of it.

    Where the base has moved on since, the base's version stands: to lay the old one over it would undo what others did,
    and nobody would see it. So do its files where the old one cannot lie beside them. `left_behind` says what that
    leaves out.
    """
    tree = dict(base)
    overlay(tree, _fitting(subtask, base))
    return tree


def left_behind(subtask: SubtaskState, base: dict[str, FileRef]) -> tuple[FileRef, ...]:
    """Return its predecessors' versions that an attempt does not start from, since their base has moved on."""
    fitting = {change.path for change in _fitting(subtask, base)}
    moved = (change for change in _own(subtask, base) if change.path not in fitting)
    left = (change for change in moved if hash_at(base, change.path) != change.sha256)
    return tuple(ref for change in left if (ref := ref_of(change)) is not None)


def _fitting(subtask: SubtaskState, base: dict[str, FileRef]) -> list[FileChange]:
    """Return what earlier attempts had changed, as far as it can be done to the base."""
    same = [change for change in _own(subtask, base) if hash_at(base, change.path) == change.base]
    apart = in_the_way(base, same)
    return [change for change in same if change.path not in apart]


def _own(subtask: SubtaskState, base: dict[str, FileRef]) -> Iterator[FileChange]:
    """Yield what earlier attempts had changed: the rejected one, and after it those without a result.

    Of the rejected one merged with what others had changed, where that still fits the base.
    """
    for change in subtask.rejected.files if subtask.rejected else ():
        if change.path not in subtask.unfinished:
            carried = subtask.carried.get(change.path)
            yield carried if carried is not None and carried.base == hash_at(base, change.path) else change
    yield from subtask.unfinished.values()


def leave_unfinished(subtask: SubtaskState, base: dict[str, FileRef], changes: Iterable[FileChange]) -> None:
    """Keep what an attempt changed that ends without a result, for the next one to start from."""
    for change in changes:
        before = hash_at(base, change.path)
        subtask.unfinished[change.path] = change.model_copy(update={"base": before})


# Which result stands on which


def given(state: RunState, subtask: SubtaskState) -> frozenset[str]:
    """Return the accepted subtasks whose files an attempt of this one is given.

    Kept with each accepted subtask, so that nobody walks the whole plan for each request: what changes above it redoes
    it too.
    """
    return frozenset(one.spec.id for one in _sources(state, (*subtask.spec.needs, *subtask.beside)))


def sources_of(state: RunState, subtask: SubtaskState) -> frozenset[str]:
    """Return the subtasks whose files belong with those of a result that has just been merged.

    Who is given a merged file is given all the files of those whose changes it holds: they may name one another.
    """
    merged = {one.spec.id for one in _sources(state, subtask.merged_onto)}
    return frozenset(subtask.stands_on | merged | ({subtask.spec.id} if subtask.applied else set()))


def _sources(state: RunState, names: Iterable[str]) -> Iterator[SubtaskState]:
    for name in names:
        if name in state.subtasks:
            for source in state.subtasks[name].sources:
                one = state.subtasks.get(source)
                if one is not None and one.status == Status.ACCEPTED:
                    yield one


def built_on(state: RunState, names: Iterable[str]) -> set[str]:
    """Return the subtasks, and all that need them or were given files of theirs."""
    found: set[str] = set()
    more = set(names)
    while more:
        found |= plan.closure(more, state.needed_by)
        more = {name for name in state.accepted_order if name not in found and state.subtasks[name].stands_on & found}
    return found


def rebuilt(state: RunState) -> tuple[dict[str, FileRef], dict[str, str]]:
    """Return the run's tree, and who changed what in it last, from the accepted results alone."""
    tree = dict(state.workspace)
    changed_by: dict[str, str] = {}
    for name in state.accepted_order:
        applied = state.subtasks[name].applied
        overlay(tree, applied)
        changed_by.update((change.path, name) for change in applied)
    return tree, changed_by


def outcome_files(state: RunState) -> tuple[FileRef, ...]:
    """Return what is handed over: files that match the scenario's patterns, else all new or changed ones."""
    patterns = state.setup.outcome if state.setup else ()
    if patterns:
        chosen = [state.tree[path] for path in meant(patterns, state.tree)]
    else:
        chosen = [ref for path, ref in state.tree.items() if hash_at(state.workspace, path) != ref.sha256]
    return tuple(sorted(chosen, key=lambda ref: ref.path))


def deleted_files(state: RunState) -> tuple[str, ...]:
    """Return the workspace's files that are gone; where the scenario has patterns, those that match them."""
    patterns = state.setup.outcome if state.setup else ()
    gone = sorted(state.workspace.keys() - state.tree.keys())
    return tuple(meant(patterns, gone) if patterns else gone)


def meant(patterns: Iterable[str], paths: Iterable[str]) -> list[str]:
    """Return the paths that match a pattern of `outcome`: `*` spans folders too, and `**/` none as well."""
    tests = [_means(pattern.removeprefix("./")) for pattern in patterns]
    return [path for path in paths if any(test(path) for test in tests)]


def _means(pattern: str) -> Callable[[str], bool]:
    spans = file_pattern(pattern) if "/" in pattern else None
    return lambda path: fnmatchcase(path, pattern) or (spans is not None and spans(path))
