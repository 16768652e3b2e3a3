"""Every command of the README runs as it stands there, every file in it is used, and what it says of us is so.

Blocks whose fence names a file (```yaml brief.yaml) are written to a folder; then each `sh` block runs there, in order.
A scripted model answers; `swarm doctor` finds an endpoint on this machine. Only the `make` commands are not run to
their end here, since they make environments and need the network.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from agents.checks import CHECKS
from agents.models import MODELS
from bus.setup import Limits
from swarm.scenario.units import parse_count, parse_duration
from tests.support.command import ROOT, clean_env, serving
from tests.support.endpoint import Answer, Body, Reply
from tests.support.runs import results, role_of

README = (ROOT / "README.md").read_text()
FENCED = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """One fenced block: its language, the file it is, its text."""

    language: str
    file: str | None
    text: str


BLOCKS = [Block(kind, name or None, text) for kind, name, text in FENCED.findall(README)]

ROMAN = """\
def to_roman(number):
    if not 1 <= number <= 3999:
        raise ValueError(f"{number} is not from 1 to 3999")
    numeral = ""
    for value, letters in [(1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
                           (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]:
        numeral, number = numeral + letters * (number // value), number % value
    return numeral
"""
REPORT = "For the brewery: the T-12, 27290 EUR.\n"


def writes(path: str, content: str, when: str) -> tuple[dict[str, object], dict[str, object]]:
    """A coder's two turns: it writes a file and says so."""
    call = {"tool": "write_file", "arguments": {"path": path, "content": content}}
    return {"role": "coder", "when": when, "call": call}, {
        "role": "coder",
        "when": when,
        "reply": f"{path} is written.",
    }


PRICES = {"id": "prices", "role": "researcher", "do": "List the prices in material/vendors.md."}
FOUND = {"findings": [{"claim": "T-12 costs 27290 EUR", "source": "material/vendors.md"}], "open_questions": []}
ANSWERS = [
    {"role": "planner", "when": "to_roman", "json": {"subtasks": [{"id": "roman", "role": "coder", "do": "to_roman"}]}},
    *writes("roman.py", ROMAN, "to_roman"),
    {
        "role": "planner",
        "when": "report.md",
        "json": {
            "subtasks": [PRICES, {"id": "report", "role": "coder", "do": "Write report.md.", "needs": ["prices"]}]
        },
    },
    {"role": "researcher", "call": {"tool": "read_file", "arguments": {"path": "material/vendors.md"}}},
    {"role": "researcher", "json": FOUND},
    *writes("report.md", REPORT, "report.md"),
    {"role": "editor", "reply": "Dear readers, the T-12 costs 27290 EUR."},
]


def respond(body: Body) -> Reply:
    """Answer for the run that is killed, over HTTP and after a while, so that there is a middle to kill it in."""
    given = results(body)
    match role_of(body):
        case "planner":
            plan = [PRICES, {"id": "report", "role": "coder", "do": "Write report.md.", "needs": ["prices"]}]
            return json.dumps({"subtasks": plan})
        case "researcher":
            reads = Answer(calls=[("read_file", {"path": "material/vendors.md"})])
            return json.dumps(FOUND) if given else reads
    return "Written." if given else Answer(calls=[("write_file", {"path": "report.md", "content": REPORT})])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a checkout has, the README's files, and the commands it calls."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "scenarios", folder / "scenarios")
    for block in BLOCKS:
        if block.file:
            (folder / block.file).write_text(block.text)
    (folder / "answers.yaml").write_text(json.dumps(ANSWERS))
    (folder / "bin").mkdir()
    for name, call in (("swarm", "-m swarm"), ("python", "")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call} "$@"\n')
        script.chmod(0o755)
    return folder


@pytest.mark.timeout(600)  # each block has its own
def test_every_command_of_the_readme_runs_as_it_stands(folder):
    ran = []
    with serving(responder=respond, latency_s=0.3, keep=50) as endpoint:
        env = clean_env(
            folder,
            PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            SWARM_MODEL=f"scripted:{folder / 'answers.yaml'}",
            OPENAI_API_KEY="a-key",
            OPENAI_BASE_URL=endpoint.url,
            PYTHONDONTWRITEBYTECODE="1",
            PYTEST_ADDOPTS="-p no:asyncio -p no:cacheprovider",  # ours, and not of who tries the README
        )
        for block in BLOCKS:
            if block.language != "sh" or block.text.startswith("make "):
                continue
            model = {"SWARM_MODEL": "openai:test-model"} if "kill -9" in block.text else {}
            ended = subprocess.run(
                ["sh", "-e", "-x", "-c", block.text], cwd=folder, env=env | model, text=True, timeout=100, check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert ended.returncode == 0, f"{block.text}\n{ended.stdout}"
            ran += re.findall(r"^\+ (swarm \w+|python \S+)", ended.stdout, re.MULTILINE)
    assert (folder / "report" / "report.md").read_text() == REPORT
    asked = [json.dumps(request.body["messages"]) for request in endpoint.requests]
    assert len(asked) >= 5
    assert len(asked) - len(set(asked)) <= 1, "only what the kill cut off may be asked for twice"
    commands = {command for command in ran if command.startswith("swarm ")}
    assert len(commands) >= 7
    assert {"python digest.py", "python try_editor.py", "python -m"} <= set(ran)
    assert [*folder.glob("recordings/test_brief/*.jsonl")]
    assert (folder / "brief.jsonl").stat().st_size


def test_the_make_commands_of_the_readme_are_there():
    lines = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
    made = [line for line in lines if line.startswith("make ")]
    assert made == ["make demo", "make test"]
    for line in made:
        ended = subprocess.run([*line.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr


def test_every_file_of_the_readme_is_used_by_a_command_or_another_file():
    for block in BLOCKS:
        if block.file:
            others = " ".join(one.text for one in BLOCKS if one is not block)
            assert block.file.removesuffix(".py") in others, f"{block.file} is used nowhere"


def test_the_limits_of_the_readme_are_the_defaults():
    time, tokens = re.search(r"a run has (\w+) of running time, (\w+) tokens, and no limit of money", README).groups()
    limits = Limits()
    assert (parse_duration(time), parse_count(tokens), None) == (limits.time_ms, limits.tokens, limits.money)


def test_the_readme_names_every_kind_of_model():
    assert not [name for name in MODELS if f"`{name}:" not in README]


def test_the_readme_uses_only_checks_that_there_are():
    text = "\n".join(block.text for block in BLOCKS if block.language == "yaml")
    used = set(re.findall(r"^  - (\w+):", text, re.MULTILINE))
    assert used
    assert used <= set(CHECKS)


def test_the_readme_counts_its_dependencies_right():
    from tests.support.distributions import MOST  # noqa: PLC0415 - its one use

    assert f"{MOST} distributions" in README


def test_a_line_of_prose_or_code_fits():
    assert not [line for line in README.splitlines() if len(line) > 130]


@pytest.mark.services
def test_the_quick_try_across_machines_runs_as_it_stands(folder):
    (block,) = (block for block in BLOCKS if block.language == "shell")
    material = next(block.text for block in BLOCKS if block.language == "sh" and "mkdir" in block.text)
    subprocess.run(["sh", "-e", "-c", material], cwd=folder, check=True)
    with serving(responder=respond, keep=50) as endpoint:
        env = clean_env(
            folder,
            PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}:/usr/sbin",
            SWARM_MODEL="openai:test-model",
            OPENAI_API_KEY="a-key",
            OPENAI_BASE_URL=endpoint.url,
        )
        ended = subprocess.run(
            ["bash", "-m", "-c", block.text], cwd=folder, env=env, text=True, timeout=100, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    assert ended.returncode == 0, ended.stdout
    assert (folder / "over-the-bus" / "report.md").is_file(), ended.stdout
    assert (folder / "over-the-bus" / "report.md").read_text() == REPORT
    assert "accepted" in ended.stdout
    assert "finishes what it holds" in ended.stdout
