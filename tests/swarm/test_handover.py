"""The outcome's files: all or none, once, never over anything that is there."""

import os
from pathlib import Path

import pytest

from agents.files.project_folder import ProjectFolder
from bus.errors import NotFound
from bus.file_store import MemoryFileStore
from bus.setup import FileRef
from swarm.errors import MissingPart, UsageError
from swarm.runs.handover import hand_over, refuse_unusable


@pytest.fixture
def store() -> MemoryFileStore:
    return MemoryFileStore()


async def refs(store: MemoryFileStore, **files: bytes) -> list[FileRef]:
    return [FileRef(path=p.replace("__", "/"), sha256=await store.put(d), bytes=len(d)) for p, d in files.items()]


def beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


async def test_files_are_written_with_their_folders(tmp_path: Path, store: MemoryFileStore) -> None:
    target = tmp_path / "made" / "here" / "out"
    files = await refs(store, report=b"r", data__a__b=b"ab")
    assert await hand_over("run", files, store, target) == target
    assert (target / "data" / "a" / "b").read_bytes() == b"ab"
    assert beside(target) == ["out"]
    assert target.stat().st_mode == target.parent.stat().st_mode


async def test_the_umask_is_the_programs_own(
    tmp_path: Path, store: MemoryFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "umask")
    assert await hand_over("run", await refs(store, report=b"r"), store, tmp_path / "out") == tmp_path / "out"


async def test_done_before_is_done(tmp_path: Path, store: MemoryFileStore) -> None:
    target = tmp_path / "out"
    files = await refs(store, report=b"r")
    await hand_over("run", files, store, target)
    before = target.stat().st_ino, (target / "report").stat().st_mtime_ns
    assert await hand_over("run", files, store, target) == target
    assert (target.stat().st_ino, (target / "report").stat().st_mtime_ns) == before


async def test_no_files_make_no_folder(tmp_path: Path, store: MemoryFileStore) -> None:
    assert await hand_over("run", [], store, tmp_path / "out") is None
    assert not (tmp_path / "out").exists()


async def test_what_is_advised_of_a_hubs_run_works_there(tmp_path: Path, store: MemoryFileStore) -> None:
    target = tmp_path / "out"
    target.write_text("mine")
    with pytest.raises(MissingPart, match=r"swarm show run --files OTHER_FOLDER --bus mqtt://host`"):
        await hand_over("run", await refs(store, report=b"r"), store, target, bus="mqtt://host")


@pytest.mark.parametrize("there", ["other file", "changed file", "file", "link", "dangling link", "empty folder"])
async def test_what_is_there_is_never_overwritten(tmp_path: Path, store: MemoryFileStore, there: str) -> None:
    target = tmp_path / "out"
    elsewhere = tmp_path / "elsewhere"
    match there:
        case "other file":
            target.mkdir()
            (target / "mine").write_text("mine")
        case "changed file":
            target.mkdir()
            (target / "report").write_text("changed")
        case "file":
            target.write_text("mine")
        case "link":
            elsewhere.mkdir()
            target.symlink_to(elsewhere)
        case "dangling link":
            target.symlink_to(elsewhere)
        case "empty folder":
            target.mkdir()
    with pytest.raises(MissingPart, match=r"is there already.*swarm show run --files"):
        await hand_over("run", await refs(store, report=b"r"), store, target)
    found = [path.name for path in target.iterdir()] if target.is_dir() else []
    assert found == {"other file": ["mine"], "changed file": ["report"]}.get(there, [])
    assert not any(name.startswith(".") for name in beside(target))


@pytest.mark.parametrize("name", ["other", "report"])
async def test_a_folder_of_something_else_is_known_by_names_and_sizes(
    tmp_path: Path, store: MemoryFileStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def read(_: ProjectFolder, path: str) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(ProjectFolder, "_hashed", read)
    target = tmp_path / "out"
    target.mkdir()
    (target / "report").write_text("r")
    (target / name).write_text("something else")
    with pytest.raises(MissingPart, match="is there already"):
        await hand_over("run", await refs(store, report=b"r"), store, target)


async def test_a_file_that_is_lost_leaves_nothing_behind(tmp_path: Path, store: MemoryFileStore) -> None:
    files = [*await refs(store, a=b"a"), FileRef(path="b", sha256="0" * 64, bytes=1)]
    with pytest.raises(NotFound):
        await hand_over("run", files, store, tmp_path / "out")
    assert [*tmp_path.iterdir()] == []


async def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, store: MemoryFileStore) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(MissingPart, match=r"cannot be written: .*swarm show run --files"):
        await hand_over("run", await refs(store, a=b"a"), store, tmp_path / "file" / "out")


@pytest.mark.parametrize("name", ["made/here/out", "file/out", "link/out", "link", "out\0", "x" * 300, "/proc/x"])
def test_a_place_that_could_not_be_written_in_the_end_is_told_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    before = beside(tmp_path / "out")
    if name == "made/here/out":
        refuse_unusable(tmp_path / name)
    else:
        with pytest.raises(UsageError, match=r"--out .* (is there already|cannot be made)"):
            refuse_unusable(tmp_path / name, option="--out")
    assert beside(tmp_path / "out") == before
