"""64 agents race for tokens and money at a real endpoint, and what it bills never passes a limit by one token."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from bus.events import CallRefused, FilesMerged, GoalFailed, ModelAsked, ModelTryFailed
from swarm.runs.outcome import PICO
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.runs import layers, player, resume, scenario, start, story, task

PRICE = {"input": 0.25, "output": 2.0}
"""USD a million tokens."""
LOST = {"truncated": 0.04, "reset_midway": 0.04, "empty_choices": 0.04, "html": 0.04}
"""Faults of answers that were paid for, or may have been."""


@dataclass
class Meter:
    """A responder that bills anything up to what a call may cost, and adds it up."""

    seed: int
    input: int = 0
    output: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.play = player(layers(2, 64))

    def __call__(self, body: Body) -> Reply:
        said = self.play(body)
        answer = Answer(said) if isinstance(said, str) else said
        size = len(orjson.dumps(body["messages"]))
        sent = self.chance.randint(size // 8, size)
        written = self.chance.randint(100, body.get("max_completion_tokens") or body["max_tokens"])
        self.input += sent
        self.output += written
        usage = {"prompt_tokens": sent, "completion_tokens": written}
        return Answer(answer.text, answer.calls, usage=usage)

    @property
    def cost_usd(self) -> float:
        return (self.input * PRICE["input"] + self.output * PRICE["output"]) / 1e6


async def race(folder: Path, seed: int) -> str:
    """Run into a limit; return which one."""
    chance = random.Random(seed)
    limits = {"parallel": 64, "subtasks": 128, "attempts": 9, "tokens": chance.randint(12_000, 90_000)}
    money = chance.randint(6, 60) / 1000 if seed % 2 else None
    limits |= {"money": f"{money} USD"} if money else {}
    meter = Meter(seed)
    plan = [{"id": one["id"], "role": "coder", "do": one["do"], "needs": one["needs"]} for one in layers(2, 64)]
    async with ChatEndpoint(meter, chances=LOST if seed % 3 else {}, seed=seed, latency_s=0.005) as endpoint:
        written = scenario(
            endpoint,
            plan=plan,
            limits=limits,
            accept=[{"file": "t1-0.txt"}],
            price=PRICE,
            roles={"coder": {"max_tokens": 400, "agents": 64}},
        )
        outcome = await start(folder, written)
    assert outcome.outcome == "failed", f"seed {seed}: {outcome.reason}"
    used = outcome.tokens.input + outcome.tokens.output + outcome.tokens.unproven
    assert meter.input + meter.output <= used <= limits["tokens"], f"seed {seed}: {meter} {outcome.tokens}"
    assert outcome.cost_usd is not None
    assert meter.cost_usd <= outcome.cost_usd + 1 / PICO, f"seed {seed}"
    assert money is None or outcome.cost_usd <= money, f"seed {seed}"
    told = await story(folder)
    if not told.of(ModelTryFailed):
        assert (meter.input, meter.output) == (outcome.tokens.input, outcome.tokens.output), f"seed {seed}"
    (failed,) = told.of(GoalFailed)
    assert failed.kind == "limit"
    assert len(told.of(CallRefused)) == 1
    merged = {change.path for event in told.of(FilesMerged) for change in event.files}
    handed = {path.name for path in Path(outcome.folder).iterdir()} if outcome.folder else set()
    assert {ref.path for ref in outcome.files} == merged == handed
    return str(outcome.reason).split(" ", 1)[0]


@pytest.mark.parametrize("seed", range(4))
async def test_no_limit_is_passed_and_what_was_accepted_is_handed_over(tmp_path: Path, seed: int) -> None:
    await race(tmp_path, seed)


def billing(body: Body) -> Reply:
    """The usual, for more tokens than were allowed for the answer."""
    said = player([task("a")])(body)
    answer = Answer(said) if isinstance(said, str) else said
    return Answer(answer.text, answer.calls, usage={"prompt_tokens": 200, "completion_tokens": 401})


def billed(endpoint: ChatEndpoint, tokens: int) -> dict[str, Any]:
    roles = {name: {"max_tokens": 400} for name in ("planner", "coder")}
    return scenario(endpoint, limits={"tokens": tokens}, accept=[{"file": "a.txt"}], roles=roles)


async def test_a_bill_beyond_its_reservation_is_counted_and_the_run_goes_on_where_its_limits_hold(
    tmp_path: Path,
) -> None:
    async with ChatEndpoint(billing) as endpoint:
        outcome = await start(tmp_path, billed(endpoint, 100_000))
        assert outcome.outcome == "accepted", outcome.reason
        assert outcome.tokens.input + outcome.tokens.output == 601 * endpoint.count


async def test_a_bill_that_passes_a_limit_ends_the_run_and_a_limit_that_holds_it_reopens_it(tmp_path: Path) -> None:
    async with ChatEndpoint(billing, keep=20) as endpoint:
        roomy = await start(tmp_path / "roomy", billed(endpoint, 100_000))
        (bound, *_) = [event.input_bound for event in (await story(tmp_path / "roomy")).of(ModelAsked)]
        assert roomy.outcome == "accepted"

        def generous(body: Body) -> Reply:
            answer = billing(body)
            assert isinstance(answer, Answer)
            return Answer(answer.text, answer.calls, usage={"prompt_tokens": bound, "completion_tokens": 401})

    async with ChatEndpoint(generous, keep=20) as endpoint:
        outcome = await start(tmp_path, billed(endpoint, bound + 400))
        assert outcome.outcome == "failed"
        assert f"{bound + 401} tokens are spent or reserved" in outcome.reason
        for _ in range(2):
            assert (await resume(tmp_path, tokens=bound + 400)).outcome == "failed", "it is passed still"
        ended = (await story(tmp_path)).log[-1].sequence
        for changes in ({"tokens": bound}, {"money": 10**12}):
            assert (await resume(tmp_path, **changes)).outcome == "failed", "it leaves no more room than before"
        assert (await story(tmp_path)).log[-1].sequence == ended
        outcome = await resume(tmp_path, tokens=100_000)
    assert outcome.outcome == "accepted", outcome.reason
    assert [failed.kind for failed in (await story(tmp_path)).of(GoalFailed)] == ["bill"] * 3


@pytest.mark.torture
@pytest.mark.timeout(600)
async def test_no_limit_is_passed_in_20_races(tmp_path: Path) -> None:
    met = {await race(tmp_path / str(seed), seed) for seed in range(20)}
    assert met == {"limits.tokens", "limits.money"}
