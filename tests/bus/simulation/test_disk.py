"""A simulated disk: slow, sometimes broken, and never fooled by an owner of yesterday."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from bus.errors import Conflict, StorageFailed
from bus.simulation.disk import DiskFaults, DiskOfOne, SimulatedDisk, at_once
from bus.simulation.loop import VirtualLoop
from tests.support.events import OWNER, RIVAL, records


def simulated(main: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


def disk_with(**faults: float) -> SimulatedDisk:
    return SimulatedDisk(random.Random(1), DiskFaults(delay_s=0.01, **faults))


def test_an_owner_of_yesterday_is_refused_also_where_it_asked_before() -> None:
    async def main() -> None:
        disk = disk_with(slow=1.0)
        old, new = DiskOfOne(disk), DiskOfOne(disk)
        epoch = await old.create("run", OWNER)
        late = asyncio.create_task(old.append("run", 0, epoch, records(1, 1)))
        await asyncio.sleep(0)
        await new.take("run", RIVAL, previous=OWNER)
        with pytest.raises(Conflict):
            await late

    simulated(main())


def test_what_a_killed_process_asked_for_may_still_become_durable() -> None:
    async def main() -> None:
        disk = disk_with()
        killed = DiskOfOne(disk)
        epoch = await killed.create("run", OWNER)
        asked = asyncio.create_task(killed.append("run", 0, epoch, records(1, 2)))
        await asyncio.sleep(0)
        killed.vanish()
        asked.cancel()
        await asyncio.sleep(5)
        assert (await DiskOfOne(disk).head("run"))[0] == 2
        with pytest.raises(StorageFailed):
            await killed.release("run", epoch)

    simulated(main())


@pytest.mark.parametrize(("fault", "length"), [("refused", 0), ("unsure", 1)])
def test_a_batch_that_failed_is_there_as_a_whole_or_not_at_all(fault: str, length: int) -> None:
    async def main() -> None:
        disk = disk_with(**{fault: 1.0})
        hub = DiskOfOne(disk)
        epoch = await hub.create("run", OWNER)
        with pytest.raises(StorageFailed):
            await hub.append("run", 0, epoch, records(1, 1))
        assert (await hub.head("run"))[0] == length

    simulated(main())


def test_nobody_is_taken_for_gone_because_the_log_was_away() -> None:
    async def main() -> None:
        disk = disk_with()
        hub = DiskOfOne(disk)
        await hub.beat(OWNER)
        disk.down_until = 20.0
        await asyncio.sleep(21)
        assert await hub.silent({OWNER}, 6.0) == set()
        await asyncio.sleep(6)
        assert await hub.silent({OWNER}, 6.0) == {OWNER}

    simulated(main())


def test_what_waits_for_nothing_is_run_at_once() -> None:
    async def seven() -> int:
        return 7

    assert at_once(seven()) == 7
    with pytest.raises(AssertionError):
        at_once(asyncio.sleep(0))
