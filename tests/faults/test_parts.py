"""One fault at a time, with real parts: hubs and workers are processes, the broker and the database are real ones."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bus.events import (
    AssignmentEnded,
    DoubtSettled,
    ModelAnswered,
    ModelAsked,
    ResultSubmitted,
    RunMoved,
    SubtaskAssigned,
    ToolCalled,
    ToolReturned,
)
from tests.support import postgres
from tests.support.broker import Broker, broker
from tests.support.endpoint import Body, ChatEndpoint, Reply
from tests.support.fleet import Fleet, Witness, writes_letters
from tests.support.mqtt_proxy import MqttProxy
from tests.support.namespace import host
from tests.support.runs import layers, player, results, role_of, subtask_of

pytestmark = [pytest.mark.services, pytest.mark.timeout(90)]

FILES = ["t0-0.txt", "t0-1.txt", "t1-0.txt", "t1-1.txt"]
PLAN = layers(2, 2)


class Held:
    """Answers like a player, and holds up one answer for as long as a test wants."""

    def __init__(self, which: Callable[[Body], bool], letters: tuple[str, ...] = ()) -> None:
        self.which = which
        self.reached = asyncio.Event()
        self.release = asyncio.Event()
        self._play = player(PLAN, writes_letters(letters))
        self._first = True

    async def __call__(self, body: Body) -> Reply:
        if self._first and self.which(body):
            self._first = False
            self.reached.set()
            await self.release.wait()
        return self._play(body)


def second_step(subtask: str) -> Callable[[Body], bool]:
    """Tell whether a request is the second of a coder for a subtask: its first answer is paid for, its file there."""
    return lambda body: role_of(body) == "coder" and subtask_of(body) == subtask and bool(results(body))


@asynccontextmanager
async def fleet_on(
    folder: Path, play: Any, *, place: str | None = None, slowness_s: float = 0.0
) -> AsyncIterator[tuple[Fleet, Broker]]:
    async with (
        ChatEndpoint(play, latency_s=0.02, keep=10_000) as endpoint,
        broker() as there,
        Fleet(folder, endpoint, there.url, place=place, slowness_s=slowness_s) as fleet,
    ):
        try:
            yield fleet, there
        finally:
            print((there.folder / "log").read_text())


def holder(witness: Witness, subtask: str) -> str:
    """Return the name of the worker that was given a subtask last."""
    agents = [one.agent for one in witness.of(SubtaskAssigned) if one.subtask.id == subtask]
    return str(agents[-1].partition("/")[2])


def submitted(witness: Witness, subtask: str) -> list[str]:
    """Return the names of the workers whose results of a subtask are recorded."""
    found = [one for one in witness.log if one.subject == subtask and isinstance(one.event, ResultSubmitted)]
    return [one.source.rpartition("/")[2] for one in found]


async def test_what_a_killed_worker_held_goes_on_with_another_from_where_it_was(tmp_path: Path) -> None:
    play = Held(second_step("t0-0"))
    async with fleet_on(tmp_path, play) as (fleet, _):
        await fleet.start(["north"], ["one", "two"])
        run = await fleet.submit()
        await asyncio.wait_for(play.reached.wait(), 40)
        await run.look()
        dead = holder(run, "t0-0")
        fleet.parts[dead].kill9()
        await fleet.ends(run)
        await fleet.holds(run, FILES)
        given = [one.agent for one in run.of(SubtaskAssigned) if one.subtask.id == "t0-0"]
        assert len(given) == 2
        assert [one.attempt for one in run.of(SubtaskAssigned) if one.subtask.id == "t0-0"] == [1, 1]
        asked = [one for one in run.log if isinstance(one.event, ModelAsked) and one.subject == "t0-0"]
        assert len({one.event.path for one in asked}) == 2
        assert len(asked) == 3, "one answered, one that died with its worker, and that one again"


async def test_a_letter_whose_worker_was_killed_as_it_posted_it_is_not_posted_again(tmp_path: Path) -> None:
    async with fleet_on(tmp_path, player(PLAN, writes_letters(["t0-0"])), slowness_s=30.0) as (fleet, _):
        await fleet.start(["north"], ["one", "two"])
        run = await fleet.submit()
        async with asyncio.timeout(40):
            while not fleet.posted():
                await asyncio.sleep(0.02)
        await run.look()
        fleet.parts[holder(run, "t0-0")].kill9()
        await fleet.ends(run, pauses=1)
        await fleet.holds(run, FILES, letters=["t0-0"])
        assert fleet.skipped == 1
        assert [one.verdict for one in run.of(DoubtSettled)] == ["skip"]


async def test_a_letter_that_is_recorded_is_not_posted_by_the_one_who_takes_over(tmp_path: Path) -> None:
    play = Held(lambda body: subtask_of(body) == "t0-0" and any("Posted" in one for one in results(body)), ("t0-0",))
    async with fleet_on(tmp_path, play) as (fleet, _):
        await fleet.start(["north"], ["one", "two"])
        run = await fleet.submit()
        await asyncio.wait_for(play.reached.wait(), 40)
        await run.until(lambda: any(one.tool == "post_letter" for one in run.of(ToolReturned)))
        fleet.parts[holder(run, "t0-0")].kill9()
        await fleet.ends(run)
        await fleet.holds(run, FILES, letters=["t0-0"])
        assert len([one for one in run.of(ToolCalled) if one.tool == "post_letter"]) == 1


async def test_a_worker_that_was_halted_beyond_its_lease_changes_nothing_when_it_goes_on(tmp_path: Path) -> None:
    play = Held(second_step("t0-0"))
    async with fleet_on(tmp_path, play) as (fleet, _):
        await fleet.start(["north"], ["one", "two"])
        run = await fleet.submit()
        await asyncio.wait_for(play.reached.wait(), 40)
        await run.look()
        halted = fleet.parts[holder(run, "t0-0")]
        halted.stop()
        await run.until(lambda: len([one for one in run.of(SubtaskAssigned) if one.subtask.id == "t0-0"]) == 2)
        other = holder(run, "t0-0")
        assert other != halted.name
        play.release.set()  # its answer comes, to a connection that nobody reads
        await run.until(
            lambda: any(one.subject == "t0-0" and isinstance(one.event, ResultSubmitted) for one in run.log)
        )
        halted.cont()
        await fleet.ends(run)
        await asyncio.sleep(3)  # what it has to say
        await fleet.holds(run, FILES)
        assert submitted(run, "t0-0") == [other]
        assert halted.process is not None
        assert halted.process.poll() is None, "it is there, for the next run"


async def test_a_worker_that_was_halted_for_a_moment_keeps_what_it_holds(tmp_path: Path) -> None:
    play = Held(second_step("t0-0"))
    async with fleet_on(tmp_path, play) as (fleet, _):
        await fleet.start(["north"], ["one", "two"])
        run = await fleet.submit()
        await asyncio.wait_for(play.reached.wait(), 40)
        await run.look()
        halted = fleet.parts[holder(run, "t0-0")]
        halted.stop()
        await asyncio.sleep(2)
        halted.cont()
        play.release.set()
        await fleet.ends(run)
        await fleet.holds(run, FILES)
        assert not run.of(AssignmentEnded)


async def test_a_hub_that_was_killed_goes_on_when_it_is_started_again(tmp_path: Path) -> None:
    play = Held(second_step("t0-0"))
    async with fleet_on(tmp_path, play) as (fleet, _):
        await fleet.start(["north"], ["one", "two"])
        hub = fleet.parts["north"]
        run = await fleet.submit()
        await asyncio.wait_for(play.reached.wait(), 40)
        hub.kill9()
        play.release.set()  # the answer is paid for while no hub is there
        await hub.start()
        await fleet.ends(run)
        await fleet.holds(run, FILES)
        assert len(run.of(RunMoved)) == 1
        given = [one for one in run.of(SubtaskAssigned) if one.subtask.id == "t0-0"]
        assert len(given) == 1, "whoever held it held it on"
        assert len(fleet.endpoint.requests) == len(run.of(ModelAnswered))


async def test_a_hub_that_was_killed_is_replaced_within_ten_seconds(tmp_path: Path) -> None:
    play = Held(second_step("t0-0"))
    async with fleet_on(tmp_path, play, place=postgres.clean_url()) as (fleet, _):
        await fleet.start(["north"], ["one", "two"])
        north = fleet.parts["north"]
        run = await fleet.submit()
        await fleet.hub("south")
        await asyncio.wait_for(play.reached.wait(), 40)
        killed_at = asyncio.get_running_loop().time()
        north.kill9()
        play.release.set()
        await run.until(lambda: bool(run.of(RunMoved)))
        took = asyncio.get_running_loop().time() - killed_at
        print(f"replaced after {took:.1f} s")
        assert took < 10
        await fleet.ends(run)
        await fleet.holds(run, FILES)
        assert [one.hub for one in run.of(RunMoved)] == ["south"]
        assert len(fleet.endpoint.requests) == len(run.of(ModelAnswered))


async def test_a_hub_that_was_halted_and_comes_back_writes_nothing(tmp_path: Path) -> None:
    play = Held(second_step("t0-0"))
    async with fleet_on(tmp_path, play, place=postgres.clean_url()) as (fleet, _):
        await fleet.start(["north"], ["one", "two"])
        north = fleet.parts["north"]
        run = await fleet.submit()
        await fleet.hub("south")
        await asyncio.wait_for(play.reached.wait(), 40)
        halted_at = asyncio.get_running_loop().time()
        north.stop()
        await run.until(lambda: bool(run.of(RunMoved)))
        took = asyncio.get_running_loop().time() - halted_at
        print(f"replaced after {took:.1f} s")
        assert took < 10
        moved = len(run.log)
        north.cont()
        async with asyncio.timeout(15):
            while "is with another hub now" not in north.told:
                await asyncio.sleep(0.1)
        play.release.set()
        await fleet.ends(run)
        await fleet.holds(run, FILES)
        after = [one.source for one in run.log[moved:] if one.source.startswith("/swarm/hub/")]
        assert set(after) == {"/swarm/hub/south"}
        assert len(fleet.endpoint.requests) == len(run.of(ModelAnswered))


async def test_a_broker_that_loses_all_it_knew_loses_no_work(tmp_path: Path) -> None:
    play = Held(second_step("t0-0"))
    async with fleet_on(tmp_path, play) as (fleet, there):
        await fleet.start(["north"], ["one", "two"])
        run = await fleet.submit()
        await asyncio.wait_for(play.reached.wait(), 40)
        there.kill9()
        await asyncio.sleep(1)
        await there.start()
        await asyncio.sleep(8)  # by then whose card is not said again is gone, a hub's own critic too
        play.release.set()
        await fleet.ends(run)
        await fleet.holds(run, FILES)
        assert len(fleet.endpoint.requests) == len(run.of(ModelAnswered))


async def test_what_a_cut_off_worker_held_goes_to_another(tmp_path: Path) -> None:
    play = Held(second_step("t0-0"))
    async with fleet_on(tmp_path, play) as (fleet, there):
        await fleet.hub("north")
        async with MqttProxy(there.port) as first, MqttProxy(there.port) as second:
            roads = {"one": first, "two": second}
            for name, road in roads.items():
                await fleet.worker(name, bus=road.url)
            run = await fleet.submit()
            await asyncio.wait_for(play.reached.wait(), 40)
            await run.look()
            cut_off = holder(run, "t0-0")
            roads[cut_off].stall()
            play.release.set()
            await run.until(lambda: len([one for one in run.of(SubtaskAssigned) if one.subtask.id == "t0-0"]) == 2)
            await fleet.ends(run)
            roads[cut_off].heal()
            await asyncio.sleep(2)
            await fleet.holds(run, FILES)


async def test_what_a_host_without_network_held_goes_to_another(tmp_path: Path) -> None:
    """Its cable is pulled: nothing resets its connections, and what it is sent is lost."""
    play = Held(second_step("t0-0"))
    with host() as far:
        async with (
            fleet_on(tmp_path, play) as (fleet, there),
            MqttProxy(there.port, host=far.gateway) as to_broker,
            MqttProxy(fleet.endpoint.port, host=far.gateway, plain=True) as to_model,
        ):
            model = f"http://{far.gateway}:{to_model.port}/v1"
            await asyncio.gather(
                fleet.hub("north"), fleet.worker("far", bus=to_broker.url, endpoint=model, under=far.under)
            )
            run = await fleet.submit()
            await asyncio.wait_for(play.reached.wait(), 40)
            await run.look()
            assert holder(run, "t0-0") == "far"
            far.pull()
            await fleet.worker("near")
            play.release.set()
            await run.until(lambda: holder(run, "t0-0") == "near", 45)
            await fleet.ends(run)
            far.plug()
            await asyncio.sleep(2)
            await fleet.holds(run, FILES)
