import pytest

from bus.setup import Limits
from swarm.core import plan, tree
from tests.support.simulation import Simulation, setup_of

WIDE = Limits(tokens=10_000_000, subtasks=400, parallel=64, attempts=5, rounds=8)


def walked(state, subtask):
    """The base by the whole plan: all accepted results that can be reached over the needs, in their order."""
    needs = {name: other.spec.needs for name, other in state.subtasks.items()}
    below = plan.closure((*subtask.spec.needs, *subtask.beside), needs)
    files = dict(state.workspace)
    for name in state.accepted_order:
        if name in below and state.subtasks[name].result:
            tree.overlay(files, state.subtasks[name].result.files)
    return files


class Watched(Simulation):
    """A run that compares, at each request given out, the base as kept with the base as walked."""

    compared = 0

    def check(self):
        super().check()
        for work in self.state.leases.values():
            if work.kind == "subtask":
                subtask = self.state.subtasks[work.subtask]
                wanted = walked(self.state, subtask)
                assert tree.base_of(self.state, subtask) == wanted
                self.compared += bool(wanted)


@pytest.mark.parametrize("seed", range(12))
def test_what_is_kept_of_an_accepted_result_gives_the_base_that_the_whole_plan_gives(seed):
    simulation = Watched(setup_of(limits=WIDE), seed, layers=4, width=6)
    simulation.run()
    assert simulation.compared
