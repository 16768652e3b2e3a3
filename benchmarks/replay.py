"""Going through a run again: every role of it over the recorded answers, the rules over the recorded inputs."""

import tempfile
from pathlib import Path
from time import perf_counter

from benchmarks.endpoint import serving
from benchmarks.harness import Absolute
from benchmarks.words import whole_run
from bus.store import open_store
from swarm.replay import replay
from swarm.runs.folding import fewer_collections

SUBTASKS = 512


async def an_event(home: Path) -> float:
    """Return the microseconds that a replay of the last run takes for each of its events."""
    async with open_store(home, read_only=True) as store:
        run = (await store.log.runs())[0].run
        with fewer_collections():
            begun = perf_counter()
            found = await replay(run, store.log.read(run), store.files, home / "again")
            took = perf_counter() - begun
    if found.difference is not None or found.attempts != SUBTASKS + 2:
        raise RuntimeError(f"not the run that was meant: {found}")
    return took / found.events * 1e6


async def replayed() -> float:
    with tempfile.TemporaryDirectory() as place, serving(SUBTASKS, 0) as url:
        await whole_run(url, SUBTASKS, place=place)
        return await an_event(Path(place) / "home")


BENCHMARKS = [Absolute(f"replay of {SUBTASKS} subtasks, an event", replayed, "us", 30)]
