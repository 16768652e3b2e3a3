"""A state that was packed and unpacked is the state it was, and goes on as it would have."""

from functools import cache

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.envelope import Envelope
from bus.setup import Limits
from swarm.core.apply import apply
from swarm.core.marks import BadMark, pack, unpack
from swarm.core.state import RunState
from swarm.views.timeline import Timeline
from tests.support.simulation import Simulation, setup_of
from tests.swarm.core.test_simulation import torture_after

WIDE = Limits(tokens=10_000_000, subtasks=400, parallel=64, attempts=5, rounds=8)
NARROW = Limits(tokens=40_000, money=12_000_000_000, subtasks=60, parallel=6, attempts=2, rounds=3)


ORDERED = ("agents", "works", "leases", "wanted", "subtasks", "needed_by", "tree", "changed_by")
"""Mappings that somebody goes through in their order."""


class Interrupted(Simulation):
    """A run whose state is taken from a mark after every event."""

    def _record(self, envelope):
        super()._record(envelope)
        self.state = unpack("run", pack(self.state))


def simulated(kind: type[Simulation], seed: int, limits: Limits) -> Simulation:
    simulation = kind(setup_of(limits=limits), seed, width=6)
    simulation.run()
    return simulation


@cache
def history() -> list[Envelope]:
    return simulated(Simulation, 2, WIDE).log


def begun_state() -> RunState:
    """Return a state in which some is accepted, and some at work."""
    state = RunState("run")
    for envelope in history():
        apply(state, envelope)
        if len(state.leases) > 3 and state.accepted_order:
            break
    return state


@pytest.mark.parametrize("limits", [WIDE, NARROW])
@pytest.mark.parametrize("seed", torture_after(6, 60))
def test_a_run_taken_from_a_mark_after_every_event_is_the_same_run(seed, limits):
    plain, interrupted = (simulated(kind, seed, limits) for kind in (Simulation, Interrupted))
    assert interrupted.log == plain.log
    assert interrupted.state == plain.state


@pytest.mark.parametrize("seed", torture_after(4, 40))
def test_at_every_position_a_mark_is_the_state_it_was_made_of(seed):
    state = RunState("run")
    for envelope in simulated(Simulation, seed, WIDE).log:
        apply(state, envelope)
        again = unpack("run", pack(state))
        assert again == state
        for name in ORDERED:
            assert [*getattr(again, name)] == [*getattr(state, name)], name
        assert all(again.works[work.request] is work for work in again.leases.values())


def test_a_mark_says_nothing_of_whose_run_it_is():
    state = simulated(Simulation, 1, WIDE).state
    again = unpack("fork", pack(state))
    assert again.run == "fork"
    again.run = state.run
    assert again == state


def test_an_attempt_with_a_thousand_effects_adds_kilobytes():
    state = begun_state()
    before = len(pack(state))
    work = next(iter(state.leases.values()))
    work.journal |= {("ModelAsked", (number,), 1): 10_000 + number for number in range(1_000)}
    assert len(pack(state)) - before < 40_000


@given(st.binary(max_size=200))
def test_bytes_that_are_no_mark_are_refused(data):
    with pytest.raises(BadMark):
        unpack("run", data)


@given(st.data())
@settings(max_examples=300)
def test_a_mark_that_somebody_edited_is_refused_or_read_but_no_other_error(data):
    mark = orjson.loads(pack(begun_state()))
    part = mark
    while True:
        keys = [*part] if isinstance(part, dict) else [*range(len(part))]
        key = data.draw(st.sampled_from(keys))
        if isinstance(part[key], dict | list) and part[key] and data.draw(st.booleans()):
            part = part[key]
            continue
        part[key] = data.draw(
            st.none() | st.integers(-9, 2**40) | st.text(max_size=3) | st.lists(st.integers(0, 9), max_size=2)
        )
        break
    try:
        state = unpack("run", orjson.dumps(mark))
    except BadMark:
        return
    assert isinstance(state, RunState)


@pytest.mark.parametrize("seed", range(3))
def test_an_event_log_told_from_the_middle_reads_as_it_does_from_the_beginning(seed):
    log = simulated(Simulation, seed, WIDE).log
    whole = Timeline()
    lines = [whole.tell(envelope).line() for envelope in log]
    state = RunState("run")
    for position, envelope in enumerate(log):
        timeline = Timeline.after(state)
        assert [timeline.tell(one).line() for one in log[position : position + 40]] == lines[position : position + 40]
        apply(state, envelope)
