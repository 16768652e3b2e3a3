import pytest

from bus.setup import Limits
from swarm.core.apply import apply
from swarm.core.decide import decide
from swarm.core.state import RunState, Status
from tests.support.simulation import Simulation, setup_of

WIDE = Limits(tokens=10_000_000, subtasks=400, parallel=64, attempts=5, rounds=8)


def torture_after(few: int, all_: int) -> list[object]:
    """Return numbers for `parametrize`, of which the first few are enough for every day."""
    return [number if number < few else pytest.param(number, marks=pytest.mark.torture) for number in range(all_)]


@pytest.mark.parametrize("seed", torture_after(15, 100))
def test_every_run_ends_and_its_log_folds_to_its_state(seed):
    simulation = Simulation(setup_of(limits=WIDE), seed)
    state = simulation.run()
    assert state.status in {"accepted", "failed"}
    assert decide(state) is None
    again = RunState("run")
    for envelope in simulation.log:
        apply(again, envelope)
    assert again == state
    assert [envelope.sequence for envelope in simulation.log] == list(range(1, len(simulation.log) + 1))
    if state.status == "accepted":
        assert all(subtask.status is Status.ACCEPTED for subtask in state.subtasks.values())


@pytest.mark.parametrize("block", torture_after(2, 10))
def test_64_agents_racing_for_tokens_and_money_never_pass_a_limit(block):
    reasons = set()
    for seed in range(block * 100, block * 100 + 100):
        tokens = 3_000 + (seed * 37) % 40_000
        money = (tokens * 300_000) if seed % 2 else None
        limits = WIDE.model_copy(update={"tokens": tokens, "money": money})
        simulation = Simulation(setup_of(limits=limits), seed, faults=0.1, width=24)
        state = simulation.run()  # checks the limits after every event
        assert state.ended is not None
        assert not state.ledger.reserved or state.status == "failed"
        if state.status == "failed":
            reasons.add(state.ended.kind)
            accepted = [change for name in state.accepted_order for change in state.subtasks[name].result.files]
            assert {ref.path for ref in state.ended.files} == {change.path for change in accepted if change.sha256}
    assert "limit" in reasons


def test_most_of_a_token_limit_can_be_used():
    limits = WIDE.model_copy(update={"tokens": 20_000})
    used = [
        Simulation(setup_of(limits=limits), seed, faults=0.0, width=24).run().ledger.spent.tokens for seed in range(20)
    ]
    assert min(used) > 18_000
