"""The command line as people and scripts use it."""

import argparse
import asyncio
import importlib.util
import io
import json
import os
import pty
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from bus.envelope import Envelope, Stamp
from bus.events import RunResumed
from bus.store import open_store
from swarm import cli
from swarm.commands import COMMANDS, shipped
from swarm.commands.following import followed
from swarm.commands.watching import stoppable
from swarm.errors import ScenarioError
from swarm.runs.clock import utc_now
from swarm.runs.ownership import this_process
from swarm.runtime import new_id
from swarm.scenario.model import Scenario
from swarm.settings import read_settings
from swarm.version import VERSION
from tests.support.command import ANSWERS, ROOT, SCENARIO, Ended, clean_env, in_this_process, process, serving
from tests.support.endpoint import Answer

Swarm = Callable[..., Ended]

OWN_CODE = """\
goal: Write hello.txt
model: scripted:answers.yaml
roles: {coder: {uses: "./mine.py:Mine", tools: [write_file]}}
plan:
  - {id: hello, role: coder, do: Write hello.txt.}
accept:
  - file: hello.txt
"""
MINE = """\
from pathlib import Path
from agents.roles.coder import Coder
Path("imported").touch()
class Mine(Coder):
    '''Writes.'''
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hello.yaml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "answers.yaml").write_text(ANSWERS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def swarm(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Swarm:
    return in_this_process(folder, monkeypatch, capsys)


# run, and what it leaves


def test_a_run_is_recorded_and_played_and_what_changed_is_shown(swarm: Swarm, folder: Path) -> None:
    arguments = ("run", "hello.yaml", "--model", "recorded:hello.jsonl", "--out")
    missing = swarm(*arguments, "first")
    assert (missing.status, "hello.jsonl is not there" in missing.err) == (3, True)
    recorded = swarm(*arguments, "first", "--record-new")
    assert recorded.status == 0
    assert "model: recorded:hello.jsonl (from --model)\n" in recorded.err
    assert "not recorded, so live: model: scripted:answers.yaml (from the scenario's model)\n" in recorded.err
    (folder / "answers.yaml").unlink()
    (folder / "hello.yaml").write_text(SCENARIO.replace("model: scripted:answers.yaml\n", ""), encoding="utf-8")
    played = swarm(*arguments, "second", "--json")
    assert (played.status, played.json["cost_usd"]) == (0, 0)
    changed = swarm(*arguments, "third", "--goal", "Write hello.txt now")
    assert changed.status == 3
    assert (
        "no answer to a request of role 'coder': the nearest of 2 that it holds of that role is in hello" in changed.out
    )
    assert "-Write hello.txt\n" in changed.out
    assert "+Write hello.txt now\n" in changed.out
    assert "; to be tried again\n" in swarm("log", "last", "--type", "ModelTryFailed").out, "once it was recorded"


def test_to_record_what_is_new_needs_a_recorded_model(swarm: Swarm) -> None:
    ended = swarm("run", "hello.yaml", "--record-new")
    assert ended.status == 2
    assert "--model recorded:FILE" in ended.err


def test_a_run_ends_with_its_outcome_its_files_and_the_command_to_look_again(swarm: Swarm, folder: Path) -> None:
    ended = swarm("run", "hello.yaml")
    assert ended.status == 0
    run = json.loads(swarm("runs", "--json").out)["run"]
    assert ended.out.startswith(f"accepted  {run}\n")
    assert "hello.txt  (6 bytes)" in ended.out
    assert f"swarm log {run}" in ended.out
    assert (folder / run / "hello.txt").read_text() == "hello\n"
    assert ended.err.startswith("model: scripted:answers.yaml (from the scenario's model)\n")
    assert "hands in hello" in ended.err


def test_what_was_only_asked_is_answered_in_the_outcome(swarm: Swarm, folder: Path) -> None:
    (folder / "ask.yaml").write_text(
        """
goal: Which oven costs least?
model: scripted:ask-answers.yaml
plan:
  - {id: facts, role: researcher, do: List the ovens.}
  - {id: least, role: coder, do: Say which costs least., needs: [facts]}
""",
        encoding="utf-8",
    )
    (folder / "ask-answers.yaml").write_text(
        """
- {role: researcher, json: {findings: [{claim: The T-12 costs 27290 EUR., source: a page}]}}
- {role: coder, reply: "The T-12,\\n27290 EUR."}
- {role: critic, json: {reasons: All is answered., accepted: true}}
""",
        encoding="utf-8",
    )
    ended = swarm("run", "ask.yaml", "--quiet")
    assert "  answer The T-12,\n         27290 EUR.\n" in ended.out
    assert ended.out.count("answer ") == 1
    facts, least = swarm("show", "last", "--json").json["subtasks"]
    assert (facts["text"], least["needs"]) == ("- The T-12 costs 27290 EUR. [a page]", ["facts"])


def test_json_is_one_object_and_nothing_else(swarm: Swarm, folder: Path) -> None:
    ended = swarm("run", "hello.yaml", "--json", "--out", "made")
    assert (ended.status, ended.err) == (0, "")
    assert ended.json["outcome"] == "accepted"
    assert ended.json["folder"] == str(folder / "made")
    assert [file["path"] for file in ended.json["files"]] == ["hello.txt"]
    assert swarm("show", "last", "--json").json == ended.json
    assert swarm("resume", "last", "--json").json == ended.json
    (line,) = swarm("runs", "--json").out.splitlines()
    assert json.loads(line) == {key: ended.json[key] for key in ended.json if key not in {"files", "subtasks"}} | {
        key: json.loads(line)[key] for key in ("created", "bytes", "imported", "interrupted")
    }


def test_an_outcome_is_told_where_its_folder_was_taken_meanwhile(swarm: Swarm, folder: Path) -> None:
    (folder / "mine.py").write_text(f"{MINE}    def __init__(self):\n        Path('made').mkdir(exist_ok=True)\n")
    (folder / "own.yaml").write_text(OWN_CODE)
    ended = swarm("run", "own.yaml", "--trust", "--quiet", "--out", "made")
    assert ended.status == 3
    assert ended.out.startswith("accepted  ")
    run = json.loads(swarm("runs", "--json").out)["run"]
    assert "made is there already, and holds something else. Nothing was overwritten." in ended.err
    assert f"`swarm show {run} --files OTHER_FOLDER`" in ended.err
    again = swarm("resume", "last", "--json")
    assert (again.status, again.json["outcome"]) == (3, "accepted")
    assert again.json["not_written"]


def test_a_run_whose_log_has_absurd_numbers_is_listed_with_the_others(swarm: Swarm, folder: Path) -> None:
    swarm("run", "hello.yaml", "--quiet")
    absurd = {"time_ms": 10**400, "tokens": 10**400, "money": 10**400, "rounds": 10**400, "subtasks": 10**400}

    async def raise_them() -> None:
        async with open_store(folder / ".swarm") as store:
            (info,) = await store.log.runs()
            epoch = await store.log.take(info.run, this_process(), previous=None)
            said = Stamp("/swarm/hub/h1", new_id, utc_now)(
                info.run, RunResumed(changes=absurd), sequence=info.length + 1
            )
            await store.log.append(info.run, info.length, epoch, [said])
            await store.log.release(info.run, epoch)

    asyncio.run(raise_them())
    swarm("run", "hello.yaml", "--quiet")
    assert len(swarm("runs").out.splitlines()) == 2
    _, listed = (json.loads(line) for line in swarm("runs", "--json").out.splitlines())
    assert listed["limits"]["tokens"]["limit"] == 1e300


def test_quiet_shows_only_the_outcome(swarm: Swarm) -> None:
    ended = swarm("run", "hello.yaml", "--quiet")
    assert ended.err == ""
    assert ended.out.startswith("accepted")


def test_a_pattern_of_the_outcome_that_no_file_fits_is_told_with_the_way_to_the_files(swarm: Swarm) -> None:
    ended = swarm("run", "hello.yaml", "--quiet", "--set", "outcome=['*.txt', reprot.md]")
    assert (ended.status, "fits `outcome`: 'reprot.md'" in ended.out, "'*.txt'" in ended.out) == (0, True, False)
    assert f"swarm show {ended.out.split()[1]} --files FOLDER" in ended.out
    assert swarm("show", "last", "--json").json["unmatched"] == ["reprot.md"]


def test_files_of_the_workspace_that_are_gone_are_told(swarm: Swarm, folder: Path) -> None:
    for name in ("old.py", "other.py", "kept.py"):
        (folder / "project" / name).parent.mkdir(exist_ok=True)
        (folder / "project" / name).write_text(name, encoding="utf-8")
    (folder / "answers.yaml").write_text(
        "- {role: coder, call: {tool: run_command, arguments: {command: "
        "'cd project && mv old.py new.py && rm other.py && echo hi > ../hello.txt'}}}\n"
        "- {role: coder, reply: Moved.}\n",
        encoding="utf-8",
    )
    ended = swarm(
        "run", "hello.yaml", "--quiet", "--set", "workspace=project", "--set", "roles.coder.tools=[run_command]"
    )
    assert ended.status == 0, ended
    assert "  gone   2 of the workspace's files: project/old.py, project/other.py\n" in ended.out
    assert swarm("show", "last", "--json").json["deleted"] == ["project/old.py", "project/other.py"]
    assert "[hello.txt, project/new.py, project/old.py deleted, project/other.py deleted]" in swarm("log", "last").out


def test_a_run_that_fails_exits_1_and_says_why(swarm: Swarm, folder: Path) -> None:
    (folder / "answers.yaml").write_text("- {role: coder, reply: no}\n", encoding="utf-8")
    ended = swarm("run", "hello.yaml", "--set", "limits.attempts=1", "--set", "limits.rounds=1")
    assert ended.status == 1
    assert ended.out.startswith("failed")
    assert swarm("resume", "last", "--json").status == 1, "it exits as it ended"


def test_a_limit_that_ended_a_run_can_be_raised(swarm: Swarm) -> None:
    ended = swarm("run", "hello.yaml", "--set", "limits.tokens=100", "--json")
    assert (ended.status, ended.json["outcome"]) == (1, "failed")
    again = swarm("resume", "last", "--set", "limits.tokens=100k", "--json")
    assert (again.status, again.json["outcome"]) == (0, "accepted")


def test_an_accepted_run_is_not_reopened_by_a_raised_limit(swarm: Swarm) -> None:
    ended = swarm("run", "hello.yaml", "--json").json
    assert swarm("resume", "last", "--set", "limits.tokens=1M", "--json").json == ended


def test_a_dry_run_starts_and_imports_nothing(swarm: Swarm, folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN_CODE, encoding="utf-8")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    ended = swarm("run", "own.yaml", "--dry-run")
    assert ended.status == 0
    for told in ("scripted:answers.yaml", "200,000 tokens", "mine.py", "hello (coder)", "write_file"):
        assert told in ended.out
    assert swarm("run", "own.yaml", "--dry-run", "--json").json["models"]["coder"]["model"] == "scripted:answers.yaml"
    assert not (folder / ".swarm").exists()
    assert not (folder / "imported").exists()


def test_a_dry_run_refuses_what_a_run_would_refuse_for_a_price_that_is_not_known(swarm: Swarm, folder: Path) -> None:
    (folder / "dear.yaml").write_text("goal: g\nlimits: {money: 1 USD}\n", encoding="utf-8")
    ended = swarm("run", "dear.yaml", "--model", "openai:of-nobody", "--dry-run")
    assert ended.status == 2
    assert "the price of openai:of-nobody is not known" in ended.err


def test_a_dry_run_that_would_record_tells_the_live_model_that_is_paid(swarm: Swarm, folder: Path) -> None:
    (folder / "new.yaml").write_text("goal: g\nmodel: openai:gpt-5-mini\n", encoding="utf-8")
    told = swarm("run", "new.yaml", "--model", "recorded:r.jsonl", "--record-new", "--dry-run").out
    assert "model: openai:gpt-5-mini (from the scenario's model)" in told
    assert "price of openai:gpt-5-mini: $" in told
    ended = swarm("run", "new.yaml", "--record-new", "--dry-run")
    assert (ended.status, "no role has a recorded model" in ended.err) == (2, True)


def test_check_says_what_a_scenario_may_do(swarm: Swarm, folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN_CODE, encoding="utf-8")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    told = swarm("check", "own.yaml")
    assert (told.status, "mine.py" in told.out) == (0, True)
    found = swarm("check", "own.yaml", "--json").json
    assert (found["ok"], found["scenario"], found["tools"]["coder"]) == (True, "own", ["write_file"])
    assert not (folder / "imported").exists()


# trust


def test_code_of_a_scenario_runs_only_once_it_is_trusted(swarm: Swarm, folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN_CODE, encoding="utf-8")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    ended = swarm("run", "own.yaml", "--json")
    assert (ended.status, "--trust" in ended.json["error"]["message"]) == (2, True)
    assert not (folder / "imported").exists()
    assert swarm("run", "own.yaml", "--json", "--trust").status == 0
    assert swarm("run", "own.yaml", "--json").status == 2, "--trust is for one run"


def test_files_from_outside_of_its_folder_are_a_scenario_s_only_once_it_is_trusted(swarm: Swarm, folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (folder / "diary.md").write_text("secret", encoding="utf-8")
    (inner / "own.yaml").write_text(
        "goal: Read.\nmodel: scripted:../answers.yaml\nworkspace: ../diary.md\n", encoding="utf-8"
    )
    ended = swarm("run", "inner/own.yaml", "--json")
    assert (ended.status, "from outside of its folder" in ended.json["error"]["message"]) == (2, True)
    assert str(folder / "diary.md") in swarm("check", "inner/own.yaml", "--json").json["may"]["reads_outside"]


def test_what_with_says_and_a_class_does_not_take_is_said_with_its_line_before_anything_is_made(
    swarm: Swarm, folder: Path
) -> None:
    own = OWN_CODE.replace("tools: [write_file]", "with: {tone: dry,\n    most_word: 80}")
    (folder / "own.yaml").write_text(own, encoding="utf-8")
    made = "    def __init__(self, style, *, tone='', most_words=120): Path('made').touch()\n"
    (folder / "mine.py").write_text(MINE + made, encoding="utf-8")
    ended = swarm("run", "own.yaml", "--json", "--trust")
    unknown, missing = ended.json["errors"]
    assert ended.status == 2
    assert (unknown["kind"], unknown["field"], unknown["line"]) == ("unknown_key", "roles.coder.with.most_word", 4)
    assert unknown["message"] == "unknown key 'most_word' (known: most_words, style, tone)"
    assert unknown["hint"] == "Did you mean 'most_words'?"
    assert (missing["kind"], missing["field"], missing["line"]) == ("missing", "roles.coder.with.style", 3)
    ended = swarm("run", "own.yaml", "--json", "--trust", "--set", "roles.coder.with.stile=plain")
    assert ended.json["errors"][1]["file"] == "--set roles.coder.with.stile"
    assert not (folder / "made").exists()
    (folder / "mine.py").write_text(MINE + "    def __init__(self, tone, **more): ...\n", encoding="utf-8")
    assert swarm("run", "own.yaml", "--json", "--trust").status == 0


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("opnai:x", "'opnai' is no provider of models"),
        ("openai:", "such as openai:NAME."),
        (":x", "such as openai:x."),
        ("gpt-5", "such as openai:gpt-5."),
    ],
)
def test_a_model_that_nobody_can_mean_is_bad_usage_as_it_is_a_bad_scenario(
    swarm: Swarm, folder: Path, monkeypatch: pytest.MonkeyPatch, model: str, told: str
) -> None:
    (folder / "short.yaml").write_text("goal: Write hello.txt\n", encoding="utf-8")
    ended = swarm("run", "short.yaml", "--model", model)
    assert (ended.status, told in ended.err) == (2, True), ended.err
    monkeypatch.setenv("SWARM_MODEL", model)
    assert swarm("run", "short.yaml", "--dry-run").status == 2


def test_a_class_that_is_no_role_and_a_tool_that_is_none_are_said_with_their_line(swarm: Swarm, folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN_CODE, encoding="utf-8")
    (folder / "mine.py").write_text("class Mine: ...\n", encoding="utf-8")
    fault = swarm("run", "own.yaml", "--json", "--trust")
    assert (fault.status, fault.json["error"]["field"], fault.json["error"]["line"]) == (2, "roles.coder.uses", 3)
    assert "is no role" in fault.json["error"]["message"]
    tools = "def tool(**_):\n    return lambda f: f\n@tool(effect='reads')\nasync def look(): ...\n"
    (folder / "mine.py").write_text(MINE + tools, encoding="utf-8")
    (folder / "own.yaml").write_text(OWN_CODE.replace("[write_file]", '["./mine.py:look"]'), encoding="utf-8")
    fault = swarm("run", "own.yaml", "--json", "--trust")
    assert (fault.status, fault.json["error"]["field"], fault.json["error"]["line"]) == (2, "roles.coder.tools.0", 3)


def test_a_person_is_asked_once_for_each_content(folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN_CODE, encoding="utf-8")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    status, shown = on_a_terminal("run", "own.yaml", cwd=folder, typed=b"n\n")
    assert status == 2
    assert "mine.py" in shown
    assert not (folder / "imported").exists()
    status, shown = on_a_terminal("run", "own.yaml", cwd=folder, typed=b"y\n")
    assert status == 0, shown
    status, shown = on_a_terminal("run", "own.yaml", cwd=folder)
    assert (status, "[y/N]" in shown) == (0, False)
    (folder / "mine.py").write_text(MINE + "# changed\n", encoding="utf-8")
    status, shown = on_a_terminal("run", "own.yaml", cwd=folder, typed=b"\n")
    assert (status, "[y/N]" in shown) == (2, True)


def test_json_on_a_terminal_has_escapes_for_what_that_would_obey(swarm: Swarm, folder: Path) -> None:
    said = "a\x7f\x9b31m\u202e\U000e0041é\u200d"
    written = r'"a\x7f\x9b31m\u202e\U000e0041é\u200d"'
    (folder / "answers.yaml").write_text(ANSWERS.replace("It is written.", written), encoding="utf-8")
    run = swarm("run", "hello.yaml", "--json").json["run"]
    assert said in swarm("log", run, "--json").out
    status, shown = on_a_terminal("log", run, "--json", cwd=folder, LANG="C.UTF-8")
    assert status == 0
    assert "a\\u007f\\u009b31m\\u202e\\udb40\\udc41é\\u200d" in shown
    assert not {"\x7f", "\x9b", "\u202e", "\U000e0041"} & set(shown)
    told = [json.loads(line) for line in shown.splitlines()]
    assert told == [json.loads(line) for line in swarm("log", run, "--json").out.splitlines()]


CTRL_C, CTRL_D = b"\x03", b"\x04"


def test_ctrl_c_at_a_question_stops_at_once_and_the_end_of_input_says_no(folder: Path) -> None:
    (folder / "own.yaml").write_text(OWN_CODE, encoding="utf-8")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    status, shown = on_a_terminal("run", "own.yaml", cwd=folder, typed=CTRL_C, after="[y/N]")
    assert (status, "Stopped before the run began" in shown) == (130, True), shown
    status, shown = on_a_terminal("run", "own.yaml", cwd=folder, typed=CTRL_D, after="[y/N]")
    assert (status, "not trusted; nothing was run" in shown) == (2, True), shown
    assert not (folder / "imported").exists()


@pytest.mark.parametrize(("typed", "status", "told"), [(CTRL_C, 130, ""), (CTRL_D, 2, "no key was given")])
def test_no_key_at_all_is_an_answer_too(folder: Path, typed: bytes, status: int, told: str) -> None:
    ended, shown = on_a_terminal("setup", cwd=folder, typed=typed, after="Key")
    assert (ended, told in shown, "bug" in shown) == (status, True, False), shown


# terminals


def on_a_terminal(*args: str, cwd: Path, typed: bytes = b"", after: str = "", **env: str) -> tuple[int, str]:
    """Run the command on a terminal of its own; return its status and all that was shown.

    `typed` is written once `after` is shown.
    """
    ours, theirs = pty.openpty()
    try:
        command = subprocess.Popen(
            ["setsid", "--ctty", sys.executable, "-m", "swarm", *args],
            cwd=cwd, env=clean_env(cwd, **({"TERM": "xterm"} | env)), stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        shown = b""
        while True:
            if after in shown.decode(errors="replace"):
                os.write(ours, typed)
                typed = b""
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        return command.wait(30), shown.decode()
    finally:
        os.close(ours)


def test_a_terminal_gets_colour_and_a_live_view(folder: Path) -> None:
    status, shown = on_a_terminal("run", "hello.yaml", cwd=folder)
    assert status == 0
    assert "\x1b[1;32maccepted\x1b[0m" in shown
    assert "of 200,000 tokens" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is shown again"


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colour_gets_none(folder: Path, env: dict[str, str]) -> None:
    status, shown = on_a_terminal("run", "hello.yaml", cwd=folder, **env)
    assert status == 0
    colours = [part for part in shown.split("\x1b[")[1:] if part.split("m")[0].replace(";", "").isdigit()]
    assert not [part for part in colours if any(3 <= int(n) // 10 <= 4 for n in part.split("m")[0].split(";"))]
    if env.get("TERM") == "dumb":
        assert "\x1b" not in shown


def test_an_ascii_only_output_does_not_break(folder: Path) -> None:
    ended = process("run", "hello.yaml", cwd=folder, env=clean_env(folder, PYTHONIOENCODING="ascii"))
    assert ended.status == 0, ended


# stopping


@contextmanager
def running(*args: str, cwd: Path, **env: str) -> Iterator[subprocess.Popen[bytes]]:
    command = subprocess.Popen(
        [sys.executable, "-m", "swarm", *args], cwd=cwd, env=clean_env(cwd, **env), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    with command:
        try:
            yield command
        finally:
            command.kill()


def wait_for(stream: IO[bytes] | None, text: str) -> str:
    """Read until a line holds this text."""
    assert stream is not None
    for line in stream:
        if text in line.decode():
            return line.decode()
    raise AssertionError(f"{text!r} never came")


def answered(body: dict[str, Any]) -> Answer | str:
    wrote = "Wrote" in json.dumps(body["messages"])
    return "done" if wrote else Answer(calls=[("write_file", {"path": "hello.txt", "content": "hi"})])


def at(url: str) -> tuple[str, ...]:
    return ("--set", f"endpoints.lab={{url: '{url}'}}", "--model", "lab:test-model", "--trust")


def test_a_stopped_run_is_cancelled_as_it_stands_and_an_ended_one_is_not(folder: Path, swarm: Swarm) -> None:
    with serving(responder=answered, latency_s=30) as endpoint:
        with running("run", "hello.yaml", *at(endpoint.url), cwd=folder) as command:
            wait_for(command.stderr, "→ coder")
            busy = swarm("cancel", "last")
            command.send_signal(signal.SIGINT)
            command.communicate(timeout=30)
        assert (busy.status, "Ctrl-C" in busy.err) == (2, True)
        run = swarm("runs", "--json").json["run"]
        ended = swarm("cancel", "last")
        assert (ended.status, ended.out) == (0, f"failed  {run}\n")
        assert "cancelled by a person" in swarm("show", "last").out
        assert swarm("replay", "last").status == 0
        again = swarm("cancel", "last")
        assert (again.status, "has ended, not accepted" in again.err) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_paused_and_goes_on_later(folder: Path, swarm: Swarm, number: signal.Signals) -> None:
    with serving(responder=answered, latency_s=30) as endpoint:
        with running("run", "hello.yaml", *at(endpoint.url), cwd=folder) as command:
            wait_for(command.stderr, "→ coder")
            command.send_signal(number)
            out, err = command.communicate(timeout=30)
        assert command.returncode == 130, err
        run = json.loads(swarm("runs", "--json").out)
        assert run["outcome"] == "paused"
        assert out.decode().startswith("paused")
        assert f"swarm resume {run['run']}" in out.decode()
        endpoint.latency_s = 0
        assert swarm("resume", "last", "--json").json["outcome"] == "accepted"


def test_a_stopped_run_prints_its_object_with_json(folder: Path) -> None:
    with (
        serving(responder=answered, latency_s=30) as endpoint,
        running("run", "hello.yaml", "--json", *at(endpoint.url), cwd=folder) as command,
    ):
        while not endpoint.count:
            time.sleep(0.01)  # the other process says nothing that could be waited for
        command.send_signal(signal.SIGINT)
        out, _ = command.communicate(timeout=30)
    assert (command.returncode, json.loads(out)["outcome"]) == (130, "paused")


def test_who_only_follows_a_run_is_told_that_it_goes_on_and_nothing_else(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Hub:
        async def follow(self, *_: object) -> AsyncIterator[Envelope]:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(30)
            yield  # type: ignore[misc]

    args = argparse.Namespace(quiet=True, json=False, bus="mqtt://there")
    assert stoppable(lambda: followed(args, Hub(), "brief-1", folder)) == 130  # type: ignore[arg-type]
    told = "follows brief-1 no longer; it goes on. `swarm show brief-1 --bus mqtt://there` shows it.\n"
    assert capsys.readouterr() == ("", told)


STUBBORN = """
import asyncio
from swarm.commands import watching

async def goes_on():
    while True:
        try:
            await asyncio.sleep(3600)
        except:
            pass

async def command():
    global task
    task = asyncio.create_task(goes_on())
    await asyncio.sleep(0)
    print("all is told")
    return 1

watching.LEFT_S = 0.1
watching.stoppable(command)
"""


def test_a_task_that_goes_on_after_its_command_ends_with_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", STUBBORN], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"all is told\n", b"")


def test_a_killed_run_is_resumed(folder: Path, swarm: Swarm) -> None:
    with serving(responder=answered, latency_s=30) as endpoint:
        with running("run", "hello.yaml", *at(endpoint.url), cwd=folder) as command:
            wait_for(command.stderr, "→ coder")
            command.kill()
            command.communicate()
        shown = swarm("show", "last")
        assert "swarm resume" in shown.out
        endpoint.latency_s = 0
        assert swarm("resume", "last", "--json").json["outcome"] == "accepted"


def test_a_killed_run_is_resumed_also_where_its_machine_has_another_name_now(
    folder: Path, swarm: Swarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(responder=answered, latency_s=30) as endpoint:
        with running("run", "hello.yaml", *at(endpoint.url), cwd=folder) as command:
            wait_for(command.stderr, "→ coder")
            monkeypatch.setattr(socket, "gethostname", lambda: "renamed")
            busy = swarm("resume", "last")
            assert (busy.status, f"is run by process {command.pid}" in busy.err) == (2, True), "it is there"
            command.kill()
            command.communicate()
        assert "cannot be seen from here" in swarm("show", "last").out
        endpoint.latency_s = 0
        assert swarm("resume", "last", "--json").json["outcome"] == "accepted"


def test_resume_reads_the_keys_beside_the_scenario_and_says_what_differs(folder: Path, swarm: Swarm) -> None:
    (folder / "mine.py").write_text(MINE)
    (folder / "own.yaml").write_text(OWN_CODE)
    (folder / ".env").write_text("LAB_KEY=wrong\n")
    with serving(responder=answered, key="right") as endpoint:
        lab = ("--set", f"endpoints.lab={{url: '{endpoint.url}', key: LAB_KEY}}", "--model", "lab:test-model")
        assert swarm("run", "own.yaml", "--trust", "--quiet", *lab).status == 3
        (folder / ".env").write_text("LAB_KEY=right\n")
        (folder / "mine.py").write_text(MINE + "# changed\n")
        ended = swarm("resume", "last", "--json")
    assert (ended.status, ended.json["outcome"]) == (0, "accepted")
    assert "mine.py is not what it was" in ended.err


def test_resume_says_what_of_the_scenario_and_its_material_has_changed_since(folder: Path, swarm: Swarm) -> None:
    own = SCENARIO.replace("plan:", 'inputs: {where: {default: "./notes"}}\nworkspace: ["${{ inputs.where }}"]\nplan:')
    (folder / "own.yaml").write_text(own, encoding="utf-8")
    (folder / "notes").mkdir()
    for name in ("a.md", "b.md", "c.md", "schema.json"):
        (folder / "notes" / name).write_text(f"{name}\n", encoding="utf-8")
    with serving(responder=answered, key="right") as endpoint:
        lab = ("--set", f"endpoints.lab={{url: '{endpoint.url}', key: LAB_KEY}}", "--model", "lab:test-model")
        (folder / ".env").write_text("LAB_KEY=wrong\n", encoding="utf-8")
        assert swarm("run", "own.yaml", "--quiet", *lab).status == 3
        assert "warning" not in swarm("resume", "last", "--quiet").err
        (folder / ".env").write_text("LAB_KEY=right\n", encoding="utf-8")
        (folder / "own.yaml").write_text(own.replace("a greeting", "two greetings"), encoding="utf-8")
        (folder / "notes" / "a.md").write_text("more\n", encoding="utf-8")
        (folder / "notes" / "b.md").unlink()
        (folder / "notes" / "d.md").write_text("new\n", encoding="utf-8")
        (folder / "notes" / "schema.json").write_text("Schema.json\n", encoding="utf-8")
        ended = swarm("resume", "last", "--json")
    assert ended.json["outcome"] == "accepted"
    told = [line.split()[1] for line in ended.err.splitlines() if line.startswith("warning:")]
    assert told == ["own.yaml", "notes/a.md", "notes/b.md", "notes/d.md", "notes/schema.json"]
    assert "goes on with the scenario and the files as they were" in ended.err


# looking


def test_a_log_reads_like_a_story(swarm: Swarm) -> None:
    swarm("run", "hello.yaml", "--quiet")
    lines = swarm("log", "last").out.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert "begins hello: Write hello.txt" in lines[0]
    assert "goal reached" in lines[-1]
    assert "\x1b" not in "".join(lines)


def test_a_log_is_filtered_by_type_and_position(swarm: Swarm) -> None:
    swarm("run", "hello.yaml", "--quiet")
    events = [json.loads(line) for line in swarm("log", "last", "--json").out.splitlines()]
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))
    assert {event["specversion"] for event in events} == {"1.0"}
    some = [json.loads(line) for line in swarm("log", "last", "--json", "--from", "3", "--to", "9").out.splitlines()]
    assert some == events[2:9]
    asked = [json.loads(line) for line in swarm("log", "last", "--json", "--type", "model*").out.splitlines()]
    assert asked == [event for event in events if event["type"].startswith("swarm.Model")]
    assert "tokens, $0.00" in swarm("log", "last", "--type", "ModelAnswered", "--from", "8").out


def test_a_log_is_followed_while_another_process_writes_it(folder: Path, swarm: Swarm) -> None:
    with (
        serving(responder=answered, faults=["429:1"]) as endpoint,
        running("run", "hello.yaml", *at(endpoint.url), cwd=folder) as command,
    ):
        wait_for(command.stderr, "→ coder")
        with running("log", "last", "--follow", "--json", cwd=folder) as following:
            out, err = following.communicate(timeout=60)
        command.communicate(timeout=60)
    assert (following.returncode, err) == (0, b"")
    assert out.decode() == swarm("log", "last", "--json").out


def test_a_changed_record_breaks_the_chain(swarm: Swarm, folder: Path) -> None:
    swarm("run", "hello.yaml", "--quiet")
    good = swarm("log", "last", "--check-chain", "--json")
    assert (good.status, good.json["ok"]) == (0, True)
    assert good.json["head"] == swarm("resume", "last", "--json").json["head"], "it is told where a run ends"
    assert swarm("log", "last", "--check-chain", "--head", good.json["head"]).status == 0
    assert swarm("log", "last", "--check-chain", "--head", "ab" * 32).status == 1
    assert swarm("log", "last", "--check-chain", "--head", good.json["head"].upper()).status == 0
    for part in (good.json["head"][:12], ""):  # says nothing of the chain
        told = swarm("log", "last", "--check-chain", "--head", part)
        assert (told.status, told.out) == (2, "")
        assert f"{part!r} is no hash of an event: they have 64 hex digits" in told.err
    database = sqlite3.connect(folder / ".swarm" / "log.db")
    with database:
        database.execute(
            "update events set line = cast(replace(cast(line as text), 'Write', 'Wrote') as blob) where position = 1"
        )
    database.close()
    bad = swarm("log", "last", "--check-chain", "--json")
    assert (bad.status, bad.json["ok"]) == (1, False)
    assert "1" in bad.json["reason"]


def test_any_position_is_shown_with_its_files(swarm: Swarm, folder: Path) -> None:
    swarm("run", "hello.yaml", "--quiet")
    before = swarm("show", "last", "--at", "9", "--json").json
    assert (before["outcome"], before["events"], before["files"]) == ("running", 9, [])
    assert swarm("show", "last", "--files", "copy").status == 0
    assert (folder / "copy" / "hello.txt").read_text() == "hello\n"
    assert swarm("show", "last", "--files", "copy").status == 2, "nothing is overwritten"


# scenarios, schema, init


def test_a_starter_is_a_good_scenario_and_is_never_overwritten(swarm: Swarm, folder: Path) -> None:
    assert swarm("init", "new/mine.yaml").status == 0
    written = (folder / "new" / "mine.yaml").read_text()
    assert swarm("check", "new/mine.yaml").status == 0
    again = swarm("init", "new/mine.yaml")
    assert (again.status, "nothing is ever overwritten" in again.err) == (2, True)
    assert (folder / "new" / "mine.yaml").read_text() == written


def test_a_shipped_scenario_is_listed_copied_and_trusted(
    swarm: Swarm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = folder / "ours"
    (ours / "sample").mkdir(parents=True)
    (ours / "sample.yaml").write_text("description: A sample.\n" + OWN_CODE.replace("./mine", "./sample/mine"))
    (ours / "sample" / "mine.py").write_text(MINE)
    (ours / "answers.yaml").write_text(ANSWERS)
    monkeypatch.setattr(shipped, "shipped_folder", lambda: ours)
    listed = swarm("scenarios").out.splitlines()
    assert any(line.split(maxsplit=1) == ["sample", "A sample."] for line in listed)
    assert swarm("run", "sample", "--quiet").status == 0, "without --trust"
    assert swarm("init", "copied.yaml", "--from", "sample").status == 0
    assert (folder / "sample" / "mine.py").read_text() == MINE
    assert swarm("check", "copied.yaml").status == 0
    assert swarm("run", "copied.yaml").status == 2, "a copy is the person's own, and is asked about"
    assert swarm("init", "other.yaml", "--from", "sample").status == 2
    assert not (folder / "other.yaml").exists()


def test_what_we_ship_is_found_and_good() -> None:
    assert shipped.shipped_folder().is_dir()
    for path in shipped.shipped().values():
        try:
            Scenario.load(path)
        except ScenarioError as error:
            pytest.fail(str(error))


def test_the_schema_is_json_schema(swarm: Swarm) -> None:
    schema = swarm("schema").json
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert "goal" in schema["required"]


# doctor, setup


def test_the_doctor_says_what_is_missing_and_the_remedy(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.sandboxes.bubblewrap.shutil.which", lambda *_, **__: None)
    ended = swarm("doctor", "sandbox", "--json")
    assert (ended.status, ended.json["ok"]) == (3, False)
    assert ended.json["sandbox"][0]["remedy"]
    monkeypatch.setenv("SWARM_MODEL", "scripted:answers.yaml")
    assert swarm("doctor", "models").status == 0


def test_setup_keeps_a_key_that_works_for_this_user_alone(
    swarm: Swarm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(key="sk-right") as endpoint:
        monkeypatch.setattr("sys.stdin", io.StringIO("sk-wrong\n"))
        wrong = swarm("setup", "--url", endpoint.url)
        assert wrong.status == 3
        assert not (folder / ".config" / "eventswarm" / "env").exists()
        monkeypatch.setattr("sys.stdin", io.StringIO("sk-right\n"))
        right = swarm("setup", "--url", endpoint.url)
        assert right.status == 0, right
        url = endpoint.url
    kept = folder / ".config" / "eventswarm" / "env"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "sk-right" not in right.out + right.err
    settings = read_settings({"HOME": str(folder)})
    assert (settings.openai_key, settings.openai_url) == ("sk-right", url)


def test_a_kept_key_never_goes_to_a_place_named_elsewhere(tmp_path: Path) -> None:
    kept = tmp_path / "eventswarm" / "env"
    kept.parent.mkdir()
    kept.write_text("OPENAI_API_KEY='sk-kept'\nOPENAI_BASE_URL='http://kept/v1'\nPATH=/evil\n")
    home = {"XDG_CONFIG_HOME": str(tmp_path)}
    settings = read_settings(home)
    assert (settings.openai_key, settings.openai_url, settings.env.get("PATH")) == ("sk-kept", "http://kept/v1", None)
    settings = read_settings({**home, "OPENAI_BASE_URL": "http://other/v1"})
    assert (settings.openai_key, settings.openai_url) == (None, "http://other/v1")
    settings = read_settings({**home, "OPENAI_API_KEY": "sk-other"})
    assert (settings.openai_key, settings.openai_url) == ("sk-other", None)


# the command itself


def test_every_command_has_help_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0
        assert f"examples:\n  swarm {name}" in capsys.readouterr().out


def test_the_version_is_what_a_script_reads(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert (ended.value.code or 0, capsys.readouterr()) == (0, (f"swarm {VERSION}\n", ""))


def test_help_names_every_variable_that_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    told = capsys.readouterr().out
    sources = [path.read_text() for part in ("swarm", "agents", "bus") for path in (ROOT / part).rglob("*.py")]
    read = {name for text in sources for name in re.findall(r'"(SWARM_[A-Z_]+)"', text)}
    assert len(read) > 5
    assert not [name for name in sorted(read) if name not in told]


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys\nfrom swarm.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'asyncio', 'pydantic', 'rich', 'ruamel', 'openai', 'aiohttp', 'sqlite3', 'structlog', 'orjson'}\n"
        "heavy |= {'aiomqtt', 'paho', 'asyncpg'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == ""


def test_what_only_runs_over_a_broker_need_is_loaded_by_nobody_else() -> None:
    program = (
        "import sys, swarm, swarm.runtime, swarm.launch, swarm.orchestration.link\n"
        "sys.exit(', '.join({'aiomqtt', 'paho', 'asyncpg'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert ended.stderr.strip() == ""


def test_help_takes_at_most_four_times_as_long_as_asyncio() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def best(*args: str) -> float:
        times = []
        for _ in range(3):
            begun = time.perf_counter()
            subprocess.run([sys.executable, *args], env=env, check=True, capture_output=True)
            times.append(time.perf_counter() - begun)
        return min(times)

    assert best("-m", "swarm", "--help") <= 4 * best("-c", "import asyncio")


@pytest.mark.parametrize("name", ["agents", "bus"])
def test_a_package_of_the_same_name_in_the_way_is_told(
    name: str, swarm: Swarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / name / "__init__.py"
    other.parent.mkdir(parents=True)
    other.write_text("raise RuntimeError('never imported')\n")
    found = importlib.util.find_spec
    spec = importlib.util.spec_from_file_location(name, other)
    monkeypatch.setattr("importlib.util.find_spec", lambda asked: spec if asked == name else found(asked))
    ended = swarm("runs", "--json")
    assert ended.status == 3
    assert f"another package called '{name}'" in ended.json["error"]["message"]


def test_a_package_installed_over_ours_is_told(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cli._BEGINS, "agents", b"something that ours does not begin with")
    ended = swarm("runs", "--json")
    assert (ended.status, "overwritten" in ended.json["error"]["message"]) == (3, True)


def test_a_bug_keeps_its_traceback(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("swarm.commands.shipped.shipped", broken)
    ended = swarm("scenarios")
    assert ended.status == 70
    assert "Traceback" in ended.err
    assert "this is a bug in swarm" in ended.err


def test_words_of_others_are_shown_harmless(swarm: Swarm, folder: Path) -> None:
    (folder / "answers.yaml").write_text(ANSWERS.replace("It is written.", '"[red]x[/red] \\e]0;evil\\a \\u202e."'))
    swarm("run", "hello.yaml", "--quiet")
    shown = swarm("log", "last").out
    assert "[red]x[/red]" in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
