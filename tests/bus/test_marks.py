"""What holds for the marks of every event log."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from bus.event_log import EventLog, Mark, read_at
from bus.event_logs.sqlite import SqliteEventLog
from tests.bus.test_event_log import LOGS, PARAMS, begun, read
from tests.support.events import OWNER, records


@pytest.fixture(params=PARAMS)
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    async with LOGS[request.param](tmp_path) as opened:
        yield opened


async def marked(log: EventLog, run: str, *positions: int, maker: str = "us") -> None:
    """Keep marks that say where they were made, and have them written."""
    for position in positions:
        log.marks.keep(Mark(run, position, maker, f"{run} at {position}".encode()))
    await log.create(f"another-{len(await log.runs())}", OWNER)


async def newest(log: EventLog, run: str, end: int | None = None, maker: str = "us") -> str | None:
    mark = await log.marks.newest(run, maker, end)
    assert mark is None or mark.run == run
    return mark.data.decode() if mark else None


async def test_the_newest_mark_up_to_a_position_is_found(log: EventLog) -> None:
    await begun(log, "run", 9)
    assert await newest(log, "run") is None
    await marked(log, "run", 3, 6)
    assert await newest(log, "run") == "run at 6"
    assert await newest(log, "run", 6) == "run at 6"
    assert await newest(log, "run", 5) == "run at 3"
    assert await newest(log, "run", 2) is None
    assert await newest(log, "other") is None


async def test_a_mark_made_again_replaces_the_one_before(log: EventLog) -> None:
    await begun(log, "run", 9)
    await marked(log, "run", 3, maker="them")
    await marked(log, "run", 3)
    assert await newest(log, "run") == "run at 3"
    assert await newest(log, "run", maker="them") is None


async def test_marks_of_other_code_are_passed_over(log: EventLog) -> None:
    await begun(log, "run", 9)
    await marked(log, "run", 3)
    await marked(log, "run", 6, maker="them")
    assert await newest(log, "run") == "run at 3"
    assert await newest(log, "run", maker="them") == "run at 6"


async def test_a_mark_of_a_record_that_is_not_there_is_not_kept(log: EventLog) -> None:
    epoch = await begun(log, "run", 3)
    await marked(log, "run", 5)
    await marked(log, "nobody", 1)
    await log.append("run", 3, epoch, records(4, 9, run="run"))
    assert await newest(log, "run") is None


async def test_a_fork_uses_what_its_parent_has_up_to_where_they_part(log: EventLog) -> None:
    await begun(log, "run", 9)
    await marked(log, "run", 3, 7)
    epoch = await log.create("fork", OWNER, parent=("run", 5))
    await log.append("fork", 5, epoch, records(6, 9, run="fork"))
    assert await newest(log, "fork") == "run at 3"
    await log.create("fork of fork", OWNER, parent=("fork", 6))
    await marked(log, "fork", 5, 8)  # the one at 5 is of a record they share
    assert await newest(log, "fork") == "fork at 8"
    assert await newest(log, "fork of fork") == "fork at 5"
    assert await newest(log, "run", 5) == "fork at 5"
    assert await newest(log, "run") == "run at 7"


async def test_what_is_read_at_some_positions_is_what_stands_there(log: EventLog) -> None:
    await begun(log, "run", 60)
    everything = await read(log, "run")
    for positions in ([], [1], [60], [1, 2, 3], [5, 7, 30, 31, 59], [*range(1, 61)]):
        found = [envelope async for envelope in read_at(log, "run", positions)]
        assert found == [everything[position - 1] for position in positions]


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Return a folder with a run of nine records, marked at 3 and 6."""
    async with SqliteEventLog(tmp_path) as log:
        await begun(log, "run", 9)
        await marked(log, "run", 3, 6)
    return tmp_path


async def reopened(folder: Path) -> str | None:
    async with SqliteEventLog(folder, read_only=True) as log:
        return await newest(log, "run")


def edit(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "log.db")) as connection, connection:
        connection.execute(statement)


async def test_marks_last(folder: Path) -> None:
    assert await reopened(folder) == "run at 6"


async def test_a_mark_does_not_count_where_its_record_is_another_by_now(folder: Path) -> None:
    edit(folder, "UPDATE events SET hash = zeroblob(32) WHERE position = 6")
    assert await reopened(folder) == "run at 3"


@pytest.mark.parametrize("loss", ["DELETE FROM marks", "DROP TABLE marks"])
async def test_lost_marks_are_only_not_there(folder: Path, loss: str) -> None:
    edit(folder, loss)
    assert await reopened(folder) is None
    async with SqliteEventLog(folder) as log:
        assert await log.verify("run") == 9
        await marked(log, "run", 4)
        assert await newest(log, "run") == "run at 4"


async def test_marks_go_with_their_run(folder: Path) -> None:
    edit(folder, "DELETE FROM runs WHERE run = 'run'")
    with closing(sqlite3.connect(folder / "log.db")) as connection:
        assert connection.execute("SELECT count(*) FROM marks").fetchone() == (0,)


async def test_a_reader_writes_none_but_says_which_it_had(folder: Path) -> None:
    async with SqliteEventLog(folder, read_only=True) as log:
        mark = Mark("run", 9, "us", b"the end")
        log.marks.keep(mark)
        assert log.marks.unkept() == [mark]
    assert await reopened(folder) == "run at 6"


async def test_marks_cost_no_commit_of_their_own(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        epoch = await begun(log, "run", 3)
        log.marks.keep(Mark("run", 3, "us", b"here"))
        assert await newest(log, "run") is None
        await log.append("run", 3, epoch, records(4, 4, run="run"))
        assert await newest(log, "run") == "here"
