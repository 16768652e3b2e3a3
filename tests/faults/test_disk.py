"""A disk that gets full, gives errors or tears writes, at any of the writes of a run: what was told stays told."""

import itertools
import random
from pathlib import Path

import pytest

from bus.envelope import Envelope
from swarm import launch
from swarm.commands.failures import MISSING, Failure, failure_of
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.journey import Journey, store_on
from tests.support.runs import start
from tests.support.seeds import seeded

SAYS = {
    Fault.FULL: "the disk is full: free some space",
    Fault.IO: "the disk gave an error: look at its health and free space",
}
PAGES = 20
"""Pages in the write-ahead log before SQLite writes them into the file: so few that it happens during a run."""


async def run_on(
    disk: FaultyDisk, journey: Journey, patch: pytest.MonkeyPatch
) -> tuple[list[Envelope], Failure | None]:
    """Run on a disk; return what was told to be recorded, and the failure as the command line says it."""
    told: list[Envelope] = []
    with patch.context() as patched:
        patched.setattr(launch, "open_store", store_on(disk.connect))
        try:
            await start(journey.folder, journey.scenario, on_event=told.append)
        except Exception as error:  # noqa: BLE001 - each must be one that people are told as such
            return told, failure_of(error)
    return told, None


async def fails(folder: Path, fault: Fault, after: int, patch: pytest.MonkeyPatch) -> str:
    """Let the disk fail after so many calls; mend it; hold that the run goes on where it was. Return what was met."""
    disk = FaultyDisk(checkpoint_pages=PAGES)
    disk.fail(fault, after=after)
    where = f"{fault} after {after} calls"
    async with Journey(folder) as journey:
        told, failure = await run_on(disk, journey, patch)
        if not disk.failed or failure is None:
            assert told, where
            await journey.is_accepted(await journey.to_the_end(here=True))
            return "not needed" if disk.failed else "not met"
        assert failure.status == MISSING, f"{where}: {failure.text}"
        assert SAYS.get(fault, SAYS[Fault.IO]) in failure.text, f"{where}: {failure.text}"
        disk.mend()
        if not told:
            assert "swarm resume" not in failure.text, f"{where}: {failure.text}"
            assert journey.endpoint.count == 0, where
            return "before the first event"
        (run,) = {envelope.correlation_id for envelope in told}
        assert f"`swarm resume {run}`" in failure.text, where
        log = (await journey.story()).log
        assert log[: len(told)] == tuple(told), f"{where}: what was told to be recorded is not there"
        await journey.is_accepted(await journey.to_the_end(here=True))
        return "in doubt, went on" if journey.doubts else "went on"


async def calls(folder: Path, kind: str, patch: pytest.MonkeyPatch) -> int:
    """Return how many calls of a kind a run makes on a good disk."""
    disk = FaultyDisk(checkpoint_pages=PAGES)
    async with Journey(folder) as journey:
        told, failure = await run_on(disk, journey, patch)
        assert told, failure
        assert failure is None
        assert len(told) > 60
    return disk.done[kind]


@pytest.mark.parametrize("fault", [Fault.FULL, Fault.SYNC])
async def test_a_run_goes_on_once_the_disk_is_mended(
    tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "went on" in await fails(tmp_path, fault, 60, monkeypatch)


@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", [*Fault])
async def test_a_disk_that_fails_at_any_call_loses_nothing(
    tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = {Fault.SYNC: "sync", Fault.READ: "read"}.get(fault, "write")
    with seeded() as chance:
        total = await calls(tmp_path / "good", kind, monkeypatch)
        met = [
            await fails(tmp_path / str(after), fault, after, monkeypatch)
            for after in points(chance, min(30, total), total)
        ]
        print(f"{fault.value} at {len(met)} of {total} calls: { {what: met.count(what) for what in set(met)} }")
        assert len(met) >= (5 if fault is Fault.READ else 30)


def points(chance: random.Random, count: int, total: int) -> list[int]:
    """Return numbers over the whole range, one of each stretch."""
    edges = [total * number // count for number in range(count + 1)]
    return [chance.randrange(low, max(high, low + 1)) for low, high in itertools.pairwise(edges)]
