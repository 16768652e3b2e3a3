"""The outcome's files in a folder of their own: written under another name, then renamed; nothing is overwritten."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from agents.errors import ToolFailed
from agents.files.project_folder import ProjectFolder
from bus.errors import StorageFailed
from bus.event_log import FileStore
from bus.setup import FileRef
from swarm.errors import MissingPart


async def hand_over(run: str, files: Iterable[FileRef], store: FileStore, target: Path) -> Path | None:
    """Write the files and return their folder; None where there are none. Done before: nothing more is written.

    Raises `MissingPart` where the target is taken by something else, or cannot be written.
    """
    refs = list(files)
    if not refs:
        return None
    if await asyncio.to_thread(os.path.lexists, target):
        if not await asyncio.to_thread(_holds, target, refs):
            raise MissingPart(
                f"{target} is there already, and holds something else. Nothing was overwritten; "
                f"the files are safe: `swarm show {run} --files OTHER_FOLDER` writes them elsewhere."
            )
        return target
    try:
        await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
        made = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=f".{target.name}-", dir=target.parent))
    except OSError as error:
        raise MissingPart(f"{target} cannot be written: {error.strerror}. Choose another place with --out.") from error
    try:
        folder = ProjectFolder(made)
        for ref in refs:
            data = await store.get(ref.sha256)
            await asyncio.to_thread(folder.write, ref.path, data)
        await asyncio.to_thread(_publish, made, target)
    except (OSError, StorageFailed, ToolFailed) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise MissingPart(
            f"{target} cannot be written: {why}", f"The files are safe; when that is mended: `swarm resume {run}`."
        ) from error
    finally:
        await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)
    return target


def _publish(made: Path, target: Path) -> None:
    made.chmod(0o777 & ~_umask())
    os.rename(made, target)  # noqa: PTH104 - on one file system; fails where something non-empty came meanwhile


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _holds(target: Path, refs: list[FileRef]) -> bool:
    """Tell whether a folder holds exactly these files."""
    if target.is_symlink() or not target.is_dir():
        return False
    return ProjectFolder(target).holds(refs)
