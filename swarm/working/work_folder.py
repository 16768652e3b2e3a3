"""The folder in which a process's attempts work: its own while it lives, and removed once it is gone.

Hubs, attached agents and runs of one home each have one, whatever store they use. Nothing in it is kept: an attempt
that is gone on with is laid out anew from the file store.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agents.files.removal import remove_tree
from bus import presence
from bus.errors import StorageFailed
from bus.private_folder import WORK, make_private_folder


@asynccontextmanager
async def work_folder(home: Path, name: str) -> AsyncIterator[Path]:
    """Give a process its folder below a home, and remove those of killed ones. Raises `StorageFailed`."""
    folder = home / WORK / name
    entering = asyncio.get_running_loop().run_in_executor(None, _enter, home, folder)
    try:
        await asyncio.shield(entering)
        yield folder
    finally:
        await asyncio.shield(_left(entering, folder))


async def _left(entering: "asyncio.Future[int]", folder: Path) -> None:
    """Leave the folder if it is entered; the thread that enters it goes on where its caller was cancelled."""
    await asyncio.wait([entering])
    if entering.exception() is None:
        await asyncio.to_thread(_leave, entering.result(), folder)


def left_behind(home: Path, *, remove: bool) -> list[Path]:
    """Return the folders below a home in which no process works any more; remove them if that is wanted."""
    try:
        return [folder for folder in sorted((home / WORK).iterdir()) if _is_left(folder, remove=remove)]
    except FileNotFoundError:
        return []


def _enter(home: Path, folder: Path) -> int:
    try:
        make_private_folder(home)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        left_behind(home, remove=True)
        while True:  # one that begins beside us may take it for what another one left, until we are in it
            folder.mkdir(mode=0o700, exist_ok=True)
            try:
                descriptor = presence.enter(folder)
            except StorageFailed:
                if folder.exists():
                    raise
                continue
            if _is_there(descriptor, folder):
                return descriptor
            os.close(descriptor)
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be used: {error.strerror}. Name another folder in SWARM_HOME.") from error


def _is_left(folder: Path, *, remove: bool) -> bool:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False  # gone meanwhile, or nothing of ours
    return _leave(descriptor, folder, remove=remove)


def _leave(descriptor: int, folder: Path, *, remove: bool = True) -> bool:
    """Remove the folder unless somebody else is present in it; tell whether nobody is."""
    try:
        left = presence.take(descriptor)
        if left and remove:
            remove_tree(folder)
    except OSError:
        return False  # nobody can tell, or it is somebody else's: it stays for who may remove it
    else:
        return left
    finally:
        os.close(descriptor)


def _is_there(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
