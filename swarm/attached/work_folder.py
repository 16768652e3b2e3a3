"""The folder in which an attached agent's attempts work: its own while it lives, and removed once it is gone."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agents.files.removal import remove_tree
from bus import presence
from bus.errors import Conflict, StorageFailed
from bus.private_folder import make_private_folder


@asynccontextmanager
async def work_folder(home: Path, instance: str) -> AsyncIterator[Path]:
    """Give an agent its folder below a home, and remove those of agents that were killed. Raises `StorageFailed`."""
    folder = home / "attached" / instance
    descriptor = await asyncio.to_thread(_enter, home, folder)
    try:
        yield folder
    finally:
        await asyncio.to_thread(_leave, descriptor, folder)


def _enter(home: Path, folder: Path) -> int:
    try:
        make_private_folder(home)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        for other in folder.parent.iterdir():
            if other != folder:
                _remove_if_left(other)
        while True:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = presence.enter(folder)
            if _is_there(descriptor, folder):
                return descriptor
            os.close(descriptor)  # an agent that begins beside us has just removed what another one left
    except OSError as error:
        raise StorageFailed(f"{folder} cannot be used: {error.strerror}. Name another folder in SWARM_HOME.") from error


def _remove_if_left(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return  # gone meanwhile, or nothing of ours
    _leave(descriptor, folder)


def _leave(descriptor: int, folder: Path) -> None:
    """Remove the folder unless somebody else is present in it."""
    try:
        presence.be_alone(descriptor, folder)
        remove_tree(folder)
    except (Conflict, StorageFailed, OSError):
        pass  # an agent has it, or nobody can tell, or it is somebody else's: it stays for whoever may remove it
    finally:
        os.close(descriptor)


def _is_there(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.stat())
    except FileNotFoundError:
        return False
