"""The scenarios that come with us: in a wheel inside the package, in a checkout beside it."""

from pathlib import Path

import swarm


def shipped_folder() -> Path:
    """Return the folder of the shipped scenarios."""
    package = Path(swarm.__file__).resolve().parent
    inside = package / "_scenarios"
    return inside if inside.is_dir() else package.parent / "scenarios"


def shipped() -> dict[str, Path]:
    """Return the shipped scenario files by name."""
    return {path.stem: path for path in sorted(shipped_folder().glob("*.yaml"))}


def is_shipped(path: Path) -> bool:
    """Tell whether a scenario file is one of ours, as it lies in our package."""
    return path.resolve().parent == shipped_folder()


def scenario_path(name: str) -> Path:
    """Return the file that a person means: a path, or the bare name of a shipped scenario where no such file is."""
    path = Path(name)
    if "/" in name or path.suffix or path.exists():
        return path
    return shipped().get(name, path)
