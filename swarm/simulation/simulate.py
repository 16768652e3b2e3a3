"""One run under one seed, or a storm of them."""

import copy
import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bus.envelope import Envelope
from bus.file_store import MemoryFileStore
from bus.setup import FileRef, Setup
from bus.simulation.disk import at_once
from bus.simulation.loop import Stalled, VirtualLoop
from swarm.replay import replay
from swarm.runs.folding import fewer_collections
from swarm.runs.outcome import Outcome, outcome_of
from swarm.simulation import promises
from swarm.simulation.drawn import drawn_answer, drawn_setup
from swarm.simulation.faults import Faults, drawn
from swarm.simulation.outside import Answer
from swarm.simulation.run import SimulatedRun
from swarm.simulation.world import RUN, World

MOST_S = 900.0
"""How long, of its own time, a run may take once the weather is over."""


STORY = 30
"""Lines that are told of what befell a run."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of one run. `broken`: promises that did not hold, in words; empty where all did."""

    seed: int
    broken: tuple[str, ...]
    outcome: Outcome | None
    log: tuple[Envelope, ...]
    counts: Counter[str]
    """What befell it, and how often."""
    story: tuple[str, ...]
    seconds: float
    """Of its own time."""

    def told(self) -> str:
        """Return in words what was broken, what befell the run before, and how to see it again."""
        lines = [f"seed {self.seed} breaks what was promised:", *(f"  {one}" for one in self.broken)]
        lines += ["what befell it:", *(f"  {one}" for one in self.story[-STORY:])]
        return "\n".join([*lines, f"`seed={self.seed}` repeats it"])


def simulate(
    seed: int,
    *,
    faults: Faults | None = None,
    setup: Setup | None = None,
    answer: Answer = drawn_answer,
    place: Path,
    hubs: int | None = None,
    agents: int | None = None,
    files: MemoryFileStore | None = None,
    workspace: tuple[FileRef, ...] = (),
    replays: bool = False,
    prompt: bool = True,
) -> Simulated:
    """Run once. Left out, faults, scenario and the number of parts are drawn from the seed.

    `replays`: go through all its roles once more, over the log. `prompt`: hold it against the run if anything stood
    still until its deadline. `place`: a folder for attempts that work with files; `files`: what the workspace names.
    """
    chance = random.Random(seed)  # noqa: S311 - it guards nothing
    loop = VirtualLoop()
    before = random.getstate()
    random.seed(seed)  # roles and what they use may draw from it as well
    try:
        faults, setup = faults or drawn(chance), setup or drawn_setup(chance)
        parts = {
            "hubs": hubs or chance.choice((1, 2, 2, 3)),
            "agents": agents or chance.choice((1, 2, 3, 4)),
            "slots": chance.choice((1, 2, 8)),
        }
        world = World(
            loop,
            seed,
            faults,
            setup,
            answer,
            place,
            latency_s=chance.choice((0.1, 0.5, 2.0)),
            files=copy.deepcopy(files) if files else MemoryFileStore(),
        )
        run = SimulatedRun(world, **parts, workspace=workspace)
        outcome = None
        try:
            with fewer_collections():
                loop.run_until_complete(run.live(MOST_S))
                outcome = _judge(world, loop, replays=replays, prompt=prompt)
        except Stalled as stalled:
            world.watch.breaks(str(stalled))
        return Simulated(
            seed,
            tuple(world.watch.broken),
            outcome,
            tuple(world.watch.log),
            world.counts + world.broker.counts + world.disk.counts,
            tuple(world.story),
            loop.time(),
        )
    finally:
        loop.close()
        random.setstate(before)


def _judge(world: World, loop: VirtualLoop, *, replays: bool, prompt: bool) -> Outcome | None:
    watch = world.watch
    for broken in promises.broken_in(watch, world.watch.held, prompt=prompt):
        watch.breaks(broken)
    if not watch.log:
        watch.breaks("promise 4: the run never began")
        return None
    if replays and not watch.broken:
        replayed = loop.run_until_complete(replay(RUN, world.disk.log.read(RUN), world.files, world.place / "replayed"))
        if replayed.difference is not None:
            watch.breaks(f"promise 5: {'; '.join(replayed.difference.lines())[:600]}")
    length = at_once(world.disk.log.verify(RUN))
    if length != len(watch.log):
        watch.breaks(f"promise 1: the disk has {length} records, {len(watch.log)} became durable")
    return outcome_of(world.state())


def storm(first: int, runs: int) -> Iterator[Simulated]:
    """Run seed after seed, all drawn; every tenth is replayed as well."""
    with tempfile.TemporaryDirectory(prefix="swarm-simulated-", dir=quick_place()) as place:
        for seed in range(first, first + runs):
            yield simulate(seed, place=Path(place), replays=seed % 10 == 0)


def quick_place() -> str | None:
    """Return a folder in memory, where there is one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of our own is made in it
