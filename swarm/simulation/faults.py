"""What goes wrong in a simulated world, and how often."""

import random
from dataclasses import dataclass

from bus.simulation.broker import NetworkFaults
from bus.simulation.disk import DiskFaults

STRIKES = (
    "agent killed",
    "agent frozen",
    "agent cut off",
    "agent reset",
    "agent drained",
    "hub killed",
    "hub frozen",
    "hub cut off",
    "hub reset",
    "broker killed",
    "disk away",
    "endpoint away",
    "run paused",
    "reply forged",
)
"""What can strike a part of the swarm; each strikes one of its kind."""


ALL_OF_NETWORK = NetworkFaults(delay_s=0.02, lost=0.03, doubled=0.03, overtaken=0.03, queue=60)
ALL_OF_DISK = DiskFaults(delay_s=0.01, slow=0.02, refused=0.01, unsure=0.01)


@dataclass(frozen=True, slots=True)
class Faults:
    """All that goes wrong. Left as they are, all kinds of it do; a seed draws which, when, and whom."""

    network: NetworkFaults = ALL_OF_NETWORK
    disk: DiskFaults = ALL_OF_DISK
    endpoint: float = 0.1
    """How often, of 1, a model call fails."""
    strikes: tuple[str, ...] = STRIKES
    strike_s: float = 5.0
    """Mean time between two strikes."""
    for_s: float = 60.0
    """How long it goes on; then all is calm and whole again, and the run has to come to its end."""


NO_FAULTS = Faults(NetworkFaults(delay_s=0.005), DiskFaults(delay_s=0.002), 0.0, (), 0.0, 0.0)
"""Nothing goes wrong; all takes a little time."""


def drawn(chance: random.Random) -> Faults:
    """Draw faults: some kinds of them, some often, others not at all. A storm of such runs finds more than one of all.

    Where everything fails at once, most runs die young, and of the same cause.
    """
    strikes = tuple(one for one in STRIKES if chance.random() < 0.5)  # noqa: PLR2004 - a coin
    worst = chance.choice((0.0, 0.02, 0.05, 0.15))
    network = NetworkFaults(
        delay_s=chance.choice((0.001, 0.02, 0.02, 0.2)),
        lost=chance.choice((0.0, worst)),
        doubled=chance.choice((0.0, worst)),
        overtaken=chance.choice((0.0, worst)),
        queue=chance.choice((1000, 1000, 20)),
    )
    bad = chance.choice((0.0, 0.0, 0.02))
    disk = DiskFaults(
        delay_s=chance.choice((0.001, 0.02, 0.2)), slow=chance.choice((0.0, 0.05)), refused=bad, unsure=bad
    )
    return Faults(
        network,
        disk,
        endpoint=chance.choice((0.0, 0.1, 0.3)),
        strikes=strikes,
        strike_s=chance.choice((1.0, 3.0, 10.0)),
        for_s=chance.choice((10.0, 40.0, 90.0)),
    )
