"""Merges over the file store: each kind of file that meets another, and what is said of it."""

import pytest

from bus.errors import Damaged
from bus.event_log import FileStore
from bus.events import Clash, MergeTried
from bus.file_store import MemoryFileStore
from bus.setup import FileRef
from swarm.core.meetings import Meeting, Wanted
from swarm.core.text_merge import MOST_BYTES
from swarm.orchestration.merging import MOST_FILES, merge

BASE = b"".join(b"line %d\n" % number for number in range(10))
OURS, THEIRS = BASE.replace(b"line 1", b"ours"), BASE.replace(b"line 8", b"theirs")
BOTH = OURS.replace(b"line 8", b"theirs")


async def meeting(
    store: FileStore, base: bytes | None, ours: bytes | None, theirs: bytes | None, path: str = "a.txt"
) -> Meeting:
    async def ref(data: bytes | None) -> FileRef | None:
        return None if data is None else FileRef(path=path, sha256=await store.put(data), bytes=len(data))

    return Meeting(path, await ref(base), await ref(ours), await ref(theirs))


async def tried(store: FileStore, *meetings: Meeting) -> MergeTried:
    return await merge(Wanted("b", 2, meetings), store)


async def test_a_clean_merge_is_stored_and_told_as_a_change_of_what_the_tree_had() -> None:
    store = MemoryFileStore()
    met = await meeting(store, BASE, OURS, THEIRS)
    event = await tried(store, met)
    (change,) = event.merged
    assert (event.subtask, event.attempt, event.clashes) == ("b", 2, ())
    assert met.theirs is not None
    assert (change.path, change.base, change.bytes) == ("a.txt", met.theirs.sha256, len(BOTH))
    assert change.sha256 is not None
    assert await store.get(change.sha256) == BOTH
    assert await tried(store, met) == event, "the same files always give the same answer"


@pytest.mark.parametrize(
    ("versions", "why"),
    [
        ((BASE, None, THEIRS), "one changed it, the other deleted it"),
        ((BASE, OURS, None), "one changed it, the other deleted it"),
        ((None, OURS, THEIRS), "both made it"),
        ((BASE, BASE.replace(b"line 8", b"ours"), THEIRS), "both changed it at line 9"),
        ((b"\0" + BASE, b"\0" + OURS, b"\0" + THEIRS), "it is no text"),
        ((BASE, OURS, THEIRS + b"x" * MOST_BYTES), "it is larger than 1 MiB"),
    ],
)
async def test_why_two_versions_cannot_be_merged_is_told(versions: tuple[bytes | None, ...], why: str) -> None:
    store = MemoryFileStore()
    assert (await tried(store, await meeting(store, *versions))).clashes == (Clash(path="a.txt", why=why),)


async def test_of_several_files_each_is_merged_or_clashes_and_all_are_told() -> None:
    store = MemoryFileStore()
    one = await meeting(store, BASE, OURS, THEIRS, "one.txt")
    two = await meeting(store, None, OURS, THEIRS, "two.txt")
    event = await tried(store, one, two)
    assert [change.path for change in event.merged] == ["one.txt"]
    assert [clash.path for clash in event.clashes] == ["two.txt"]


async def test_a_result_that_meets_others_in_very_many_files_costs_no_more() -> None:
    store = MemoryFileStore()
    met = [await meeting(store, BASE, OURS, THEIRS, f"{number}.txt") for number in range(MOST_FILES + 2)]
    event = await tried(store, *met)
    assert (len(event.merged), len(event.clashes)) == (MOST_FILES, 2)


class Watched(MemoryFileStore):
    """Says what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    async def get(self, sha256: str) -> bytes:
        self.read.append(sha256)
        return await super().get(sha256)


async def test_a_huge_file_is_not_even_read() -> None:
    store = Watched()
    await tried(store, await meeting(store, b"x" * (MOST_BYTES + 1), OURS, THEIRS))
    assert store.read == []


async def test_a_version_that_nobody_stored_clashes_and_one_that_is_damaged_ends_it() -> None:
    store = MemoryFileStore()
    met = await meeting(store, BASE, OURS, THEIRS)
    gone = Meeting("a.txt", met.base, FileRef(path="a.txt", sha256="0" * 64, bytes=5), met.theirs)
    assert (await tried(store, gone)).clashes[0].why == "a version of it is not in the store"

    class Broken(MemoryFileStore):
        async def get(self, sha256: str) -> bytes:
            raise Damaged(f"the stored file {sha256} has other bytes by now")

    with pytest.raises(Damaged):
        await tried(Broken(), met)
