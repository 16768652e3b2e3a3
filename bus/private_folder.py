"""A folder of runs, which hold what is nobody else's business: its owner alone reads it, and git passes it over."""

from pathlib import Path

WORK = "swarm-work"
"""Below a home: all in it is ours to remove. A home may be anybody's folder, so it has a name that only we give."""


def make_private_folder(folder: Path) -> None:
    """Make the folder, with those above it; where it has something in it, it stays as it is. Raises `OSError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
