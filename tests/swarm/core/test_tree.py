import pytest

from bus.events import FilesConflicted, FilesMerged, ResultSubmitted
from bus.setup import FileChange, FileRef, Limits, Subtask
from swarm.core import plan, tree
from swarm.core.state import RunState, Status, SubtaskState
from tests.support.simulation import Simulation, setup_of

WIDE = Limits(tokens=10_000_000, subtasks=400, parallel=64, attempts=5, rounds=8)
WORKSPACE = tuple(FileRef(path=f"f{number}.txt", sha256="w", bytes=1) for number in range(20))


def walked(state, subtask):
    """The base by the whole plan: all accepted results that can be reached over what they build on, in their order."""
    edges = {
        name: [*one.spec.needs, *one.beside, *(one.merged_onto if one.status is Status.ACCEPTED else ())]
        for name, one in state.subtasks.items()
    }
    below = plan.closure((*subtask.spec.needs, *subtask.beside), edges)
    files = dict(state.workspace)
    for name in state.accepted_order:
        if name in below:
            tree.overlay(files, state.subtasks[name].applied)
    return files


class Watched(Simulation):
    """A run that compares, after each event, what is kept with what can be told from the whole."""

    compared = 0
    kept = 0

    def _plan(self):
        """Half of the revisions change one subtask of the present plan and keep the rest."""
        present = [one.spec for one in self.state.subtasks.values()]
        if not present or self.random.random() < 0.5:
            return super()._plan()
        number = self.random.randrange(len(present))
        present[number] = present[number].model_copy(update={"instruction": f"otherwise {self.ids}"})
        self.kept += 1
        return tuple(present)

    def check(self):
        super().check()
        state = self.state
        assert (state.tree, state.changed_by) == tree.rebuilt(state)
        accepted = {name for name, one in state.subtasks.items() if one.status is Status.ACCEPTED}
        assert accepted == set(state.accepted_order)
        assert state.not_accepted == len(state.subtasks) - len(accepted)
        for one in state.subtasks.values():
            assert one.unmet == len(set(one.spec.needs) - accepted)
            if one.status is Status.ACCEPTED:
                assert one.stands_on | one.merged_onto | one.sources <= accepted
        for work in state.leases.values():
            if work.kind == "subtask":
                subtask = state.subtasks[work.subtask]
                wanted = walked(state, subtask)
                assert tree.base_of(state, subtask) == wanted
                self.compared += wanted != state.workspace


@pytest.mark.parametrize("workspace", [(), WORKSPACE], ids=["empty", "full"])
@pytest.mark.parametrize("seed", range(12))
def test_what_is_kept_of_accepted_results_is_what_the_whole_plan_gives(seed, workspace):
    simulation = Watched(setup_of(limits=WIDE), seed, layers=4, width=6, workspace=workspace)
    simulation.run()
    assert simulation.compared


def test_results_meet_merge_and_clash_in_such_runs_and_are_merged_again_after_a_redo():
    merged, conflicts, again, kept = 0, 0, 0, 0
    for seed in range(60):
        setup = setup_of(limits=WIDE)
        simulation = Watched(setup, seed, faults=0.3, layers=2, width=4, workspace=WORKSPACE, paths=8)
        simulation.run()
        done = [e.event for e in simulation.log if isinstance(e.event, FilesMerged)]
        merged += sum(bool(event.merged) for event in done)
        conflicts += sum(isinstance(e.event, FilesConflicted) for e in simulation.log)
        again += len(done) - len({(event.subtask, event.attempt) for event in done})
        kept += simulation.kept
    assert merged > 20
    assert conflicts > 10
    assert again
    assert kept > 5


def change(path, base="w", sha256="r"):
    return FileChange(path=path, base=base, sha256=sha256, bytes=1)


def test_what_a_change_makes_none_of_is_gone_from_the_tree():
    files = {"a.txt": FileRef(path="a.txt", sha256="w", bytes=1)}
    tree.overlay(files, [change("a.txt", sha256=None), change("b.txt", None), change("never.txt", sha256=None)])
    assert files == {"b.txt": FileRef(path="b.txt", sha256="r", bytes=1)}


def test_what_is_new_or_changed_is_handed_over_unless_a_scenario_names_what_is():
    there = {path: FileRef(path=path, sha256="w", bytes=1) for path in ("README.md", "b.txt", "gone.txt")}
    state = RunState("run", setup=setup_of(limits=WIDE), workspace=there, tree=dict(there))
    tree.overlay(state.tree, [change("b.txt"), change("a.md", None), change("gone.txt", sha256=None)])
    assert [ref.path for ref in tree.outcome_files(state)] == ["a.md", "b.txt"]
    state.setup = setup_of(limits=WIDE, outcome=("*.md",))
    assert [ref.path for ref in tree.outcome_files(state)] == ["README.md", "a.md"]


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ([change("readme.md", None)], {"readme.md": "README.md"}),
        ([change("README.md", "w", None), change("readme.md", None)], {}),
        ([change("README.md")], {}),
        ([change("docs", None), change("docs/a.md", None)], {"docs/a.md": "docs"}),
    ],
    ids=["another's", "renamed", "the same", "its own"],
)
def test_what_a_result_makes_is_held_against_the_tree_as_it_leaves_it(changes, met):
    there = {"README.md": FileRef(path="README.md", sha256="w", bytes=1)}
    assert tree.in_the_way(there, changes) == met


def test_an_attempt_starts_without_what_cannot_lie_beside_its_base_and_finds_it_to_be_read():
    subtask = SubtaskState(Subtask(id="a", role="coder", instruction="write"))
    files = (change("config", sha256=None), change("config/settings.ini", None), change("notes.md", None))
    subtask.rejected = ResultSubmitted(text="done", files=files, effects=0)
    base = {"config": FileRef(path="config", sha256="moved on", bytes=1)}
    assert tree.start_of(subtask, base).keys() == {"config", "notes.md"}
    assert [ref.path for ref in tree.left_behind(subtask, base)] == ["config/settings.ini"]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("a.md", ["a.md"]),
        ("./a.md", ["a.md"]),
        ("*.md", ["a.md", "docs/a.md", "docs/deep/b.md"]),
        ("**/*.md", ["a.md", "docs/a.md", "docs/deep/b.md"]),
        ("docs/*.md", ["docs/a.md", "docs/deep/b.md"]),
        ("docs/**/*.md", ["docs/a.md", "docs/deep/b.md"]),
        ("docs/", ["docs/a.md", "docs/c.txt", "docs/deep/b.md"]),
        ("docs", []),
    ],
)
def test_a_pattern_of_the_outcome_means_files_as_a_glob_does(pattern: str, meant: list[str]) -> None:
    assert tree.meant([pattern], ["a.md", "docs/a.md", "docs/c.txt", "docs/deep/b.md"]) == meant
