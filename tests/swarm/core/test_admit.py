"""What is late, doubled, out of lease or out of order changes nothing, whoever sends it."""

from dataclasses import replace

import pytest

from bus.envelope import Envelope
from bus.events import (
    AgentJoined,
    AgentLeft,
    AssignmentEnded,
    CancelAsked,
    CheckEnded,
    CheckStarted,
    Event,
    FilesMerged,
    GoalAccepted,
    GoalSubmitted,
    JournalCut,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    PlanProposed,
    ResultSubmitted,
    ReviewGiven,
    RunForked,
    RunMoved,
    RunPaused,
    SubtaskAssigned,
    TimePassed,
    ToolCalled,
    ToolReturned,
    Usage,
    ValueDrawn,
    WorkFailed,
)
from bus.setup import FileChange, FileRef, Limits, RoleSetup, Subtask
from swarm.core.admit import Admission, admit, turn
from swarm.core.apply import apply
from swarm.core.decide import decide
from swarm.core.state import RunState
from tests.support.simulation import setup_of

RECORD, REPEATED, LATE, EARLY, WRONG = (
    Admission.RECORD,
    Admission.REPEATED,
    Admission.LATE,
    Admission.EARLY,
    Admission.WRONG,
)
PLAN = (Subtask(id="a", role="coder", instruction="do it"),)
USAGE = Usage(input=1, output=1)


class Run:
    """A run by hand, with one subtask in an agent's hands."""

    def __init__(self) -> None:
        self.state = RunState("run")
        self.log: list[Envelope] = []
        self.ids = 0
        self.record(GoalSubmitted(setup=setup_of(limits=Limits(tokens=5_000), plan=PLAN)))
        self.record(AgentJoined(agent="local/coder", roles=("coder",), slots=2))
        (self.lease,) = self.state.leases

    def envelope(self, event: Event, *, lease: str | None = None, subject: str | None = "a", at: int = 0) -> Envelope:
        self.ids += 1
        return Envelope(f"id{self.ids}", "/test", event, "run", "", subject, lease, 0, at)

    def record(self, event: Event, *, lease: str | None = None) -> None:
        envelope = self.envelope(event, lease=lease)
        self._apply(envelope)
        while (decision := decide(self.state)) is not None:
            self._apply(self.envelope(decision.event, lease=decision.cause, subject=decision.subject))

    def _apply(self, envelope: Envelope) -> None:
        recorded = replace(envelope, sequence=self.state.position + 1)
        apply(self.state, recorded)
        self.log.append(recorded)

    def admit(self, event: Event, **circumstances: object) -> Admission:
        """Admit an event under the lease, and hold that looking changes nothing."""
        envelope = self.envelope(event, **({"lease": self.lease} | circumstances))  # type: ignore[arg-type]
        verdict = admit(self.state, envelope)
        again = RunState("run")
        for recorded in self.log:
            apply(again, recorded)
        assert again == self.state
        return verdict

    def take(self, event: Event) -> None:
        assert self.admit(event) is RECORD
        self.record(event, lease=self.lease)


@pytest.fixture
def run() -> Run:
    return Run()


def asked(number: int = 1, **more: object) -> ModelAsked:
    fields = {"attempt": 1, "path": (0,), "number": number, "digest": "d", "model": "test:model", "messages": ()}
    return ModelAsked.model_validate({**fields, "input_bound": 100, "max_tokens": 100, **more})


def answered(number: int = 1, usage: Usage = USAGE) -> ModelAnswered:
    return ModelAnswered(attempt=1, path=(0,), number=number, text="x", usage=usage)


def failed(number: int = 1) -> ModelTryFailed:
    return ModelTryFailed(attempt=1, path=(0,), number=number, kind="server", reason="503", wait_ms=0)


def called(tool: str = "write_file", path: tuple[int, ...] = (1,)) -> ToolCalled:
    return ToolCalled(attempt=1, path=path, digest="t", tool=tool, arguments={})


def returned(tool: str = "read_file", path: tuple[int, ...] = (1,), *files: FileChange) -> ToolReturned:
    return ToolReturned(attempt=1, path=path, digest="t", tool=tool, arguments={}, output="", files=files)


CHANGE = FileChange(path="f", base=None, sha256="0", bytes=1)


def test_a_question_is_recorded_once_and_confirmed_again(run: Run) -> None:
    run.take(asked())
    assert run.admit(asked()) is REPEATED
    assert run.admit(asked(3)) is EARLY
    assert run.admit(asked(2)) is RECORD


def test_an_answer_comes_after_its_question_and_once(run: Run) -> None:
    assert run.admit(answered()) is EARLY
    run.take(asked())
    assert run.admit(answered(2)) is EARLY
    assert run.admit(answered(usage=Usage(input=-1, output=0))) is WRONG
    run.take(answered())
    assert run.admit(answered()) is REPEATED
    assert run.admit(failed()) is EARLY, "its reservation is settled"


def test_every_effect_is_recorded_once_and_counts_for_the_reply(run: Run) -> None:
    effects = (
        called(path=(0,)),
        returned("write_file", (0,)),
        CheckStarted(attempt=1, path=(1,), digest="d", criterion={}),
        CheckEnded(attempt=1, path=(1,), digest="d", criterion={}, verdict="holds", shows=""),
        ValueDrawn(attempt=1, path=(2,), kind="random", value=0.5),
        asked(path=(3,)),
        answered().model_copy(update={"path": (3,)}),
    )
    for effect in effects:
        run.take(effect)
        assert run.admit(effect) is REPEATED
    assert run.admit(ResultSubmitted(text="x", effects=len(effects))) is RECORD


def test_a_question_that_was_not_granted_has_no_answer_yet(run: Run) -> None:
    run.take(asked(input_bound=4_000))
    waiting = ModelAsked.model_validate(asked().model_dump() | {"path": (5,), "input_bound": 3_000})
    run.take(waiting)
    assert ("a", 1, (5,), 1) in run.state.ledger.waiting
    assert run.admit(ModelAnswered(attempt=1, path=(5,), number=1, text="x", usage=USAGE)) is EARLY


@pytest.mark.parametrize("bad", [{"input_bound": -1}, {"max_tokens": 0}])
def test_a_question_that_reserves_nothing_is_wrong(run: Run, bad: dict[str, int]) -> None:
    assert run.admit(asked(**bad)) is WRONG


HUGE = 10**4299


@pytest.mark.parametrize(
    "bad",
    [
        answered(usage=Usage(input=HUGE, output=0)),
        answered(usage=Usage(input=0, output=2**53)),
        answered(usage=Usage(input=0, output=0, cached=HUGE)),
        failed().model_copy(update={"wait_ms": HUGE}),
        asked(2, input_bound=HUGE),
        asked(2, max_tokens=HUGE),
        asked(2, keeps=HUGE),
        asked(path=(0, HUGE)),
        called(path=(-HUGE,)),
        returned("read_file", (HUGE,)),
        returned("write_file", (9,), FileChange(path="f", base=None, sha256="0", bytes=HUGE)),
        returned("read_file", (9,)).model_copy(update={"whole": FileRef(path="f", sha256="0", bytes=HUGE)}),
        CheckStarted(attempt=1, path=(HUGE,), digest="d", criterion={}),
        CheckEnded(attempt=1, path=(HUGE,), digest="d", criterion={}, verdict="holds", shows=""),
        ValueDrawn(attempt=1, path=(HUGE,), kind="now", value=0),
        JournalCut(attempt=1, kept=-1),
        ResultSubmitted(text="x", effects=2, files=(FileChange(path="f", base=None, sha256="0", bytes=HUGE),)),
    ],
    ids=lambda event: type(event).__name__,
)
def test_numbers_that_not_every_reader_has_exactly_are_wrong(run: Run, bad: Event) -> None:
    run.take(asked())
    run.take(called(path=(9,)))
    run.state.works["a"].forked = True
    assert admit(run.state, run.envelope(bad, lease=run.lease)) is WRONG


@pytest.mark.parametrize(
    "paths",
    [["../a"], ["/a"], ["a:b"], ["a//b"], ["./a"], ["e\u0301"], [".git/config"], ["a", "A"], ["a", "a/b"], [""]],
    ids=str,
)
def test_a_file_that_nobody_could_lay_out_is_not_recorded(run: Run, paths: list[str]) -> None:
    run.take(called())
    files = tuple(FileChange(path=path, base=None, sha256="0", bytes=1) for path in paths)
    assert run.admit(returned("write_file", (1,), *files)) is Admission.UNUSABLE
    assert run.admit(ResultSubmitted(text="x", effects=1, files=files)) is Admission.UNUSABLE
    gone = tuple(one.model_copy(update={"sha256": None, "base": "0"}) for one in files)
    assert run.admit(ResultSubmitted(text="x", effects=1, files=gone)) is RECORD


@pytest.mark.parametrize("event", [asked(), called(), returned(), ResultSubmitted(text="x"), failed()])
@pytest.mark.parametrize("circumstances", [{"lease": "other"}, {"lease": None}, {"subject": "b"}])
def test_what_is_out_of_lease_is_late(run: Run, event: Event, circumstances: dict[str, str | None]) -> None:
    assert run.admit(event, **circumstances) is LATE


@pytest.mark.parametrize("event", [asked(), called(), returned()])
def test_what_is_of_another_attempt_is_late(run: Run, event: Event) -> None:
    assert run.admit(event.model_copy(update={"attempt": 2})) is LATE


def test_a_result_counts_only_once_all_its_effects_are_in_the_log(run: Run) -> None:
    run.take(asked())
    run.take(answered())
    for effects in (0, 1, 3):
        assert run.admit(ResultSubmitted(text="x", effects=effects)) is EARLY
    assert run.admit(WorkFailed(reason="x", kind="error", effects=1)) is EARLY
    assert run.admit(ResultSubmitted(text="x", effects=2)) is RECORD


@pytest.mark.parametrize("event", [PlanProposed(subtasks=PLAN), ReviewGiven(accepted=True, feedback="")])
def test_a_reply_of_another_kind_is_wrong(run: Run, event: Event) -> None:
    assert run.admit(event) is WRONG


@pytest.mark.parametrize("event", [GoalAccepted(reason="mine"), FilesMerged(subtask="a", attempt=1, files=())])
def test_nobody_but_the_rules_ends_a_run_or_merges(run: Run, event: Event) -> None:
    assert run.admit(event) is WRONG


@pytest.mark.parametrize("tool", ["run_command", "send_mail"])
def test_a_tool_that_was_not_granted_is_not_recorded(run: Run, tool: str) -> None:
    assert run.admit(called(tool)) is WRONG
    assert run.admit(returned(tool)) is WRONG


@pytest.mark.parametrize(
    ("tools", "verdict"), [((), RECORD), (("./mine.py:send_mail",), RECORD), (("read_file",), WRONG)], ids=str
)
def test_a_role_that_agents_bring_uses_tools_of_its_own_unless_the_scenario_says_which(
    run: Run, tools: tuple[str, ...], verdict: Admission
) -> None:
    assert run.state.setup is not None
    run.state.setup.roles["coder"] = RoleSetup(model="test:model", brought=True, tools=tools)
    assert admit(run.state, run.envelope(called("send_mail"), lease=run.lease)) is verdict


def test_what_changed_files_was_announced(run: Run) -> None:
    assert run.admit(returned("write_file", (1,), CHANGE)) is EARLY
    run.take(called())
    assert run.admit(called()) is REPEATED
    run.take(returned("write_file", (1,), CHANGE))
    assert run.admit(returned("write_file", (1,), CHANGE)) is REPEATED


def test_of_what_an_agent_numbers_it_is_the_turn_of_the_next(run: Run) -> None:
    assert [turn(run.state, run.lease, ordinal) for ordinal in (1, 2)] == [RECORD, EARLY]
    run.take(asked())
    assert [turn(run.state, run.lease, ordinal) for ordinal in (1, 2, 3)] == [REPEATED, RECORD, EARLY]
    assert turn(run.state, "another lease", 1) is LATE


def test_a_lease_is_lost_when_another_is_given_out(run: Run) -> None:
    first = run.lease
    run.record(AssignmentEnded(lease=first, why="silence"))
    (run.lease,) = run.state.leases
    assert run.lease != first
    assert run.admit(ResultSubmitted(text="late"), lease=first) is LATE
    assert run.admit(AssignmentEnded(lease=first, why="again")) is LATE
    assert run.admit(ResultSubmitted(text="in time")) is RECORD
    assert [e.event.attempt for e in run.log if isinstance(e.event, SubtaskAssigned)] == [1, 1]


def test_what_an_agent_that_left_had_done_counts_while_nobody_else_has_its_request(run: Run) -> None:
    run.take(asked())
    run.record(AgentLeft(agent="local/coder", why="gone"))
    assert run.admit(called()) is LATE, "what it would do is for the next agent"
    run.take(answered())
    run.take(ResultSubmitted(text="x", effects=2))
    assert run.state.all_accepted
    assert "coder" not in run.state.lacking, "nobody waits for one"
    assert run.admit(ResultSubmitted(text="x", effects=2)) is LATE


def test_in_a_fork_an_attempt_parts_from_its_past_once_and_does_the_rest_anew(run: Run) -> None:
    run.take(asked())
    run.take(called(path=(1,)))
    kept = run.state.position
    run.take(returned("write_file", (1,)))
    run.take(called("run_python", (2,)))
    cut = JournalCut(attempt=1, kept=kept)
    assert run.admit(cut) is WRONG, "it is no fork"
    assert run.state.setup is not None
    run.record(RunForked(parent="run", at=run.state.position, setup=run.state.setup))
    run.record(AgentJoined(agent="local/coder", roles=("coder",), slots=2))
    (run.lease,) = run.state.leases
    run.take(cut)
    assert run.admit(cut) is WRONG
    assert run.admit(asked()) is REPEATED
    for path in ((1,), (2,)):
        assert run.admit(called(path=path)) is RECORD, "also what was begun before and ended after counts no more"
    assert run.admit(ResultSubmitted(text="x", effects=1)) is RECORD


def test_time_passes_only_once_a_deadline_is_due(run: Run) -> None:
    assert run.admit(TimePassed(), at=59_999) is EARLY
    assert run.admit(TimePassed(), at=60_000) is RECORD


def test_agents_join_once_and_leave_once(run: Run) -> None:
    card = AgentJoined(agent="local/coder", roles=("coder",), slots=2)
    assert run.admit(card) is REPEATED
    run.record(AgentJoined(agent="other/coder", roles=("coder",), slots=2))
    run.record(AgentLeft(agent="other/coder", why="gone"))
    assert run.lease in run.state.leases, "what others hold stays theirs"
    run.record(AgentLeft(agent="local/coder", why="gone"))
    assert run.admit(AgentLeft(agent="local/coder", why="gone")) is LATE
    assert run.admit(card) is RECORD


def test_whoever_carries_a_run_pauses_moves_and_cancels_it(run: Run) -> None:
    pause, move = RunPaused(reason="Ctrl-C", kind="person"), RunMoved(hub="other", epoch=2)
    cancel = CancelAsked(reason="enough")
    assert [run.admit(event) for event in (pause, move, cancel)] == [RECORD] * 3
    run.record(pause)
    assert [run.admit(event) for event in (pause, move, cancel)] == [Admission.ENDED, Admission.ENDED, RECORD]


@pytest.mark.parametrize(
    "event",
    [
        CheckEnded(attempt=1, path=(1,), digest="d", criterion={}, verdict="holds", shows=""),
        CancelAsked(reason="too late"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_ended_run_takes_nothing_more(run: Run, event: Event) -> None:
    run.state.status = "failed"
    assert admit(run.state, run.envelope(event, lease=run.lease)) is Admission.ENDED
