"""Edge of a merge: the bytes of files that two results changed are compared, and what came of it is said.

The same files always give the same answer; so a merge that a crash cut off is tried again by whoever resumes the run,
and a replay can try it once more and compare.
"""

import asyncio
import hashlib

from bus.errors import NotFound
from bus.event_log import FileStore
from bus.events import Clash, MergeTried
from bus.setup import FileChange
from swarm.core.meetings import Meeting, Wanted
from swarm.core.text_merge import MOST_BYTES, merged

MOST_FILES = 50
"""Files of one result that are merged; one that meets others in more was made for another project."""


async def merge(wanted: Wanted, store: FileStore) -> MergeTried:
    """Try a merge, and store what comes of it. Raises `Damaged`, `StorageFailed`."""
    tried, made = await compare(wanted, store)
    for data in made:
        await store.put(data)
    return tried


async def compare(wanted: Wanted, store: FileStore) -> tuple[MergeTried, list[bytes]]:
    """Return what comes of a merge, and the files that it makes; nothing is stored. Raises `Damaged`."""
    done: list[FileChange] = []
    made: list[bytes] = []
    clashes: list[Clash] = []
    for number, meeting in enumerate(wanted.meetings):
        found = await _merged(meeting, store) if number < MOST_FILES else f"more than {MOST_FILES} files met others"
        if isinstance(found, str):
            clashes.append(Clash(path=meeting.path, why=found))
        else:
            theirs = meeting.theirs.sha256 if meeting.theirs else None
            sha256 = hashlib.sha256(found).hexdigest()
            done.append(FileChange(path=meeting.path, base=theirs, sha256=sha256, bytes=len(found)))
            made.append(found)
    tried = MergeTried(subtask=wanted.subtask, attempt=wanted.attempt, merged=tuple(done), clashes=tuple(clashes))
    return tried, made


async def _merged(meeting: Meeting, store: FileStore) -> bytes | str:
    """Return the merged file, or why there is none."""
    if meeting.beside is not None:
        return f"it cannot lie beside {meeting.beside!r} on every system"
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
    return await asyncio.to_thread(merged, *versions)
