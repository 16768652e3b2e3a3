"""What a run begins with: copied in by name and hash, never secrets, links or more than a bound."""

import os
from pathlib import Path

import pytest

from agents.sandbox import Bounds
from bus.file_store import MemoryFileStore
from swarm.errors import ScenarioError
from swarm.preparation import workspace
from swarm.scenario.model import Scenario


async def taken(folder: Path, *named: str) -> dict[str, bytes]:
    store = MemoryFileStore()
    scenario = Scenario.from_dict({"goal": "-", "workspace": [*named]}, folder=folder)
    files = await workspace.take_in(scenario, store, home=folder / ".swarm")
    assert [ref.path for ref in files] == sorted(ref.path for ref in files)
    return {ref.path: await store.get(ref.sha256) for ref in files}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "material" / "deep").mkdir(parents=True)
    (tmp_path / "material" / "a.md").write_text("a")
    (tmp_path / "material" / "deep" / "b.md").write_text("b")
    (tmp_path / "one.txt").write_text("1")
    return tmp_path


@pytest.mark.parametrize(
    ("named", "paths"),
    [
        (["material"], ["material/a.md", "material/deep/b.md"]),
        (["./material"], ["material/a.md", "material/deep/b.md"]),
        (["."], ["material/a.md", "material/deep/b.md", "one.txt"]),
        (["one.txt", "material/deep"], ["deep/b.md", "one.txt"]),
    ],
)
async def test_folders_keep_their_name_and_a_dot_gives_its_contents(
    folder: Path, named: list[str], paths: list[str]
) -> None:
    assert sorted(await taken(folder, *named)) == paths


async def test_what_is_secret_ours_a_byproduct_or_a_link_is_never_taken_in(folder: Path) -> None:
    byproducts = ("__pycache__/a.pyc", "material/.pytest_cache/v/x", "material/b.pyc", ".hg/store", "deep/.cache/x")
    for name in (".env", ".env.local", ".git/config", ".swarm/log.db", "material/.env", "material/.git/x", *byproducts):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    (folder / "material" / "link.md").symlink_to("/etc/passwd")
    (folder / "material" / "folder").symlink_to("/etc")
    os.mkfifo(folder / "material" / "pipe")
    assert sorted(await taken(folder, ".")) == ["material/a.md", "material/deep/b.md", "one.txt"]
    assert sorted(await taken(folder, "material")) == ["material/a.md", "material/deep/b.md"]


async def test_what_swarmignore_names_stays_out(folder: Path) -> None:
    (folder / ".swarmignore").write_text("# a comment\n\n*.txt\nmaterial/deep/\n")
    assert sorted(await taken(folder, ".")) == ["material/a.md"]


async def test_a_link_that_is_named_itself_is_followed(folder: Path) -> None:
    (folder / "current.txt").symlink_to("one.txt")
    (folder / "latest").symlink_to("material")
    assert await taken(folder, "current.txt", "latest") == {
        "current.txt": b"1",
        "material/a.md": b"a",
        "material/deep/b.md": b"b",
    }


@pytest.mark.parametrize("pattern", ["/deep", "**/other", "/deep/other/", "deep/*"])
async def test_swarmignore_means_paths_as_gitignore_does(folder: Path, pattern: str) -> None:
    for name in ("deep/other/a", "material/deep/b.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    (folder / ".swarmignore").write_text(pattern)
    assert sorted(await taken(folder, ".")) == ["material/a.md", "material/deep/b.md", "one.txt"]


async def test_swarmignore_may_name_what_is_not_utf8(folder: Path) -> None:
    (folder / ".swarmignore").write_bytes(b"\xef\xbb\xbfone.txt\ncaf\xe9.txt\n")
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9.txt")).write_text("x")
    assert sorted(await taken(folder, ".")) == ["material/a.md", "material/deep/b.md"]


@pytest.mark.parametrize(
    ("name", "why", "ignored"),
    [
        ("a:b.txt", "holds ':'", "*:*"),
        ("aux.c", "a device on Windows", "aux.c"),
        ("Icon\r", "a control character", "Icon?"),
        ("caf\udce9.txt", "not UTF-8", "caf*"),
        ("material/A.md", "cannot lie beside", "A.md"),
    ],
)
async def test_a_name_that_no_attempt_could_use_is_told_before_the_run_begins(
    folder: Path, name: str, why: str, ignored: str
) -> None:
    before = await taken(folder, ".")
    (folder / name).write_text("x")
    with pytest.raises(ScenarioError, match=rf"(?s)cannot be taken in: .*{why}.*`\.swarmignore`"):
        await taken(folder, ".")
    (folder / ".swarmignore").write_text(ignored)
    assert await taken(folder, ".") == before


async def test_a_byproduct_that_is_named_itself_is_refused(folder: Path) -> None:
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.py").write_text("x")
    with pytest.raises(ScenarioError, match="'__pycache__' is never part of a result"):
        await taken(folder, "__pycache__")


async def test_names_are_taken_in_composed(folder: Path) -> None:
    (folder / "material" / "e\u0301.md").write_text("e")
    assert "material/\u00e9.md" in await taken(folder, "material")


async def test_of_two_files_of_one_name_none_is_lost_unseen(folder: Path) -> None:
    assert (await taken(folder, ".", "material"))["material/a.md"] == b"a"
    (folder / "other" / "material").mkdir(parents=True)
    (folder / "other" / "material" / "a.md").write_text("another")
    with pytest.raises(ScenarioError, match=r"other/material/a\.md would both be 'material/a\.md'"):
        await taken(folder, "material", "other/material")
    (folder / "e\u0301.md").write_text("1")
    (folder / "\u00e9.md").write_text("2")
    with pytest.raises(ScenarioError, match="would both be '\u00e9\\.md'"):
        await taken(folder, ".")


async def test_a_workspace_that_is_too_large_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workspace, "MOST_FILES", 2)
    with pytest.raises(ScenarioError, match=r"workspace: the workspace is larger than 2 files"):
        await taken(folder, ".")
    monkeypatch.setattr(workspace, "MOST_FILES", 10)
    monkeypatch.setattr(workspace, "MOST_BYTES", 2)
    with pytest.raises(ScenarioError, match=r"`\.swarmignore`"):
        await taken(folder, ".")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_folder_that_may_not_be_read_is_told(folder: Path) -> None:
    (folder / "shut").mkdir(mode=0)
    with pytest.raises(ScenarioError, match=r"shut cannot be read: Permission denied"):
        await taken(folder, ".")
    (folder / ".swarmignore").write_text("shut/")
    assert sorted(await taken(folder, ".")) == ["material/a.md", "material/deep/b.md", "one.txt"]


async def test_a_file_beyond_all_bounds_is_not_read(folder: Path) -> None:
    with (folder / "disk.img").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ScenarioError, match=r"larger than .* \(with .*disk\.img\)"):
        await taken(folder, ".")


def test_beside_the_largest_workspace_a_program_has_room_for_files_of_its_own() -> None:
    assert Bounds().folder >= 2 * workspace.MOST_BYTES
    assert Bounds().files >= 2 * workspace.MOST_FILES
