"""The stories of whole runs, as their logs tell them: conflicts, rejections, plans that cannot work, no progress."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agents.briefing import Finding
from agents.check import Verdict
from agents.roles.critic import redone
from bus.events import (
    Event,
    FilesConflicted,
    FilesMerged,
    GoalAccepted,
    GoalFailed,
    NoProgressNoticed,
    PlanProposed,
    PlanRefused,
    PlanRequested,
    Redo,
    ResultSubmitted,
    ReviewGiven,
    SubtaskAssigned,
    ToolReturned,
)
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.runs import layers, player, results, scenario, start, story, task


def wrote(body: Body) -> bool:
    """Tell whether this conversation's file is written."""
    return any(result.startswith("Wrote") for result in results(body))


def rejected(body: Body) -> bool:
    """Tell whether this is an attempt after the first."""
    return "An earlier attempt was not accepted" in str(body["messages"])


def write(path: str, content: str) -> Answer:
    return Answer(calls=[("write_file", {"path": path, "content": content})])


async def test_a_plan_is_done_layer_by_layer_and_its_log_folds_to_what_is_shown(tmp_path: Path) -> None:
    seen: list[Any] = []
    plan = layers(3, 4)
    async with ChatEndpoint(player(plan)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint), on_event=seen.append)
    told = await story(tmp_path)
    assert outcome.outcome == "accepted"
    assert tuple(seen) == told.log
    assert [e.sequence for e in told.log] == list(range(1, len(told.log) + 1))
    assert outcome.events == told.state.position
    assert {ref.path for ref in outcome.files} == {f"{one['id']}.txt" for one in plan}
    accepted = [e.subtask for e in told.of(FilesMerged)]
    assert all(accepted.index(need) < accepted.index(one["id"]) for one in plan for need in one["needs"])
    made = {path.name: path.read_text() for path in Path(outcome.folder or "").iterdir()}
    assert made == {f"{one['id']}.txt": f"made by {one['id']}\n" for one in plan}


async def test_two_subtasks_that_change_one_file_differently_are_told_of_it(tmp_path: Path) -> None:
    """The later one gets another attempt, on top of what the other made."""

    def play(_role: str, subtask: str, body: Body) -> Reply | None:
        if not subtask or wrote(body):
            return None
        if not rejected(body):
            return write("shared.txt", f"{subtask}\n")
        here = results(body)
        return (
            write("shared.txt", f"{here[-1]}{subtask}\n")
            if here
            else Answer(calls=[("read_file", {"path": "shared.txt"})])
        )

    plan = [{"id": name, "role": "coder", "do": f"TASK {name}: add your name"} for name in ("a", "b")]
    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, plan=plan, accept=[{"file": "shared.txt"}]))
    assert outcome.outcome == "accepted"
    told = await story(tmp_path)
    (conflict,) = told.of(FilesConflicted)
    first = conflict.others[0]
    assert conflict.paths == ("shared.txt",)
    assert {first, conflict.subtask} == {"a", "b"}
    assert [e.subtask for e in told.of(FilesMerged)] == [first, conflict.subtask]
    assert (Path(outcome.folder or "") / "shared.txt").read_text() == f"{first}\n{conflict.subtask}\n"
    assert [e.attempt for e in told.of(SubtaskAssigned, subject=conflict.subtask)] == [1, 2]


async def test_who_makes_the_very_same_change_again_on_top_of_what_it_met_is_taken_at_its_word(tmp_path: Path) -> None:
    def play(_role: str, subtask: str, body: Body) -> Reply | None:
        return write("shared.txt", f"{subtask}\n") if subtask and not wrote(body) else None

    plan = [{"id": name, "role": "coder", "do": f"TASK {name}: go"} for name in ("a", "b")]
    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, plan=plan, accept=[{"file": "shared.txt"}]))
    assert outcome.outcome == "accepted"
    told = await story(tmp_path)
    (conflict,) = told.of(FilesConflicted)
    assert not told.of(NoProgressNoticed)
    assert (Path(outcome.folder or "") / "shared.txt").read_text() == f"{conflict.subtask}\n"


async def test_only_the_subtask_that_changed_the_file_a_check_names_is_redone(tmp_path: Path) -> None:
    def play(_role: str, subtask: str, body: Body) -> Reply | None:
        if subtask and not wrote(body):
            faulty = subtask == "b" and not rejected(body)
            return write(f"{subtask}.py", "1 / 0\n" if faulty else "print(1)\n")
        return None

    plan = [{"id": name, "role": "coder", "do": f"TASK {name}: go"} for name in "abc"]
    plan.append({"id": "d", "role": "coder", "do": "TASK d: go", "needs": ["b"]})
    async with ChatEndpoint(player(play=play)) as endpoint:
        accept = [{"run": "python a.py && python b.py && python c.py"}]
        outcome = await start(tmp_path, scenario(endpoint, plan=plan, accept=accept))
    assert outcome.outcome == "accepted"
    told = await story(tmp_path)
    assert [(e.accepted, e.named) for e in told.of(ReviewGiven)] == [(False, ("b.py",)), (True, ())]
    assert Counter(e.subtask.id for e in told.of(SubtaskAssigned)) == {"a": 1, "b": 2, "c": 1, "d": 2}
    assert "ZeroDivisionError" in told.of(SubtaskAssigned, subject="b")[1].feedback[0]
    assert not told.of(PlanRequested)


CIRCLE = [task("a", ["b"]), task("b", ["a"])]
STRANGER = [task("a", role="astronaut")]
NAMELESS = [task("plan-1")]


async def test_a_planner_is_told_why_its_plan_cannot_work(tmp_path: Path) -> None:
    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        if role != "planner":
            return None
        told = "role 'astronaut' cannot be given work" in str(body)
        plan = [task("a")] if told else STRANGER if "go in a circle" in str(body) else CIRCLE
        return json.dumps({"subtasks": plan})

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "a.txt"}], limits={"attempts": 4}))
    assert outcome.outcome == "accepted"
    told = await story(tmp_path)
    assert len(told.of(PlanRefused)) == 2
    assert told.of(PlanRefused)[0].reasons[0].startswith("the needs go in a circle: ")


def checked(*accept: dict[str, Any]) -> str:
    return json.dumps({"subtasks": [task("a") | {"accept": accept}]})


async def test_what_a_planner_wants_checked_is_checked(tmp_path: Path) -> None:
    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        if role == "planner":
            return checked({"text": "a.txt", "contains": ["zebra"]})
        return write("a.txt", "a zebra") if role == "coder" and rejected(body) and not wrote(body) else None

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "a.txt"}]))
    assert outcome.outcome == "accepted", outcome.reason
    told = await story(tmp_path)
    assert len(told.of(SubtaskAssigned)) == 2
    assert told.of(SubtaskAssigned)[1].feedback == ("'a.txt' does not contain 'zebra'.",)


async def test_a_planner_wants_commands_run_only_of_roles_that_may_run_them(tmp_path: Path) -> None:
    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        told = "only for roles that may run commands" in str(body)
        return checked(*[] if told else [{"run": "true"}]) if role == "planner" else None

    coder = {"tools": ["write_file"]}
    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, roles={"coder": coder}, accept=[{"file": "a.txt"}]))
    assert outcome.outcome == "accepted", outcome.reason
    assert len((await story(tmp_path)).of(PlanRefused)) == 1


@pytest.mark.parametrize("own", [False, True])
async def test_a_check_that_cannot_be_made_ends_a_run_unless_a_planner_can_do_without_it(
    tmp_path: Path, *, own: bool
) -> None:
    accept = {"json": "a.txt", "schema": "none.json"}

    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        if role == "planner":
            return checked(*[] if "could not be made" in str(body) else [accept])
        return write("a.txt", "{}") if role == "coder" and not wrote(body) else None

    plan = [{"id": "a", "role": "coder", "do": "TASK a: write a.txt and none.json", "accept": [accept]}]
    written = {"accept": [{"file": "a.txt"}]} | ({"plan": plan} if own else {})
    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, **written))
    told = await story(tmp_path)
    assert outcome.outcome == ("failed" if own else "accepted"), outcome.reason
    assert len(told.of(PlanRequested)) == (0 if own else 2)
    assert not own or "could not be made" in outcome.reason


async def test_a_small_planner_is_told_nothing_of_checks(tmp_path: Path) -> None:
    said = []
    for number, dialogue in enumerate(("native", "json")):
        async with ChatEndpoint(player([task("a")])) as endpoint:
            written = scenario(endpoint, roles={"planner": {"dialogue": dialogue}}, accept=[{"file": "a.txt"}])
            await start(tmp_path / str(number), written)
            said.append(str(endpoint.requests[0].body))
    assert ['"accept"' in one.replace("'", '"') for one in said] == [True, False]


async def test_three_plans_that_cannot_work_end_the_run(tmp_path: Path) -> None:
    plans = iter([CIRCLE, STRANGER, NAMELESS])

    def play(role: str, _subtask: str, _body: Body) -> Reply | None:
        return json.dumps({"subtasks": next(plans)}) if role == "planner" else None

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint))
    assert outcome.outcome == "failed"
    assert "the id 'plan-1' cannot be used" in outcome.reason
    told = await story(tmp_path)
    kinds: list[type[Event]] = [PlanRequested, PlanProposed, PlanRefused]
    assert told.told(*kinds) == [f"{kind.__name__} plan-{number}" for number in (1, 2, 3) for kind in kinds]
    assert told.of(GoalFailed)[0].kind == "plan"


async def test_a_result_handed_in_again_is_told_once_then_the_attempt_fails_then_another_plan_is_asked(
    tmp_path: Path,
) -> None:
    plans = iter([[task("a")], [task("b")]])

    def play(role: str, subtask: str, _body: Body) -> Reply | None:
        if role == "planner":
            return json.dumps({"subtasks": [one | {"creates": [f"{one['id']}.txt"]} for one in next(plans)]})
        return "I did it." if subtask == "a" else None  # it never writes its file

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "b.txt"}], limits={"attempts": 5}))
    assert outcome.outcome == "accepted"
    told = await story(tmp_path)
    assert [e.what for e in told.of(NoProgressNoticed)] == ["result"] * 2
    assert len(told.of(ResultSubmitted, subject="a")) == 3
    assert "whatever else you do, change it" in told.of(SubtaskAssigned, subject="a")[2].feedback[-1]
    assert [e.round for e in told.of(PlanRequested)] == [1, 2]


async def test_what_an_attempt_without_a_result_has_written_is_not_written_again(tmp_path: Path) -> None:
    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        if role != "coder":
            return None
        if rejected(body):
            return "It was there." if "Files in the project:\na.txt" in str(body["messages"][1]["content"]) else None
        return Answer(calls=[("fly", {})]) if wrote(body) else write("a.txt", "made")

    async with ChatEndpoint(player([task("a")], play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "a.txt"}]))
    assert outcome.outcome == "accepted", outcome.reason
    told = await story(tmp_path)
    assert [e.text for e in told.of(ResultSubmitted)] == ["It was there."]
    assert (Path(outcome.folder or "") / "a.txt").read_text() == "made"


async def test_a_coder_may_read_what_it_wrote_into_an_empty_project(tmp_path: Path) -> None:
    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        read = Answer(calls=[("read_file", {"path": "a.txt"})])
        return read if role == "coder" and wrote(body) and len(results(body)) == 1 else None

    async with ChatEndpoint(player([task("a")], play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "a.txt"}]))
    assert outcome.outcome == "accepted", outcome.reason
    read = [e for e in (await story(tmp_path)).of(ToolReturned) if e.tool == "read_file"]
    assert [one.output for one in read] == ["made by a\n"]


async def test_another_plan_keeps_accepted_work_as_far_as_it_is_told_of_it_and_goes_on_from_its_files(
    tmp_path: Path,
) -> None:
    first = [task("a") | {"creates": ["a.txt"]}, task("b", ["a"]) | {"accept": [{"text": "b.txt", "min_words": 1}]}]
    second = [task("a"), task("b"), task("mend") | {"creates": ["a.txt"]}]
    mending: list[str] = []

    def play(role: str, subtask: str, body: Body) -> Reply | None:
        again = "The plan so far" in str(body)
        if role == "planner":
            return json.dumps({"subtasks": second if again else first})
        if role == "critic" and not mending:
            return json.dumps({"reasons": "a.txt is dull", "accepted": False})
        if subtask != "mend" or wrote(body):
            return None
        mending.append(str(body["messages"][-1]["content"]))
        return write("a.txt", "a zebra")

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint))
    told = await story(tmp_path)
    assert outcome.outcome == "accepted", outcome.reason
    assert [e.subtask.id for e in told.of(SubtaskAssigned)] == ["a", "b", "mend"]
    assert "Files in the project:\na.txt" in mending[0]


async def test_a_plan_proposed_again_is_told_once_and_then_the_run_ends(tmp_path: Path) -> None:
    def play(_role: str, subtask: str, _body: Body) -> Reply | None:
        return "I did it." if subtask == "a" else None

    async with ChatEndpoint(player([task("a")], play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "a.txt"}], limits={"rounds": 9}))
    assert outcome.outcome == "failed"
    told = await story(tmp_path)
    assert [e.what for e in told.of(NoProgressNoticed)][-2:] == ["plan", "plan"]
    assert told.of(GoalFailed)[0].kind == "no_progress"
    assert len(told.of(PlanRefused)) == 2


async def test_an_outcome_rejected_in_every_round_ends_with_what_was_wrong(tmp_path: Path) -> None:
    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        if role == "planner":
            return json.dumps({"subtasks": [task(f"n{len(str(body))}")]})
        return json.dumps({"reasons": "it is dull", "accepted": False}) if role == "critic" else None

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, limits={"rounds": 2}))
    assert outcome.outcome == "failed"
    assert outcome.reason == "the outcome was rejected in the last of 2 rounds: it is dull"
    assert len(outcome.files) == 1
    told = await story(tmp_path)
    assert [e.round for e in told.of(PlanRequested)] == [1, 2]
    assert "it is dull" in told.of(PlanRequested)[1].feedback[0]


@pytest.mark.parametrize("of", ["subtask", "outcome"])
async def test_what_a_critic_wants_changed_is_told_also_where_it_names_a_file(tmp_path: Path, of: str) -> None:
    file, ask = [{"file": "a.txt"}], [{"ask": "it has a zebra"}]

    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        if role == "critic":
            accepted = "with a zebra" in str(body)
            redo = [{"subtask": "a.txt", "why": "put in a zebra"}]
            return json.dumps({"reasons": "dull", "accepted": accepted, "redo": [] if accepted else redo})
        return "with a zebra" if role == "coder" and "a.txt: put in a zebra" in str(body) and wrote(body) else None

    plan = [task("a") | {"accept": ask if of == "subtask" else file}]
    async with ChatEndpoint(player(plan, play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=ask if of == "outcome" else file))
    assert outcome.outcome == "accepted", outcome.reason
    assert [e.subtask.id for e in (await story(tmp_path)).of(SubtaskAssigned)] == ["a", "a"]


async def test_what_a_critic_names_is_redone_with_its_reason(tmp_path: Path) -> None:
    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        if role != "critic" or "[b] Made b.txt, better." in str(body):
            return None
        return json.dumps({"reasons": "b is thin", "accepted": False, "redo": [{"subtask": "b", "why": "too thin"}]})

    def better(role: str, subtask: str, body: Body) -> Reply | None:
        if subtask == "b" and rejected(body) and wrote(body):
            return "Made b.txt, better."
        return play(role, subtask, body)

    async with ChatEndpoint(player([task("a"), task("b"), task("c", ["b"])], play=better)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint))
    assert outcome.outcome == "accepted"
    told = await story(tmp_path)
    assert Counter(e.subtask.id for e in told.of(SubtaskAssigned)) == {"a": 1, "b": 2, "c": 2}
    assert told.of(SubtaskAssigned, subject="b")[1].feedback == ("too thin",)
    assert len(told.of(GoalAccepted)) == 1


async def test_another_plan_need_not_say_again_what_accepted_subtasks_were_to_do(tmp_path: Path) -> None:
    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        if role == "critic" and "[c]" not in str(body):
            return json.dumps({"reasons": "c is missing", "accepted": False})
        if role == "planner" and "c is missing" in str(body):
            kept = [{"id": name, "role": "coder", "do": ""} for name in "ab"]
            return json.dumps({"subtasks": [*kept, task("c") | {"creates": ["c.txt"]}]})
        return None

    plan = [task("a"), task("b", ["a"]) | {"accept": [{"text": "b.txt", "contains": "made"}]}]
    async with ChatEndpoint(player(plan, play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint))
    assert outcome.outcome == "accepted"
    told = await story(tmp_path)
    assert Counter(e.subtask.id for e in told.of(SubtaskAssigned)) == {"a": 1, "b": 1, "c": 1}


async def test_each_subtask_is_told_of_the_failures_of_its_own_files(tmp_path: Path) -> None:
    def play(_role: str, subtask: str, body: Body) -> Reply | None:
        return write(f"{subtask}.txt", "good") if rejected(body) and not wrote(body) else None

    accept = [{"text": "a.txt", "contains": "good"}, {"text": "b.txt", "contains": "good"}]
    async with ChatEndpoint(player([task("a"), task("b"), task("c")], play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=accept))
        assert outcome.outcome == "accepted"
        told = await story(tmp_path)
        for name in "ab":
            (feedback,) = told.of(SubtaskAssigned, subject=name)[1].feedback
            assert feedback == f"'{name}.txt' does not contain 'good'."
        assert [len(told.of(SubtaskAssigned, subject=name)) for name in "abc"] == [2, 2, 1]


def test_a_failure_that_names_no_file_is_told_to_all_who_do_theirs_again() -> None:
    failed = [
        Verdict("fails", "a is dull", ("a",)),
        Verdict("fails", "b is dull", ("b",)),
        Verdict("fails", "12 s"),
    ]
    findings = [Finding(name, "coder", "", "", (name, "shared")) for name in "abc"]
    assert redone(failed, findings) == (
        Redo(subtask="a", why="a is dull\n12 s"),
        Redo(subtask="b", why="b is dull\n12 s"),
    )


async def test_a_critic_of_a_subtask_is_told_what_was_to_do_and_what_was_wrong_before(tmp_path: Path) -> None:
    told: list[str] = []

    def play(role: str, subtask: str, body: Body) -> Reply | None:
        if role != "critic":
            return "Made a.txt, shorter." if subtask == "a" and rejected(body) and wrote(body) else None
        told.append(str(body["messages"][-1]["content"]))
        return json.dumps({"reasons": "It is too long.", "accepted": False}) if len(told) == 1 else None

    plan = [{"id": "a", "role": "coder", "do": "TASK a: go", "accept": [{"ask": "It is funny."}]}]
    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, plan=plan, accept=[{"file": "a.txt"}]))
    assert outcome.outcome == "accepted"
    first, second = told
    assert "The subtask:\nTASK a: go\n\nThe result:\n[a] Made a.txt." in first
    assert "too long" not in first
    assert "What was wrong with earlier attempts (do not ask for the contrary now):\n- [a] It is too long." in second


async def test_a_critic_that_accepts_and_has_work_done_again_is_asked_which(tmp_path: Path) -> None:
    def play(role: str, _subtask: str, body: Body) -> Reply | None:
        if role != "critic" or "which of the two" in str(body):
            return None
        return json.dumps({"reasons": "b is thin", "accepted": True, "redo": [{"subtask": "b", "why": "too thin"}]})

    async with ChatEndpoint(player([task("b")], play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint))
    assert (outcome.outcome, outcome.reason) == ("accepted", "all is there")


@pytest.mark.parametrize("tool", ["read_file", "search_files"])
async def test_the_same_call_with_the_same_answer_again_and_again_ends_the_attempt(tmp_path: Path, tool: str) -> None:
    arguments = {"path": "notes.md"} if tool == "read_file" else {"text": "x"}

    def play(role: str, _subtask: str, _body: Body) -> Reply | None:
        return Answer(calls=[(tool, arguments)]) if role == "coder" else None

    (tmp_path / "notes.md").write_text("x\n")
    plan = [{"id": "a", "role": "coder", "do": "TASK a: go"}]
    written = {"plan": plan, "workspace": "notes.md", "limits": {"rounds": 1, "calls": 8}}
    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, **written))
        assert endpoint.count < 10
    assert outcome.outcome == "failed"
    assert "the same call with the same answer" in outcome.reason
    assert len((await story(tmp_path)).of(ToolReturned)) < 10
