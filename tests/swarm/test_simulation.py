"""Whole swarms in one process under one seed: storms of them, bugs that they find, and the fixture that lends them."""

import datetime as dt
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bus.events import AgentJoined, RunMoved, SubtaskAssigned
from bus.simulation.broker import NetworkFaults
from bus.simulation.disk import DiskFaults
from swarm.errors import UsageError
from swarm.pytest_plugin import SwarmSimulation
from swarm.simulation.faults import NO_FAULTS, Faults
from swarm.simulation.simulate import Simulated, simulate, storm
from swarm.simulation.world import BEGINS
from tests.support.mutants import MUTANTS
from tests.support.seeds import seeded

CHUNK = 2_000
QUICKLY_FOUND = ("any_turn", "leases_for_ever", "outbox_forgets", "said_before_it_is_durable", "forgotten_journal")
PROGRAM = """
import tempfile, hashlib
from swarm.simulation.simulate import storm
for one in storm(40, 3):
    print(one.seed, hashlib.sha256(repr(one.log).encode()).hexdigest(), one.seconds, sorted(one.counts.items()))
"""


@pytest.fixture(scope="module")
def base() -> Iterator[int]:
    with seeded() as chance:
        yield chance.randrange(1 << 30)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")


def weathered(first: int, runs: int) -> Counter[str]:
    """Go through a storm; nothing may break. Return how the runs ended, and what befell them."""
    found: Counter[str] = Counter()
    for one in storm(first, runs):
        assert not one.broken, one.told()
        assert one.outcome is not None
        found[one.outcome.outcome] += 1
        found += one.counts
    assert found["accepted"] + found["failed"] == runs
    return found


def test_whatever_strikes_every_run_ends_and_keeps_its_promises() -> None:
    with seeded(short=True) as chance:
        found = weathered(chance.randrange(1 << 24), 60)
    assert found["accepted"] > 30
    for kind in ("hub killed", "agent killed", "agent frozen", "broker killed", "lost", "doubled", "overtaken"):
        assert found[kind], kind


def test_with_nothing_wrong_nothing_is_lost_and_nothing_moves(tmp_path: Path) -> None:
    for seed in range(10):
        one = simulate(seed, faults=NO_FAULTS, place=tmp_path, replays=True)
        assert not one.broken, one.told()
        assert not any(isinstance(record.event, RunMoved) for record in one.log)


def test_a_seed_repeats_its_run_to_the_last_byte_whatever_hashes_strings_have() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": hashes},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(said) == 1
    assert len(next(iter(said)).splitlines()) == 3


def found_by(name: str, first: int, most: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """Plant a bug; return after how many runs it was found."""
    MUTANTS[name](monkeypatch)
    for one in storm(first, most):
        if one.broken:
            return one.seed - first + 1
    raise AssertionError(f"{name} ({MUTANTS[name].__doc__}) was not found in {most} runs from seed {first} on")


@pytest.mark.parametrize("name", QUICKLY_FOUND)
def test_a_planted_bug_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found_by(name, 0, 100, monkeypatch)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MUTANTS)
def test_every_planted_bug_is_found_within_ten_thousand_runs(
    name: str, base: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"{name} was found in run {found_by(name, base, 10_000, monkeypatch)}")


# What storms have found


def of(log: Simulated, kind: type) -> list:
    return [record.event for record in log.log if isinstance(record.event, kind)]


def test_a_run_whose_first_event_the_disk_refuses_is_begun_all_the_same(tmp_path: Path) -> None:
    faults = replace(NO_FAULTS, disk=DiskFaults(delay_s=0.01, refused=0.5), for_s=20.0)
    for seed in range(8):
        one = simulate(seed, faults=faults, place=tmp_path, hubs=1)
        assert not one.broken, one.told()
        assert one.counts["refused"], one.told()


@pytest.mark.parametrize(
    "strike", ["hub killed", "hub frozen", "agent killed", "agent frozen", "agent cut off", "broker killed"]
)
def test_one_kind_of_strike_alone_never_leaves_a_run_standing(strike: str, tmp_path: Path) -> None:
    faults = Faults(NetworkFaults(0.02), DiskFaults(0.01), 0.0, (strike,), 2.0, 40.0)
    for seed in range(4):
        one = simulate(seed, faults=faults, place=tmp_path, agents=1, hubs=2)
        assert not one.broken, one.told()
        assert one.counts[strike], one.told()


def test_an_agent_whose_forerunner_is_noticed_late_is_still_there(tmp_path: Path) -> None:
    """The will of a killed process is spoken after another has said its card on the same topic."""
    faults = Faults(NetworkFaults(0.02), DiskFaults(0.01), 0.0, ("agent killed",), 3.0, 20.0)
    back = 0
    for seed in range(10):
        one = simulate(seed, faults=faults, place=tmp_path, agents=1, hubs=1)
        assert not one.broken, one.told()
        back += len(of(one, AgentJoined)) > 1
    assert back > 2


def test_what_a_hub_held_that_dies_or_is_halted_is_with_another_within_ten_seconds(tmp_path: Path) -> None:
    faults = Faults(NetworkFaults(0.02), DiskFaults(0.01), 0.0, ("hub killed", "hub frozen"), 4.0, 60.0)
    took_s: list[float] = []
    for seed in range(30):
        one = simulate(seed, faults=faults, place=tmp_path, hubs=3)
        assert not one.broken, one.told()
        struck = [(float(line.split()[0]), line.split()[3].partition("#")[0]) for line in one.story if "  hub " in line]
        owner = one.log[0].source.rpartition("/")[2]
        for record in one.log:
            if isinstance(record.event, RunMoved):
                at = (dt.datetime.fromisoformat(record.time) - BEGINS).total_seconds()
                took_s.append(at - max(began for began, whom in struck if whom == owner and began < at))
                owner = record.event.hub
    assert len(took_s) > 5
    assert max(took_s) < 10


# The fixture

PLAN = [
    {"id": "one", "role": "coder", "do": "Make one.txt."},
    {"id": "two", "role": "coder", "do": "Make two.txt.", "needs": ["one"]},
]
SCENARIO = {"name": "pair", "goal": "Two files.", "plan": PLAN, "accept": [{"file": "one.txt"}, {"file": "two.txt"}]}
SCRIPT = [
    {"role": "coder", "call": {"tool": "write_file", "arguments": {"path": "out.txt", "content": "x"}}},
    {"role": "coder", "reply": "Done."},
]


def says(role: str, messages: list) -> object:
    task = str(messages[1]["content"])
    if role == "coder" and messages[-1]["role"] == "user":
        name = "two.txt" if "Make two" in task.partition("one.txt")[0] or "Make two.txt" in task else "one.txt"
        return {"call": {"tool": "write_file", "arguments": {"path": name, "content": f"{name}\n"}}}
    return "Done."


def test_users_try_their_own_scenario_in_a_storm(swarm_simulation: SwarmSimulation) -> None:
    found = swarm_simulation.storm(SCENARIO, says=says, runs=10)
    ends = Counter(one.outcome.outcome for one in found if one.outcome)
    assert ends["accepted"] > 6, ends
    whole = next(one.outcome for one in found if one.outcome and one.outcome.outcome == "accepted")
    assert {ref.path for ref in whole.files} == {"one.txt", "two.txt"}


async def test_it_works_in_an_async_test_too_and_a_script_is_never_used_up(swarm_simulation: SwarmSimulation) -> None:
    scenario = {"goal": "A file.", "plan": [PLAN[0]], "accept": [{"file": "out.txt"}]}
    one = swarm_simulation(scenario, script=SCRIPT, seed=3, faults=NO_FAULTS)
    assert one.outcome is not None
    assert one.outcome.outcome == "accepted", one.outcome.reason
    assert len(of(one, SubtaskAssigned)) == 1


def test_a_run_that_breaks_a_promise_fails_its_test_with_the_seed(
    swarm_simulation: SwarmSimulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTANTS["said_before_it_is_durable"](monkeypatch)
    with pytest.raises(
        pytest.fail.Exception, match=r"seed 5 breaks what was promised:\n  promise 1: (.|\n)*`seed=5` repeats it"
    ):
        swarm_simulation.storm(SCENARIO, says=says, first=5)


def test_what_the_model_of_a_test_raises_is_raised_as_it_is(swarm_simulation: SwarmSimulation) -> None:
    def asserts(role: str, messages: list) -> str:
        assert messages[-1]["role"] == "tool", f"{role} was asked too early"
        return "Done."

    with pytest.raises(AssertionError, match="coder was asked too early") as told:
        swarm_simulation(SCENARIO, says=asserts, seed=1)
    assert told.value.__notes__ == ["`seed=1` repeats it"]
    assert told.value.__context__ is None
    with pytest.raises(pytest.fail.Exception, match="not like this"):
        swarm_simulation(SCENARIO, says=lambda _role, _messages: pytest.fail("not like this"), seed=1)
    with pytest.raises(UsageError, match=r"what `says` returned to role 'coder': .*dictionary"):
        swarm_simulation(SCENARIO, says=lambda _role, _messages: None, seed=1)


def test_what_cannot_be_simulated_is_told_before_it_begins(swarm_simulation: SwarmSimulation) -> None:
    with pytest.raises(UsageError, match=r"script, entry 2: replyy: Extra inputs"):
        swarm_simulation(SCENARIO, script=[*SCRIPT[:1], {"replyy": "Done."}])
    for none in ({"runs": 0}, {"hubs": 0}, {"agents": -1}):
        with pytest.raises(UsageError, match=f"`{next(iter(none))}` is at least 1"):
            swarm_simulation.storm(SCENARIO, says=says, **none)


def test_a_storm_leaves_what_its_parts_log_to_a_single_run(
    swarm_simulation: SwarmSimulation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "swarm")
    swarm_simulation.storm(SCENARIO, says=says, first=2, runs=2, faults=Faults())
    assert not caplog.records
    swarm_simulation(SCENARIO, says=says, seed=2, faults=Faults())
    assert caplog.records[0].getMessage() == "looking for runs whose hub is gone: the disk is away"


# Long storms


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("chunk", range(100_000 // CHUNK))
def test_a_hundred_thousand_runs_keep_their_promises(chunk: int, base: int) -> None:
    first = base + chunk * CHUNK
    print(f"seeds {first} to {first + CHUNK - 1}")
    print(dict(weathered(first, CHUNK)))
