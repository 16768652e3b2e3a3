"""Remove a folder that a hostile program may have filled: however deep, and with whatever permissions."""

import os
import stat
from pathlib import Path

_OURS = stat.S_IRWXU


def remove_tree(root: Path) -> None:
    """Remove a folder and all in it; a link is removed itself. Nothing happens where there is none.

    Folders are moved up beside `root` before they are emptied, so neither the depth of the tree nor the length of a
    path in it is bounded by ours. Nothing may run in the folder any more. Raises `OSError`.
    """
    if not root.is_dir() or root.is_symlink():
        root.unlink(missing_ok=True)
        return
    moved = 0
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        folder.chmod(_OURS)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, _OURS)  # noqa: PTH101 - a folder cannot be moved unless it may be written
                    moved += 1
                    aside = root.parent / f".{root.name}.{moved}.gone"
                    os.rename(entry.path, aside)  # noqa: PTH104 - likewise
                    waiting.append(aside)
                else:
                    os.unlink(entry.path)  # noqa: PTH108 - likewise
        folder.rmdir()
