"""The outcome's files in a folder of their own: written under another name, then renamed; nothing is overwritten."""

import asyncio
import os
import secrets
import shlex
import shutil
from collections.abc import Iterable
from pathlib import Path

from agents.errors import ToolFailed
from agents.files.project_folder import ProjectFolder
from bus.errors import BusError, StorageFailed
from bus.event_log import FileStore
from bus.setup import FileRef
from swarm.errors import MissingPart, UsageError


def refuse_unusable(target: Path, *, option: str = "") -> None:
    """Raise `UsageError` now where files could not be written into a folder in the end. Blocks.

    What the system says to a folder beside it counts: rights alone do not tell.
    """
    said = f"{option} {target}".strip()
    if os.path.lexists(target):
        raise UsageError(f"{said} is there already, and nothing is ever overwritten. Name a new folder.")
    parent = next(parent for parent in target.absolute().parents if os.path.lexists(parent))
    try:
        _made_beside(target, parent).rmdir()
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error)
        raise UsageError(f"{said} cannot be made: {parent} takes no folder ({why}). Name another one.") from error


async def try_to_hand_over(
    run: str, files: Iterable[FileRef], store: FileStore, target: Path, *, bus: str | None = None
) -> tuple[Path | None, str]:
    """Do as `hand_over` does, but return why it came to nothing instead of raising it: no outcome is lost by that."""
    try:
        return await hand_over(run, files, store, target, bus=bus), ""
    except (MissingPart, BusError) as error:
        return None, str(error)


async def hand_over(
    run: str, files: Iterable[FileRef], store: FileStore, target: Path, *, bus: str | None = None
) -> Path | None:
    """Write the files and return their folder; None where there are none. Done before: nothing more is written.

    `bus`: the URL of the broker whose hub has the run, for what is advised. Raises `MissingPart` where the target is
    taken by something else, or cannot be written.
    """
    refs = list(files)
    if not refs:
        return None
    if await asyncio.to_thread(os.path.lexists, target):
        if not await asyncio.to_thread(_holds, target, refs):
            raise MissingPart(
                f"{target} is there already, and holds something else. Nothing was overwritten.", _elsewhere(run, bus)
            )
        return target
    try:
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        made = await asyncio.to_thread(_made_beside, target, target.parent)
    except OSError as error:
        raise MissingPart(f"{target} cannot be written: {error.strerror}.", _elsewhere(run, bus)) from error
    try:
        folder = ProjectFolder(made)
        for ref in refs:
            data = await store.get(ref.sha256)
            await asyncio.to_thread(folder.write, ref.path, data)
        await asyncio.to_thread(os.rename, made, target)  # fails where something non-empty came meanwhile
    except (OSError, StorageFailed, ToolFailed) as error:
        why = f"{error.strerror}." if isinstance(error, OSError) else str(error)
        here = f"The files are safe; when that is mended: `swarm resume {run}`."
        raise MissingPart(f"{target} cannot be written: {why}", _elsewhere(run, bus) if bus else here) from error
    finally:
        await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)
    return target


def _elsewhere(run: str, bus: str | None) -> str:
    at = f" --bus {shlex.quote(bus)}" if bus else ""
    return f"The files are safe: `swarm show {run} --files OTHER_FOLDER{at}` writes them elsewhere."


def _made_beside(target: Path, parent: Path) -> Path:
    made = parent / f".{target.name}-{secrets.token_hex(4)}"
    made.mkdir()
    return made


def _holds(target: Path, refs: list[FileRef]) -> bool:
    """Tell whether a folder holds exactly these files."""
    if target.is_symlink() or not target.is_dir():
        return False
    return ProjectFolder(target).holds(refs)
