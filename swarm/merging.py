"""Edge of a merge: the bytes of files that two results changed are compared, and what came of it is said.

The same files always give the same answer; so a merge that a crash cut off is tried again by whoever resumes the run,
and a replay can try it once more and compare.
"""

import asyncio

from bus.errors import NotFound
from bus.event_log import FileStore
from bus.events import Clash, MergeTried
from bus.setup import FileChange, FileRef
from swarm.core.meetings import Meeting, Wanted
from swarm.core.text_merge import MOST_BYTES, merged

MOST_FILES = 50
"""Files of one result that are merged; one that meets others in more was made for another project."""


async def merge(wanted: Wanted, store: FileStore) -> MergeTried:
    """Try a merge; what comes of it is in the store. Raises `Damaged`, `StorageFailed`."""
    done: list[FileChange] = []
    clashes: list[Clash] = []
    for number, meeting in enumerate(wanted.meetings):
        found = await _merge(meeting, store) if number < MOST_FILES else f"more than {MOST_FILES} files met others"
        if isinstance(found, str):
            clashes.append(Clash(path=meeting.path, why=found))
        else:
            done.append(found)
    return MergeTried(subtask=wanted.subtask, attempt=wanted.attempt, merged=tuple(done), clashes=tuple(clashes))


async def _merge(meeting: Meeting, store: FileStore) -> FileChange | str:
    """Return the change that brings the merged file into the tree, or why there is none."""
    base, ours, theirs = meeting.base, meeting.ours, meeting.theirs
    if ours is None or theirs is None:
        return "one changed it, the other deleted it"
    if base is None:
        return "both made it"
    if max(base.bytes, ours.bytes, theirs.bytes) > MOST_BYTES:
        return f"it is larger than {MOST_BYTES >> 20} MiB"
    try:
        versions = [await store.get(ref.sha256) for ref in (base, ours, theirs)]
    except NotFound:
        return "a version of it is not in the store"
    found = await asyncio.to_thread(merged, *versions)
    if isinstance(found, str):
        return found
    ref = FileRef(path=meeting.path, sha256=await store.put(found), bytes=len(found))
    return FileChange(path=ref.path, base=theirs.sha256, sha256=ref.sha256, bytes=ref.bytes)
