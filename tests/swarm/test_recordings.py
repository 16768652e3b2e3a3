"""Whole runs against a recording: the same outcome without a model, strict, and grown by what is new."""

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agents.conversation.messages import Mode
from agents.errors import ModelUnavailable
from bus.codec import decode, encode
from bus.envelope import Envelope
from bus.events import GoalSubmitted, ModelAnswered, ModelAsked, ModelTryFailed, ResultSubmitted
from swarm import launch
from swarm.errors import MissingPart, UsageError
from swarm.preparation import preparing, recordings
from swarm.runs.outcome import Outcome
from swarm.scenario.model import Scenario
from tests.support.busy_run import FAULTS, ROLE, answers, busy
from tests.support.endpoint import Body, ChatEndpoint
from tests.support.runs import Story, layers, player, resume, scenario, settings, start, story

NOWHERE = "http://127.0.0.1:9/v1"
FILE = "recordings/run.jsonl"


async def recorded(folder: Path, into: Path) -> None:
    """Write the last run of a folder as a recording."""
    recordings.write(into / FILE, recordings.kept((await story(folder)).log))


async def play(
    folder: Path, written: dict[str, Any], *, models: tuple[str, ...] = (f"recorded:{FILE}",), record_new: bool = False
) -> Outcome:
    """Run a scenario with the recording that lies in its folder."""
    at = settings(folder)
    ready = await preparing.prepare(
        Scenario.from_dict(written, folder=folder), at, models=models, record_new=record_new
    )
    return await launch.start(ready, at, out=folder / f"out-{len([*folder.glob('out*')])}")


@pytest.mark.parametrize("mode", ["native", "json"])
async def test_a_run_is_played_to_the_same_outcome_without_its_model(tmp_path: Path, mode: Mode) -> None:
    async with ChatEndpoint(answers(mode), faults=FAULTS) as endpoint:
        live = await start(tmp_path / "live", busy(endpoint), **ROLE, dialogue=mode)
    (tmp_path / "played").mkdir()
    await recorded(tmp_path / "live", tmp_path / "played")
    roles = {name: {"max_tokens": ROLE["max_tokens"]} for name in ("coder", "critic")}  # the scenario's to say
    played = await play(tmp_path / "played", busy(NOWHERE, roles=roles))
    assert (played.outcome, played.files, played.cost_usd) == ("accepted", live.files, 0)
    run = await story(tmp_path / "played")
    assert {event.model for event in run.of(ModelAsked)} == {f"recorded:{FILE}"}
    setup = run.of(GoalSubmitted)[0].setup.roles["coder"]
    assert (setup.dialogue, setup.window) == (mode, ROLE["window"])

    def said(one: Story) -> list[str]:
        return sorted(event.model_dump_json(exclude={"number"}) for event in one.of(ModelAnswered))

    assert said(run) == said(await story(tmp_path / "live"))
    assert {failed.kind for failed in run.of(ModelTryFailed)} == {"too_long"}


async def record(folder: Path, planned: Any, **more: Any) -> dict[str, Any]:
    """Run a scenario live and leave its recording beside it; return the scenario."""
    async with ChatEndpoint(player(planned)) as endpoint:
        outcome = await start(folder / "live", scenario(endpoint, accept=[{"file": "t0-0.txt"}], **more))
    assert outcome.outcome == "accepted"
    await recorded(folder / "live", folder)
    return scenario(NOWHERE, accept=[{"file": "t0-0.txt"}], **more)


async def test_parallel_work_is_played_whatever_comes_first(tmp_path: Path) -> None:
    written = await record(tmp_path, layers(2, 8))
    for _ in range(2):
        outcome = await play(tmp_path, written)
        assert outcome.outcome == "accepted", outcome.reason


async def test_what_changed_pauses_the_run_and_is_shown(tmp_path: Path) -> None:
    written = await record(tmp_path, layers(1, 2))
    outcome = await play(tmp_path, written | {"goal": "Make all files, now."})
    assert (outcome.outcome, outcome.exit_status) == ("paused", 3)
    assert "no answer to a request of role 'planner'" in outcome.reason
    assert "\n-Make all the files.\n+Make all files, now." in outcome.reason
    assert "--record-new" in outcome.reason


async def test_what_is_new_goes_to_the_live_model_and_is_known_the_next_time(tmp_path: Path) -> None:
    plan = [{"id": one["id"], "role": "coder", "do": one["do"]} for one in layers(1, 2)]
    await record(tmp_path, (), plan=plan)
    more = [*plan, {"id": "t0-9", "role": "coder", "do": "TASK t0-9: write t0-9.txt"}]
    models = (f"coder=recorded:{FILE}", f"critic=recorded:{FILE}")
    before = (tmp_path / FILE).read_bytes()
    async with ChatEndpoint(player()) as endpoint:
        written = scenario(endpoint, plan=more, accept=[{"file": "t0-0.txt"}])
        outcome = await play(tmp_path, written, models=models, record_new=True)
        assert outcome.outcome == "accepted", outcome.reason
        assert endpoint.count == 2, "the two turns of the new subtask"
    after = (tmp_path / FILE).read_bytes()
    assert after.startswith(before)
    added = [decode(line) for line in after[len(before) :].splitlines()]
    assert [type(one.event).__name__ for one in added] == [
        "GoalSubmitted", "SubtaskAssigned", "ModelAsked", "ModelAnswered", "ModelAsked", "ModelAnswered",
    ]  # fmt: skip
    assert {event.model for event in (one.event for one in added) if isinstance(event, ModelAsked)} == {
        "lab:test-model"
    }
    again = await play(tmp_path, scenario(NOWHERE, plan=more, accept=[{"file": "t0-0.txt"}]), models=models)
    assert again.outcome == "accepted", again.reason
    once_more = await play(
        tmp_path, scenario(NOWHERE, plan=more, accept=[{"file": "t0-0.txt"}]), models=models, record_new=True
    )
    assert once_more.outcome == "accepted"
    assert (tmp_path / FILE).read_bytes() == after, "nothing was new"


async def test_a_recording_is_made_where_there_was_none(tmp_path: Path) -> None:
    models = (f"recorded:{FILE}",)
    with pytest.raises(ModelUnavailable, match=r"run\.jsonl is not there"):
        await play(tmp_path, scenario(NOWHERE), models=models)
    async with ChatEndpoint(player(layers(1, 2))) as endpoint:
        outcome = await play(tmp_path, scenario(endpoint), models=models, record_new=True)
        assert (outcome.outcome, outcome.model_calls) == ("accepted", endpoint.count)
    assert (await play(tmp_path, scenario(NOWHERE), models=models)).outcome == "accepted"


async def test_what_was_paid_for_is_kept_also_where_the_run_pauses(tmp_path: Path) -> None:
    models = (f"recorded:{FILE}",)
    async with ChatEndpoint(player(layers(1, 2)), faults=[None, "401", "401", "401"]) as endpoint:
        outcome = await play(tmp_path, scenario(endpoint), models=models, record_new=True)
        assert outcome.outcome == "paused"
        assert (tmp_path / FILE).read_bytes().count(b"ModelAnswered") == 1
        endpoint.faults.clear()
        seen = endpoint.count
        again = await play(tmp_path, scenario(endpoint), models=models, record_new=True)
        assert again.outcome == "accepted"
        assert endpoint.count - seen == again.model_calls - 1, "the plan was not asked for again"


async def test_a_played_run_that_was_paused_goes_on_behind_the_answers_that_it_had(tmp_path: Path) -> None:
    plan = [{"id": name, "role": "researcher", "do": "Say a number."} for name in ("one", "two")]
    numbers = iter(range(1, 9))

    def numbered(role: str, _subtask: str, _body: Body) -> str | None:
        found = {"findings": [{"claim": f"number {next(numbers)}", "source": "me"}]}
        return json.dumps(found) if role == "researcher" else None

    async with ChatEndpoint(player(play=numbered)) as endpoint:
        written = scenario(endpoint, plan=plan, limits={"parallel": 1})
        await start(tmp_path / "live", written)
    live = await story(tmp_path / "live")
    (tmp_path / "played").mkdir()
    await recorded(tmp_path / "live", tmp_path / "played")
    at = settings(tmp_path / "played")
    ready = await preparing.prepare(
        Scenario.from_dict(written, folder=tmp_path / "played"), at, models=(f"recorded:{FILE}",)
    )

    def stop(envelope: Envelope) -> None:
        if isinstance(envelope.event, ResultSubmitted):
            playing.cancel()

    playing = asyncio.create_task(launch.start(ready, at, out=tmp_path / "out", on_event=stop))
    with suppress(asyncio.CancelledError):
        await playing
    assert (await story(tmp_path / "played")).state.status == "paused"
    assert (await resume(tmp_path / "played")).outcome == "accepted"
    texts = [[event.text for event in one.of(ResultSubmitted)] for one in (live, await story(tmp_path / "played"))]
    assert texts[0] == texts[1]
    assert texts[0][0] != texts[0][1]


async def test_to_record_what_is_new_needs_a_recorded_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--model recorded:FILE"):
        await play(tmp_path, scenario(NOWHERE), models=(), record_new=True)


async def test_a_recording_names_no_place_of_its_machine(tmp_path: Path) -> None:
    await record(tmp_path, layers(1, 1))
    text = (tmp_path / FILE).read_text()
    assert str(tmp_path) not in text
    kinds = {type(decode(line.encode()).event).__name__ for line in text.splitlines()}
    assert kinds == {
        "GoalSubmitted",
        "PlanRequested",
        "SubtaskAssigned",
        "ReviewRequested",
        "ModelAsked",
        "ModelAnswered",
    }


async def test_a_whole_log_is_a_recording_too(tmp_path: Path) -> None:
    written = await record(tmp_path, layers(1, 2))
    log = (await story(tmp_path / "live")).log
    (tmp_path / FILE).write_bytes(b"\n".join(encode(one) for one in log))
    assert (await play(tmp_path, written)).outcome == "accepted"


def test_a_recording_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.jsonl"
    file.write_bytes(b"{}")
    recordings.write(file, [], add=True)
    assert file.read_bytes() == b"{}\n", "the next line begins on its own"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MissingPart, match=r"run\.jsonl cannot be written: No space left"):
        recordings.write(file, [])
    assert [path.name for path in tmp_path.iterdir()] == ["run.jsonl"]
    assert file.read_bytes() == b"{}\n"
    assert json.loads(file.read_bytes()) == {}
