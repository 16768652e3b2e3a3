"""The folders in which processes work: whose they are, and what becomes of them."""

import asyncio
import stat
import sys
import threading
from pathlib import Path

import pytest

from bus import presence
from bus.errors import StorageFailed
from bus.store import open_store
from swarm.working.work_folder import left_behind, work_folder

AN_AGENT = """
import asyncio, sys
from pathlib import Path
from swarm.working.work_folder import work_folder

async def main():
    async with work_folder(Path(sys.argv[1]), "killed-1") as folder:
        (folder / "run-1" / "attempt").mkdir(parents=True)
        (folder / "run-1" / "attempt" / "draft.md").write_text("half of it")
        print("there", flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def there(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "swarm-work").iterdir())


async def test_an_agent_has_a_folder_that_nobody_else_reads_and_that_goes_with_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with work_folder(home, "ada-1") as folder:
        (folder / "run-1").mkdir()
        (folder / "run-1" / "draft.md").write_text("half of it")
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        assert (home / ".gitignore").read_text() == "*\n"
    assert there(home) == []


async def test_what_a_killed_agent_left_goes_with_the_next_one_and_what_others_work_in_stays(tmp_path: Path) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", AN_AGENT, str(tmp_path), stdout=pipe)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"there\n"
    async with work_folder(tmp_path, "ada-1"):
        assert there(tmp_path) == ["ada-1", "killed-1"]
    process.kill()
    await process.wait()
    assert there(tmp_path) == ["killed-1"]
    async with work_folder(tmp_path, "ada-1"):
        assert there(tmp_path) == ["ada-1"]


async def test_of_two_of_one_name_the_one_that_leaves_does_not_take_the_others_folder(tmp_path: Path) -> None:
    async with work_folder(tmp_path, "ada-1") as folder:
        async with work_folder(tmp_path, "ada-1"):
            (folder / "run-1").mkdir()
        assert (folder / "run-1").is_dir()


async def test_who_is_cancelled_on_entering_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    going_on = threading.Event()
    enter = presence.enter

    def late(folder: Path) -> int:
        assert going_on.wait(10)
        return enter(folder)

    async def work() -> None:
        async with work_folder(tmp_path, "ada-1"):
            raise AssertionError("it was cancelled")

    monkeypatch.setattr(presence, "enter", late)
    task = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.sleep(0)
    going_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert there(tmp_path) == []


async def test_a_folder_that_another_one_takes_for_left_before_it_is_entered_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter = presence.enter

    def just_removed(folder: Path) -> int:
        monkeypatch.setattr(presence, "enter", enter)
        folder.rmdir()
        return enter(folder)

    monkeypatch.setattr(presence, "enter", just_removed)
    async with work_folder(tmp_path, "ada-1"):
        assert there(tmp_path) == ["ada-1"]


async def test_what_is_none_of_ours_is_left_alone(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.txt").touch()
    home = tmp_path / "home"
    (home / "swarm-work").mkdir(parents=True)
    (home / "swarm-work" / "file").touch()
    (home / "swarm-work" / "link").symlink_to(elsewhere)
    async with work_folder(home, "ada-1"):
        pass
    assert there(home) == ["file", "link"]
    assert (elsewhere / "kept.txt").exists()


async def test_a_folder_of_a_person_s_own_may_be_a_home(tmp_path: Path) -> None:
    for name in ("work", "files"):
        (tmp_path / name / "thesis").mkdir(parents=True)
        (tmp_path / name / "thesis" / "chapter.md").touch()
    async with open_store(tmp_path) as store, work_folder(tmp_path, "thesis"), store.files.alone():
        left_behind(tmp_path, remove=True)
        await store.files.remove(await store.files.sizes())
    assert (tmp_path / "work" / "thesis" / "chapter.md").exists()
    assert (tmp_path / "files" / "thesis" / "chapter.md").exists()


async def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(StorageFailed, match="SWARM_HOME"):
        async with work_folder(tmp_path / "home", "ada-1"):
            pass
