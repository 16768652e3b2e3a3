"""A real disk that is really full, wherever it is met: log, large files, attempts' folders, what is handed over."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import ROOT, clean_env

DISK_KIB = 8192
SCENARIO = """\
goal: Write the files
model: scripted:answers.yaml
plan:
  - {id: small, role: coder, do: Write small.txt., accept: [{file: small.txt}]}
  - {id: large, role: coder, do: Write large.txt., needs: [small], accept: [{file: large.txt}]}
accept: [{file: large.txt}]
limits: {tokens: 9M}
"""


def answers() -> str:
    large = json.dumps("x" * 300_000)
    write = f"call: {{tool: write_file, arguments: {{path: large.txt, content: {large}}}}}"
    return (
        f'- {{role: coder, when: "Write large", {write}}}\n'
        '- {role: coder, when: "Write large", reply: It is written.}\n'
        "- {role: coder, call: {tool: write_file, arguments: {path: small.txt, content: small}}}\n"
        "- {role: coder, reply: It is written.}\n"
    )


def on_a_small_disk(folder: Path, rooms: list[int]) -> list[dict[str, Any]]:
    """Run with so many KiB left; return what was told for each."""
    (folder / "hello.yaml").write_text(SCENARIO)
    (folder / "answers.yaml").write_text(answers())
    (folder / "disk").mkdir()
    done = subprocess.run(
        [
            *("bwrap", "--dev-bind", "/", "/", "--size", str(DISK_KIB << 10), "--tmpfs", str(folder / "disk")),
            *(sys.executable, str(ROOT / "tests/support/full_disk.py"), str(folder), *map(str, rooms)),
        ],
        env=clean_env(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def held(told: dict[str, Any]) -> str:
    """Hold what a person gets of a disk that was full and then was not; return where it was met."""
    (first, said), (last, after) = told["first"], told["last"]
    assert last == 0, told
    assert told["made"] == ["large.txt", "small.txt"], told
    assert "Traceback" not in said + after, told
    if first == 0:
        return "there was room"
    assert first == 3, told
    assert re.search("disk is full|No space left on device", said), told
    if told["begun"]:
        assert "swarm resume" in said, told
    return "went on" if told["begun"] else "did not begin"


def test_a_run_on_a_full_disk_goes_on_once_there_is_room(tmp_path: Path) -> None:
    (told,) = on_a_small_disk(tmp_path, [500])
    assert held(told) == "went on"


@pytest.mark.torture
@pytest.mark.timeout(600)
def test_a_disk_may_be_full_anywhere(tmp_path: Path) -> None:
    met = Counter(held(told) for told in on_a_small_disk(tmp_path, [0, 4, 16, 40, 64, 100, *range(120, 2000, 80)]))
    print(f"a full disk: {dict(met)}")
    assert met["went on"] > 5
