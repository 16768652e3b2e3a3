"""Agents that make no progress: how each rule ends a run, and what the same run costs where the rule does not see it.

Each loop is a scenario with its answers in `loops/`. The run beside it, which dodges the rule, has the same scenario
and the same answers over and over, but where they say `again` they say it in other words each time: it goes on to its
other limits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from bus.events import (
    FilesMerged,
    GoalFailed,
    NoProgressNoticed,
    PlanRefused,
    PlanRequested,
    SubtaskAssigned,
    WorkFailed,
)
from swarm import launch
from swarm.preparation import preparing
from swarm.runs.outcome import Outcome
from swarm.scenario.model import Scenario
from tests.support.runs import Story, settings, story

LOOPS = Path(__file__).parent / "loops"
TIMES = 60


@dataclass(frozen=True, slots=True)
class Looped:
    """A run of a loop."""

    outcome: Outcome
    told: Story

    @property
    def tokens(self) -> int:
        """What it used."""
        return self.outcome.tokens.input + self.outcome.tokens.output


def varied(value: Any, number: int) -> Any:
    """Return an answer in which every `again` is another one."""
    if isinstance(value, str):
        return value.replace("again", f"again {number}")
    if isinstance(value, Mapping):
        return {key: varied(each, number) for key, each in value.items()}
    return [varied(each, number) for each in value] if isinstance(value, list) else value


def dodging(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the same answers over and over, each time in other words; but nobody accepts what comes of them."""
    rejecting = [answer for answer in answers if not (answer.get("json") or {}).get("accepted")]
    times = range(TIMES * len(rejecting))
    return [varied(rejecting[number % len(rejecting)], number) for number in times]


async def loop(folder: Path, name: str, *, dodge: bool = False) -> Looped:
    """Run a loop in a folder of its own."""
    folder.mkdir()
    for file in LOOPS.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if dodge:
        path = folder / f"{name}.answers.yaml"
        yaml = YAML(typ="safe", pure=True)
        answers = dodging(yaml.load(path.read_text()))
        yaml.dump(answers, path)
    ready = await preparing.prepare(Scenario.load(folder / f"{name}.yaml"), settings(folder))
    outcome = await launch.start(ready, settings(folder), out=folder / "out")
    return Looped(outcome, await story(folder))


async def both(tmp_path: Path, name: str) -> tuple[Looped, Looped]:
    """Run a loop, and the one that dodges its rule."""
    seen, unseen = await loop(tmp_path / "loop", name), await loop(tmp_path / "dodge", name, dodge=True)
    assert not unseen.told.of(NoProgressNoticed)
    assert not [event for event in unseen.told.of(WorkFailed) if event.kind == "no_progress"]
    print(f"{name}: {seen.tokens:,} tokens; {unseen.tokens:,} where the rule does not see it")
    return seen, unseen


async def test_the_same_call_with_the_same_answer(tmp_path: Path) -> None:
    """Told once in the conversation, then the attempt fails, another plan is asked for, the run ends."""
    seen, unseen = await both(tmp_path, "call")
    assert [event.kind for event in seen.told.of(WorkFailed)] == ["no_progress"] * 2
    assert [event.attempt for event in seen.told.of(SubtaskAssigned)] == [1, 1], "such an attempt is not tried again"
    assert len(seen.told.of(PlanRequested)) == 2
    assert "the same call with the same answer" in seen.outcome.reason
    assert unseen.outcome.outcome == "failed"
    assert seen.tokens * 20 < unseen.tokens


async def test_the_same_result_handed_in_again(tmp_path: Path) -> None:
    seen, unseen = await both(tmp_path, "result")
    assert [event.what for event in seen.told.of(NoProgressNoticed)] == ["result"] * 4
    assert [event.attempt for event in seen.told.of(SubtaskAssigned)] == [1, 2, 3, 1, 2, 3]
    assert len(seen.told.of(PlanRequested)) == 2
    assert "handed in again" in seen.outcome.reason
    assert "8 attempts" in unseen.outcome.reason
    assert seen.tokens * 2 < unseen.tokens


async def test_a_plan_that_was_tried_already(tmp_path: Path) -> None:
    seen, unseen = await both(tmp_path, "plan")
    assert [event.what for event in seen.told.of(NoProgressNoticed)] == ["plan"] * 2
    assert len(seen.told.of(PlanRefused)) == 2
    assert [event.kind for event in seen.told.of(GoalFailed)] == ["no_progress"]
    assert [event.kind for event in unseen.told.of(GoalFailed)] == ["rounds"]
    assert seen.tokens * 2 < unseen.tokens


async def test_two_that_undo_one_anothers_edits(tmp_path: Path) -> None:
    """Told once, the attempt fails, and the planner finds another way."""
    seen, unseen = await both(tmp_path, "edits")
    assert seen.outcome.outcome == "accepted", seen.outcome.reason
    assert [(e.subtask, len(e.merged)) for e in seen.told.of(FilesMerged)] == [
        ("a", 0), ("b", 0), ("a", 0), ("c", 0),
    ]  # fmt: skip
    noticed = seen.told.of(NoProgressNoticed)
    assert [event.what for event in noticed] == ["edits"] * 2
    assert "mode.txt: 'b' and 'a' put back one another's version" in noticed[0].detail
    last = seen.told.of(SubtaskAssigned, subject="b")[-1]
    assert any("keep what the other made of it" in told for told in last.feedback)
    assert len(seen.told.of(PlanRequested)) == 1
    assert [event.kind for event in unseen.told.of(GoalFailed)] == ["rounds"]
    assert seen.tokens * 2 < unseen.tokens


@pytest.mark.parametrize("name", sorted(path.name.partition(".")[0] for path in LOOPS.glob("*.answers.yaml")))
def test_each_loop_is_a_scenario_of_its_own(name: str) -> None:
    assert Scenario.load(LOOPS / f"{name}.yaml").name == f"loop-{name}"
