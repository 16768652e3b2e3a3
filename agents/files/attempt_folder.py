"""The folder of one attempt: laid out from the file store when it is first needed, its changes stored by hash."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from agents.errors import ToolFailed
from agents.files.names import SideBySide
from agents.files.project_folder import ProjectFolder, Scan
from agents.files.removal import remove_tree
from bus.errors import Damaged, NotFound, StorageFailed
from bus.event_log import Files
from bus.setup import FileChange, FileRef

T = TypeVar("T")


class AttemptFolder:
    """Where one attempt works; nothing is on disk before `open`.

    `base` is what changes are told against, `start` what the folder holds at first, `beside` what lies in it to be read
    and is no part of a result (all by path).
    """

    def __init__(
        self,
        root: Path,
        store: Files,
        base: Mapping[str, FileRef],
        start: Mapping[str, FileRef],
        beside: Mapping[str, FileRef] | None = None,
    ) -> None:
        self._root = root
        self._store = store
        self._base = base
        self._wanted = dict(start)
        self._beside = dict(beside or {})
        self._folder: ProjectFolder | None = None
        self._scan: Scan | None = None
        self._made = False
        self._lent = False
        self._jobs: set[asyncio.Future[Any]] = set()
        self._laying_out = asyncio.Lock()
        self.left_out: tuple[str, ...] = ()
        """What `changes` found last, and not before, that is no usable file, such as a link: sentences."""
        self.changing = asyncio.Lock()
        """Held by what changes the folder: one at a time."""

    async def open(self) -> ProjectFolder:
        """Return the folder, laid out. Raises `StorageFailed`; `Damaged` where the store has lost a file."""
        async with self._laying_out:  # several reads of one reply come at once
            if self._folder is None:
                folder = ProjectFolder(self._root)
                self._made = True
                await self._until_left()
                await self._in_thread(_make_empty, self._root)
                for ref in self._wanted.values():
                    await self._write(folder, ref)
                for ref in self._beside.values():
                    await self._lay_beside(folder, ref)
                self._scan = await self._in_thread(folder.scan)
                self._folder = folder
            return self._folder

    async def lend(self) -> ProjectFolder:
        """Return the folder, laid out, for a role that may write into it itself."""
        self._lent = True
        return await self.open()

    async def before_change(self) -> None:
        """Take in what the role itself wrote, so that what a call leaves there is told from it. Raises as `changes`."""
        if self._lent:
            await self.changes()

    async def cut_off(self) -> None:
        """Let the folder be what it was before a change that was cut off: what that left is in no record.

        As after a crash it is laid out anew; at once where the role may look, else when it is needed.
        """
        if self._folder is not None and self._scan is not None:
            self._wanted = dict(self._scan.files)
            self._folder = self._scan = None
        if self._lent:
            await self.open()

    async def recorded(self, changes: Sequence[FileChange], whole: FileRef | None = None) -> None:
        """Bring about what the log has of an earlier run of this attempt: changes, and a tool's whole output."""
        async with self._laying_out:
            for change in sorted(changes, key=lambda one: one.sha256 is not None):  # what goes may be in another's way
                await self._bring_about(change)
            if whole is not None:
                self._beside[whole.path] = whole
                if self._folder is not None:
                    await self._lay_beside(self._folder, whole)
            if changes and self._folder is not None:
                self._scan = await self._in_thread(self._folder.scan)

    async def changes(self) -> tuple[FileChange, ...]:
        """Store and return what changed since this was last asked.

        Raises `ToolFailed` for a file that cannot be kept, such as one too large, or one that a program made beside
        another where not every system can have both; it is among the changes next time.
        """
        if self._folder is None or self._scan is None:
            return ()
        now = await self._in_thread(self._folder.scan)
        found = now.changes_since(self._scan)
        self.left_out = tuple(why for why in now.left_out if why not in self._scan.left_out)
        _can_lie_side_by_side(now.files, made=now.files.keys() - self._scan.files.keys())
        await self._keep(found)
        self._scan = now
        return tuple(found)

    async def result(self, names: Iterable[str] | None = None) -> tuple[FileChange, ...]:
        """Store and return what the attempt changed against its base; only the named files, if names are given.

        Raises `ToolFailed` for a named file that is not there.
        """
        if self._folder is None:
            files: Mapping[str, FileRef] = self._wanted
        else:
            await self.changes()
            files = self._scan.files if self._scan else {}
        wanted = set(names) if names is not None else None
        if wanted is not None and (absent := sorted(wanted - set(files))):
            raise ToolFailed(f"the result names files that are not there: {', '.join(absent)}")
        found = Scan(files).changes_since(Scan(self._base))
        return tuple(change for change in found if wanted is None or change.path in wanted)

    async def keep_output(self, path: str, text: str) -> FileRef | None:
        """Store a tool's whole output, and lay it where the model can read it; it is no part of a result.

        None where a program made something of its own at that place: what lies there is not touched.
        """
        data = text.encode("utf-8", "replace")
        ref = FileRef(path=path, sha256=await self._store.put(data), bytes=len(data))
        if not await self._lay_beside(await self.open(), ref):
            return None
        self._beside[path] = ref
        return ref

    async def remove(self) -> None:
        """Delete the folder from disk. Raises `StorageFailed`."""
        if self._made:
            await self._until_left()
            try:
                await asyncio.to_thread(remove_tree, self._root)
            except OSError as error:
                raise StorageFailed(f"{self._root} cannot be removed: {error.strerror}.") from error
            self._folder, self._made = None, False

    async def _in_thread(self, do: Callable[..., T], *arguments: object) -> T:
        """Do something in a thread, which goes on where we are cancelled meanwhile: `_until_left` waits for it."""
        job = asyncio.get_running_loop().run_in_executor(None, do, *arguments)
        self._jobs.add(job)
        job.add_done_callback(self._done)
        return await asyncio.shield(job)

    def _done(self, job: "asyncio.Future[Any]") -> None:
        self._jobs.discard(job)
        if not job.cancelled():
            job.exception()  # of one that nobody waits for any more

    async def _until_left(self) -> None:
        """Wait until no thread is at work in the folder that nobody waits for any more."""
        if self._jobs:
            await asyncio.wait(self._jobs)

    async def _write(self, folder: ProjectFolder, ref: FileRef) -> None:
        try:
            data = await self._store.get(ref.sha256)
        except NotFound as error:
            raise Damaged(f"{ref.path!r} cannot be laid out: {error}, though the log names it") from error
        await self._in_thread(folder.write, ref.path, data)

    async def _bring_about(self, change: FileChange) -> None:
        if change.sha256 is None:
            self._wanted.pop(change.path, None)
            if self._folder is not None:
                await self._in_thread(self._folder.delete, change.path)
        else:
            ref = FileRef(path=change.path, sha256=change.sha256, bytes=change.bytes)
            self._wanted[change.path] = ref
            if self._folder is not None:
                await self._write(self._folder, ref)

    async def _lay_beside(self, folder: ProjectFolder, ref: FileRef) -> bool:
        data = await self._store.get(ref.sha256)
        try:
            await self._in_thread(folder.write_private, ref.path, data)
        except ToolFailed:
            return False
        return True

    async def _keep(self, changes: Iterable[FileChange]) -> None:
        for change in changes:
            if change.sha256 is not None and self._folder is not None:
                try:
                    data = await self._in_thread(self._folder.read, change.path)
                except ToolFailed as error:
                    raise ToolFailed(f"{error} It cannot be kept: make it smaller, or delete it.") from error
                stored = await self._store.put(data)
                if stored != change.sha256:
                    raise ToolFailed(f"{change.path!r} was changed while it was read")


def _can_lie_side_by_side(files: Iterable[str], made: set[str]) -> None:
    """Raise `ToolFailed` where a file that was made could not be laid out beside the others."""
    if not made:
        return
    for path, other in SideBySide(path for path in files if path not in made).add(sorted(made)).items():
        raise ToolFailed(f"{path!r} cannot be kept beside {other!r} on every system: rename or delete one of them")


def _make_empty(root: Path) -> None:
    try:
        remove_tree(root)
        root.mkdir(parents=True)
    except OSError as error:
        raise StorageFailed(f"{root} cannot be made: {error.strerror}.") from error
