"""One attempt's folder: laid out once, told by its changes, and never a way out of itself."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from agents.errors import ToolFailed
from agents.files import attempt_folder
from agents.files.attempt_folder import AttemptFolder
from agents.files.project_folder import READ_LIMIT, ProjectFolder
from bus.file_store import MemoryFileStore
from bus.setup import FileChange, FileRef


async def refs(store: MemoryFileStore, files: Mapping[str, bytes]) -> dict[str, FileRef]:
    return {path: FileRef(path=path, sha256=await store.put(data), bytes=len(data)) for path, data in files.items()}


@pytest.fixture
def store() -> MemoryFileStore:
    return MemoryFileStore()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "work" / "a-1"


def paths(changes: tuple[FileChange, ...]) -> list[str]:
    return [change.path for change in changes]


async def test_it_is_laid_out_once_however_many_ask_at_once(root: Path, store: MemoryFileStore) -> None:
    start = await refs(store, {f"{number}.txt": b"x" for number in range(20)})
    folder = AttemptFolder(root, store, start, start)
    opened = await asyncio.gather(*(folder.open() for _ in range(16)))
    assert len({id(one) for one in opened}) == 1
    assert len(opened[0].entries()) == 20
    assert await folder.result() == ()


async def test_nothing_is_on_disk_before_it_is_opened_and_nothing_after_it_is_removed(
    root: Path, store: MemoryFileStore
) -> None:
    folder = AttemptFolder(root, store, {}, await refs(store, {"a.txt": b"a"}))
    assert paths(await folder.result()) == ["a.txt"]
    assert not root.exists()
    await folder.open()
    assert (root / "a.txt").read_bytes() == b"a"
    await folder.remove()
    assert not root.exists()


async def test_one_whose_laying_out_was_cut_off_is_removed_once_its_thread_has_left_it(
    root: Path, store: MemoryFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ProjectFolder.write

    def slowly(folder: ProjectFolder, path: str, data: bytes) -> None:
        time.sleep(0.1)
        write(folder, path, data)

    make_empty = attempt_folder._make_empty

    def make_slowly(root: Path) -> None:
        time.sleep(0.1)
        make_empty(root)

    monkeypatch.setattr(ProjectFolder, "write", slowly)
    monkeypatch.setattr(attempt_folder, "_make_empty", make_slowly)
    for cut_off_after_s in (0.05, 0.15, 0.25):
        folder = AttemptFolder(root, store, {}, await refs(store, {f"{number}.txt": b"x" for number in range(4)}))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(cut_off_after_s):
                await folder.open()
        await folder.remove()
        await asyncio.sleep(0.15)
        assert not root.exists()


async def test_what_an_earlier_process_left_is_gone(root: Path, store: MemoryFileStore) -> None:
    root.mkdir(parents=True)
    (root / "left.txt").write_text("x")
    folder = AttemptFolder(root, store, {}, {})
    await folder.open()
    assert await folder.result() == ()


async def test_changes_are_told_once_and_the_result_against_the_base(root: Path, store: MemoryFileStore) -> None:
    base = await refs(store, {"old.txt": b"old", "gone.txt": b"gone"})
    folder = AttemptFolder(root, store, base, base | await refs(store, {"rejected.txt": b"r"}))
    opened = await folder.open()
    opened.write("new.txt", b"new")
    opened.delete("gone.txt")
    assert paths(await folder.changes()) == ["gone.txt", "new.txt"]
    assert await folder.changes() == ()
    result = await folder.result()
    assert paths(result) == ["gone.txt", "new.txt", "rejected.txt"]
    assert [change.sha256 is None for change in result] == [True, False, False]
    assert await store.get(result[1].sha256 or "") == b"new"
    assert paths(await folder.result(["new.txt"])) == ["new.txt"]


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "not-there", ".swarm/output-1.txt", "link"])
async def test_a_result_names_only_files_of_the_folder(root: Path, store: MemoryFileStore, name: str) -> None:
    folder = AttemptFolder(root, store, {}, {})
    await folder.open()
    (root / "link").symlink_to("/etc/passwd")
    await folder.keep_output(".swarm/output-1.txt", "whole")
    with pytest.raises(ToolFailed, match="names files that are not there"):
        await folder.result([name])


async def test_recorded_changes_are_brought_about_before_and_after_it_is_laid_out(
    root: Path, store: MemoryFileStore
) -> None:
    made = await refs(store, {"one.txt": b"1", "two.txt": b"2"})
    changes = [FileChange(path=r.path, base=None, sha256=r.sha256, bytes=r.bytes) for r in made.values()]
    folder = AttemptFolder(root, store, {}, {})
    await folder.recorded(changes[:1])
    await folder.open()
    await folder.recorded(changes[1:])
    assert (root / "one.txt").read_bytes() == b"1"
    assert (root / "two.txt").read_bytes() == b"2"
    assert await folder.changes() == (), "they are in the log already"
    gone = FileChange(path="one.txt", base=changes[0].sha256, sha256=None, bytes=0)
    await folder.recorded([gone])
    assert paths(await folder.result()) == ["two.txt"]


async def test_a_recorded_change_of_case_alone_is_brought_about(root: Path, store: MemoryFileStore) -> None:
    start = await refs(store, {"readme.md": b"a"})
    folder = AttemptFolder(root, store, start, start)
    await folder.lend()
    sha256 = start["readme.md"].sha256
    made = FileChange(path="README.md", base=None, sha256=sha256, bytes=1)
    await folder.recorded([made, FileChange(path="readme.md", base=sha256, sha256=None, bytes=0)])
    assert paths(await folder.result()) == ["README.md", "readme.md"]


async def test_a_whole_output_lies_beside_and_is_no_part_of_a_result(root: Path, store: MemoryFileStore) -> None:
    folder = AttemptFolder(root, store, {}, {})
    ref = await folder.keep_output(".swarm/output-0.1.txt", "all of it")
    assert ref is not None
    assert (await folder.open()).read(".swarm/output-0.1.txt") == b"all of it"
    assert await folder.changes() == await folder.result() == ()


@pytest.mark.parametrize("laid_out", [True, False])
async def test_a_recorded_whole_output_is_laid_again(root: Path, store: MemoryFileStore, *, laid_out: bool) -> None:
    ref = (await refs(store, {".swarm/output-0.txt": b"all of it"}))[".swarm/output-0.txt"]
    folder = AttemptFolder(root, store, {}, {})
    if laid_out:
        await folder.open()
    await folder.recorded([], ref)
    assert (await folder.open()).read(".swarm/output-0.txt") == b"all of it"


async def test_a_whole_output_is_there_still_when_a_change_was_cut_off(root: Path, store: MemoryFileStore) -> None:
    folder = AttemptFolder(root, store, {}, {})
    await folder.keep_output(".swarm/output-1.txt", "whole")
    await folder.cut_off()
    assert (await folder.open()).read(".swarm/output-1.txt") == b"whole"


@pytest.mark.parametrize("planted", ["link", "file", "link in it", "folder in it"])
async def test_what_a_program_plants_at_our_place_is_not_followed(
    root: Path, tmp_path: Path, store: MemoryFileStore, planted: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "output-0.txt").write_text("mine")
    folder = AttemptFolder(root, store, {}, {})
    await folder.open()
    match planted:
        case "link":
            (root / ".swarm").symlink_to(outside)
        case "file":
            (root / ".swarm").write_text("no folder")
        case "link in it":
            (root / ".swarm").mkdir()
            (root / ".swarm" / "output-0.txt").symlink_to(outside / "output-0.txt")
        case "folder in it":
            (root / ".swarm" / "output-0.txt").mkdir(parents=True)
    assert await folder.keep_output(".swarm/output-0.txt", "whole") is None
    assert (outside / "output-0.txt").read_text() == "mine"
    assert [path.name for path in outside.iterdir()] == ["output-0.txt"]
    ref = (await refs(store, {".swarm/output-0.txt": b"whole"}))[".swarm/output-0.txt"]
    await folder.recorded([], ref)
    assert (outside / "output-0.txt").read_text() == "mine"


async def test_a_file_that_cannot_be_kept_is_told_until_it_is_gone(root: Path, store: MemoryFileStore) -> None:
    folder = AttemptFolder(root, store, {}, {})
    opened = await folder.open()
    with (root / "huge.bin").open("wb") as file:
        file.truncate(READ_LIMIT + 1)
    opened.write("small.txt", b"s")
    for _ in range(2):
        with pytest.raises(ToolFailed, match=r"huge\.bin.* cannot be kept: make it smaller, or delete it"):
            await folder.changes()
    with pytest.raises(ToolFailed, match=r"huge\.bin"):
        await folder.result()
    opened.delete("huge.bin")
    (change,) = await folder.changes()
    assert await store.get(change.sha256 or "") == b"s"


async def test_files_that_cannot_lie_side_by_side_are_told_until_one_is_gone(
    root: Path, store: MemoryFileStore
) -> None:
    start = await refs(store, {"README.md": b"a"})
    folder = AttemptFolder(root, store, start, start)
    await folder.open()
    (root / "readme.md").write_text("b")
    for _ in range(2):
        with pytest.raises(ToolFailed, match=r"'readme.md' cannot be kept.*'README.md'"):
            await folder.result()
    (root / "README.md").unlink()
    assert paths(await folder.changes()) == ["README.md", "readme.md"]
    assert paths(await folder.result()) == ["README.md", "readme.md"]
