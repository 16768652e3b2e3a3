"""Run a scenario on a small disk that has only so much room left, then again with more: `python FILE FOLDER ROOM…`.

FOLDER is a file system of its own, small, made by who starts this. For each ROOM (KiB) the scenario runs once with no
more left than that; then room is made, and the run is gone on with. Prints a line of JSON for each.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

FILLER = "filler"


def command(here: Path, *args: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "swarm", *args], cwd=here, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def fill(disk: Path, leave: int) -> None:
    """Leave only so many bytes free."""
    with (disk / FILLER).open("wb", buffering=0) as file:
        room = os.statvfs(disk)
        file.write(bytes(max(0, room.f_bavail * room.f_frsize - leave)))


def main(folder: Path, rooms: list[int]) -> None:
    disk = folder / "disk"
    for room in rooms:
        here = disk / "here"
        here.mkdir()
        for name in ("hello.yaml", "answers.yaml"):
            (here / name).write_bytes((folder / name).read_bytes())
        fill(disk, room << 10)
        first = command(here, "run", "hello.yaml", "--quiet")
        (disk / FILLER).unlink()
        begun = "did not begin" not in first[1] and command(here, "log", "last")[0] == 0
        last = command(here, *(("resume", "last") if begun else ("run", "hello.yaml")), "--quiet")
        made = sorted(path.name for path in here.glob("hello-*/*"))
        print(json.dumps({"room": room, "first": first, "begun": begun, "last": last, "made": made}), flush=True)
        subprocess.run(["rm", "-rf", here], check=True)


main(Path(sys.argv[1]), [int(one) for one in sys.argv[2:]])
