"""A run that was killed, stopped, paused or hit a limit goes on, and what was paid for is not paid for again."""

import asyncio
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from agents import tries
from bus.envelope import Envelope
from bus.events import (
    AssignmentEnded,
    GoalFailed,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    RunPaused,
    RunResumed,
    ToolCalled,
    ToolReturned,
)
from swarm.errors import UsageError
from tests.support.command import ROOT
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.runs import layers, player, results, resume, role_of, scenario, start, story, subtask_of

PLAN = layers(2, 2)
RUNNER = Path(__file__).parents[1] / "support" / "run_until_killed.py"


class Crashed(BaseException):
    """The process is gone, as far as the run can tell."""


def said(messages: Iterable[Any]) -> str:
    """Return what tells one request of these runs from another."""
    return json.dumps([*messages][-1], sort_keys=True)


def answered(log: Iterable[Envelope]) -> set[str]:
    """Return the requests whose answers are in a log."""
    asked: dict[Any, str] = {}
    found = set()
    for envelope in log:
        event = envelope.event
        if isinstance(event, ModelAsked):
            asked[envelope.subject, event.attempt, event.path] = said(event.messages)
        elif isinstance(event, ModelAnswered):
            found.add(asked[envelope.subject, event.attempt, event.path])
    return found


async def goes_on(folder: Path, endpoint: ChatEndpoint) -> None:
    """Resume the last run, and hold that nothing recorded is done again."""
    before = await story(folder)
    seen = len(endpoint.requests)
    outcome = await resume(folder)
    assert outcome.outcome == "accepted", outcome.reason
    assert {ref.path for ref in outcome.files} == {f"{one['id']}.txt" for one in PLAN}
    again = {said(request.body["messages"]) for request in [*endpoint.requests][seen:]}
    assert not again & answered(before.log)
    after = await story(folder)
    assert after.log[: len(before.log)] == before.log
    ends = [(e.subject, e.event.attempt, e.event.path) for e in after.log if isinstance(e.event, ToolReturned)]
    assert len(ends) == len(set(ends))
    begun = {(e.subject, e.event.attempt, e.event.path) for e in after.log if isinstance(e.event, ToolCalled)}
    assert begun <= set(ends)


async def crash(folder: Path, endpoint: ChatEndpoint, position: int) -> bool:
    """Begin a run that crashes once this position is durable; tell whether it came so far."""

    def on_event(envelope: Envelope) -> None:
        if envelope.sequence == position:
            raise Crashed

    try:
        await start(folder, scenario(endpoint, accept=[{"file": "t1-0.txt"}]), on_event=on_event)
    except* Crashed:
        pass
    else:
        return False
    return True


async def crash_and_go_on(folder: Path, position: int) -> bool:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        if not await crash(folder, endpoint, position):
            return False
        assert (await story(folder)).state.position >= position
        await goes_on(folder, endpoint)
        return True


@pytest.mark.parametrize("position", [1, 5, 7, 13, 22, 34, 47, 56])
async def test_a_run_that_crashed_goes_on(tmp_path: Path, position: int) -> None:
    assert await crash_and_go_on(tmp_path, position)


@pytest.mark.torture
@pytest.mark.timeout(600)
async def test_a_run_that_crashed_at_any_position_goes_on(tmp_path: Path) -> None:
    position = 1
    while await crash_and_go_on(tmp_path / str(position), position):
        position += 1
    assert position > 55


@pytest.mark.parametrize(
    "kind",
    [
        ToolCalled,
        pytest.param(ModelAsked, marks=pytest.mark.torture),
        pytest.param(ModelAnswered, marks=pytest.mark.torture),
        pytest.param(ToolReturned, marks=pytest.mark.torture),
    ],
)
async def test_a_killed_process_leaves_a_run_that_goes_on(tmp_path: Path, kind: type[Any]) -> None:
    """SIGKILL of a process of its own, at the third event of a kind."""
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        written = scenario(endpoint, accept=[{"file": "t1-0.txt"}])
        position = await third(tmp_path / "first", written, kind)
        (tmp_path / "scenario.json").write_text(json.dumps(written))
        folder = tmp_path / "killed"
        folder.mkdir()
        command = [sys.executable, str(RUNNER), str(folder), str(tmp_path / "scenario.json"), str(position)]
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert await process.wait() == -9
        await goes_on(folder, endpoint)


async def third(folder: Path, written: dict[str, Any], kind: type[Any]) -> int:
    """Return the position of the third event of a kind in a run that is left alone."""
    await start(folder, written)
    return [e.sequence for e in (await story(folder)).log if isinstance(e.event, kind)][2]


async def test_a_folder_call_without_outcome_is_done_again_on_the_folder_as_it_was(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        written = scenario(endpoint, accept=[{"file": "t1-0.txt"}])
        position = await third(tmp_path / "first", written, ToolCalled)
        assert await crash(tmp_path / "crashed", endpoint, position)
        log = (await story(tmp_path / "crashed")).log
        called, path = log[position - 1].subject, log[position - 1].event.path
        await goes_on(tmp_path / "crashed", endpoint)
    told = await story(tmp_path / "crashed")
    same = [
        type(e.event)
        for e in told.log
        if e.subject == called and isinstance(e.event, ToolCalled | ToolReturned) and e.event.path == path
    ]
    assert same == [ToolCalled, ToolReturned]


async def test_a_cancelled_run_is_paused_and_goes_on(tmp_path: Path) -> None:
    stuck = asyncio.Event()
    go = asyncio.Event()

    async def hold(body: Body) -> Reply:
        if subtask_of(body) == "t1-0" and not go.is_set():
            stuck.set()
            await go.wait()
        return player(PLAN)(body)

    async with ChatEndpoint(hold, keep=200) as endpoint:
        running = asyncio.create_task(start(tmp_path, scenario(endpoint, accept=[{"file": "t1-0.txt"}])))
        await stuck.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        told = await story(tmp_path)
        assert told.of(RunPaused) == [RunPaused(reason="stopped by a person", kind="person")]
        assert told.state.status == "paused"
        go.set()
        await goes_on(tmp_path, endpoint)


async def test_an_ended_run_is_only_handed_over_again(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN)) as endpoint:
        ended = await start(tmp_path, scenario(endpoint, accept=[{"file": "t1-0.txt"}]))
        asked = endpoint.count
        (Path(ended.folder or "") / "t0-0.txt").unlink()
        (Path(ended.folder or "") / "t0-0.txt").write_text("made by t0-0\n")
        assert await resume(tmp_path) == ended
        assert endpoint.count == asked


@pytest.mark.parametrize("limit", [{"tokens": 5000}, {"time": "3s"}])
async def test_a_run_that_failed_by_a_limit_goes_on_with_a_raised_one(tmp_path: Path, limit: dict[str, Any]) -> None:
    slow = asyncio.Event()

    async def respond(body: Body) -> Reply:
        if "time" in limit and subtask_of(body) == "t1-1":
            await slow.wait()
        return player(PLAN)(body)

    roles = {name: {"max_tokens": 300} for name in ("planner", "coder", "critic")}
    async with ChatEndpoint(respond, keep=200) as endpoint:
        written = scenario(endpoint, accept=[{"file": "t1-0.txt"}], limits=limit, roles=roles)
        outcome = await start(tmp_path, written)
        assert (outcome.outcome, outcome.exit_status) == ("failed", 1)
        assert f"limits.{next(iter(limit))}" in outcome.reason
        assert (await resume(tmp_path)).reason == outcome.reason, "without a change it stays as it ended"
        slow.set()
        seen = len(endpoint.requests)
        before = await story(tmp_path)
        raised = {"tokens": 100_000} if "tokens" in limit else {"time_ms": 60_000}
        outcome = await resume(tmp_path, **raised)
        again = {said(request.body["messages"]) for request in [*endpoint.requests][seen:]}
    assert outcome.outcome == "accepted", outcome.reason
    assert outcome.folder == f"{tmp_path / 'out'}-2", "what the first end handed over is not touched"
    assert not again & answered(before.log)
    told = await story(tmp_path)
    assert len(told.of(GoalFailed)) == 1
    assert told.of(RunResumed) == [RunResumed(changes=raised)]


async def test_a_run_that_another_process_runs_is_not_resumed(tmp_path: Path) -> None:
    held = asyncio.Event()
    go = asyncio.Event()

    async def hold(body: Body) -> Reply:
        held.set()
        await go.wait()
        return player(PLAN)(body)

    async with ChatEndpoint(hold) as endpoint:
        (tmp_path / "scenario.json").write_text(json.dumps(scenario(endpoint)))
        command = [sys.executable, str(RUNNER), str(tmp_path), str(tmp_path / "scenario.json"), "0"]
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, "PYTHONPATH": str(ROOT)})
        try:
            await held.wait()
            with pytest.raises(UsageError, match=f"is run by process {process.pid} on "):
                await resume(tmp_path)
            go.set()
            assert await process.wait() == 0
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert (await story(tmp_path)).state.status == "accepted"


async def test_of_two_that_resume_at_once_one_is_refused(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        assert await crash(tmp_path, endpoint, 20)
        ended = await asyncio.gather(resume(tmp_path), resume(tmp_path), return_exceptions=True)
    refused = [one for one in ended if isinstance(one, UsageError)]
    accepted = [one for one in ended if not isinstance(one, BaseException) and one.outcome == "accepted"]
    assert (len(refused), len(accepted)) == (1, 1), ended


# An endpoint that is away


async def test_an_endpoint_that_is_down_pauses_the_run_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tries, "FIRST_JITTER_S", 0.01)
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        async with endpoint.refusing():
            outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "t1-0.txt"}]))
        assert (outcome.outcome, outcome.exit_status) == ("paused", 3)
        told = await story(tmp_path)
        assert [e.kind for e in told.of(RunPaused)] == ["endpoint"]
        assert told.told(AssignmentEnded) == ["AssignmentEnded plan-1"]
        assert {e.kind for e in told.of(ModelTryFailed)} == {"server"}
        assert outcome.tokens.unproven == 0, "nothing was sent, so nothing is counted"
        await goes_on(tmp_path, endpoint)


async def test_a_rate_limit_that_outlasts_the_deadline_pauses_the_run(tmp_path: Path) -> None:
    limited = True

    def rule(body: Body) -> str | None:
        return "429:3600" if limited and role_of(body) == "coder" else None

    async with ChatEndpoint(player(PLAN), rule=rule, keep=200) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "t1-0.txt"}]))
        assert (outcome.outcome, outcome.exit_status) == ("paused", 3)
        assert "rate limit outlasts the deadline" in outcome.reason
        told = await story(tmp_path)
        assert told.of(RunPaused)[0].kind == "endpoint"
        assert told.state.status == "paused"
        limited = False
        await goes_on(tmp_path, endpoint)


@pytest.mark.parametrize(
    ("fault", "says"), [("401:sk-test", "key"), ("quota", "credit"), ("404:test-model", "Models there")]
)
async def test_what_a_person_must_mend_pauses_the_run_with_the_remedy(tmp_path: Path, fault: str, says: str) -> None:
    async with ChatEndpoint(player(PLAN), faults=[fault], keep=200) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"file": "t1-0.txt"}]))
        assert outcome.outcome == "paused"
        assert says in outcome.reason
        await goes_on(tmp_path, endpoint)


async def test_a_whole_output_lies_in_the_folder_again_when_a_run_goes_on(tmp_path: Path) -> None:
    """It was cut for the model, which reads the rest after the crash."""
    (tmp_path / "notes.md").write_text("".join(f"line {number:280}\n" for number in range(100)))

    def respond(body: Body) -> Reply:
        given = results(body)
        if not given:
            return Answer(calls=[("search_files", {"text": "line"})])
        if len(given) == 1:
            path = given[0].partition("all of it is in ")[2].partition(" ...")[0]
            return Answer(
                calls=[("search_files", {"text": "zzz"}), ("read_file", {"path": path, "first_line": 50, "lines": 1})]
            )
        return given[-1]

    plan = [{"id": "it", "role": "coder", "do": "TASK it: go"}]

    def on_event(envelope: Envelope) -> None:
        if isinstance(envelope.event, ToolReturned):
            raise Crashed

    async with ChatEndpoint(respond, keep=200) as endpoint:
        written = scenario(endpoint, plan=plan, workspace="notes.md", accept=[{"file": "notes.md"}])
        with pytest.raises(BaseExceptionGroup):
            await start(tmp_path, written, on_event=on_event)
        assert (await resume(tmp_path)).outcome == "accepted"
    told = await story(tmp_path)
    first = told.of(ToolReturned)[0]
    assert first.whole is not None
    read = [
        event.output for event in told.of(ToolReturned) if event.tool == "read_file"
    ]  # the search beside it is quick
    assert read[-1].startswith(f"notes.md:50: line {49:280}\n")
