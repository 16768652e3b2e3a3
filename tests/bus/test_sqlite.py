"""What only the log in a folder has to do: several processes, crashes, full and read-only disks, compact storage."""

import asyncio
import os
import random
import shutil
import sqlite3
import stat
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from bus import database
from bus.chain import START, link
from bus.codec import encode
from bus.database_file import SCHEMA_VERSION
from bus.envelope import Envelope
from bus.errors import Conflict, Damaged, NotFound, StorageFailed, TooNew
from bus.event_log import Mark
from bus.event_logs import sqlite
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import CallGranted, ToolCalled
from bus.file_store import SMALL_BYTES
from bus.store import open_store
from tests.support.events import OWNER, RIVAL, record, records

ROOT = Path(__file__).parent.parent.parent


async def start_writer(folder: Path, run: str, first: int, last: int = 1_000_000) -> Process:
    script = ROOT / "tests/support/append_until_killed.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [str(script), str(folder), run, str(first), str(last)]
    return await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=PIPE, env=environment)


async def read(log: SqliteEventLog, run: str) -> list[Envelope]:
    return [envelope async for envelope in log.read(run)]


def change(folder: Path, statement: str, *values: object) -> None:
    """Change the database behind the store's back."""
    with closing(sqlite3.connect(folder / "log.db")) as connection, connection:
        connection.execute(statement, values)


def open_and_say(folder: Path, said: Path) -> None:
    """Open a log, and write what came of it."""

    async def opened() -> None:
        async with SqliteEventLog(folder):
            said.write_text("opened")

    try:
        asyncio.run(opened())
    except StorageFailed as error:
        said.write_text(str(error))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_read_only(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)


@pytest.mark.parametrize("seed", range(3))
async def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    position = 0
    for round_ in range(2):
        writer = await start_writer(tmp_path, "run", position + 1)
        assert writer.stdout is not None
        acknowledged = b""
        for _ in range(chance.randint(1, 25)):
            acknowledged = await writer.stdout.readline()
        writer.kill()
        told = await writer.stdout.read()
        await writer.wait()
        whole = [line for line in (acknowledged + told).splitlines(keepends=True) if line.endswith(b"\n")]
        last, small, large = whole[-1].decode().split()
        async with SqliteEventLog(tmp_path) as log:
            position = await log.verify("run")
            assert position >= int(last), f"seed {seed}, round {round_}"
            assert await read(log, "run") == records(1, position)
            assert await log.files.has([small, large]) == {small: True, large: True}
            await log.files.get(large)


async def test_two_processes_append_to_two_runs_at_once(tmp_path: Path) -> None:
    writers = [await start_writer(tmp_path, run, 1, 60) for run in ("a", "b")]
    outputs = await asyncio.gather(*(writer.communicate() for writer in writers))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert all(output for output, _ in outputs)
    async with SqliteEventLog(tmp_path) as log:
        for run in ("a", "b"):
            length = await log.verify(run)
            assert length >= 60
            assert await read(log, run) == records(1, length, run=run)


async def test_of_two_owners_the_first_is_fenced(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as first, SqliteEventLog(tmp_path) as second:
        old = await first.create("run", OWNER)
        await first.append("run", 0, old, records(1, 2))
        new = await second.take("run", RIVAL, previous=OWNER)
        with pytest.raises(Conflict, match="another owner"):
            await first.append("run", 2, old, [record(3)])
        await second.append("run", 2, new, [record(3)])
        await second.release("run", new)
        again = await first.take("run", OWNER, previous=None)
        await first.append("run", 3, again, [record(4)])
        with pytest.raises(Conflict):
            await second.append("run", 3, new, [record(4)])
        assert await read(second, "run") == records(1, 4)


async def test_writers_of_one_file_wait_for_each_other(tmp_path: Path) -> None:
    async def write(log: SqliteEventLog, run: str) -> None:
        epoch = await log.create(run, OWNER)
        for each in records(1, 30, run=run):
            await log.append(run, each.sequence - 1, epoch, [each])

    async with SqliteEventLog(tmp_path) as one, SqliteEventLog(tmp_path) as two:
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(write(log, f"run-{n}")) for n, log in enumerate([one, two, one, two])]
                turns = 0
                while turns < 100 or other.in_transaction:  # the loop goes on turning while they wait
                    await asyncio.sleep(0)
                    turns += 1
                    if turns == 100:
                        assert not any(task.done() for task in tasks)
                        other.execute("ROLLBACK")
        assert [await one.verify(f"run-{n}") for n in range(4)] == [30] * 4


async def test_a_lock_held_for_too_long_is_a_failure(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path, patience_s=0.05) as log:
        with closing(sqlite3.connect(tmp_path / "log.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageFailed, match="another process"):
                await log.create("run", OWNER)


async def test_a_reader_in_another_handle_follows_a_run_while_it_grows(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log, SqliteEventLog(tmp_path, read_only=True) as reader:
        epoch = await log.create("run", OWNER)
        for length in (1, 2, 200):
            at = (await reader.head("run"))[0]
            await log.append("run", at, epoch, records(at + 1, length))
            assert await read(reader, "run") == records(1, length)


async def test_where_a_run_stands_and_its_records_are_read_as_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        await log.append("run", 0, epoch, records(1, 3))
        page = sqlite._page

        def page_after_a_removal(*arguments: Any) -> list[tuple[Any, ...]]:
            change(tmp_path, "DELETE FROM events")  # by another process, once it was looked up where they stand
            return page(*arguments)

        monkeypatch.setattr(sqlite, "_page", page_after_a_removal)
        assert len(await read(log, "run")) == 3
        monkeypatch.undo()
        assert not await read(log, "run")


async def test_a_full_disk_fails_the_append_and_the_handle(tmp_path: Path) -> None:
    large = [
        record(n, ToolCalled(attempt=1, path=(n,), digest="d", tool="t", arguments={"text": "x" * 60_000}))
        for n in range(1, 30)
    ]
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        await log.append("run", 0, epoch, large[:1])
        assert log._database._writer is not None
        log._database._writer.execute("PRAGMA max_page_count = 40")
        outcomes = await asyncio.gather(
            log.append("run", 1, epoch, large[1:]), log.create("other", OWNER), return_exceptions=True
        )
        for outcome in outcomes:
            assert isinstance(outcome, StorageFailed)
            assert "disk is full: free some space" in str(outcome)
        with pytest.raises(StorageFailed, match="open the store again"):
            await log.append("run", 1, epoch, large[1:2])
        with pytest.raises(StorageFailed, match="open the store again"):
            await log.files.put(b"small")
        assert "disk is full" in str(log.failure), "it says so for good"
        assert await read(log, "run") == large[:1]
    async with SqliteEventLog(tmp_path) as log:
        assert await log.verify("run") == 1
        await log.append("run", 1, epoch, large[1:])
        assert await read(log, "run") == large


async def test_a_failed_append_keeps_the_files_that_were_to_go_with_it(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        name = await log.files.put(b"x" * 60_000)
        assert log._database._writer is not None
        log._database._writer.execute("PRAGMA max_page_count = 1")
        with pytest.raises(StorageFailed):
            await log.append("run", 0, epoch, records(1, 1))
        assert await log.files.get(name) == b"x" * 60_000


async def test_an_append_cancelled_in_the_same_turn_is_not_done(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        writing = asyncio.create_task(log.append("run", 0, epoch, records(1, 1)))
        asyncio.get_running_loop().call_soon(writing.cancel)
        with pytest.raises(asyncio.CancelledError):
            await writing
        length = (await log.head("run"))[0]
        await log.append("run", length, epoch, records(length + 1, length + 1))
        assert await log.verify("run") == length + 1


async def test_appends_that_arrive_together_share_a_transaction(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        epochs = {run: await log.create(run, OWNER) for run in map(str, range(50))}
        commits = 0

        def count(statement: str) -> None:
            nonlocal commits
            commits += statement == "COMMIT"

        assert log._database._writer is not None
        log._database._writer.set_trace_callback(count)
        await asyncio.gather(*(log.append(run, 0, epochs[run], records(1, 1, run=run)) for run in epochs))
        assert commits == 1
        await asyncio.gather(*(log.append("0", n - 1, 1, records(n, n, run="0")) for n in range(2, 602)))
        assert 3 <= commits <= 5  # not all in one: the loop must have its turns


async def test_what_rides_along_with_a_transaction_is_bounded_and_goes_before_what_may_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_MOST_BYTES_RIDING", 1_000)
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        await log.append("run", 0, epoch, records(1, 1))
        transactions: list[list[str]] = [[]]

        def count(statement: str) -> None:
            if statement == "COMMIT":
                transactions.append([])
            elif statement.startswith("INSERT"):
                transactions[-1].append(statement.partition(" (")[0].rpartition(" ")[2])

        assert log._database._writer is not None
        log._database._writer.set_trace_callback(count)
        for _ in range(25):
            log.marks.keep(Mark("run", 1, "maker", b"x" * 100))
        await log.append("run", 1, epoch, [record(2)])
        assert transactions == [["marks"] * 11, ["marks"] * 11, ["events"] + ["marks"] * 3, []]


async def test_a_bug_in_a_write_reaches_its_caller_and_undoes_the_transaction(tmp_path: Path) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM runs")
        raise ZeroDivisionError

    async with SqliteEventLog(tmp_path) as log:
        await log.create("run", OWNER)
        with pytest.raises(StorageFailed, match="ZeroDivisionError"):
            await log._database.write(broken)
        assert [info.run for info in await log.runs()] == ["run"]


def test_who_waits_for_a_write_that_is_interrupted_is_told(tmp_path: Path) -> None:
    def interrupted(_: sqlite3.Connection) -> None:
        raise KeyboardInterrupt

    async def wait() -> None:
        async with SqliteEventLog(tmp_path) as log:
            with pytest.raises(StorageFailed, match="interrupted"):
                await log._database.write(interrupted)

    with closing(asyncio.new_event_loop()) as loop:
        waiting = loop.create_task(wait())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(waiting)
        loop.run_until_complete(asyncio.wait_for(waiting, 10))


async def test_a_log_that_is_opened_twice_in_a_process_keeps_its_locks_on_the_file(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path / "home") as log:
        epoch = await log.create("run", OWNER)
        async with SqliteEventLog(tmp_path / "home"):
            pass
        other = get_context("spawn").Process(target=open_and_say, args=(tmp_path / "home", tmp_path / "said"))
        other.start()
        await asyncio.to_thread(other.join)
        assert (tmp_path / "said").read_text() == "opened"
        await log.append("run", 0, epoch, records(1, 3))
        assert "log.db-wal" in names(tmp_path / "home"), "the other one was not the last to close it"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
async def test_a_process_that_was_forked_while_the_log_was_open_does_not_open_it(tmp_path: Path) -> None:
    async def said_in_a_fork(folder: Path) -> str:
        process = get_context("fork").Process(target=open_and_say, args=(folder, tmp_path / "said"))
        process.start()
        await asyncio.to_thread(process.join)
        return (tmp_path / "said").read_text()

    async with SqliteEventLog(tmp_path / "home"), SqliteEventLog(tmp_path / "home", read_only=True):
        assert "was open in the process that this one was forked from" in await said_in_a_fork(tmp_path / "home")
        assert await said_in_a_fork(tmp_path / "another") == "opened"
    assert await said_in_a_fork(tmp_path / "home") == "opened"


async def test_the_folder_is_private_and_ignored_by_git(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / ".swarm"
    async with SqliteEventLog(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / ".gitignore").read_text() == "*\n"
    (folder / ".gitignore").write_text("mine\n")
    async with SqliteEventLog(folder):
        assert (folder / ".gitignore").read_text() == "mine\n"


async def test_in_a_folder_that_was_there_the_files_are_private_all_the_same(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "notes").touch()
    async with open_store(tmp_path) as store:
        await store.log.create("run", OWNER)
        await store.files.put(b"x" * (SMALL_BYTES + 1))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        assert (modes["log.db"], modes["log.db-wal"], modes["files"]) == (0o600, 0o600, 0o700)


async def test_a_closed_store_leaves_one_file_and_refuses_use(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path)
    with pytest.raises(RuntimeError, match="async with"):
        await log.runs()
    async with log:
        await log.create("run", OWNER)
    assert names(tmp_path) == [".gitignore", "log.db"]
    with pytest.raises(RuntimeError, match="async with"):
        await log.head("run")
    with pytest.raises(RuntimeError, match="async with"):
        await log.create("other", OWNER)


async def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path):
        pass
    change(tmp_path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    for read_only in (False, True):
        with pytest.raises(TooNew, match="upgrade"):
            await SqliteEventLog(tmp_path, read_only=read_only).__aenter__()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    content = b"this is no database, whatever its name says\n" * 100
    (tmp_path / "log.db").write_bytes(content)
    for read_only in (False, True):
        with pytest.raises(StorageFailed, match=r"log\.db: .*move it away"):
            await SqliteEventLog(tmp_path, read_only=read_only).__aenter__()
    assert (tmp_path / "log.db").read_bytes() == content


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="SWARM_HOME"):
        await SqliteEventLog(tmp_path / "file").__aenter__()


async def test_reading_where_nothing_was_run_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nothing has been run there"):
        await SqliteEventLog(tmp_path / "none", read_only=True).__aenter__()
    assert not (tmp_path / "none").exists()


async def test_a_handle_for_reading_does_not_write(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        await log.create("run", OWNER)
    async with SqliteEventLog(tmp_path, read_only=True) as log:
        with pytest.raises(StorageFailed, match="reading only"):
            await log.take("run", RIVAL, previous=OWNER)


READ_AS_NOBODY = """
import asyncio, concurrent.futures.thread, os, sys
import bus.event_logs.sqlite
from bus.errors import StorageFailed
from bus.store import open_store

async def main(folder):
    async with open_store(folder, read_only=True) as store:
        print(await store.log.verify("run"))
    try:
        async with open_store(folder) as store:
            await store.log.release("run", 1)
    except StorageFailed as error:
        print("StorageFailed", error)

if os.geteuid() == 0:  # to root nothing is forbidden
    os.setuid(65534)
asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Return a folder that another user may reach; that of `tmp_path` is private."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder / "store"
    (folder / "store").chmod(0o755)
    shutil.rmtree(folder)


async def test_a_store_in_a_folder_that_may_not_be_written_can_be_read(shared_folder: Path) -> None:
    async with SqliteEventLog(shared_folder) as log:
        epoch = await log.create("run", OWNER)
        await log.append("run", 0, epoch, records(1, 300))
    make_read_only(shared_folder)
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READ_AS_NOBODY, str(shared_folder)),
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    output, errors = await reader.communicate()
    assert output.decode().startswith("300\nStorageFailed"), errors.decode()
    assert "permissions" in output.decode()


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE events SET line = replace(line, 'call', 'plan') WHERE position = 7", 7),
        ("UPDATE events SET hash = zeroblob(32) WHERE position = 9", 9),
        ("DELETE FROM events WHERE position = 4", 4),
        ("DELETE FROM events WHERE position = 1", 1),
        ("UPDATE events SET position = position + 1 WHERE position = 20", 20),
    ],
)
async def test_verify_names_the_first_bad_position(tmp_path: Path, statement: str, found: int) -> None:
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        await log.append("run", 0, epoch, records(1, 20))
        change(tmp_path, statement.replace("replace(line, 'call', 'plan')", "CAST(replace(line, 'e', 'f') AS BLOB)"))
        with pytest.raises(Damaged, match=f"position {found} "):
            await log.verify("run")


async def test_reading_over_a_gap_or_a_spoilt_record_is_damage(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        await log.append("run", 0, epoch, records(1, 5))
        await log.create("fork", OWNER, parent=("run", 4))
        change(tmp_path, "UPDATE events SET line = x'7b' WHERE position = 5")
        with pytest.raises(Damaged, match="position 5 cannot be read"):
            await read(log, "run")
        change(tmp_path, "DELETE FROM events WHERE position >= 4")
        with pytest.raises(Damaged, match="position 4 is missing"):
            await read(log, "fork")
        with pytest.raises(Damaged, match="position 4 is missing"):
            await log.head("fork")


async def test_an_event_of_a_newer_version_in_the_log_is_too_new(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        await log.append("run", 0, epoch, records(1, 1))
        newer = encode(record(1)).replace(b"NoProgressNoticed.v1", b"NoProgressNoticed.v2")
        change(tmp_path, "UPDATE events SET line = ?", newer)
        with pytest.raises(TooNew, match=r"NoProgressNoticed\.v2"):
            await read(log, "run")


async def test_storage_is_compact(tmp_path: Path) -> None:
    """Of the smallest events, of which a page holds fewer than would go in; of the usual ones it is 1.15."""
    granted = CallGranted(attempt=1, path=(1,), number=1, max_tokens=4096)  # as small as events are
    small = [
        replace(record(n, granted, run="brief-20260101-abcdef"), subject="facts", causation_id=f"lease-{n:026}")
        for n in range(1, 10_001)
    ]
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        for start in range(0, len(small), 500):
            await log.append("run", start, epoch, small[start : start + 500])
    lines = sum(len(encode(each)) for each in small)
    assert (tmp_path / "log.db").stat().st_size <= 1.27 * lines


async def test_a_store_gives_log_and_files_and_closes_them(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        epoch = await store.log.create("run", OWNER)
        name = await store.files.put(b"data")
        await store.log.append("run", 0, epoch, records(1, 1))
    async with open_store(tmp_path, read_only=True) as store:
        assert await store.files.get(name) == b"data"
        assert (await store.log.head("run"))[0] == 1


# files of older versions

SCHEMA_1 = """
CREATE TABLE runs (
  number INTEGER PRIMARY KEY, run TEXT NOT NULL UNIQUE, epoch INTEGER NOT NULL, created TEXT NOT NULL DEFAULT '',
  host TEXT, pid INTEGER, started TEXT,
  parent INTEGER REFERENCES runs (number), parent_position INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE events (
  number INTEGER PRIMARY KEY, run INTEGER NOT NULL, position INTEGER NOT NULL, total INTEGER NOT NULL,
  hash BLOB NOT NULL, line BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_of_run ON events (run, position);
CREATE TABLE files (sha256 BLOB PRIMARY KEY, data BLOB NOT NULL) STRICT;
PRAGMA user_version = 1;
INSERT INTO runs VALUES (1, 'run', 1, '2026-01-01T00:00:00Z', 'host-a', 100, 'boot-1', NULL, 0);
INSERT INTO runs VALUES (2, 'fork', 1, '2026-01-01T00:00:00Z', NULL, NULL, NULL, 1, 2);
"""


@pytest.fixture
def old(shared_folder: Path) -> Path:
    """Return a folder with a store as version 1 wrote it: a run of 3 events, and a fork of it at 2."""
    shared_folder.mkdir()
    with closing(sqlite3.connect(shared_folder / "log.db")) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA_1)
        digest, total = START, 0
        for position, line in enumerate([encode(each) for each in records(1, 3)], 1):
            digest, total = link(digest, line), total + len(line)
            connection.execute("INSERT INTO events VALUES (NULL, 1, ?, ?, ?, ?)", (position, total, digest, line))
    return shared_folder


def version(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "log.db")) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


async def test_a_store_of_version_1_is_brought_up_to_date(old: Path) -> None:
    async with SqliteEventLog(old) as log:
        assert [(info.run, info.length, info.owner, info.imported) for info in await log.runs()] == [
            ("fork", 2, None, False),
            ("run", 3, OWNER, False),
        ]
        epoch = await log.take("fork", OWNER, previous=None)
        await log.append("fork", 2, epoch, records(3, 3, run="fork"))
        await log.remove("run", previous=OWNER)
        assert await read(log, "fork") == records(1, 2) + records(3, 3, run="fork")
    assert version(old) == SCHEMA_VERSION
    fresh = old.parent / "fresh"
    async with SqliteEventLog(fresh):
        pass
    columns = []
    for folder in (old, fresh):
        with closing(sqlite3.connect(folder / "log.db")) as connection:
            columns.append(connection.execute("PRAGMA table_info(runs)").fetchall())
    assert columns[0] == columns[1], "an upgraded file is as a new one"


async def test_a_store_of_version_1_is_read_without_being_changed(old: Path) -> None:
    async with SqliteEventLog(old, read_only=True) as log:
        assert [(info.run, info.length, info.imported) for info in await log.runs()] == [
            ("fork", 2, False),
            ("run", 3, False),
        ]
        assert [await log.verify(run) for run in ("run", "fork")] == [3, 2]
        assert await read(log, "fork") == records(1, 2)
        assert version(old) == 1
        async with SqliteEventLog(old) as writer:  # brought up to date while it is being read
            await writer.append("run", 3, 1, [record(4)])
        assert await read(log, "run") == records(1, 4)
        assert len(await log.runs()) == 2


async def test_a_store_of_version_1_in_a_folder_that_may_not_be_written_can_be_read(old: Path) -> None:
    make_read_only(old)
    reader = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", READ_AS_NOBODY, str(old)),
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    output, errors = await reader.communicate()
    assert output.decode().startswith("3\nStorageFailed"), errors.decode()


async def test_two_that_open_an_old_store_at_once_bring_it_up_to_date_once(old: Path) -> None:
    logs = [SqliteEventLog(old) for _ in range(4)]
    await asyncio.gather(*(log.__aenter__() for log in logs))
    assert [len(await log.runs()) for log in logs] == [2] * 4
    for log in logs:
        await log.__aexit__(None, None, None)
    assert version(old) == SCHEMA_VERSION


# removing much


async def test_a_large_run_is_removed_piece_by_piece_and_a_crash_leaves_nothing_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows() -> list[int]:
        with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
            return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("runs", "events")]

    monkeypatch.setattr(sqlite, "_SWEPT", 10)
    async with SqliteEventLog(tmp_path) as log:
        for run in ("large", "small"):
            epoch = await log.create(run, OWNER)
            await log.append(run, 0, epoch, records(1, 95 if run == "large" else 1, run=run))
        removing = asyncio.create_task(log.remove("large", previous=OWNER))
        while rows()[1] == 96:
            await asyncio.sleep(0)
        removing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await removing
        assert [info.run for info in await log.runs()] == ["small"]
        assert rows()[1] > 1
    async with SqliteEventLog(tmp_path) as log:
        await log.remove("small", previous=OWNER)
        assert rows() == [1, 0]
        await log.create("next", OWNER)
        await log.create("last", OWNER)
        await log.remove("next", previous=OWNER)
        assert rows() == [1, 0]
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        assert connection.execute("SELECT number, run FROM runs").fetchall() == [(4, "last")], "none is given twice"


async def test_room_that_removed_runs_left_is_given_back(tmp_path: Path) -> None:
    large = ToolCalled(attempt=1, path=(1,), digest="d", tool="t", arguments={"text": "x" * 50_000})
    async with SqliteEventLog(tmp_path) as log:
        for run in ("kept", "gone"):
            epoch = await log.create(run, OWNER)
            await log.append(run, 0, epoch, [record(n, large, run=run) for n in range(1, 60)])
        async with log.files.alone():
            assert await log.files.compact() == 0
        await log.remove("gone", previous=OWNER)
        with pytest.raises(RuntimeError, match="alone"):
            await log.files.compact()
        before = (tmp_path / "log.db").stat().st_size
        async with SqliteEventLog(tmp_path, read_only=True) as reader, log.files.alone():
            assert await log.files.compact() > 2_500_000
            assert await reader.verify("kept") == 59
        assert (tmp_path / "log.db").stat().st_size < before - 2_500_000
        await log.append("kept", 59, epoch, [record(60, run="kept")])
        assert await log.verify("kept") == 60
