"""Which requests follow, and what they tell.

An agent that gets a request again, after a crash, is told what it was told before: else its journal does not fit.
"""

import pytest

from bus.envelope import Envelope
from bus.events import (
    AgentJoined,
    AssignmentEnded,
    Clash,
    Event,
    GoalFailed,
    GoalSubmitted,
    JournalCut,
    MergeTried,
    PlanProposed,
    Redo,
    ResultSubmitted,
    ReviewGiven,
    RoleOffer,
    RunForked,
    RunResumed,
    ToolCalled,
    ToolReturned,
    WorkFailed,
)
from bus.setup import Criterion, FileChange, Limits, RoleSetup, Subtask
from swarm.core.admit import Admission, admit
from swarm.core.apply import apply
from swarm.core.decide import decide
from swarm.core.doubts import doubts, is_in_doubt
from swarm.core.marks import pack, unpack
from swarm.core.request import GOAL_TOLD, brief
from swarm.core.state import RunState
from tests.support.simulation import setup_of

CALL = {"path": (0,), "digest": "d", "tool": "post", "arguments": {"to": "all"}}


class Run:
    """A run by hand."""

    def __init__(self, *subtasks: Subtask, attempts: int = 3, goal: str = "reach it", **roles: RoleSetup) -> None:
        self.state = RunState("run")
        setup = setup_of(limits=Limits(attempts=attempts), plan=subtasks or None).model_copy(update={"goal": goal})
        self.record(GoalSubmitted(setup=setup.model_copy(update={"roles": setup.roles | roles})))
        for role in ("planner", "coder", "critic"):
            self.record(AgentJoined(agent=f"local/{role}", roles=(role,), slots=4))

    def record(self, event: object, request: str | None = None) -> None:
        """Record an event, under the lease of a request if one is named, and all that follows."""
        lease = self.state.works[request].lease if request else None
        self._apply(event, request, lease)
        while (decision := decide(self.state)) is not None:
            self._apply(decision.event, decision.subject, decision.cause)

    def _apply(self, event: object, subject: str | None, cause: str | None) -> None:
        at = self.state.position + 1
        apply(self.state, Envelope(f"id{at}", "/test", event, "run", "", subject, cause, at, at))  # type: ignore[arg-type]

    def admits(self, event: Event) -> Admission:
        return admit(self.state, Envelope("of a person", "/test", event, "run", ""))

    def told(self, request: str):
        return brief(self.state, self.state.works[request], ())


def subtask(name: str, *needs: str, accept: tuple[Criterion, ...] = ()) -> Subtask:
    return Subtask(id=name, role="coder", instruction="do it", needs=needs, accept=accept)


def made(path: str, letter: str) -> FileChange:
    return FileChange(path=path, base=None, sha256=letter * 64, bytes=1)


def test_of_a_long_goal_a_worker_is_told_the_beginning_and_a_planner_all() -> None:
    goal = "Write it all down. " * 100
    run = Run(subtask("a"), attempts=1, goal=goal)
    told = run.told("a").goal
    assert len(told) == GOAL_TOLD
    assert goal.startswith(told.removesuffix("…"))
    fails(run, "a")
    assert run.told("plan-1").goal == goal


@pytest.mark.parametrize("parts", [False, True])
def test_a_call_of_the_past_is_in_doubt_no_more_once_an_attempt_parts_from_it(*, parts: bool) -> None:
    run = Run(subtask("a"))
    run.record(ToolCalled(attempt=1, outward=True, **CALL), "a")
    assert run.state.setup is not None
    run.record(RunForked(parent="other", at=run.state.position, setup=run.state.setup))
    (doubt,) = doubts(run.state)
    run.record(doubt.settled("retry"))
    run.record(RunResumed())
    run.record(AgentJoined(agent="local/coder", roles=("coder",), slots=4))
    if parts:
        run.record(JournalCut(attempt=1, kept=0), "a")
    run.record(AssignmentEnded(lease=run.state.works["a"].lease or "", why="its agent is gone"))
    assert run.state.running is parts
    assert bool(doubts(run.state)) is not parts


def test_a_subtask_is_told_what_came_of_what_it_needs_and_is_given_its_files() -> None:
    run = Run(subtask("a"), subtask("b", "a"), subtask("c"))
    gone = FileChange(path="old.txt", base=None, sha256=None, bytes=0)
    run.record(ResultSubmitted(text="made it", files=(made("a.txt", "a"), gone)), "a")
    run.record(ResultSubmitted(text="done", files=(made("c.txt", "c"),)), "c")
    told = run.told("b")
    (finding,) = told.findings
    assert (finding.subtask, finding.text, finding.files) == ("a", "made it", ("a.txt",))
    assert told.base.keys() == told.start.keys() == {"a.txt"}


def test_what_an_attempt_did_itself_is_no_news_to_it() -> None:
    run = Run(subtask("a"))
    before = run.told("a")
    run.record(ToolCalled(attempt=1, outward=True, **CALL), "a")
    run.record(ToolReturned(attempt=1, output="posted", **CALL), "a")
    refused = CALL | {"path": (1,), "digest": "e"}
    run.record(ToolCalled(attempt=1, outward=True, **refused), "a")
    run.record(ToolReturned(attempt=1, output="nobody is there", error=True, **refused), "a")
    assert run.told("a").outward == before.outward == {}
    run.record(WorkFailed(reason="broke", kind="error", effects=4), "a")
    (deed,) = run.told("a").outward.values()
    assert (deed.tool, deed.output, deed.attempt) == ("post", "posted", 1)


def wrote(run: Run, path: str, sha256: str | None, base: str | None = None, at: int = 0) -> None:
    change = FileChange(path=path, base=base, sha256=sha256, bytes=1)
    call = CALL | {"path": (at,), "tool": "write_file"}
    attempt = run.state.works["a"].attempt
    run.record(ToolReturned(attempt=attempt, output="wrote it", files=(change,), **call), "a")


def test_an_attempt_starts_from_what_one_made_that_ended_without_a_result() -> None:
    run = Run(subtask("a"), attempts=9)
    wrote(run, "kept.py", "1")
    wrote(run, "gone.py", "2", at=1)
    wrote(run, "gone.py", None, "2", at=2)
    assert run.told("a").start == {}
    fails(run, "a", effects=3)
    run.state = unpack("run", pack(run.state))
    assert {path: ref.sha256 for path, ref in run.told("a").start.items()} == {"kept.py": "1"}
    wrote(run, "kept.py", "3", "1")
    wrote(run, "more.py", "4", at=1)
    fails(run, "a", effects=2)
    assert (
        run.state.works["a"].feedback[-1] == "it ended before it was done; go on from what it made of kept.py, more.py"
    )
    fails(run, "a")
    assert {path: ref.sha256 for path, ref in run.told("a").start.items()} == {"kept.py": "3", "more.py": "4"}
    assert run.told("a").base == {}


def fails(run: Run, name: str, effects: int = 0) -> None:
    run.record(WorkFailed(reason="broke", kind="error", effects=effects), name)


def test_a_review_is_tried_as_often_as_an_attempt_may_be_and_told_why_again() -> None:
    run = Run(subtask("a", accept=({"file": "a.txt"},)), attempts=2)
    run.record(ResultSubmitted(text="done"), "a")
    for attempt, feedback in ((1, ()), (2, ("broke",))):
        work = run.state.works["review-a-1"]
        assert (work.attempt, work.feedback, work.of_attempt) == (attempt, feedback, 1)
        assert work.accept == ({"file": "a.txt"},)
        fails(run, "review-a-1")
    assert isinstance(run.state.ended, GoalFailed)
    assert (run.state.ended.kind, run.state.ended.missing) == ("attempts", ("a",))


def test_a_result_handed_in_again_is_told_once_and_then_another_way_is_looked_for() -> None:
    run = Run(subtask("a", accept=({"file": "a.txt"},)), attempts=9)
    run.record(ResultSubmitted(text="done"), "a")
    run.record(ReviewGiven(accepted=False, feedback="no"), "review-a-1")
    run.record(ResultSubmitted(text="done"), "a")
    assert run.state.works["a"].attempt == 3
    assert "handed in again" in run.state.works["a"].feedback[-1]
    run.record(ResultSubmitted(text="done"), "a")
    assert [*run.state.works] == ["plan-1"]


@pytest.mark.parametrize("attempts", [1, 2])
def test_what_a_critic_names_is_done_again_while_it_has_attempts_left_else_a_planner_is_asked(attempts: int) -> None:
    run = Run(subtask("a"), subtask("b", "a"), subtask("c"), attempts=attempts)
    for name in "abc":
        run.record(ResultSubmitted(text="done"), name)
    redo = (Redo(subtask="a", why="it is too long"),)
    run.record(ReviewGiven(accepted=False, feedback="not good", redo=redo), "review-outcome-1")
    if attempts == 1:
        assert run.state.works["plan-1"].feedback == ("not good",)
        return
    assert [*run.state.works] == ["a"], "what needs it waits, what does not stays"
    assert (run.state.works["a"].attempt, run.state.works["a"].feedback) == (2, ("it is too long",))
    run.record(ResultSubmitted(text="shorter"), "a")
    fails(run, "b")
    assert run.state.works["b"].attempt == 3, "of those that count it is the second: it was not to blame"
    run.record(ResultSubmitted(text="done again"), "b")
    assert [*run.state.works] == ["review-outcome-2"]


def test_what_is_done_again_comes_in_the_same_order_each_time() -> None:
    run = Run(*(subtask(name) for name in "zyxwv"))
    for name in "zyxwv":
        run.record(ResultSubmitted(text="done"), name)
    redo = tuple(Redo(subtask=name, why="wrong") for name in "wzvyx")
    run.record(ReviewGiven(accepted=False, feedback="not good", redo=redo), "review-outcome-1")
    assert [*run.state.works] == ["v", "w", "x", "y", "z"]


def test_what_clashes_with_the_changes_of_several_is_done_again_on_top_of_them_all() -> None:
    run = Run(*(subtask(name) for name in "zywutvx"))
    paths = [f"{name}.txt" for name in "zywut"]
    for name in "zywutv":
        run.record(ResultSubmitted(text="done", files=(made(f"{name}.txt", name),)), name)
    run.record(ResultSubmitted(text="done", files=tuple(made(path, "x") for path in paths)), "x")
    clashes = tuple(Clash(path=path, why="both made it") for path in paths)
    run.record(MergeTried(subtask="x", attempt=1, clashes=clashes))
    feedback, *moved = run.state.works["x"].feedback
    assert [one.partition(":")[0] for one in moved] == paths
    assert feedback.startswith(f"{', '.join(paths)}: changed meanwhile by t, u, w, y, z, and"), (
        "in the same order each time"
    )
    told = run.told("x")
    assert told.base.keys() == set(paths)
    assert told.start == told.base
    assert {path: ref.sha256[0] for path, ref in told.left.items()} == {f".swarm/yours/{path}": "x" for path in paths}


def plans(run: Run, *names: str) -> None:
    plan = next(name for name, work in run.state.works.items() if work.kind == "plan")
    run.record(PlanProposed(subtasks=tuple(subtask(name) for name in names)), plan)


def test_refused_plans_count_until_one_is_adopted() -> None:
    run = Run(subtask("a"), attempts=2)
    for name, then in (("a", "b"), ("b", "c")):
        run.record(WorkFailed(reason="broke", kind="error", retryable=False), name)
        plans(run, f"plan-{name}")  # no id that a subtask may have
        plans(run, then)
        assert [*run.state.works] == [then]
    run = Run(subtask("a"), attempts=2)
    run.record(WorkFailed(reason="broke", kind="error", retryable=False), "a")
    plans(run, "plan-a")
    plans(run, "plan-b")
    assert isinstance(run.state.ended, GoalFailed)
    assert run.state.ended.kind == "plan"


def test_a_plan_that_was_tried_before_is_refused_once_and_then_ends_the_run() -> None:
    run = Run(subtask("a"))
    run.record(WorkFailed(reason="broke", kind="error", retryable=False), "a")
    plans(run, "a")
    assert "tried before" in run.state.works["plan-2"].feedback[0]
    plans(run, "a")
    assert isinstance(run.state.ended, GoalFailed)
    assert run.state.ended.kind == "no_progress"


def test_a_subtask_that_one_plan_drops_and_a_later_one_brings_back_goes_on_from_what_it_did() -> None:
    run = Run(subtask("a"), subtask("b"), attempts=1)
    run.record(ToolCalled(attempt=1, outward=True, **CALL), "a")
    run.record(ToolReturned(attempt=1, output="posted", **CALL), "a")
    run.record(ResultSubmitted(text="done", effects=2), "a")
    fails(run, "b")
    plans(run, "c")
    assert "a" not in run.state.subtasks
    fails(run, "c")
    assert run.told("plan-2").most_subtasks == run.state.limits.subtasks - 2, "a and b count for ever"
    run.state = unpack("run", pack(run.state))
    plans(run, "a", "d")
    assert run.state.works["a"].attempt == 2
    (deed,) = run.told("a").outward.values()
    assert (deed.tool, deed.output, deed.attempt) == ("post", "posted", 1)


@pytest.mark.parametrize("idempotent", [False, True])
def test_an_outward_call_that_is_under_way_is_in_doubt_unless_it_may_be_made_twice(*, idempotent: bool) -> None:
    run = Run(subtask("a"))
    run.record(ToolCalled(attempt=1, outward=True, idempotent=idempotent, **CALL), "a")
    assert not doubts(run.state)
    assert bool(doubts(run.state, leases_end=True)) is not idempotent
    run.record(AssignmentEnded(lease=run.state.works["a"].lease or "", why="its agent is gone"))
    assert bool(doubts(run.state)) is (run.state.paused is not None) is not idempotent


def test_a_call_of_a_dropped_subtask_is_in_doubt_once_it_is_brought_back() -> None:
    run = Run(subtask("a"), subtask("b"), attempts=1)
    run.record(ToolCalled(attempt=1, outward=True, **CALL), "a")
    fails(run, "b")
    plans(run, "c")
    assert run.state.running, "nobody is about to repeat it"
    fails(run, "c")
    plans(run, "a", "d")
    assert run.state.paused is not None
    assert run.state.paused.kind == "doubt"
    assert [name for name in run.state.subtasks if is_in_doubt(run.state, name)] == ["a"]
    (doubt,) = doubts(run.state)
    word = doubt.settled("skip")
    assert run.admits(word) is Admission.RECORD
    assert run.admits(word.model_copy(update={"digest": "of another call"})) is Admission.LATE
    run.record(word)
    assert run.admits(word) is Admission.LATE, "a person has said it"
    run.record(RunResumed())
    assert not is_in_doubt(run.state, "a")
    run.record(AgentJoined(agent="local/coder", roles=("coder",), slots=4))
    assert run.state.works["a"].attempt == 2
    assert run.told("a").settled == {CALL["digest"]: "skip"}


@pytest.mark.parametrize("instruction", ["do it", "do it otherwise"])
def test_what_waits_to_be_merged_is_kept_by_another_plan_that_has_it_as_it_was(instruction: str) -> None:
    run = Run(subtask("a"), subtask("b"), subtask("c"), attempts=1)
    for name in "ab":
        run.record(ResultSubmitted(text="done", files=(made("f.txt", name),)), name)
    assert [*run.state.to_merge] == ["b"], "it met a's, and somebody looks at the bytes"
    fails(run, "c")
    b = subtask("b").model_copy(update={"instruction": instruction})
    run.record(PlanProposed(subtasks=(subtask("a"), b)), "plan-1")
    if instruction == "do it":
        assert not run.state.works, "nothing is done again"
        merged = FileChange(path="f.txt", base="a" * 64, sha256="c" * 64, bytes=2)
        run.record(MergeTried(subtask="b", attempt=1, merged=(merged,)))
        assert run.state.tree["f.txt"].sha256 == "c" * 64
        assert run.state.all_accepted
    else:
        assert not run.state.to_merge
        assert run.state.works["b"].attempt == 2


@pytest.mark.parametrize("changes", [{}, {"goal": "another"}], ids=["as it was", "changed"])
@pytest.mark.parametrize("planned", [False, True])
def test_a_fork_goes_on_where_it_was_but_what_is_wanted_otherwise_is_judged_anew(
    changes: dict[str, str], *, planned: bool
) -> None:
    run = Run(subtask("a")) if planned else Run()
    if planned:
        run.record(ResultSubmitted(text="done"), "a")
    before = "review-outcome-1" if planned else "plan-1"
    assert [*run.state.works] == [before]
    assert run.state.setup is not None
    run.record(RunForked(parent="other", at=run.state.position, setup=run.state.setup, changes=changes))
    assert [*run.state.works] == ["review-outcome-2" if planned and changes else before]


def test_a_planner_is_told_the_run_as_it_stood_when_it_was_first_asked() -> None:
    run = Run(subtask("a"), subtask("b"), attempts=1)
    run.record(WorkFailed(reason="broke", kind="error"), "a")
    plan = next(name for name, work in run.state.works.items() if work.kind == "plan")
    before = run.told(plan)
    assert {finding.subtask: finding.status for finding in before.findings} == {"a": "failed", "b": "working"}
    run.record(
        ResultSubmitted(text="done", files=(FileChange(path="b.txt", base=None, sha256="0" * 64, bytes=1),)), "b"
    )
    assert "b.txt" in run.state.tree
    assert run.told(plan) == before
    marked = unpack("run", pack(run.state))
    assert brief(marked, marked.works[plan], ()) == before
    lease = run.state.works[plan].lease
    run.record(AssignmentEnded(lease=lease or "", why="its agent is gone"))
    assert run.state.works[plan].lease not in {None, lease}, "it was handed out again"
    assert run.told(plan) == before


def test_a_planner_is_told_what_a_role_is_for_that_a_scenario_only_names_once_an_agent_brings_it() -> None:
    run = Run(subtask("a"), attempts=1, editor=RoleSetup(model="m", deadline_ms=7, brought=True))
    offer = RoleOffer(name="editor", about="Edits.", tools=("word_count",))
    run.record(AgentJoined(agent="u/editor", roles=("editor",), slots=1, brings=(offer,)))
    run.record(WorkFailed(reason="broke", kind="error"), "a")
    plan = next(name for name, work in run.state.works.items() if work.kind == "plan")
    told = {one.role: one.about for one in run.told(plan).offers}
    assert told["editor"] == "Edits."
    role = run.state.role("editor")
    assert role is not None
    assert role.deadline_ms == 7, "what the scenario says of it holds"
    marked = unpack("run", pack(run.state))
    assert brief(marked, marked.works[plan], ()) == run.told(plan)


def test_what_a_scenario_says_that_a_role_is_for_is_not_what_an_agent_says() -> None:
    run = Run(subtask("a"), editor=RoleSetup(model="m", about="Cuts.", brought=True))
    offer = RoleOffer(name="editor", about="Edits.")
    run.record(AgentJoined(agent="u/editor", roles=("editor",), slots=1, brings=(offer,)))
    assert run.state.knows("editor")
    assert not run.state.brought
