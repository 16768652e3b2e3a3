"""Long logs are folded from the nearest mark, and nothing but speed depends on there being one."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from bus.envelope import Envelope
from bus.event_log import Mark
from bus.event_logs.memory import MemoryEventLog
from bus.event_logs.sqlite import SqliteEventLog
from bus.setup import Limits
from swarm.core.apply import apply
from swarm.core.state import RunState
from swarm.runs import marks
from swarm.runs.folding import fold
from tests.support.command import in_this_process
from tests.support.endpoint import ChatEndpoint
from tests.support.events import OWNER
from tests.support.runs import layers, player, story
from tests.support.simulation import Simulation, setup_of
from tests.swarm.test_resume import crash, goes_on

LONG = Limits(tokens=10_000_000, subtasks=400, parallel=64, attempts=5, rounds=8)


@cache
def history() -> tuple[Envelope, ...]:
    """Return the events of a run with some thousands of them."""
    simulation = Simulation(setup_of(limits=LONG), seed=7, faults=0.02, width=40)
    simulation.run()
    assert len(simulation.log) > 3_200
    return tuple(replace(envelope, time="2026-01-01T00:00:00Z") for envelope in simulation.log)


class Counted(MemoryEventLog):
    """An event log that counts what is read of it."""

    count = 0

    async def read(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        async for envelope in super().read(run, start, end):
            self.count += 1
            yield envelope


async def recorded(log: MemoryEventLog | SqliteEventLog, run: str = "run") -> None:
    epoch = await log.create(run, OWNER)
    await log.append(run, 0, epoch, history())
    await log.release(run, epoch)


def state_at(position: int) -> RunState:
    state = RunState("run")
    for envelope in history()[:position]:
        apply(state, envelope)
    return state


async def test_a_long_log_is_folded_once_at_length_and_then_from_its_mark():
    log = Counted()
    await recorded(log)
    first = await fold(log, "run")
    assert log.count == len(history())
    assert first == state_at(len(history()))
    log.count = 0
    assert await fold(log, "run") == first
    assert log.count == 0


@pytest.mark.parametrize("before", [0, 1, 999, 1_000])
async def test_any_position_is_folded_from_the_mark_before_it(before):
    log = Counted()
    await recorded(log)
    marks.keep(log.marks, state_at(1_500))
    at = 1_500 + before
    assert await fold(log, "run", end=at) == state_at(at)
    assert log.count == before
    assert await fold(log, "run", end=1_499) == state_at(1_499)


async def test_a_run_that_goes_on_is_marked_now_and_then_and_where_it_ends():
    log, state = Counted(), RunState("run")
    await recorded(log)
    marker = marks.Marker(log.marks, state)
    made = []
    for envelope in history():
        apply(state, envelope)
        marker.look()
        mark = await log.marks.newest("run", marks.maker())
        if mark and mark.position not in made:
            made.append(mark.position)
    assert made[0] == marks.EVERY
    assert made[-1] == len(history())
    apart = [after - before for before, after in pairwise(made[:-1])]
    assert all(distance >= marks.EVERY for distance in apart)


async def test_a_large_state_is_marked_less_often(monkeypatch):
    monkeypatch.setattr(marks, "BYTES_A_RECORD", 1)
    log, state = Counted(), RunState("run")
    await recorded(log)
    marker = marks.Marker(log.marks, state)
    for envelope in history()[:-1]:
        apply(state, envelope)
        marker.look()
    mark = await log.marks.newest("run", marks.maker())
    assert mark is not None
    assert mark.position == marks.EVERY


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff"])
async def test_a_mark_that_cannot_be_read_is_as_none(data):
    log = Counted()
    await recorded(log)
    log.marks.keep(Mark("run", 1_500, marks.maker(), data))
    assert await fold(log, "run", end=1_600) == state_at(1_600)
    assert log.count == 1_600


async def test_a_mark_of_other_code_is_as_none(monkeypatch):
    log = Counted()
    await recorded(log)
    marks.keep(log.marks, state_at(1_500))
    monkeypatch.setattr(marks, "maker", lambda: "another version")
    assert await fold(log, "run", end=1_600) == state_at(1_600)
    assert log.count == 1_600


async def test_a_fork_begins_with_its_parents_mark():
    log = Counted()
    await recorded(log)
    marks.keep(log.marks, state_at(1_500))
    await log.create("fork", OWNER, parent=("run", 1_600))
    state = await fold(log, "fork")
    assert log.count == 100
    assert state.run == "fork"
    state.run = "run"
    assert state == state_at(1_600)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    return in_this_process(tmp_path, monkeypatch, capsys)


async def kept(home: Path) -> None:
    async with SqliteEventLog(home) as log:
        await recorded(log)


def marked(home: Path) -> list[int]:
    with closing(sqlite3.connect(home / "log.db")) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'marks'").fetchone():
            return []
        return [row[0] for row in connection.execute("SELECT position FROM marks ORDER BY position")]


def forget(home: Path) -> None:
    with closing(sqlite3.connect(home / "log.db")) as connection, connection:
        connection.execute("DELETE FROM marks")


@pytest.fixture
def home(tmp_path):
    asyncio.run(kept(tmp_path / ".swarm"))
    return tmp_path / ".swarm"


def test_looking_at_a_long_run_leaves_a_mark_that_changes_nothing(command, home):
    length = len(history())
    shown = command("show", "run", "--json")
    assert shown.status == 0
    assert marked(home) == [length]
    assert command("show", "run", "--json") == shown
    listed = command("runs", "--json")
    forget(home)
    assert command("show", "run", "--json") == shown
    forget(home)
    assert command("runs", "--json") == listed


def test_the_log_from_any_event_on_reads_as_the_end_of_the_whole_log(command, home):
    lines = command("log", "run").out.splitlines()
    for start in (1, 2, 1_000, 1_700, len(lines), len(lines) + 1):
        assert command("log", "run", "--from", str(start)).out.splitlines() == lines[start - 1 :]
    assert marked(home) == [len(lines) - 1]
    told = command("log", "run", "--from", "2900", "--to", "2910", "--type", "Model*").out.splitlines()
    assert told == [line for line in lines[2899:2910] if " asks " in line or "says" in line or "no answer" in line]


@pytest.mark.parametrize("position", [25, 40, 62])
async def test_a_killed_run_goes_on_from_a_mark_and_pays_nothing_twice(position, tmp_path, monkeypatch):
    monkeypatch.setattr(marks, "EVERY", 10)
    monkeypatch.setattr(marks, "BYTES_A_RECORD", 10**6)
    async with ChatEndpoint(player(layers(2, 2)), keep=200) as endpoint:
        assert await crash(tmp_path, endpoint, position)
        assert len(marked(tmp_path / "home")) >= position // 20
        before = await story(tmp_path)
        assert before.state == folded(before.log)
        await goes_on(tmp_path, endpoint)
    after = await story(tmp_path)
    assert after.state == folded(after.log)
    assert marked(tmp_path / "home")[-1] == len(after.log)


def folded(log: tuple[Envelope, ...]) -> RunState:
    state = RunState(log[0].correlation_id)
    for envelope in log:
        apply(state, envelope)
    return state


WITHOUT_MEANING = {
    *("agents", "agents.check", "agents.errors", "agents.files", "agents.sandbox", "bus", "bus.errors", "swarm"),
    *("agents.files.beneath", "agents.files.plain_file", "agents.files.project_folder"),
}
"""What the rules load, but no state hangs on: contracts, errors, and how checks reach files."""


def test_a_mark_is_passed_over_as_soon_as_any_code_that_a_state_hangs_on_is_another() -> None:
    loads = "import sys, swarm.core.apply, swarm.core.decide, swarm.core.admit; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", loads], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in loaded if name.partition(".")[0] in {"agents", "bus", "swarm"}}
    counts = {name for name in ours if any(name == one or name.startswith(f"{one}.") for one in marks._MEANING)}
    assert ours - counts == WITHOUT_MEANING
