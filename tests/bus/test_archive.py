"""A run moves with its files, exactly; and of what is no archive of ours nothing is taken in."""

import asyncio
import hashlib
import json
import random
import sqlite3
import stat
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from bus import archive_file
from bus.archive import Contents, check_archive, export_run, import_run
from bus.chain import START, link
from bus.codec import encode
from bus.envelope import Envelope
from bus.errors import BadArchive, BusError, Conflict, Damaged, NotFound, StorageFailed, TooNew
from bus.events import GoalSubmitted, ToolReturned
from bus.file_store import SMALL_BYTES
from bus.setup import FileChange, FileRef, RoleSetup, Setup
from bus.store import Store, memory_store, open_store
from tests.support.events import OWNER, record, records

SMALL, LARGE, WHOLE = b"small\n", b"large " * SMALL_BYTES, b"the whole of it"
SETUP = Setup(name="s", goal="g", roles={"coder": RoleSetup(model="m")})


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def ref(path: str, data: bytes) -> FileRef:
    return FileRef(path=path, sha256=sha256(data), bytes=len(data))


def change(path: str, base: bytes | None, data: bytes | None) -> FileChange:
    return FileChange(
        path=path,
        base=base and sha256(base),
        sha256=None if data is None else sha256(data),
        bytes=len(data or b""),
    )


def returned(*files: FileChange, whole: FileRef | None = None, **arguments: Any) -> ToolReturned:
    return ToolReturned(
        attempt=1, path=(1,), digest="d", tool="t", arguments=arguments, output="", files=files, whole=whole
    )


def told(run: str = "run") -> list[Envelope]:
    """Return the log of a run that names files in every way there is."""
    return [
        record(1, GoalSubmitted(setup=SETUP, workspace=(ref("a", SMALL),)), run=run),
        record(2, returned(change("a", SMALL, LARGE), change("b", b"never stored", None)), run=run),
        record(3, returned(whole=ref("w", WHOLE), sha256=sha256(b"only an argument")), run=run),
    ]


async def begin(store: Store, run: str = "run", log: Sequence[Envelope] | None = None) -> None:
    epoch = await store.log.create(run, OWNER)
    for data in (SMALL, LARGE, WHOLE, b"no event names this"):
        await store.files.put(data)
    await store.log.append(run, 0, epoch, told(run) if log is None else log)


async def exported(folder: Path, log: Sequence[Envelope] | None = None) -> Path:
    async with memory_store() as store:
        await begin(store, log=log)
        await export_run(store, "run", folder / "run.zip")
    return folder / "run.zip"


async def lines(store: Store, run: str) -> list[bytes]:
    return [line async for line in store.log.lines(run)]


async def test_a_run_moves_with_its_files_and_every_hash_stays(tmp_path: Path) -> None:
    async with open_store(tmp_path / "here") as here, open_store(tmp_path / "there") as there:
        await begin(here)
        sent = await export_run(here, "run", tmp_path / "run.zip")
        found = check_archive(tmp_path / "run.zip")
        assert await import_run(there, found) == found == sent
        size = len(SMALL) + len(LARGE) + len(WHOLE)
        assert sent == Contents(tmp_path / "run.zip", "run", 3, (await here.log.head("run"))[1], 3, size)
        assert await lines(there, "run") == await lines(here, "run")
        assert await there.log.head("run") == await here.log.head("run")
        assert await there.log.verify("run") == 3
        assert await there.files.sizes() == {sha256(data): len(data) for data in (SMALL, LARGE, WHOLE)}
        assert [info.imported for info in await there.log.runs()] == [True]
        again = await export_run(there, "run", tmp_path / "again.zip")
        assert again.head == sent.head
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "run.zip").read_bytes()
    assert stat.S_IMODE((tmp_path / "run.zip").stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again.zip", "here", "run.zip", "there"]


async def test_what_a_file_was_before_goes_along_where_it_is_there(tmp_path: Path) -> None:
    path = await exported(tmp_path, [record(1, returned(change("a", SMALL, None), change("b", b"gone", None)))])
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {"run.json", "events.jsonl", f"files/{sha256(SMALL)}"}
    assert check_archive(path).files == 1


async def test_a_fork_moves_with_its_past(tmp_path: Path) -> None:
    async with memory_store() as here, memory_store() as there:
        await begin(here, "parent")
        fork = await here.log.create("fork", OWNER, parent=("parent", 2))
        with pytest.raises(NotFound, match="no event of its own"):
            await export_run(here, "fork", tmp_path / "fork.zip")
        await here.log.append("fork", 2, fork, records(3, 4, run="fork"))
        await export_run(here, "fork", tmp_path / "fork.zip")
        found = await import_run(there, check_archive(tmp_path / "fork.zip"))
        assert (found.events, found.files) == (4, 2)
        assert await lines(there, "fork") == await lines(here, "fork")
        assert [info.run for info in await there.log.runs()] == ["fork"]
        await there.log.create("own", OWNER, parent=("fork", 2))
        assert (await lines(there, "own")) == [encode(each) for each in told("parent")[:2]]


async def test_each_event_is_shown_to_who_wants_to_look_and_may_be_refused(tmp_path: Path) -> None:
    path = await exported(tmp_path)
    seen: list[Envelope] = []
    check_archive(path, seen.append)
    assert seen == told()

    def refuse(envelope: Envelope) -> None:
        if envelope.sequence == 2:
            raise BadArchive("not this one")

    with pytest.raises(BadArchive, match="not this one"):
        check_archive(path, refuse)


# exporting


async def test_nothing_is_overwritten_and_nothing_half_written_is_left(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("nowhere")
    async with memory_store() as store:
        await begin(store)
        for name in ("taken", "link"):
            with pytest.raises(Conflict, match="overwritten"):
                await export_run(store, "run", tmp_path / name)
        with pytest.raises(StorageFailed, match="cannot be written"):
            await export_run(store, "run", tmp_path / "none" / "run.zip")
        with pytest.raises(NotFound, match="no run 'other'"):
            await export_run(store, "other", tmp_path / "other.zip")
        async with store.files.alone():
            await store.files.remove([sha256(WHOLE)])
        with pytest.raises(NotFound, match=sha256(WHOLE)):
            await export_run(store, "run", tmp_path / "run.zip")
    assert (tmp_path / "taken").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "taken"]


async def test_a_name_that_was_taken_meanwhile_stays_as_it_is(tmp_path: Path) -> None:
    with archive_file.ArchiveWriter(tmp_path / "run.zip") as archive:
        archive.add("run.json", b"{}")
        (tmp_path / "run.zip").write_bytes(b"mine")
        with pytest.raises(Conflict, match="overwritten"):
            archive.publish()
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("run.zip", b"mine")]


async def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(archive_file.os, "link", none)
    assert check_archive(await exported(tmp_path)).events == 3
    with archive_file.ArchiveWriter(tmp_path / "other.zip") as archive:
        (tmp_path / "other.zip").write_bytes(b"mine")
        with pytest.raises(Conflict, match="overwritten"):
            archive.publish()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.zip", "run.zip"]


async def test_a_log_that_is_not_as_it_was_written_is_not_exported(tmp_path: Path) -> None:
    async with open_store(tmp_path / "home") as store:
        await begin(store)
        with closing(sqlite3.connect(tmp_path / "home" / "log.db")) as connection, connection:
            connection.execute("UPDATE events SET line = CAST(line || ' ' AS BLOB) WHERE position = 2")
        with pytest.raises(Damaged, match="--check-chain"):
            await export_run(store, "run", tmp_path / "run.zip")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("bound", ["MOST_LINE_BYTES", "MOST_BYTES", "MOST_FILE_BYTES", "MOST_FILES"])
async def test_what_could_not_be_imported_is_not_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(archive_file, bound, 2)
    with pytest.raises(BadArchive):
        await exported(tmp_path)
    assert not [*tmp_path.iterdir()]


# what is no archive of ours

Members = dict[str, bytes]


async def refused(tmp_path: Path, path: Path, told: str, error: type[BusError] = BadArchive) -> None:
    """Hold that an archive is refused, and that nothing of it is left."""
    with pytest.raises(error, match=told):
        check_archive(path)
    assert [found for found in tmp_path.iterdir() if found != path] == []


def members(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(path: Path, parts: Mapping[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def with_events(parts: Members, *log: bytes, **said: object) -> Members:
    """Return the members with another log and what `run.json` says of it."""
    digest = START
    for line in log:
        digest = link(digest, line)
    stated = json.loads(parts["run.json"]) | {"events": len(log), "head": digest.hex()} | said
    return parts | {"events.jsonl": b"".join(line + b"\n" for line in log), "run.json": json.dumps(stated).encode()}


def own(*envelopes: Envelope) -> Callable[[Members], Members]:
    return lambda parts: with_events(parts, *map(encode, envelopes))


def saying(**said: object) -> Callable[[Members], Members]:
    return lambda parts: parts | {"run.json": json.dumps(json.loads(parts["run.json"]) | said).encode()}


OTHER_BYTES = {f"files/{sha256(SMALL)}": b"other\n"}

SPOILT: dict[str, tuple[Callable[[Members], Members], str]] = {
    "a path that climbs": (lambda it: it | {"../evil": b""}, r"holds '\.\./evil'"),
    "an absolute path": (lambda it: it | {"/etc/evil": b""}, "holds '/etc/evil'"),
    "a file that climbs": (lambda it: it | {f"files/../{'a' * 61}": b""}, "it holds"),
    "a folder": (lambda it: it | {"files/": b""}, "it holds"),
    "a hash in capitals": (lambda it: it | {f"files/{'A' * 64}": b""}, "it holds"),
    "no run.json": (lambda it: {n: d for n, d in it.items() if n != "run.json"}, r"holds no run\.json"),
    "no events": (lambda it: {n: d for n, d in it.items() if n != "events.jsonl"}, "holds no events"),
    "a file that is missing": (lambda it: {n: d for n, d in it.items() if sha256(LARGE) not in n}, sha256(LARGE)),
    "a file that nothing names": (lambda it: it | {f"files/{sha256(b'x')}": b"x"}, "none of its events names"),
    "a file with other bytes": (lambda it: it | OTHER_BYTES, f"{sha256(SMALL)} in it has other bytes"),
    "an event too few": (lambda it: with_events(it, *map(encode, told()[:2]), events=3), "3 events"),
    "another head": (saying(head="0" * 64), "with the head"),
    "no number of events": (saying(events="3"), "events: "),
    "an id that is a path": (saying(run="../x"), "run: "),
    "an id with a line": (saying(run="run\n"), "run: "),
    "more than we know": (saying(more=1), "more: "),
    "run.json that is none": (lambda it: it | {"run.json": b"[" * 4000}, "run.json"),
    "run.json that is large": (lambda it: it | {"run.json": b" " * 5000}, "larger than"),
    "a position twice": (own(*told(), record(3)), "position 4 says position 3"),
    "a gap": (own(*told(), record(5)), "position 4 says position 5"),
    "no position": (own(*told(), record(0)), "position 4 says position 0"),
    "another's event": (own(*told(), record(4, run="other")), "position 4 is of run 'other'"),
    "events of another alone": (own(*told("other")), "its events are of 'other'"),
    "a past that comes back": (
        own(record(1, run="a"), record(2, run="b"), record(3, run="a"), record(4)),
        "position 3 is of run 'a'",
    ),
    "a parent that is a path": (own(record(1, run="../a"), record(2)), r"is of run '\.\./a'"),
    "a line that is no event": (lambda it: with_events(it, *map(encode, told()), b"{}"), "position 4 cannot be read"),
    "an empty line": (lambda it: with_events(it, *map(encode, told()), b""), "position 4 cannot be read"),
    "a last line that is cut": (lambda it: it | {"events.jsonl": it["events.jsonl"][:-9]}, "last event is cut"),
    "nothing": (lambda it: it | {"events.jsonl": b""}, "its events are of"),
}


@pytest.mark.parametrize("name", SPOILT)
async def test_an_archive_that_no_export_makes_is_refused(tmp_path: Path, name: str) -> None:
    path = await exported(tmp_path)
    spoil, said = SPOILT[name]
    pack(path, spoil(members(path)))
    await refused(tmp_path, path, said)


async def test_the_archives_of_these_tests_are_good_unless_spoilt(tmp_path: Path) -> None:
    path = await exported(tmp_path)
    parts = members(path)
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        pack(path, with_events(parts, *map(encode, told())), how)
        assert check_archive(path).events == 3


async def test_newer_events_and_newer_archives_ask_for_an_upgrade(tmp_path: Path) -> None:
    path = await exported(tmp_path)
    parts = members(path)
    pack(path, with_events(parts, *(encode(each).replace(b".v1", b".v99") for each in told())))
    await refused(tmp_path, path, "upgrade", TooNew)
    pack(path, saying(format=2, more="things")(parts))
    await refused(tmp_path, path, "another version", TooNew)


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
async def test_a_way_of_packing_that_needs_unbounded_memory_is_refused(tmp_path: Path, how: int) -> None:
    path = await exported(tmp_path)
    pack(path, members(path), how)
    await refused(tmp_path, path, "packed in a way")


async def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    path = await exported(tmp_path)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("run.json", "{}")
    await refused(tmp_path, path, "twice")


@pytest.mark.parametrize(
    ("bound", "most", "told"),
    [
        ("MOST_FILE_BYTES", len(LARGE) - 1, "is larger than"),
        ("MOST_BYTES", len(LARGE) + 3, "at most"),
        ("MOST_FILES", 2, "at most"),
        ("MOST_LINE_BYTES", 40, "larger than"),
    ],
)
async def test_sizes_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, most: int, told: str
) -> None:
    path = await exported(tmp_path)
    monkeypatch.setattr(archive_file, bound, most)
    monkeypatch.setattr(archive_file, "_PIECE", 64)
    await refused(tmp_path, path, told)


async def test_a_stated_size_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb states little and unpacks to much: no more than was stated is ever unpacked."""
    path = await exported(tmp_path)
    parts = members(path)
    bomb = f"files/{sha256(LARGE)}"
    pack(path, parts)
    packed = bytearray(path.read_bytes())
    entry = packed.rindex(bomb.encode()) - 46  # its record in the central directory: APPNOTE 4.3.12
    assert packed[entry : entry + 4] == b"PK\x01\x02"
    packed[entry + 24 : entry + 28] = (7).to_bytes(4, "little")
    path.write_bytes(packed)
    unpacked = 0
    read = zipfile.ZipExtFile.read

    def counted(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        nonlocal unpacked
        data = read(self, n)
        unpacked += len(data)
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    await refused(tmp_path, path, "is no archive of a run")
    assert unpacked < len(LARGE)


async def test_a_list_of_members_that_would_fill_the_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await exported(tmp_path)
    monkeypatch.setattr(archive_file, "_MOST_AT_ONCE", 100)
    await refused(tmp_path, path, "list of its members")


@pytest.mark.parametrize("seed", range(6))
async def test_bytes_that_were_changed_anywhere_are_refused_or_change_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    path = await exported(tmp_path)
    whole = path.read_bytes()
    good = check_archive(path)
    for _ in range(60):
        spoilt = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        path.write_bytes(spoilt[: chance.randint(0, len(spoilt))] if chance.random() < 0.3 else spoilt)
        with suppress(BadArchive, TooNew):
            assert check_archive(path) == good, f"seed {seed}"


async def test_what_is_no_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        check_archive(tmp_path / "none.zip")
    with pytest.raises(BadArchive, match="is no file"):
        check_archive(tmp_path)
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BadArchive, match="no archive of a run"):
        check_archive(tmp_path / "text")


# taking it in


async def test_a_run_that_is_here_already_is_left_alone(tmp_path: Path) -> None:
    path = await exported(tmp_path)
    found = check_archive(path)
    async with memory_store() as store:
        await import_run(store, found)
        with pytest.raises(Conflict, match=r"the same as this one.*swarm rm run"):
            await import_run(store, found)
        await store.log.remove("run", previous=None)
        await begin(store, log=told()[:2])
        with pytest.raises(Conflict, match=r"another state of it.*swarm rm run"):
            await import_run(store, found)
        assert (await store.log.head("run"))[0] == 2


async def test_an_archive_that_is_swapped_after_it_was_checked_is_not_taken(tmp_path: Path) -> None:
    path = await exported(tmp_path)
    found = check_archive(path)
    parts = members(path)
    other = told()[:2]
    changes: list[Members] = [
        with_events(parts, *map(encode, other)),
        with_events(parts, *map(encode, other), head=found.head, events=3),
        parts | OTHER_BYTES,
    ]
    for changed in changes:
        pack(path, changed)
        async with open_store(tmp_path / "home") as store:
            with pytest.raises(BadArchive):
                await import_run(store, found)
            assert await store.log.runs() == []
            assert not [line async for line in store.log.all_lines()]


async def test_an_import_gives_way_to_others_after_each_file(tmp_path: Path) -> None:
    data = [number.to_bytes(2) for number in range(100)]
    async with memory_store() as store:
        epoch = await store.log.create("run", OWNER)
        for each in data:
            await store.files.put(each)
        workspace = tuple(ref(f"f{number}", each) for number, each in enumerate(data))
        await store.log.append("run", 0, epoch, [record(1, GoalSubmitted(setup=SETUP, workspace=workspace))])
        await export_run(store, "run", tmp_path / "run.zip")
    contents = check_archive(tmp_path / "run.zip")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with memory_store() as store:
        other = asyncio.create_task(count())
        await import_run(store, contents)
        other.cancel()
    assert turns >= len(data)
