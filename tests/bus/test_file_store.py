"""What holds for every file store, and what only the one in a folder has to do."""

import asyncio
import errno
import hashlib
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bus import database, presence
from bus.errors import Conflict, Damaged, NotFound, StorageFailed
from bus.event_log import FileStore
from bus.event_logs.sqlite import SqliteEventLog
from bus.file_store import SMALL_BYTES, MemoryFileStore
from bus.store import memory_store, open_store
from tests.support.events import OWNER, records
from tests.support.postgres import clean_url

SIZES = [0, 1, SMALL_BYTES, SMALL_BYTES + 1, 3_000_000]


STORES = {
    "memory": lambda _: memory_store(),
    "sqlite": open_store,
    "postgres": lambda _: open_store(clean_url()),
}


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.services)])
async def files(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FileStore]:
    async with STORES[request.param](tmp_path) as store:
        yield store.files


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", SIZES)
async def test_bytes_come_back_by_their_hash(files: FileStore, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    assert await files.put(data) == sha256(data)
    assert await files.put(data) == sha256(data)
    assert await files.get(sha256(data)) == data


async def test_it_tells_which_files_are_there(files: FileStore) -> None:
    small, large = b"small", b"large" * SMALL_BYTES
    await asyncio.gather(files.put(small), files.put(large), files.put(large))
    names = [sha256(small), sha256(large), sha256(b"other"), "../../etc/passwd", "", "é"]
    assert await files.has(names) == dict(zip(names, [True, True, False, False, False, False], strict=True))


@pytest.mark.parametrize("name", [sha256(b"other"), "../../etc/passwd", "", "AB" * 32, "\ud800"])
async def test_a_file_that_is_not_there_is_not_found(files: FileStore, name: str) -> None:
    with pytest.raises(NotFound):
        await files.get(name)


async def test_it_lists_its_files_with_their_sizes(files: FileStore) -> None:
    assert await files.sizes() == {}
    data = [b"", b"small", b"large" * SMALL_BYTES]
    for each in data:
        await files.put(each)
    assert await files.sizes() == {sha256(each): len(each) for each in data}


async def test_removed_files_are_gone_and_can_be_put_again(files: FileStore) -> None:
    data = [b"small", b"large" * SMALL_BYTES, b"kept"]
    small, large, kept = [await files.put(each) for each in data]
    async with files.alone():
        await files.remove([small, large, sha256(b"other"), "../../etc/passwd"])
    assert await files.has([small, large, kept]) == {small: False, large: False, kept: True}
    assert list(await files.sizes()) == [kept]
    for each in data:
        assert await files.get(await files.put(each)) == each


def rows(folder: Path) -> int:
    connection = sqlite3.connect(folder / "log.db")
    try:
        return int(connection.execute("SELECT count(*) FROM files").fetchone()[0])
    finally:
        connection.close()


async def test_a_small_file_is_durable_with_the_next_append(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        epoch = await log.create("run", OWNER)
        name = await log.files.put(b"named by an event")
        assert rows(tmp_path) == 0
        assert await log.files.get(name) == b"named by an event"
        await log.append("run", 0, epoch, records(1, 1))
        assert rows(tmp_path) == 1
        assert await log.files.get(name) == b"named by an event"


async def test_files_that_no_append_takes_along_are_kept_on_closing(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        name = await store.files.put(b"imported")
    async with open_store(tmp_path) as store:
        assert await store.files.get(name) == b"imported"
        await store.files.put(b"imported")
    assert rows(tmp_path) == 1


async def test_many_small_files_are_not_held_in_memory_for_ever(tmp_path: Path) -> None:
    async with SqliteEventLog(tmp_path) as log:
        for number in range(100):
            await log.files.put(number.to_bytes(2, "big") * (SMALL_BYTES // 2))
        await log.create("run", OWNER)
        assert rows(tmp_path) == 100
        assert not log.files._held


async def test_where_much_is_held_back_a_file_waits_until_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_MOST_BYTES_HELD", 1_000)
    async with SqliteEventLog(tmp_path) as log:
        for number in range(1, 51):
            await log.files.put(number.to_bytes(100))
            assert number - rows(tmp_path) <= 11
        await asyncio.gather(*[log.files.put(number.to_bytes(100)) for number in range(151)])
        assert 151 - rows(tmp_path) <= 11


async def test_a_large_file_stands_under_its_hash_and_nothing_else_is_left(tmp_path: Path) -> None:
    data = b"x" * (SMALL_BYTES + 1)
    async with open_store(tmp_path) as store:
        name = await store.files.put(data)
    left = [path for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert left == [tmp_path / "files" / name[:2] / name[2:]]
    assert left[0].read_bytes() == data


@pytest.mark.parametrize("size", [10, SMALL_BYTES + 10])
async def test_a_file_with_other_bytes_is_damaged(tmp_path: Path, size: int) -> None:
    async with open_store(tmp_path) as store:
        name = await store.files.put(b"x" * size)
    if size > SMALL_BYTES:
        (tmp_path / "files" / name[:2] / name[2:]).write_bytes(b"y" * size)
    else:
        connection = sqlite3.connect(tmp_path / "log.db")
        connection.execute("UPDATE files SET data = x'00'")
        connection.commit()
        connection.close()
    async with open_store(tmp_path) as store:
        with pytest.raises(Damaged, match=name):
            await store.files.get(name)


@pytest.mark.parametrize("store", ["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
async def test_a_large_file_is_hashed_where_the_loop_does_not_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    real, large, hashed = hashlib.sha256, b"x" * (SMALL_BYTES + 1), []

    def noted(data: bytes) -> Any:
        if len(data) == len(large):
            hashed.append(threading.current_thread())
        return real(data)

    async with STORES[store](tmp_path) as opened:
        monkeypatch.setattr(hashlib, "sha256", noted)
        assert await opened.files.get(await opened.files.put(large)) == large
    assert len(hashed) == 2
    assert threading.current_thread() not in hashed


def spoil(folder: Path, name: str, data: bytes) -> None:
    path = folder / "files" / name[:2] / name[2:]
    if path.exists():
        path.write_bytes(data)
    else:
        with closing(sqlite3.connect(folder / "log.db")) as connection, connection:
            connection.execute("UPDATE files SET data = ?", (data,))


@pytest.mark.parametrize("size", [10, SMALL_BYTES + 10])
@pytest.mark.parametrize("spoilt", [b"", b"y"])
async def test_a_spoilt_file_is_mended_by_putting_the_right_bytes(tmp_path: Path, size: int, spoilt: bytes) -> None:
    data = b"x" * size
    async with open_store(tmp_path) as store:
        name = await store.files.put(data)
    spoil(tmp_path, name, spoilt * size)
    async with open_store(tmp_path) as store:
        assert await store.files.put(data) == name
    async with open_store(tmp_path) as store:
        assert await store.files.get(name) == data


@pytest.mark.parametrize("spoilt", [b"", b"y"])
async def test_a_large_file_that_was_right_and_is_found_spoilt_is_mended_too(tmp_path: Path, spoilt: bytes) -> None:
    data = b"x" * (SMALL_BYTES + 1)
    async with open_store(tmp_path) as store:
        name = await store.files.put(data)
        spoil(tmp_path, name, spoilt * len(data))
        with pytest.raises(Damaged):
            await store.files.get(name)
        await store.files.put(data)
        assert await store.files.get(name) == data


async def test_a_large_file_that_cannot_be_kept_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "files").write_bytes(b"a file where the folder should be")
    async with open_store(tmp_path) as store:
        with pytest.raises(StorageFailed, match="could not be kept"):
            await store.files.put(b"x" * (SMALL_BYTES + 1))


async def test_a_store_open_for_reading_takes_no_files(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        name = await store.files.put(b"kept")
    async with open_store(tmp_path, read_only=True) as store:
        assert await store.files.get(name) == b"kept"
        for data in (b"small", b"x" * (SMALL_BYTES + 1)):
            with pytest.raises(StorageFailed, match="reading only"):
                await store.files.put(data)


async def test_the_store_in_memory_is_its_own() -> None:
    name = await MemoryFileStore().put(b"here")
    assert not (await MemoryFileStore().has([name]))[name]


# alone with the files


async def test_files_are_removed_only_by_who_is_alone(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        name = await store.files.put(b"x")
        with pytest.raises(RuntimeError, match="alone"):
            await store.files.remove([name])
        async with store.files.alone():
            pass
        with pytest.raises(RuntimeError, match="alone"):
            await store.files.remove([name])


async def test_nobody_is_alone_while_another_has_the_store_open_for_writing(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        async with open_store(tmp_path) as other:
            for one in (store, other):
                with pytest.raises(Conflict, match="open for writing elsewhere"):
                    async with one.files.alone():
                        raise AssertionError("it is not alone")
        async with store.files.alone(), open_store(tmp_path, read_only=True) as reader:
            assert await reader.files.sizes() == {}


async def test_who_opens_the_store_waits_for_one_that_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_store(tmp_path) as store:
        async with store.files.alone():
            monkeypatch.setattr(presence, "_PATIENCE_S", 0.0)
            with pytest.raises(StorageFailed, match="being cleaned up"):
                await SqliteEventLog(tmp_path).__aenter__()
            monkeypatch.undo()
            opening = asyncio.create_task(SqliteEventLog(tmp_path).__aenter__())
            await asyncio.sleep(0)
            assert not opening.done()
        async with await opening:
            with pytest.raises(Conflict):
                async with store.files.alone():
                    raise AssertionError("it is not alone")


async def test_who_was_cancelled_as_it_opened_the_store_does_not_have_it_open(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        async with store.files.alone():
            opening = asyncio.create_task(SqliteEventLog(tmp_path).__aenter__())
            await asyncio.sleep(0.2)  # it waits by now
            opening.cancel()
            async with asyncio.timeout(10):
                with pytest.raises(asyncio.CancelledError):
                    await opening
        await asyncio.sleep(0.2)  # nothing of it waits any more
        async with store.files.alone():
            pass
    assert not (tmp_path / "log.db-wal").exists()


async def test_who_was_cancelled_just_as_the_store_was_opened_does_not_have_it_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store(tmp_path) as store:
        enter, at_it, go_on = presence.enter, threading.Event(), threading.Event()

        def slowly(*arguments: Any) -> int:
            at_it.set()
            assert go_on.wait(10)
            return enter(*arguments)

        monkeypatch.setattr(presence, "enter", slowly)
        opening = asyncio.create_task(SqliteEventLog(tmp_path).__aenter__())
        assert await asyncio.to_thread(at_it.wait, 10)
        opening.cancel()
        await asyncio.sleep(0.1)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await asyncio.sleep(0.2)
        async with store.files.alone():
            pass


async def test_who_was_cancelled_as_it_closed_the_store_does_not_have_it_open(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        log = await SqliteEventLog(tmp_path).__aenter__()
        closing = asyncio.create_task(log.__aexit__(None, None, None))
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        async with asyncio.timeout(10):
            while log._database._presence is not None:
                await asyncio.sleep(0.01)
        async with store.files.alone():
            pass


async def test_where_there_are_no_locks_runs_go_on_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(presence.fcntl, "flock", none)
    async with open_store(tmp_path) as store:
        await store.files.put(b"x")
        with pytest.raises(StorageFailed, match="move it to a local disk"):
            async with store.files.alone():
                raise AssertionError("it is not alone")


async def test_what_a_crash_left_half_written_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        name = await store.files.put(b"x" * (SMALL_BYTES + 1))
        (tmp_path / "files" / ".new-half").write_bytes(b"x")
        (tmp_path / "files" / "ab").mkdir(exist_ok=True)
        (tmp_path / "files" / "ab" / "notes.txt").write_bytes(b"mine")
        assert list(await store.files.sizes()) == [name]
        async with store.files.alone():
            await store.files.remove([name])
    left = [path.name for path in (tmp_path / "files").rglob("*") if path.is_file()]
    assert left == ["notes.txt"]
