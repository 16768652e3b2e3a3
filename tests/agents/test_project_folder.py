import ctypes
import errno
import os
import socket
import stat
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.errors import ToolFailed, ToolRefused
from agents.files import beneath
from agents.files.project_folder import Entry, ProjectFolder
from bus.errors import StorageFailed

SECRET = b"the secret of the host"


@pytest.fixture(params=["the kernel's way", "the portable way"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> ProjectFolder:
    """Each test here holds for both ways of opening a file."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "project").mkdir()
    way = beneath.opener() if request.param == "the kernel's way" else beneath.walk
    return ProjectFolder(tmp_path / "project", opener=way)


def outside(folder: ProjectFolder) -> Path:
    return folder.root.parent / "outside"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_this_machine_opens_by_openat2() -> None:
    try:
        with beneath.folder_at(Path("/")) as root:
            os.close(beneath.openat2(root, ("usr",), os.O_RDONLY))
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            pytest.skip("this kernel or container has no openat2")
        raise
    assert beneath.opener() is beneath.openat2


def test_what_was_written_is_read(folder: ProjectFolder) -> None:
    folder.write("a/b/c.txt", "Grüße".encode())
    assert folder.read("a/b/c.txt") == "Grüße".encode()
    assert folder.read_text("./a//b/c.txt") == "Grüße"
    assert folder.size("a/b/c.txt") == 7


def test_text_that_is_not_utf8_is_readable_all_the_same(folder: ProjectFolder) -> None:
    folder.write("a", b"\xef\xbb\xbfa\xffb")
    assert folder.read_text("a") == "a\ufffdb"


@settings(max_examples=30)
@given(data=st.binary(max_size=3_000))
def test_every_content_survives(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = ProjectFolder(tmp_path_factory.mktemp("project"))
    folder.write("x", data, durable=True)
    assert folder.read("x") == data
    assert folder.entries() == [Entry("x", len(data))]


def test_a_name_is_stored_composed(folder: ProjectFolder) -> None:
    folder.write("cafe\u0301", b"1")
    assert names(folder.root) == ["caf\u00e9"]
    assert folder.read("cafe\u0301") == folder.read("caf\u00e9") == b"1"


# Ways out


@pytest.mark.parametrize("path", ["../outside/secret", "/etc/passwd", "a\0", "con", "a:b", "\u202e", "x" * 300])
def test_a_path_that_may_not_be_used_is_refused_by_every_method(folder: ProjectFolder, path: str) -> None:
    for use in (folder.read, folder.size, folder.delete, folder.entries, lambda path: folder.write(path, b"")):
        with pytest.raises(ToolRefused):
            use(path)
    assert (outside(folder) / "secret").read_bytes() == SECRET


def test_a_link_to_a_file_is_neither_read_nor_written(folder: ProjectFolder) -> None:
    (folder.root / "link").symlink_to(outside(folder) / "secret")
    with pytest.raises(ToolRefused, match="link"):
        folder.read("link")
    with pytest.raises(ToolRefused, match="link"):
        folder.write("link", b"")
    assert (outside(folder) / "secret").read_bytes() == SECRET


def test_a_link_to_a_folder_is_not_followed(folder: ProjectFolder) -> None:
    (folder.root / "link").symlink_to(outside(folder))
    for use in (folder.read, folder.delete, lambda path: folder.write(path, b"")):
        with pytest.raises(ToolRefused, match="link"):
            use("link/secret")
        with pytest.raises(ToolFailed):
            use("link/new/deeper")
    assert names(outside(folder)) == ["secret"]
    assert (outside(folder) / "secret").read_bytes() == SECRET


def test_a_link_within_the_folder_is_not_followed_either(folder: ProjectFolder) -> None:
    folder.write("real/a", b"1")
    (folder.root / "link").symlink_to("real")
    with pytest.raises(ToolRefused, match="link"):
        folder.read("link/a")


def test_deleting_a_link_leaves_what_it_leads_to(folder: ProjectFolder) -> None:
    (folder.root / "link").symlink_to(outside(folder) / "secret")
    folder.delete("link")
    assert names(folder.root) == []
    assert (outside(folder) / "secret").read_bytes() == SECRET


def test_the_links_of_proc_lead_nowhere(folder: ProjectFolder) -> None:
    way = folder._open
    with beneath.folder_at(Path("/proc/self")) as proc, pytest.raises(OSError, match="symbolic") as refused:
        way(proc, ("root", "etc"), os.O_RDONLY, 0)
    assert refused.value.errno == errno.ELOOP


def test_a_hard_link_to_a_file_from_elsewhere_is_refused(folder: ProjectFolder) -> None:
    os.link(outside(folder) / "secret", folder.root / "hard")
    with pytest.raises(ToolRefused, match="hard link"):
        folder.read("hard")
    with pytest.raises(ToolRefused, match="hard link"):
        folder.write("hard", b"")
    assert folder.survey().entries == []
    assert "hard link" in folder.survey().left_out[0]


def test_a_fifo_a_socket_and_a_device_are_refused_at_once(
    folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(folder.root / "fifo")
    monkeypatch.chdir(folder.root)  # the name of a socket has to be short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
    odd = ["fifo", "socket"]
    if os.geteuid() == 0:
        os.mknod(folder.root / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        odd.append("zero")
    for name in odd:
        with pytest.raises(ToolRefused, match="no regular file"):
            folder.read(name)
        with pytest.raises(ToolRefused, match="no regular file"):
            folder.write(name, b"")
    assert folder.entries() == []
    assert len(folder.survey().left_out) == len(odd)


@pytest.fixture
def swapped(folder: ProjectFolder) -> Iterator[None]:
    """While a test runs, `d` is a folder and a link to the outside in turn, exchanged without a gap."""
    (folder.root / "d").mkdir()
    (folder.root / "trap").symlink_to(outside(folder))
    paths = [os.fsencode(folder.root / name) for name in ("d", "trap")]
    here, exchange = ctypes.c_int(-100), ctypes.c_uint(2)  # AT_FDCWD, RENAME_EXCHANGE
    rename = ctypes.CDLL(None).renameat2
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            assert rename(here, paths[0], here, paths[1], exchange) == 0

    swapper = threading.Thread(target=swap)
    swapper.start()
    yield
    stop.set()
    swapper.join()


@pytest.mark.usefixtures("swapped")
def test_nothing_is_read_or_written_outside_while_a_folder_is_swapped_for_a_link(folder: ProjectFolder) -> None:
    counts = Counter[str]()
    deadline = time.monotonic() + 20
    while counts.total() < 3_000 or (len(counts) < 4 and time.monotonic() < deadline):
        for name, use in (("read", folder.read), ("written", lambda path: folder.write(path, b"ours"))):
            try:
                assert use("d/secret") in (b"ours", None)
                counts[name] += 1
            except ToolFailed:
                counts[f"{name}, refused"] += 1
    assert (outside(folder) / "secret").read_bytes() == SECRET
    assert names(outside(folder)) == ["secret"]
    assert len(counts) == 4, f"the race was not met, so nothing was tested: {counts}"


# Errors that help


def test_a_file_that_is_not_there_is_answered_with_those_that_are(folder: ProjectFolder) -> None:
    with pytest.raises(ToolFailed, match="no files yet"):
        folder.read("a")
    folder.write("material/prices.csv", b"1")
    with pytest.raises(ToolFailed, match=r"Near to it: 'material/prices\.csv'"):
        folder.read("prices.csv")
    with pytest.raises(ToolFailed, match=r"There are: 'material/prices\.csv'"):
        folder.delete("zzz")


def test_a_folder_is_no_file(folder: ProjectFolder) -> None:
    folder.write("d/a", b"1")
    for use in (folder.read, folder.delete, folder.size, lambda path: folder.write(path, b"")):
        for path in ("d", "d/", "", "."):
            with pytest.raises(ToolFailed, match="is a folder"):
                use(path)
    with pytest.raises(ToolFailed, match="is a file, not a folder"):
        folder.read("d/a/b")
    with pytest.raises(ToolFailed, match="is a file, not a folder"):
        folder.write("d/a/b", b"")


def test_a_file_that_is_too_big_is_refused_with_its_size(folder: ProjectFolder) -> None:
    folder.write("a", b"12345")
    assert folder.read("a", limit=5) == b"12345"
    with pytest.raises(ToolFailed, match="has 5 bytes; at most 4"):
        folder.read("a", limit=4)
    os.truncate(folder.root / "a", 1 << 40)
    with pytest.raises(ToolFailed, match="1,099,511,627,776 bytes"):
        folder.read("a")


def test_a_name_that_differs_in_case_alone_is_not_written(folder: ProjectFolder) -> None:
    folder.write("Src/README.md", b"1")
    with pytest.raises(ToolRefused, match=r"beside 'README\.md'"):
        folder.write("Src/readme.md", b"2")
    with pytest.raises(ToolRefused, match="beside 'Src'"):
        folder.write("src/other", b"2")
    assert folder.entries() == [Entry("Src/README.md", 1)]


@pytest.mark.parametrize("path", [".git/hooks/pre-commit", "__pycache__/a.pyc", ".swarm/log.db", ".swarm-tmp-x"])
def test_what_is_never_part_of_a_result_is_not_written(folder: ProjectFolder, path: str) -> None:
    with pytest.raises(ToolRefused, match="never part of a result"):
        folder.write(path, b"")
    assert names(folder.root) == []


# Writing


def test_a_write_leaves_no_other_file_and_no_part(folder: ProjectFolder) -> None:
    folder.write("a", b"old")
    other = (folder.root / "a").open("rb")
    folder.write("a", b"new and longer")
    with other:
        assert other.read() == b"old"
    assert names(folder.root) == ["a"]


def test_a_write_that_fails_leaves_the_old_content(folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("a", b"old")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(StorageFailed, match="No space left"):
        folder.write("a", b"new")
    assert folder.read("a") == b"old"
    assert names(folder.root) == ["a"]


def test_a_file_keeps_its_permissions_but_no_setuid(folder: ProjectFolder) -> None:
    folder.write("run.sh", b"1")
    (folder.root / "run.sh").chmod(0o4755)
    folder.write("run.sh", b"2")
    assert stat.S_IMODE((folder.root / "run.sh").stat().st_mode) == 0o755


@pytest.mark.parametrize(
    ("data", "mode"),
    [
        (b"#!/bin/sh\necho hi\n", 0o755),
        (b"#! /usr/bin/env python3\n", 0o755),
        (b"\x7fELF\x02\x01", 0o755),
        (b"#![no_std]\nfn main() {}\n", 0o644),
        (b"echo hi\n", 0o644),
        (b"", 0o644),
    ],
)
def test_what_is_a_program_by_its_content_is_written_as_one(folder: ProjectFolder, data: bytes, mode: int) -> None:
    folder.write("tool", data)
    assert stat.S_IMODE((folder.root / "tool").stat().st_mode) == mode


# Looking around


def test_entries_are_sorted_regular_files_without_caches(folder: ProjectFolder) -> None:
    for path in ("b", "a/c", "a/b/d", "a.txt"):
        folder.write(path, b"1")
    for cache in ("__pycache__", "a/.pytest_cache", ".mypy_cache", ".git", ".swarm"):
        (folder.root / cache).mkdir()
        (folder.root / cache / "x").write_bytes(b"1")
    (folder.root / "b.pyc").write_bytes(b"1")
    assert [entry.path for entry in folder.entries()] == ["a.txt", "a/b/d", "a/c", "b"]
    assert [entry.path for entry in folder.entries("a/")] == ["a/b/d", "a/c"]
    assert folder.entries("nowhere") == folder.entries("b") == []


def test_names_that_may_not_be_used_are_left_out_and_said(folder: ProjectFolder) -> None:
    for name in (b"a:b", b"\xff", b"new\nline", "e\u0301".encode(), b"NUL"):
        (folder.root / os.fsdecode(name)).write_bytes(b"1")
    (folder.root / "bad:folder").mkdir()
    (folder.root / "bad:folder" / "x").write_bytes(b"1")
    (folder.root / "link").symlink_to("/etc")
    survey = folder.survey()
    assert survey.entries == []
    assert len(survey.left_out) == 7
    assert all(sentence.isprintable() for sentence in survey.left_out)


def test_a_folder_deeper_than_any_path_is_left_out(folder: ProjectFolder) -> None:
    here = os.open(folder.root, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    assert "longer than 4096" in folder.survey().left_out[0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_left_out_and_said(folder: ProjectFolder) -> None:
    folder.write("shut/a", b"1")
    folder.write("b", b"1")
    (folder.root / "shut").chmod(0)
    (folder.root / "b").chmod(0)
    with pytest.raises(ToolFailed, match="Permission denied"):
        folder.read("b")
    scan = folder.scan()
    (folder.root / "shut").chmod(0o700)
    assert scan.files == {}
    assert len(scan.left_out) == 2


# What changed


def test_what_was_changed_made_and_deleted_is_found(folder: ProjectFolder) -> None:
    for name in ("same", "edited", "gone", "touched"):
        folder.write(name, b"old")
    before = folder.scan()
    folder.write("edited", b"new")
    folder.delete("gone")
    folder.write("made/deep", b"12")
    os.utime(folder.root / "touched", (1, 1))
    assert folder.changed(before) == ["edited", "gone", "made/deep"]
    edited, gone, made = folder.scan().changes_since(before)
    assert (edited.base, gone.base, made.base) == (before.files["edited"].sha256, before.files["gone"].sha256, None)
    assert (gone.sha256, gone.bytes, made.bytes) == (None, 0, 2)
    assert folder.changed(folder.scan()) == []


def test_a_change_of_the_same_size_within_one_tick_of_the_clock_is_found(folder: ProjectFolder) -> None:
    for number in range(50):
        (folder.root / "a").write_bytes(b"%03d" % number)
        before = folder.scan()
        (folder.root / "a").write_bytes(b"%03d" % (number + 1))
        assert folder.changed(before) == ["a"]


def test_a_change_that_hides_its_time_is_found(folder: ProjectFolder) -> None:
    (folder.root / "a").write_bytes(b"old")
    before = folder.scan()
    info = (folder.root / "a").stat()
    (folder.root / "a").write_bytes(b"new")
    os.utime(folder.root / "a", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert folder.changed(before) == ["a"]


def test_a_file_that_has_not_changed_is_read_once(folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("a", b"1")
    later = time.time_ns() + 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    before = folder.scan()

    def never(*_: object) -> bytes:
        raise AssertionError("it was read again")

    monkeypatch.setattr(os, "read", never)
    assert folder.scan() == before
