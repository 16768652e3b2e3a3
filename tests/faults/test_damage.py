"""A log that was cut, torn, or parted from what belongs to it: all that is right is read, and what is not is named."""

import re
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bus.damage import cut, unindexed
from bus.database_file import PAGE_BYTES, connect
from bus.errors import Damaged, LogError, NotFound
from bus.event_logs.sqlite import SqliteEventLog
from tests.support.command import process
from tests.support.events import OWNER, records
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.seeds import seeded

if TYPE_CHECKING:
    from bus.envelope import Envelope

LENGTHS = {"early": 150, "late": 400, "last": 60}
WHOLE = {run: tuple(records(1, length, run=run)) for run, length in LENGTHS.items()}


async def fill(folder: Path) -> None:
    """Make a store with three runs, two of them side by side, and some files."""
    async with SqliteEventLog(folder) as log:
        epochs = {run: await log.create(run, OWNER) for run in LENGTHS}
        for start in range(0, 400, 10):
            for run in ("early", "late"):
                if start < LENGTHS[run]:
                    await log.files.put(b"%b %d" % (run.encode(), start) * 500)
                    await log.append(run, start, epochs[run], WHOLE[run][start : start + 10])
        await log.append("last", 0, epochs["last"], WHOLE["last"])
        await log.release("last", epochs["last"])


async def met(folder: Path, *, shorter: bool = False) -> Counter[str]:
    """Read all runs of a damaged store; hold that each ends whole, or in an error that names it and a position.

    `shorter`: nothing is damaged, and a run may have fewer records; then it is only held that those are right.
    """
    found = Counter[str]()
    try:
        async with SqliteEventLog(folder, read_only=True) as log:
            names = [info.run for info in await log.runs()]
            for run in names:
                read: list[Envelope] = []
                try:
                    async for envelope in log.read(run):
                        read.append(envelope)  # noqa: PERF401 - what came before the error counts
                except Damaged as error:
                    found["named"] += names_the_place(error, run, len(read) + 1)
                else:
                    assert shorter or len(read) == LENGTHS[run], f"{run!r} ends at {len(read)} without a word"
                    found["whole"] += 1
                assert tuple(read) == WHOLE[run][: len(read)]
    except NotFound:
        raise
    except LogError as error:
        return Counter({"unreadable": says_what_to_do(error)})
    return found


def names_the_place(error: Damaged, run: str, position: int) -> bool:
    found = re.search(rf"run '{run}'.* position {position}\b", str(error))
    assert found, error
    return True


def says_what_to_do(error: LogError) -> bool:
    assert re.search(r"log\.db.*(recover|move it away|Bring a copy back)", str(error)), error
    return True


async def refuses_to_write(folder: Path) -> None:
    with pytest.raises(LogError):
        async with SqliteEventLog(folder) as log:
            await log.take("last", OWNER, previous=None)


def copy(whole: Path, to: Path) -> Path:
    return Path(shutil.copytree(whole, to))


async def truncated(whole: Path, folder: Path, sizes: Iterable[int]) -> Counter[str]:
    found = Counter[str]()
    for size in sizes:
        store = copy(whole, folder / str(size))
        with (store / "log.db").open("r+b") as file:
            file.truncate(size)
        try:
            found += await met(store)
            await refuses_to_write(store)
        except BaseException as error:
            error.add_note(f"cut to {size} bytes")
            raise
        shutil.rmtree(store)
    return found


@pytest.fixture
async def whole(tmp_path: Path) -> Path:
    folder = tmp_path / "whole"
    await fill(folder)
    (folder / "swarm-work").mkdir()
    return folder


async def test_a_whole_log_is_read_whole(whole: Path) -> None:
    assert await met(whole) == {"whole": 3}
    assert cut(whole, connect, write_back=False) is None


async def test_a_cut_log_says_where(whole: Path, tmp_path: Path) -> None:
    size = (whole / "log.db").stat().st_size
    with seeded(short=True) as chance:
        sizes = [0, 1, 99, 100, PAGE_BYTES - 1, PAGE_BYTES, size - 1, *(chance.randrange(size) for _ in range(12))]
        assert (await truncated(whole, tmp_path / "cut", sizes))["named"] > 10


@pytest.mark.torture
async def test_a_log_cut_anywhere_says_where(whole: Path, tmp_path: Path) -> None:
    size = (whole / "log.db").stat().st_size
    with seeded() as chance:
        found = await truncated(whole, tmp_path / "cut", [chance.randrange(size) for _ in range(200)])
        print(f"200 cuts of {size:,} bytes: {dict(found)}")
        assert found["named"] > 500


async def test_the_command_says_where_a_cut_log_ends(whole: Path, tmp_path: Path) -> None:
    copy(whole, tmp_path / ".swarm")
    with (tmp_path / ".swarm" / "log.db").open("r+b") as file:
        file.truncate(whole.joinpath("log.db").stat().st_size - 100)
    ended = process("resume", "last", cwd=tmp_path)
    assert ended.status == 3
    assert re.search(r"run 'last'.* position \d+", ended.err), ended.err
    assert "is cut" in ended.err
    assert ".recover" in ended.err


# Killed while it was made


async def test_a_store_whose_maker_was_killed_holds_nothing_and_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its files as they were at each write and sync, a rollback journal that only a writer can undo among them."""
    disk, copies = FaultyDisk(), []

    def meets(kind: str) -> None:
        if kind != "read":
            copies.append(copy(tmp_path / "live", tmp_path / str(len(copies))))

    monkeypatch.setattr(disk, "meets", meets)
    async with SqliteEventLog(tmp_path / "live", connect=disk.connect):
        pass
    monkeypatch.undo()
    assert len(copies) > 20
    for store in copies:
        try:
            async with SqliteEventLog(store, read_only=True) as log:
                assert await log.runs() == []
        except NotFound as error:
            assert "nothing has been run there" in str(error)  # noqa: PT017 - either is right
        async with SqliteEventLog(store) as log:
            await log.create("run", OWNER)


# Its write-ahead log


async def unclosed(folder: Path, to: Path) -> Path:
    """Return a copy of a store as a process leaves it that is killed."""
    async with SqliteEventLog(folder) as log:
        epoch = await log.create("late", OWNER)
        for start in range(0, 400, 10):
            await log.append("late", start, epoch, WHOLE["late"][start : start + 10])
        return copy(folder, to)


async def test_a_write_ahead_log_that_is_gone_is_missed(tmp_path: Path) -> None:
    store = await unclosed(tmp_path / "live", tmp_path / "killed")
    whole = copy(store, tmp_path / "kept")
    (store / "log.db-wal").unlink()
    for read_only in (True, False):
        with pytest.raises(Damaged, match=r"log\.db-wal is missing.*Put it back.*remove log\.db-shm"):
            await SqliteEventLog(store, read_only=read_only).__aenter__()
    shutil.copy(whole / "log.db-wal", store)
    assert await met(store) == {"whole": 1}


async def test_without_its_write_ahead_log_a_store_can_be_gone_on_with_on_purpose(tmp_path: Path) -> None:
    store = await unclosed(tmp_path / "live", tmp_path / "killed")
    for name in ("log.db-wal", "log.db-shm"):
        (store / name).unlink()
    async with SqliteEventLog(store) as log:
        assert await log.runs() == []


async def test_an_empty_file_where_runs_were_kept_is_no_new_store(tmp_path: Path) -> None:
    (tmp_path / "log.db").touch()
    async with SqliteEventLog(tmp_path) as log:
        assert await log.runs() == []
    (tmp_path / "swarm-work").mkdir()
    (tmp_path / "log.db").write_bytes(b"")
    with pytest.raises(Damaged, match="is empty, but runs were kept here"):
        await SqliteEventLog(tmp_path).__aenter__()


async def cut_write_ahead_log(store: Path, folder: Path, sizes: Iterable[int]) -> None:
    for size in sizes:
        here = copy(store, folder / str(size))
        with (here / "log.db-wal").open("r+b") as file:
            file.truncate(size)
        async with SqliteEventLog(here) as log:
            for info in await log.runs():
                length = await log.verify(info.run)
                assert [envelope async for envelope in log.read(info.run)] == [*WHOLE["late"][:length]]
        shutil.rmtree(here)


async def test_of_a_torn_write_ahead_log_all_whole_commits_are_read(tmp_path: Path) -> None:
    store = await unclosed(tmp_path / "live", tmp_path / "killed")
    size = (store / "log.db-wal").stat().st_size
    with seeded(short=True) as chance:
        await cut_write_ahead_log(store, tmp_path / "cut", [size - 1, *(chance.randrange(size) for _ in range(8))])


# Torn pages


@pytest.mark.parametrize("after", [0, 1, 3, 7])
async def test_a_page_torn_while_the_write_ahead_log_is_emptied_is_written_again(tmp_path: Path, after: int) -> None:
    """As when the power fails: half a page is written, the rest is not, and the write-ahead log has all of it."""
    disk = FaultyDisk()
    async with SqliteEventLog(tmp_path / "live", connect=disk.connect) as log:
        epoch = await log.create("late", OWNER)
        for start in range(0, 400, 10):
            await log.append("late", start, epoch, WHOLE["late"][start : start + 10])
        disk.fail(Fault.TORN, after=after)
        with closing(disk.connect(f"{(tmp_path / 'live' / 'log.db').as_uri()}?mode=rw")) as other:
            with pytest.raises(sqlite3.OperationalError):
                other.execute("PRAGMA wal_checkpoint(FULL)")
            store = copy(tmp_path / "live", tmp_path / "killed")
    async with SqliteEventLog(store) as log:
        assert await log.verify("late") == 400


def torn(store: Path, number: int, page: int = PAGE_BYTES) -> None:
    """Lose the second half of a page."""
    with (store / "log.db").open("r+b") as file:
        file.seek(number * page + page // 2)
        file.write(bytes(page // 2))


@pytest.mark.parametrize("length", range(1, 400, 57))
async def test_a_torn_last_page_is_never_a_shorter_log(tmp_path: Path, length: int) -> None:
    """The last page is one of the records at some lengths, one of their index or of the files at others."""
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("late", OWNER)
        for start in range(0, length, 10):
            if start % 100 == 0:
                await log.files.put(b"%d" % start * 2500)
            await log.append("late", start, epoch, WHOLE["late"][start : min(start + 10, length)])
    torn(tmp_path, (tmp_path / "log.db").stat().st_size // PAGE_BYTES - 1)
    read: list[Envelope] = []
    try:
        async with SqliteEventLog(tmp_path) as log:
            async for envelope in log.read("late"):
                read.append(envelope)  # noqa: PERF401 - what came before the error counts
    except Damaged as error:
        assert says_what_to_do(error) if "run" not in str(error) else names_the_place(error, "late", len(read) + 1)  # noqa: PT017
    else:
        assert len(read) == length
    assert tuple(read) == WHOLE["late"][: len(read)]


class WrittenMeanwhile(sqlite3.Connection):
    """A connection to a file in which another process records something after each thing that is asked."""

    def execute(self, *query: Any) -> sqlite3.Cursor:
        cursor = super().execute(*query)
        with closing(sqlite3.connect(self.file, isolation_level=None)) as other:
            other.execute(
                "INSERT INTO events (run, position, total, hash, line)"
                " SELECT run, position + 1, total, hash, line FROM events ORDER BY number DESC LIMIT 1"
            )
        return cursor

    file: Path


async def test_what_is_recorded_while_one_looks_for_damage_is_none(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        await log.append("run", 0, await log.create("run", OWNER), records(1, 3))
    file = tmp_path / "log.db"
    with closing(sqlite3.connect(file, factory=WrittenMeanwhile)) as connection:
        connection.file = file
        assert unindexed(connection) is None
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone()[0] > 3
