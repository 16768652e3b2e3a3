"""A whole run in a storm: 200 subtasks, 64 agents, an endpoint of which one call in five goes wrong, in every way."""

import time
from collections import Counter
from pathlib import Path

import pytest

from bus.events import FilesMerged, ModelAnswered, ModelAsked, ModelTryFailed, SubtaskAssigned, WorkFailed
from swarm.core.apply import apply
from swarm.core.state import RunState
from swarm.runs.outcome import outcome_of
from tests.support.endpoint import ChatEndpoint
from tests.support.runs import layers, player, resume, scenario, start, story

FAULTS = {
    "429:0": 0.025,
    "429": 0.002,
    "429:date+0": 0.005,
    "500:0": 0.015,
    "502:0": 0.015,
    "503:0": 0.015,
    "503": 0.005,
    "529:0": 0.005,
    "reset": 0.02,
    "reset_midway": 0.01,
    "no_answer": 0.003,
    "drip": 0.003,
    "html": 0.012,
    "truncated": 0.01,
    "wrong_schema": 0.005,
    "empty_choices": 0.005,
    "null_content": 0.005,
    "broken_gzip": 0.005,
    "usage_missing": 0.01,
    "usage_absurd": 0.002,
    "broken_call": 0.01,
    "unknown_tool": 0.01,
    "calls_with_stop": 0.003,
}
"""In all one call in five."""
LIMITS = {"subtasks": 200, "parallel": 64, "tokens": "20M", "attempts": 8, "time": "10m"}
MOST_PAUSES = 3
"""The planner asks alone: two answers in a row that make no sense look like an endpoint that is gone."""


async def weather(folder: Path, seed: int) -> str:
    """Go through one storm, and return it in a line."""
    plan = layers(5, 40)
    began = time.monotonic()
    async with ChatEndpoint(player(plan), chances=FAULTS, seed=seed, keep=10) as endpoint:
        written = scenario(
            endpoint,
            limits=LIMITS,
            accept=[{"file": f"t4-{number}.txt"} for number in range(40)],
            roles={"planner": {"max_tokens": 32_000}},
        )
        outcome = await start(folder, written, timeout_ms=2000)
        pauses = 0
        while outcome.outcome == "paused" and pauses < MOST_PAUSES:
            pauses += 1
            outcome = await resume(folder)
    told = await story(folder)
    where = f"seed {seed}: {outcome.reason}"
    assert outcome.outcome == "accepted", where
    assert {ref.path for ref in outcome.files} == {f"{one['id']}.txt" for one in plan}, where
    assert len(told.of(FilesMerged)) == 200, where
    holds_in_the_log(told.log, where)
    again = RunState(told.state.run)
    for envelope in told.log:
        apply(again, envelope)
    assert outcome_of(again, folder=outcome.folder) == outcome.model_copy(update={"head": ""}), where
    assert outcome.tokens.input + outcome.tokens.output + outcome.tokens.unproven <= 20_000_000, where
    assert not again.ledger.reserved, where
    assert not again.leases, where
    tries = Counter(event.kind for event in told.of(ModelTryFailed))
    failed = Counter(event.kind for event in told.of(WorkFailed))
    wrong = sum(endpoint.met.values()) / endpoint.count
    assert wrong > 0.12, where
    return (
        f"seed {seed}: {time.monotonic() - began:.1f} s, {endpoint.count} calls, {wrong:.0%} went wrong, "
        f"tries failed {dict(tries)}, attempts failed {dict(failed)}, pauses {pauses}, events {len(told.log)}"
    )


def holds_in_the_log(log: tuple, where: str) -> None:
    """Hold what is true of every log: no gaps, never more at work than agreed, no answer paid twice."""
    assert [envelope.sequence for envelope in log] == list(range(1, len(log) + 1)), where
    state = RunState(log[0].correlation_id)
    answers = Counter()
    for envelope in log:
        event = envelope.event
        apply(state, envelope)
        assert len(state.leases) <= 64, where
        if isinstance(event, ModelAnswered):
            answers[envelope.subject, event.attempt, event.path] += 1
        if isinstance(event, SubtaskAssigned):
            assert all(state.subtasks[need].status == "accepted" for need in event.subtask.needs), where
    assert set(answers.values()) == {1}, where
    asked = {(e.subject, e.event.attempt, e.event.path) for e in log if isinstance(e.event, ModelAsked)}
    assert answers.keys() <= asked, where


@pytest.mark.parametrize("seed", range(1))
async def test_a_run_goes_through_a_storm(tmp_path: Path, seed: int) -> None:
    print(await weather(tmp_path, seed))


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(1, 20))
async def test_a_run_goes_through_every_storm(tmp_path: Path, seed: int) -> None:
    print(await weather(tmp_path, seed))
