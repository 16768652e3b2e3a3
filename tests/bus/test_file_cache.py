"""Copies that can be had again: bounded, checked, and gone when they are spoilt."""

import asyncio
import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import file_cache
from bus.errors import NotFound, StorageFailed
from bus.file_cache import FileCache


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


async def test_what_is_kept_is_there_in_the_next_process_too(tmp_path: Path) -> None:
    assert await FileCache(tmp_path / "c").put(b"abc") == sha(b"abc")
    assert await FileCache(tmp_path / "c").get(sha(b"abc")) == b"abc"


async def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, most_bytes=10)
    for data in (b"aaaa", b"bbbb"):
        await cache.put(data)
    await cache.get(sha(b"aaaa"))
    await cache.put(b"cccc")
    names = [sha(b"aaaa"), sha(b"bbbb"), sha(b"cccc")]
    assert list((await cache.has(names)).values()) == [True, False, True]
    assert {path.name for path in tmp_path.iterdir()} == {names[0], names[2]}


async def test_more_than_there_is_room_for_is_not_kept_and_harms_nothing(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, most_bytes=10)
    await cache.put(b"small")
    assert await cache.put(b"x" * 11) == sha(b"x" * 11)
    with pytest.raises(NotFound):
        await cache.get(sha(b"x" * 11))
    assert await cache.get(sha(b"small")) == b"small"


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"other"), lambda path: path.unlink()])
async def test_what_is_spoilt_or_gone_is_not_there_and_can_be_put_again(tmp_path: Path, spoil) -> None:
    cache = FileCache(tmp_path, most_bytes=10)
    await cache.put(b"abc")
    spoil(tmp_path / sha(b"abc"))
    with pytest.raises(NotFound):
        await cache.get(sha(b"abc"))
    await cache.put(b"abc")
    assert await cache.get(sha(b"abc")) == b"abc"


async def test_what_another_process_took_is_not_there_and_is_kept_anew(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, most_bytes=10)
    await cache.put(b"x" * 8)
    await FileCache(tmp_path, most_bytes=10).put(b"y" * 8)
    assert await cache.has([sha(b"x" * 8)]) == {sha(b"x" * 8): False}
    await cache.put(b"x" * 8)
    assert await cache.get(sha(b"x" * 8)) == b"x" * 8
    assert cache._held == 8


async def test_what_is_found_spoilt_takes_no_room(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, most_bytes=10)
    await cache.put(b"x" * 8)
    (tmp_path / sha(b"x" * 8)).write_bytes(b"z" * 8)
    with pytest.raises(NotFound):
        await cache.get(sha(b"x" * 8))
    assert not list(tmp_path.iterdir())


async def test_what_is_kept_by_one_who_was_cancelled_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, write = FileCache(tmp_path, most_bytes=10), file_cache._write
    at_it, go_on = threading.Event(), threading.Event()

    def slowly(*arguments: Any) -> None:
        at_it.set()
        assert go_on.wait(10)
        write(*arguments)

    monkeypatch.setattr(file_cache, "_write", slowly)
    putting = asyncio.create_task(cache.put(b"x" * 8))
    assert await asyncio.to_thread(at_it.wait, 10)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    go_on.set()
    await cache.put(b"y" * 8)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == cache._held == 8


async def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".new-1").write_bytes(b"half")
    os.utime(tmp_path / ".new-1", (0, 0))
    FileCache(tmp_path)
    assert not list(tmp_path.iterdir())


async def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageFailed, match="cannot be used"):
        FileCache(tmp_path / "file" / "c")


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=8)), max_size=30))
async def test_it_never_holds_more_than_it_may(tmp_path_factory: pytest.TempPathFactory, steps) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = FileCache(folder, most_bytes=20)
    for put, data in steps:
        if put:
            await cache.put(data)
        else:
            with suppress(NotFound):
                assert await cache.get(sha(data)) == data
        sizes = [path.stat().st_size for path in folder.iterdir()]
        assert sum(sizes) <= 20
        assert sum(sizes) == cache._held
