"""The run's files as data: what an attempt starts from, what a result may merge, what is handed over."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from bus.events import ResultSubmitted
from bus.setup import FileChange, FileRef
from swarm.core.state import RunState, Status, SubtaskState


def overlay(tree: dict[str, FileRef], changes: Iterable[FileChange]) -> None:
    """Apply changes to a tree, in place."""
    for change in changes:
        if change.sha256 is None:
            tree.pop(change.path, None)
        else:
            tree[change.path] = FileRef(path=change.path, sha256=change.sha256, bytes=change.bytes)


def base_of(state: RunState, subtask: SubtaskState) -> dict[str, FileRef]:
    """Return what an attempt's changes are told against: the workspace and the results it builds on."""
    tree = dict(state.workspace)
    accepted = {one.spec.id: one for one in _sources(state, (*subtask.spec.needs, *subtask.beside))}
    for one in sorted(accepted.values(), key=lambda one: one.accepted_at):
        overlay(tree, one.result.files if one.result else ())
    return tree


def start_of(state: RunState, subtask: SubtaskState, base: dict[str, FileRef]) -> dict[str, FileRef]:
    """Return the files an attempt finds in its folder: its base, and what its rejected predecessor had made."""
    if subtask.rejected is None:
        return base
    tree = dict(base)
    met = {path for path, name in state.changed_by.items() if name in subtask.beside}
    overlay(tree, (change for change in subtask.rejected.files if change.path not in met))
    return tree


def sources_of(state: RunState, subtask: SubtaskState) -> frozenset[str]:
    """Return the accepted subtasks with files that a result builds on, and itself if it has any.

    Kept with each accepted subtask, so that nobody walks the whole plan for each request: what changes above it redoes
    it too.
    """
    below = {one.spec.id for one in _sources(state, subtask.spec.needs)}
    return frozenset(below | {subtask.spec.id} if subtask.result and subtask.result.files else below)


def _sources(state: RunState, names: Iterable[str]) -> Iterator[SubtaskState]:
    for name in names:
        if name in state.subtasks:
            for source in state.subtasks[name].sources:
                one = state.subtasks.get(source)
                if one is not None and one.status == Status.ACCEPTED:
                    yield one


def conflicts(state: RunState, result: ResultSubmitted) -> list[str]:
    """Return the paths that another accepted result has changed otherwise since this one's base."""
    found = []
    for change in result.files:
        here = state.tree.get(change.path)
        now = here.sha256 if here else None
        if now not in (change.base, change.sha256):
            found.append(change.path)
    return found


def merged(state: RunState, *, without: Iterable[str]) -> tuple[dict[str, FileRef], dict[str, str]]:
    """Return the tree, and who changed what, as it is without some accepted results."""
    left_out = set(without)
    tree = dict(state.workspace)
    changed_by: dict[str, str] = {}
    for name in state.accepted_order:
        if name not in left_out:
            files = _files(state, name)
            overlay(tree, files)
            changed_by.update((change.path, name) for change in files)
    return tree, changed_by


def outcome_files(state: RunState) -> tuple[FileRef, ...]:
    """Return what is handed over: files that match the scenario's patterns, else all new or changed ones."""
    patterns = state.setup.outcome if state.setup else ()
    if patterns:
        chosen = [ref for path, ref in state.tree.items() if any(fnmatchcase(path, pattern) for pattern in patterns)]
    else:
        chosen = [ref for path, ref in state.tree.items() if not _same(state.workspace, ref)]
    return tuple(sorted(chosen, key=lambda ref: ref.path))


def _same(tree: Mapping[str, FileRef], ref: FileRef) -> bool:
    here = tree.get(ref.path)
    return here is not None and here.sha256 == ref.sha256


def _files(state: RunState, name: str) -> tuple[FileChange, ...]:
    result = state.subtasks[name].result
    return result.files if result else ()
