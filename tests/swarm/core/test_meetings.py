"""Runs in which many edit one file, as text: whatever is redone and in whatever order, no change is lost or stale."""

import hashlib
from dataclasses import replace

import pytest

from bus.events import Clash, FilesConflicted, FilesMerged, MergeTried, Redo, ResultSubmitted, ReviewGiven
from bus.setup import FileChange, FileRef, Limits, Subtask
from swarm.core import meetings, tree
from swarm.core.admit import Admission, admit
from swarm.core.apply import apply
from swarm.core.decide import decide
from swarm.core.state import RunState, Status
from swarm.core.text_merge import merged
from tests.support.simulation import Simulation, setup_of

WIDE = Limits(tokens=10_000_000, subtasks=100, parallel=8, attempts=9, rounds=9)
PATH = "shared.txt"
CONTESTED = 45
"""The line that all may want; each has one of its own besides."""
PLAN = tuple(
    Subtask(id=f"t{number}", role="coder", instruction="edit", needs=needs)
    for number, needs in enumerate([(), (), (), ("t0",), ("t1", "t2"), (), ("t3", "t5")])
)


class Edited(Simulation):
    """Agents that write real text: each its own line, and now and then the contested one."""

    def __post_init__(self):
        super().__post_init__()
        self.contents = {}
        self.contested = {}
        self.own = {}
        self.workspace = (self.keep("".join(f"line {number}\n" for number in range(50)).encode()),)

    def keep(self, data):
        sha256 = hashlib.sha256(data).hexdigest()
        self.contents[sha256] = data
        return FileRef(path=PATH, sha256=sha256, bytes=len(data))

    def _result(self, job, effects):
        subtask = self.state.subtasks[job.request]
        before = tree.base_of(self.state, subtask)[PATH]
        lines = self.contents[before.sha256].splitlines(keepends=True)
        number = int(job.request[1:])
        self.own[job.request] = lines[number * 5] = b"%s %d\n" % (job.request.encode(), self.ids)
        self.contested[job.request] = b""
        if self.random.random() < 0.4:
            self.contested[job.request] = lines[CONTESTED] = b"contested by %s %d\n" % (job.request.encode(), self.ids)
        now = self.keep(b"".join(lines))
        change = FileChange(path=PATH, base=before.sha256, sha256=now.sha256, bytes=now.bytes)
        return ResultSubmitted(text=f"result {self.ids}", files=(change,), effects=effects)

    def _review(self, request, effects):
        if request.subtask is not None or self.random.random() > 0.85:
            return ReviewGiven(accepted=True, feedback="good", effects=effects)
        names = self.random.sample(sorted(self.state.subtasks), self.random.randint(1, 2))
        redo = tuple(Redo(subtask=name, why="wrong") for name in names)
        return ReviewGiven(accepted=False, feedback="no", redo=redo, effects=effects)

    def _tried(self, wanted):
        (meeting,) = wanted.meetings
        done = merged(*(self.contents[ref.sha256] for ref in (meeting.base, meeting.ours, meeting.theirs)))
        ids = {"subtask": wanted.subtask, "attempt": wanted.attempt}
        if isinstance(done, str):
            return MergeTried(**ids, clashes=(Clash(path=PATH, why=done),))
        now = self.keep(done)
        change = FileChange(path=PATH, base=meeting.theirs.sha256, sha256=now.sha256, bytes=now.bytes)
        return MergeTried(**ids, merged=(change,))

    def check(self):
        """At every position the tree holds what the accepted results changed, all of it and nothing else."""
        super().check()
        state = self.state
        assert (state.tree, state.changed_by) == tree.rebuilt(state)
        if PATH not in state.tree:
            return
        lines = self.contents[state.tree[PATH].sha256].splitlines(keepends=True)
        accepted = [name for name, one in state.subtasks.items() if one.status is Status.ACCEPTED]
        for number, line in enumerate(lines[:CONTESTED]):
            name = f"t{number // 5}"
            written = self.own[name] if number % 5 == 0 and name in accepted else f"line {number}\n".encode()
            assert line == written, f"seed {self.seed}, position {state.position}"
        claims = [self.contested[name] for name in state.accepted_order if self.contested[name]]
        assert lines[CONTESTED] == (claims[-1] if claims else f"line {CONTESTED}\n".encode())


def edited(seed: int) -> Edited:
    simulation = Edited(setup_of(limits=WIDE, plan=PLAN), seed, faults=0.0)
    simulation.run()
    return simulation


@pytest.mark.parametrize(
    "seed", [number if number < 40 else pytest.param(number, marks=pytest.mark.torture) for number in range(400)]
)
def test_a_file_that_many_edit_holds_at_every_position_what_accepted_results_changed(seed: int) -> None:
    simulation = edited(seed)
    again = RunState("run")
    for envelope in simulation.log:
        apply(again, envelope)
    assert again == simulation.state


def test_such_runs_merge_clash_and_merge_again_what_was_merged_with_a_change_that_was_redone() -> None:
    events = [envelope.event for seed in range(10) for envelope in edited(seed).log]
    done = [(one.subtask, one.attempt, bool(one.merged)) for one in events if isinstance(one, FilesMerged)]
    assert sum(was_merged for *_, was_merged in done) > 40
    assert sum(isinstance(one, FilesConflicted) for one in events) > 10
    per_run = [
        [(one.event.subtask, one.event.attempt) for one in edited(seed).log if isinstance(one.event, FilesMerged)]
        for seed in range(10)
    ]
    assert sum(len(merges) - len(set(merges)) for merges in per_run) > 10


@pytest.mark.parametrize("seed", range(5))
def test_a_log_cut_before_the_outcome_of_a_merge_wants_the_same_merge_again(seed: int) -> None:
    state = RunState("run")
    tries = 0
    for envelope in edited(seed).log:
        if isinstance(envelope.event, MergeTried):
            wanted = meetings.wanted(state)
            assert wanted is not None
            assert meetings.answers(state, envelope.event)
            assert (decision := decide(state)) is None or not isinstance(decision.event, FilesMerged | FilesConflicted)
            tries += 1
        apply(state, envelope)
    assert tries


def test_only_the_outcome_of_the_merge_that_is_wanted_is_recorded() -> None:
    state = RunState("run")
    log = edited(1).log
    at = next(number for number, envelope in enumerate(log) if isinstance(envelope.event, MergeTried))
    for envelope in log[:at]:
        apply(state, envelope)
    event = log[at].event
    (change,) = event.merged
    clash = Clash(path="other.txt", why="both changed it")
    for otherwise in (
        {"attempt": event.attempt + 1},
        {"subtask": "t6"},
        {"merged": ()},
        {"merged": (change.model_copy(update={"base": "of another tree"}),)},
        {"clashes": (clash,)},
    ):
        wrong = replace(log[at], event=event.model_copy(update=otherwise))
        assert admit(state, wrong) is Admission.LATE, otherwise
    assert admit(state, log[at]) is Admission.RECORD
    apply(state, log[at])
    assert admit(state, log[at]) is Admission.LATE
