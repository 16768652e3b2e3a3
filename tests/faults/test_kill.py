"""SIGKILL at every commit, at any time, and again and again: the run comes to its outcome, and repeats nothing."""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.journey import Journey, Kill
from tests.support.seeds import seeded

TOGETHER = 2
"""Runs at once: as many as there are cores in CI."""
Tally = Counter[str]


async def killed(folder: Path, *kills: Kill) -> Tally:
    """Begin a run that is killed, go on with it until it is killed again, at last to its end; return what was met."""
    met = Tally()
    async with Journey(folder) as journey:
        skip = False
        for kill in kills:
            if await journey.has_begun():
                ended = await journey.go_on(kill, skip=skip)
            else:
                assert journey.endpoint.count == 0, "a model was asked before the run was in the log"
                ended = await journey.begin(kill)
            met["killed" if ended.killed else "ended before"] += 1
            skip = ended.outcome == "paused"  # it has told a person what is in doubt
            met["in doubt"] += skip
        if await journey.has_begun():
            ended = await journey.to_the_end()
        else:
            met["killed before the first event"] += 1
            ended = await journey.begin()
        await journey.is_accepted(ended)
        met["in doubt"] += journey.doubts
    shutil.rmtree(folder)
    return met


async def each(folder: Path, runs: Iterable[tuple[Kill, ...]]) -> Tally:
    """Make each of these runs, some at once, and return all that was met. A failure names its kills."""
    room = asyncio.Semaphore(TOGETHER)
    met = Tally()

    async def one(number: int, kills: tuple[Kill, ...]) -> None:
        async with room:
            try:
                met.update(await killed(folder / str(number), *kills))
            except BaseException as error:
                error.add_note(f"killed at {kills}; its folder is {folder / str(number)}")
                raise

    async with asyncio.TaskGroup() as group:
        for number, kills in enumerate(runs):
            group.create_task(one(number, kills), name=f"run {number}")
    return met


async def undisturbed(folder: Path) -> tuple[int, float]:
    """Return how many commits a run makes that nobody kills, and how many seconds it takes."""
    loop = asyncio.get_running_loop()
    async with Journey(folder) as journey:
        await journey.begin(Kill("before", 1))  # the server that processes are forked from is up now
        begun = loop.time()
        ended = await journey.begin()
        took = loop.time() - begun
        await journey.is_accepted(ended)
        log = (await journey.story()).log
        assert len(log) > 60
        return ended.commits, took


def at_commits(numbers: Iterable[int]) -> list[tuple[Kill, ...]]:
    return [(Kill(when, number),) for number in numbers for when in ("before", "after")]


def at_times(chance: random.Random, count: int, longest_s: float) -> list[tuple[Kill, ...]]:
    return [(Kill("time", chance.uniform(0, longest_s)),) for _ in range(count)]


def in_sequence(chance: random.Random, count: int, times: int, commits: int) -> list[tuple[Kill, ...]]:
    """Return kills within the first part of what is left, so that each run is killed so often."""
    return [
        tuple(Kill(chance.choice(["before", "after"]), chance.randint(2, commits // times)) for _ in range(times))
        for _ in range(count)
    ]


async def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    with seeded(short=True) as chance:
        kills = [*at_commits(chance.sample(range(5, 50), 2)), *at_times(chance, 1, 0.4)]
        met = await each(tmp_path, [*kills, *in_sequence(chance, 1, 2, 50)])
        assert met["killed"] >= 5, met


@pytest.mark.torture
@pytest.mark.timeout(1200)
async def test_a_run_killed_at_any_commit_goes_on(tmp_path: Path) -> None:
    commits, _ = await undisturbed(tmp_path / "undisturbed")
    met = await each(tmp_path, at_commits(range(1, commits + 1)))
    print(f"{commits} commits, each killed before and after: {dict(met)}")
    assert met["killed"] > 1.8 * commits, "batches differ from run to run, but not by so much"
    assert met["in doubt"] >= 2


@pytest.mark.torture
@pytest.mark.timeout(1200)
async def test_a_run_killed_at_any_time_goes_on(tmp_path: Path) -> None:
    with seeded() as chance:
        _, took = await undisturbed(tmp_path / "undisturbed")
        met = await each(tmp_path, at_times(chance, 200, 1.1 * took))
        print(f"200 kills within {1.1 * took:.2f} s: {dict(met)}")
        assert met["killed"] > 120


@pytest.mark.torture
@pytest.mark.timeout(1200)
async def test_a_run_killed_again_and_again_goes_on(tmp_path: Path) -> None:
    with seeded() as chance:
        commits, _ = await undisturbed(tmp_path / "undisturbed")
        met = await each(tmp_path, in_sequence(chance, 50, 5, commits))
        print(f"50 runs killed 5 times each: {dict(met)}")
        assert met["killed"] > 200
