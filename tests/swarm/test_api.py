"""`swarm.run`, `swarm.resume` and `swarm.open_log`, as programs use them."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import swarm
from bus.envelope import Envelope
from bus.errors import NotFound
from bus.events import GoalSubmitted, ModelAnswered
from swarm.commands.failures import failure_of
from swarm.errors import ScenarioError
from tests.support.command import ANSWERS, serving

HELLO = {
    "goal": "Write hello.txt",
    "plan": [{"id": "hello", "role": "coder", "do": "Write hello.txt.", "accept": [{"file": "hello.txt"}]}],
    "accept": [{"file": "hello.txt"}],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "answers.yaml").write_text(ANSWERS)
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SWARM_HOME", "SWARM_MODEL", "SWARM_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


async def run(scenario: Mapping[str, object] = HELLO, **more: Any) -> swarm.Outcome:
    return await swarm.run(scenario, **{"model": "scripted:answers.yaml"} | more)


# What is raised


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"model": "gpt"}, 2),
        ({"model": "foo:x"}, 2),
        ({"model": "local:zz"}, 3),
        ({"model": "scripted:none.yaml"}, 3),
        ({"home": "answers.yaml"}, 3),
        ({"bus": "foo"}, 2),
        ({"bus": "mqtt://127.0.0.1:1"}, 3),
        ({"bus": "mqtt://127.0.0.1:1", "scenario": HELLO | {"plan": [{"id": "a", "role": "tester", "do": "Try."}]}}, 3),
        ({"scenario": HELLO | {"roles": {"coder": {"uses": "./broken.py:Mine"}}}}, 2),
        ({"scenario": HELLO | {"accept": [{"run": "true"}], "sandbox": {"python": "./answers.yaml"}}}, 3),
    ],
)
async def test_what_is_raised_before_a_run_begins_is_a_swarm_error(
    folder: Path, more: dict[str, Any], status: int
) -> None:
    (folder / "broken.py").write_text("class Mine: ...\nraise ValueError('broken')\n")
    with pytest.raises(swarm.SwarmError) as raised:
        await run(**more)
    told = failure_of(raised.value)
    assert told.status == status
    if raised.value.__cause__ is not None:
        below = failure_of(raised.value.__cause__)
        assert (told.text, told.status) == (below.text, below.status), "as the command line says it"


async def test_what_is_raised_says_the_same_in_another_process() -> None:
    with pytest.raises(ScenarioError) as raised:
        await run(HELLO | {"gaol": "x", "limits": {"time": "soon"}})
    there = pickle.loads(pickle.dumps(raised.value))
    assert (str(there), there.faults) == (str(raised.value), raised.value.faults)


async def test_a_run_or_a_log_that_is_not_there_is_a_swarm_error() -> None:
    with pytest.raises(swarm.SwarmError, match="nothing has been run here"):
        await swarm.resume()
    with pytest.raises(swarm.SwarmError, match="nothing has been run here"):
        async with swarm.open_log():
            pass
    await run()
    with pytest.raises(swarm.SwarmError, match="there is no run 'none'") as raised:
        async with swarm.open_log() as log:
            await log.head("none")
    assert isinstance(raised.value.__cause__, NotFound)
    with pytest.raises(PermissionError, match="mine"):
        async with swarm.open_log():
            raise PermissionError("mine")


@pytest.mark.parametrize("out", [".", "/proc/x"])
async def test_a_folder_that_cannot_be_taken_is_told_before_a_run_begins(out: str) -> None:
    with pytest.raises(swarm.SwarmError, match=r"is there already|cannot be made"):
        await run(out=out)
    async with swarm.open_log() as log:
        assert await log.runs() == []


async def test_what_a_run_handed_over_in_the_workspace_is_no_part_of_the_next_ones_project(folder: Path) -> None:
    workspaces = []

    def note(envelope: Envelope) -> None:
        if isinstance(envelope.event, GoalSubmitted):
            workspaces.append([ref.path for ref in envelope.event.workspace])

    for _ in range(2):
        outcome = await run(HELLO | {"workspace": ["."]}, on_event=note)
        assert outcome.folder == str(folder / outcome.run)
    assert workspaces == [["answers.yaml"]] * 2


async def test_an_outcome_is_not_lost_where_its_folder_was_taken_meanwhile(folder: Path) -> None:
    outcome = await run(out="made", on_event=lambda _: (folder / "made").mkdir(exist_ok=True))
    assert (outcome.outcome, outcome.exit_status, outcome.folder) == ("accepted", 3, None)
    assert f"`swarm show {outcome.run} --files OTHER_FOLDER`" in outcome.not_written
    (folder / "made").rmdir()
    outcome = await swarm.resume()
    assert (outcome.exit_status, outcome.folder, outcome.not_written) == (0, str(folder / "made"), "")


# Watching


async def test_what_a_watcher_raises_pauses_the_run_and_is_raised_as_it_is() -> None:
    told: list[str] = []

    def watch(envelope: Any) -> None:
        told.append(envelope.type)
        if isinstance(envelope.event, ModelAnswered):
            raise PermissionError("mine")

    with pytest.raises(PermissionError, match="mine"):
        await run(on_event=watch)
    assert told[-1] == "swarm.ModelAnswered.v1", "it is told nothing more"
    async with swarm.open_log() as log:
        (info,) = await log.runs()
        paused = [envelope.event async for envelope in log.read(info.run)][-1]
    assert "what watches the run raised PermissionError: mine" in paused.reason
    assert (await swarm.resume()).outcome == "accepted"


async def test_a_watcher_that_nobody_would_await_is_refused(folder: Path) -> None:
    async def watch(_: Any) -> None: ...

    with pytest.raises(swarm.SwarmError, match="on_event"):
        await run(on_event=watch)
    assert not (folder / ".swarm").exists()


# What a run is given


async def test_a_program_may_go_to_another_folder_while_a_run_is_under_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    outcome = await run(on_event=lambda _: monkeypatch.chdir(elsewhere))
    assert outcome.outcome == "accepted"
    assert [*elsewhere.iterdir()] == []


async def test_inputs_of_a_scenario_that_is_loaded_are_refused() -> None:
    scenario = swarm.Scenario.from_dict(HELLO | {"inputs": {"name": {"default": "x"}}})
    with pytest.raises(swarm.SwarmError, match="inputs: this scenario is loaded"):
        await run(scenario, inputs={"name": "y"})


async def test_resume_reads_the_keys_beside_the_scenario(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = folder / "elsewhere"
    place.mkdir()
    (place / "prompt.md").write_text("You write.")
    (place / ".env").write_text("LAB_KEY=wrong\n")
    with serving(key="right", responder=lambda _: "It is written.") as endpoint:
        scenario = swarm.Scenario.from_dict(
            {
                "goal": "Say so.",
                "model": "lab:test-model",
                "endpoints": {"lab": {"url": endpoint.url, "key": "LAB_KEY"}},
                "roles": {"coder": {"prompt": "./prompt.md"}},
                "plan": [{"id": "hello", "role": "coder", "do": "Say so."}],
            },
            folder=place,
        )
        assert (await swarm.run(scenario)).outcome == "paused"
        (place / ".env").write_text("LAB_KEY=right\n")
        (place / "prompt.md").write_text("You write!")
        outcome = await swarm.resume()
    assert "invalid" not in outcome.reason
    assert outcome.model_calls
    assert "prompt.md is not what it was when the run began" in caplog.text
