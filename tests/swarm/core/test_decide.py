"""Histories drawn from a seed: duplicates and late arrivals change nothing, and any cut of a log goes on to an end."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.events import EVENTS, AgentJoined, GoalSubmitted, ResultSubmitted, RunResumed, TimePassed, WorkFailed
from bus.setup import Limits, Subtask
from swarm.core.admit import Admission, admit
from swarm.core.apply import apply
from swarm.core.decide import decide, next_deadline
from swarm.core.state import RunState
from tests.support.simulation import Simulation, setup_of

LIMITS = Limits(tokens=200_000, subtasks=60, parallel=16, attempts=4, rounds=4)


def simulated(seed: int) -> Simulation:
    simulation = Simulation(setup_of(limits=LIMITS, agents=8), seed, layers=2, width=4)
    simulation.run()
    return simulation


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_what_was_recorded_is_not_recorded_again_later(seed: int, chance: random.Random) -> None:
    """Each record of a run, sent once more at any later time, is turned away or is a resume or a card."""
    log = simulated(seed).log
    later = sorted(range(len(log)), key=lambda _: chance.random())[: len(log) // 3]
    again = RunState("run")
    for number, envelope in enumerate(log):
        apply(again, envelope)
        for earlier in [one for one in later if one < number][:3]:
            old = log[earlier]
            if isinstance(old.event, AgentJoined) or not again.running:
                continue
            if type(old.event).__name__ in {"TimePassed", "AgentLeft"}:
                continue
            assert admit(again, old) is not Admission.RECORD, old.event


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_nothing_follows_from_a_state_that_has_been_decided(seed: int, cut: int) -> None:
    """After each event from outside all that follows stands in the log; so a fold at its end is quiet."""
    log = simulated(seed).log
    state = RunState("run")
    for envelope in log[: cut % len(log) + 1]:
        apply(state, envelope)
    first = decide(state)
    assert decide(state) == first, "to decide changes nothing"
    following = log[cut % len(log) + 1 :]
    if first is not None:
        assert following
        assert following[0].event == first.event


def test_a_deadline_holds_also_once_another_request_has_its_reply() -> None:
    plan = tuple(Subtask(id=name, role="coder", instruction="do it") for name in "ab")
    run = Simulation(setup_of(limits=LIMITS, plan=plan), seed=1)
    run.send(GoalSubmitted(setup=run.setup))
    run.send(AgentJoined(agent="u/a", roles=("coder",), slots=2))
    run.elapsed_ms = 1
    run.send(ResultSubmitted(text="done"), "a", next(iter(run.state.leases)))
    assert next_deadline(run.state) == 60_000
    run.elapsed_ms = 60_000
    run.send(TimePassed())
    failed = [(one.subject, one.event.kind) for one in run.log if isinstance(one.event, WorkFailed)]
    assert failed == [("b", "deadline")]
    assert run.state.works["b"].attempt == 2


class Resumed(Simulation):
    """A run that goes on from a cut of another's log, as a new process does."""

    def go_on(self, log: list) -> RunState:
        for envelope in log:
            self.ids += 1
            apply(self.state, envelope)
            self.log.append(envelope)
        self.ids += 1_000_000
        self.elapsed_ms = self.state.elapsed_ms
        if self.state.running:
            self.send(RunResumed())
            for role in self.setup.roles:
                self.send(AgentJoined(agent=f"c/{role}", roles=(role,), slots=16))
        for _ in range(100_000):
            if not self.state.running:
                return self.state
            self.elapsed_ms += self.random.randint(0, 20)
            self._act()
        raise AssertionError("it does not end")


@pytest.mark.parametrize("seed", range(25))
def test_a_log_cut_anywhere_goes_on_to_an_end(seed: int) -> None:
    log = simulated(seed).log
    for cut in random.Random(seed).sample(range(1, len(log)), 4):
        resumed = Resumed(setup_of(limits=LIMITS, agents=8), seed + 1, layers=2, width=4)
        state = resumed.go_on(log[:cut])
        assert state.ended is not None, f"seed {seed}, cut {cut}"
        again = RunState("run")
        for envelope in resumed.log:
            apply(again, envelope)
        assert again == state


def test_events_of_every_kind_come_up_in_simulations() -> None:
    """What is never simulated is not tested by simulation: effects of a role's own, pauses, doubts and forks."""
    met = set()
    for seed in range(40):
        limits = LIMITS.model_copy(update={"tokens": 1_000 + 2_000 * seed})
        simulation = Simulation(setup_of(limits=limits, agents=8), seed, faults=0.35, layers=2, width=4)
        simulation.run()
        met |= {type(envelope.event).__name__ for envelope in simulation.log}
    assert EVENTS.keys() - met == {
        "RunPaused",
        "RunResumed",
        "RunForked",
        "JournalCut",
        "DoubtSettled",
        "CheckStarted",
        "CheckEnded",
        "ValueDrawn",
    }
